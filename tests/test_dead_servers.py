"""Servers that do not answer as they should, and ports that are taken: one clear error, and nothing is left behind."""

import contextlib
import errno
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from duvae.errors import UserError
from pipelines import ports, prefect_api
from pipelines.owners import OWNER_VARIABLE

ROOT = Path(__file__).parents[1]
UNSET = "unset it: then this command starts a server of its own"


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Runs a server that calls a function with each connection; yields its port."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)

        def run() -> None:
            with contextlib.ExitStack() as connections:
                while not ended.is_set():
                    with contextlib.suppress(OSError):
                        connection, _ = server.accept()
                        connection.settimeout(10)
                        answer(connections.enter_context(connection))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            ended.set()
            thread.join()


def http(status: str, content: str = "", end: str = "") -> Callable[[socket.socket], None]:
    """Returns a function that answers each request on a connection with the same text."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        length = len(content) + len(end)
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{content}".encode())
        if not end:
            connection.close()

    return answer


def garbage(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(b"\x00\x01 220 ready\r\n")
    connection.close()


def silent(_: socket.socket) -> None:
    """Accepts a connection, and never answers."""


def slow(connection: socket.socket) -> None:
    """Sends a header that never ends, in parts that come often enough for a limit of each part."""

    def send() -> None:
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            for _ in range(200):
                connection.sendall(b"x")
                threading.Event().wait(0.05)

    threading.Thread(target=send, daemon=True).start()


def untrusted(folder: Path) -> Callable[[socket.socket], None]:
    """Returns a function that speaks TLS with a certificate that no authority has signed."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    (folder / "server.pem").write_bytes(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            context.wrap_socket(connection, server_side=True).close()

    return answer


ANSWERS: dict[str, tuple[Callable[[socket.socket], None], str]] = {
    "page": (http("200 OK", "<html>hello</html>"), "expected a Prefect server, whose address ends in /api"),
    "json": (http("200 OK", '{"a": 1}'), "expected a Prefect server, whose address ends in /api"),
    "garbage": (garbage, "no Prefect server answers there"),
    "silent": (silent, "no Prefect server answers there"),
    "half": (http("200 OK", '"3.', '0"'), "no Prefect server answers there"),
    "slow": (slow, "no complete answer of a Prefect server within"),
    "401": (http("401 Unauthorized", "{}"), r"refuses this request \(status 401\)\. Set PREFECT_API_AUTH_STRING"),
    "403": (http("403 Forbidden", "{}"), r"refuses this request \(status 403\)\. Set PREFECT_API_AUTH_STRING"),
    "404": (http("404 Not Found", "{}"), "the answer has status 404"),
    "500": (http("500 Internal Server Error"), "the answer has status 500"),
    "503": (http("503 Service Unavailable"), "the answer has status 503"),
    "maintenance": (http("503 Service Unavailable\r\nPrefect-Maintenance: true"), "no complete answer|status 503"),
    "elsewhere": (http("302 Found\r\nLocation: http://127.0.0.1:9/"), "no Prefect server answers there"),
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the times that the check of a server takes."""
    monkeypatch.setattr(prefect_api, "ANSWER", 0.5)
    monkeypatch.setattr(prefect_api, "PATIENCE", 4.0)


def require(url: str) -> None:
    """Checks a server whose address is in Prefect's settings."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}):
        prefect_api.require(url)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", ANSWERS)
def test_a_server_that_is_no_prefect_server_is_named(name: str) -> None:
    answer, message = ANSWERS[name]
    with (
        listening(answer) as port,
        pytest.raises(UserError, match=rf"^http://127\.0\.0\.1:{port}/api: .*({message}).*{UNSET}"),
    ):
        require(f"http://127.0.0.1:{port}/api")


@pytest.mark.usefixtures("impatient")
def test_a_certificate_that_nobody_signed_is_named(tmp_path: Path) -> None:
    with (
        listening(untrusted(tmp_path)) as port,
        pytest.raises(UserError, match=r"CERTIFICATE_VERIFY_FAILED.*set PREFECT_API_SSL_CERT_FILE"),
    ):
        require(f"https://127.0.0.1:{port}/api")


def test_a_prefect_server_is_accepted() -> None:
    with listening(http("200 OK", '"3.8.8"')) as port:
        require(f"http://127.0.0.1:{port}/api")


def test_a_password_is_not_shown() -> None:
    with pytest.raises(UserError) as caught:
        require("http://name:secret@127.0.0.1:9/api")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "127.0.0.1:4200/api", "http://", "http://:4200", "http://127.0.0.1:99999/api"),
        *("http://127.0.0.1:a/api", "http://127.0.0.1:0/api", "ftp://127.0.0.1/api", "http://[::1/api"),
        *("http://a b/api", "file:///etc/passwd"),
    ],
)
def test_an_address_that_is_none_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    if not url:
        assert prefect_api.chosen() is None
        return
    with pytest.raises(UserError, match=rf"^PREFECT_API_URL=.*expected an address like http://127.*{UNSET}"):
        prefect_api.chosen()


def test_a_server_that_dies_during_a_rebuild_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import flow, rebuild

    def die(**_: object) -> None:
        raise httpx.ConnectError("All connection attempts failed")

    monkeypatch.setattr(flow, "rebuild", die)
    monkeypatch.setattr(rebuild.watchdog, "start", lambda **_: None)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(UserError, match=r"stopped answering \(All connection attempts failed\)\. Finished stages are"):
        rebuild.command([])


def test_a_temporary_server_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import flow, rebuild

    def late(**_: object) -> None:
        raise RuntimeError("Timed out while attempting to connect to ephemeral Prefect API server.")

    monkeypatch.setattr(flow, "rebuild", late)
    monkeypatch.setattr(rebuild.watchdog, "start", lambda **_: None)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(UserError, match="the temporary Prefect server did not start"):
        rebuild.command([])


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as a process, without a server of the user; it leaves no process behind."""
    known = {name: value for name, value in os.environ.items() if name not in {"PREFECT_API_URL", OWNER_VARIABLE}}
    environment = {
        **known,
        "PREFECT_HOME": str(folder / "prefect"),
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        **variables,
    }
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    output, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors
    left = [other for other in psutil.process_iter() if f"-{process.pid}-" in mark(other)]
    assert not psutil.wait_procs(left, timeout=60)[1]

    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def mark(process: psutil.Process) -> str:
    try:
        return str(process.environ().get(OWNER_VARIABLE, ""))
    except (psutil.Error, OSError):
        return ""


@pytest.mark.parametrize("command", [("pipelines.rebuild", "graph"), ("pipelines.prefect_server",)])
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "127.0.0.1:9"])
def test_a_dead_server_is_one_line(tmp_path: Path, command: tuple[str, ...], url: str) -> None:
    done = run(tmp_path, sys.executable, "-m", *command, PREFECT_API_URL=url)

    assert done.returncode == 2
    assert done.stdout == ""
    *earlier, line = done.stderr.splitlines()
    assert earlier == (["Reading params.yaml and the graph of the stages ..."] if "graph" in command else [])
    assert line.startswith("error: ")
    assert url in line
    assert line.endswith(f"{UNSET}.")


# ---------------------------------------------------------------------------------- ports


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with listening(garbage) as port:
        done = run(tmp_path, sys.executable, "-m", "pipelines.prefect_server", "--port", str(port))

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: port {port} is taken by another program; choose another with --port.\n"


@pytest.mark.parametrize("port", ["0", "-1", "65536", "4200.5", "x", "", "٤٢٠٠", "9" * 30])
def test_a_port_that_is_none_is_named(tmp_path: Path, port: str) -> None:
    with pytest.raises(Exception, match="expected the number of a port, from 1 to 65535; found"):
        ports.number(port)
    if port == "65536":
        done = run(tmp_path, sys.executable, "-m", "pipelines.prefect_server", "--port", port)
        assert done.returncode == 2
        assert "expected the number of a port, from 1 to 65535; found '65536'" in done.stderr


def test_a_port_that_needs_root_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(UserError, match=r"port 80 cannot be used \(only root may use it\); choose another with --port"):
        ports.require_free(80, "--port")


def test_a_port_of_all_interfaces_is_taken() -> None:
    with socket.create_server(("", 0)) as server, pytest.raises(UserError, match="is taken by another program"):
        ports.require_free(int(server.getsockname()[1]), "--port")


def test_a_port_is_free_as_soon_as_its_server_has_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        client = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()  # this side then waits in the state TIME_WAIT
        client.close()

    ports.require_free(port, "--port")


@pytest.mark.parametrize("port", ["taken", "65536"])
def test_the_dashboard_checks_its_port(tmp_path: Path, port: str) -> None:
    with listening(silent) as taken:
        number = str(taken) if port == "taken" else port
        # Without `--old-file`, make would install the environment.
        command = ["make", "--old-file=.venv/.installed", "--directory", str(ROOT), "dashboard", f"PORT={number}"]
        done = run(tmp_path, *command, OPTUNA_STORAGE="sqlite:///none.db")

    assert done.returncode == 2
    error = done.stderr.splitlines()[0]
    if port == "taken":
        assert error == f"error: port {taken} is taken by another program; choose another with make dashboard PORT=N."
    else:
        assert error == "error: expected the number of a port, from 1 to 65535; found '65536'"
