"""Tests the services of compose.yaml without containers, on a temporary PostgreSQL cluster.

`python docker/check.py` reads commands, environments and health checks from compose.yaml. It creates a PostgreSQL
cluster with the databases of databases.sh, and tests MLflow, Prefect, Optuna's dashboard and the worker there. It
changes only addresses, ports and the folder of artifacts; all servers listen on the loopback address.

Exit status: 0 after success, 1 after a failed check, 2 if a program is missing.
"""

import argparse
import contextlib
import http.client
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
PATIENCE = 300.0
"""Seconds to wait until a service is healthy; the machine may be busy."""

VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?:(?P<operator>:?[-?])(?P<word>[^}]*))?\})")
"""A variable in a compose file, such as `${NAME:-default}`, or an escaped `$$`."""


class Missing(Exception):
    """A program or a variable that the checks need is missing."""


def interpolate(node: Any, values: Mapping[str, str]) -> Any:
    """Replaces the variables in a compose file, by the rules of the Compose specification.

    Args:
        node: A node of the parsed file.
        values: Values of the variables.

    Raises:
        Missing: If a required variable, `${NAME:?why}`, has no value.
    """

    def fill(match: re.Match[str]) -> str:
        name, operator, word = match["name"], match["operator"] or "", match["word"] or ""
        if name is None:
            return "$"
        value = values.get(name)
        absent = value is None or (operator.startswith(":") and not value)
        if absent and operator.endswith("?"):
            raise Missing(f"{name} {word}")

        return word if absent and operator.endswith("-") else value or ""

    match node:
        case str():
            return VARIABLE.sub(fill, node)
        case list():
            return [interpolate(item, values) for item in node]
        case dict():
            return {key: interpolate(item, values) for key, item in node.items()}

    return node


def services(values: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The services of compose.yaml, with their variables replaced."""
    content = yaml.safe_load((HERE / "compose.yaml").read_text(encoding="utf-8"))

    return interpolate(content["services"], values)


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each as its keyword and its arguments on one line."""
    lines = (HERE / "Dockerfile").read_text(encoding="utf-8").splitlines(keepends=True)
    joined = "".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")

    parts = (line.partition(" ") for line in joined.splitlines())

    return [(keyword, " ".join(arguments.split())) for keyword, _, arguments in parts if keyword]


def image_environment() -> dict[str, str]:
    """The environment variables of the images, except those that name folders in them."""
    lines = [arguments for keyword, arguments in instructions() if keyword == "ENV"]
    pairs = (pair.partition("=") for line in lines for pair in shlex.split(line))

    return {
        name: value for name, _, value in pairs if "/" not in value and not name.startswith(("PREFECT_WORKER", "UV_"))
    }


def port(service: Mapping[str, Any]) -> int:
    """The port of a service in its container."""
    (line,) = service.get("ports") or service["expose"]

    return int(line.rpartition(":")[2])


def password_names(*, example: Path = HERE / ".env.example") -> list[str]:
    """The names of the passwords in .env.example."""
    return re.findall(r"^(\w+)=$", example.read_text(encoding="utf-8"), flags=re.MULTILINE)


def free_port() -> int:
    """A free port of the loopback address."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))

        return int(opened.getsockname()[1])


@dataclass
class LocalServices:
    """The services with local addresses, ports and folders.

    Attributes:
        folder: A temporary folder for all files of the services.
        described: The services of compose.yaml by name.
        ports: Free ports by service.
    """

    folder: Path
    described: dict[str, dict[str, Any]]
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = {name: free_port() for name in self.described}

    def localize(self, name: str, text: str) -> str:
        """Replaces addresses, ports and the folder of artifacts in a text of a service.

        Args:
            name: Name of the service.
            text: A part of its command, environment or health check.
        """
        for other, described in self.described.items():
            text = re.sub(rf"\b{other}:{port(described)}\b", f"127.0.0.1:{self.ports[other]}", text)
        text = re.sub(rf"\b{port(self.described[name])}\b", str(self.ports[name]), text)

        return text.replace("0.0.0.0", "127.0.0.1").replace("/artifacts", str(self.folder / "artifacts"))  # noqa: S104

    def environment(self, name: str) -> dict[str, str]:
        """The environment of a service: variables of compose.yaml and of the image, and a few of this shell."""
        inherited = {key: os.environ[key] for key in ("LANG", "SSL_CERT_FILE", "TZ") if key in os.environ}
        home = self.folder / name
        home.mkdir(exist_ok=True)
        variables = {key: self.localize(name, str(value)) for key, value in self.described[name]["environment"].items()}

        return {
            **inherited,
            **image_environment(),
            "HOME": str(home),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "page"),
            **variables,
        }

    def command(self, name: str) -> list[str]:
        """The command of a service."""
        return [self.localize(name, word) for word in self.described[name]["command"]]

    def url(self, name: str) -> str:
        """The address of a service."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def run(self, name: str, code: str, *arguments: str) -> Any:
        """Runs Python code with the environment of a service; returns the JSON of its last line of output."""
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=self.environment(name),
            cwd=self.folder / name,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"client code with the environment of {name} failed:\n{done.stdout}{done.stderr}")

        return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def service(local: LocalServices, name: str) -> Iterator[None]:
    """Starts a service, waits until it is healthy, and stops it at the end of the body."""
    command, log = local.command(name), local.folder / f"{name}.log"
    print(f"\n{name}: {shlex.join(command)}", flush=True)
    started = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            env=local.environment(name),
            cwd=local.folder / name,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _, *test = (local.localize(name, word) for word in local.described[name]["healthcheck"]["test"])
        while subprocess.run(test, env=local.environment(name), capture_output=True, check=False).returncode:
            if process.poll() is not None or time.monotonic() > started + PATIENCE:
                tail = log.read_text(encoding="utf-8", errors="replace")[-4000:]
                raise AssertionError(f"{name} is not healthy (exit status {process.returncode}):\n{tail}")
            time.sleep(0.5)
        print(f"  healthy after {time.monotonic() - started:.0f} s", flush=True)
        yield
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Stops a service, with all processes that it has started."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def programs(chosen: Path | None) -> Path:
    """The folder of PostgreSQL's programs.

    Args:
        chosen: Folder from the command line; None: search for it.

    Raises:
        Missing: If the programs are not installed.
    """
    folders = [chosen] if chosen else [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major, reverse=True)]
    if not chosen and (initdb := shutil.which("initdb")):
        folders.append(Path(initdb).parent)
    for folder in folders:
        if (folder / "initdb").exists():
            return folder

    raise Missing(
        "PostgreSQL was not found. Run 'apt install postgresql', or name the folder of its programs with --postgres."
    )


def _major(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0


@contextlib.contextmanager
def postgresql(local: LocalServices, folder: Path) -> Iterator[dict[str, str]]:
    """Runs a temporary cluster with the databases of databases.sh; yields the environment of its superuser."""
    described = local.described["postgres"]
    # PostgreSQL refuses to run as root; its Debian package has a user for it.
    try:
        account = {"user": pwd.getpwnam("postgres").pw_uid} if os.geteuid() == 0 else {}
    except KeyError:
        raise Missing(
            "PostgreSQL does not run as root, and there is no user 'postgres'. Run this command as another user."
        ) from None
    data, passwords = local.folder / "cluster", local.folder / "superuser"
    data.mkdir()
    passwords.write_text(described["environment"]["POSTGRES_PASSWORD"] + "\n", encoding="utf-8")
    if account:
        local.folder.chmod(0o711)
        for path in (data, passwords):
            os.chown(path, account["user"], -1)
    arguments = described["environment"]["POSTGRES_INITDB_ARGS"].split()
    arguments += [f"--pwfile={passwords}", "--username=postgres", "--auth-local=reject", "--no-sync"]
    command = [str(folder / "initdb"), "--pgdata", str(data), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **account)
    environment = {
        **local.environment("postgres"),
        "PATH": os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)]),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(local.ports["postgres"]),
        "PGPASSWORD": described["environment"]["POSTGRES_PASSWORD"],
    }
    server = [str(folder / "postgres"), "-D", str(data), "-p", environment["PGPORT"]]
    server += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    with (local.folder / "postgres.log").open("ab") as out:
        process = subprocess.Popen(server, stdout=out, stderr=out, cwd="/", start_new_session=True, **account)
    try:
        _, *test = (local.localize("postgres", word) for word in described["healthcheck"]["test"])
        for _ in range(100):
            if not subprocess.run(test, env=environment, check=False).returncode:
                break
            time.sleep(0.2)
        # Run twice: the second run must change nothing and must not fail.
        for _ in range(2):
            subprocess.run([str(HERE / "databases.sh")], env=environment, check=True)
        yield environment
    finally:
        process.send_signal(signal.SIGINT)  # PostgreSQL's signal for a fast and clean stop
        process.wait(timeout=60)


def query_database(environment: Mapping[str, str], database: str, query: str) -> str:
    """Runs an SQL query as the superuser; returns its output."""
    command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--username=postgres", "-d", database, "-c", query]

    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def get_json(url: str) -> Any:
    """The JSON answer of an address."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310  # one of our own servers
        return json.load(answer)


def expect(name: str, actual: object, expected: object) -> None:
    """Checks that a value equals the expected one, and prints it.

    Raises:
        AssertionError: If the values differ.
    """
    if actual != expected:
        raise AssertionError(f"{name}: expected {expected!r}, found {actual!r}")
    print(f"  {name}: {actual}", flush=True)


LOGS_A_RUN = """
import json, pathlib, mlflow
mlflow.set_experiment("check")
pathlib.Path("note.txt").write_text("kept")
with mlflow.start_run() as run:
    mlflow.log_metric("nll", 33.5)
    mlflow.log_artifact("note.txt")
print(json.dumps(run.info.run_id))
"""
READS_A_RUN = """
import json, pathlib, sys, mlflow
run = mlflow.get_run(sys.argv[1])
note = mlflow.artifacts.download_artifacts(run_id=sys.argv[1], artifact_path="note.txt", dst_path="again")
print(json.dumps([run.data.metrics["nll"], pathlib.Path(note).read_text()]))
"""
RUNS_A_STUDY = """
import json, os, optuna
study = optuna.create_study(study_name="check", storage=os.environ["OPTUNA_STORAGE"])
study.optimize(lambda trial: (trial.suggest_float("gamma", 0, 1) - 0.6) ** 2, n_trials=3)
print(json.dumps(len(study.trials)))
"""
FLOW = """
from prefect import flow, task

@task
def double(number: int) -> int:
    return 2 * number

@flow(name="check")
def check(number: int = 21) -> int:
    return double(number)
"""
RUNS_A_FLOW = """
import json, pathlib
pathlib.Path("small.py").write_text({flow!r})
from small import check
print(json.dumps(check()))
"""
HANDS_A_FLOW_TO_THE_WORKER = """
import json, os
from prefect import flow
from prefect.deployments import run_deployment
small = flow.from_source(source=os.getcwd(), entrypoint="small.py:check")
small.deploy(name="check", work_pool_name="duvae", print_next_steps=False)
run = run_deployment("check/check", timeout=120, poll_interval=1)
print(json.dumps([run.state.name, str(run.id)]))
"""


def check_mlflow(local: LocalServices, superuser: Mapping[str, str]) -> None:
    """A run and its artifact are still there after a restart of the server."""
    with service(local, "mlflow"):
        run = local.run("worker", LOGS_A_RUN)
    expect("runs in PostgreSQL", query_database(superuser, "mlflow", "SELECT run_uuid FROM runs"), run)
    expect("files of artifacts", [path.name for path in (local.folder / "artifacts").rglob("note.txt")], ["note.txt"])
    with service(local, "mlflow"):
        expect("metric and artifact after a restart", local.run("worker", READS_A_RUN, run), [33.5, "kept"])
        search = "/api/2.0/mlflow/experiments/search?max_results=1"
        statuses = {}
        for host in (f"mlflow:{local.ports['mlflow']}", "localhost:5001", "elsewhere.example"):
            connection = http.client.HTTPConnection("127.0.0.1", local.ports["mlflow"], timeout=30)
            with contextlib.closing(connection):
                connection.request("GET", search, headers={"Host": host})
                statuses[host.partition(":")[0]] = connection.getresponse().status
        expect(
            "answers by the host name of the request",
            statuses,
            {"mlflow": 200, "localhost": 200, "elsewhere.example": 403},
        )


def check_prefect(local: LocalServices, superuser: Mapping[str, str]) -> None:
    """The server records a flow, and the worker runs a deployed one."""
    with service(local, "prefect"):
        expect("a flow's result", local.run("worker", RUNS_A_FLOW.format(flow=FLOW)), 42)
        query = "SELECT state_type FROM flow_run"
        expect("flow runs in PostgreSQL", query_database(superuser, "prefect", query), "COMPLETED")
        query = "SELECT count(*) FROM task_run WHERE state_type = 'COMPLETED'"
        for _ in range(20):  # the server records a task from its events, with a delay
            if (seen := query_database(superuser, "prefect", query)) == "1":
                break
            time.sleep(0.5)
        expect("task runs in PostgreSQL", seen, "1")
        seen = get_json(local.url("prefect") + "/ui-settings")["api_url"]
        expect("address of the server for the page", seen, local.url("prefect") + "/api")
        with service(local, "worker"):
            state, run = local.run("worker", HANDS_A_FLOW_TO_THE_WORKER)
            expect("a flow that the worker ran", state, "Completed")
    with service(local, "prefect"):
        seen = get_json(f"{local.url('prefect')}/api/flow_runs/{run}")["state_name"]
        expect("its state after a restart", seen, "Completed")


def check_optuna(local: LocalServices, superuser: Mapping[str, str]) -> None:
    """The dashboard shows a study that a worker has written."""
    with service(local, "optuna"):
        expect("trials", local.run("worker", RUNS_A_STUDY), 3)
        studies = get_json(local.url("optuna") + "/api/studies")["study_summaries"]
        expect("studies on the dashboard", [study["study_name"] for study in studies], ["check"])
        expect("trials in PostgreSQL", query_database(superuser, "optuna", "SELECT count(*) FROM trials"), "3")


def check_separation(local: LocalServices, superuser: Mapping[str, str]) -> None:
    """Each role can open only its own database, and only with the right password."""
    print("\npostgres: roles", flush=True)
    own = {name: local.described[name]["environment"]["PGPASSWORD"] for name in ("mlflow", "prefect", "optuna")}
    command = ["psql", "--no-psqlrc", "--quiet", "-c", "CREATE TABLE t (); DROP TABLE t"]
    opened = []
    for name, password in own.items():
        for database in own:
            for attempt in (password, password + "."):
                client = {**superuser, "PGUSER": name, "PGDATABASE": database, "PGPASSWORD": attempt}
                if not subprocess.run(command, env=client, capture_output=True, check=False).returncode:
                    opened.append((name, database, attempt == password))
    expect("role, database, right password", opened, [(name, name, True) for name in own])


CHECKS = {"separation": check_separation, "mlflow": check_mlflow, "prefect": check_prefect, "optuna": check_optuna}


def main() -> int:
    """Runs all checks, or the chosen one; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--postgres", type=Path, metavar="FOLDER", help="folder of initdb, postgres and psql")
    parser.add_argument("--only", choices=CHECKS, help="run one check instead of all")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the clean-up then stops all services
    try:
        folder = programs(options.postgres)
        secret = {name: secrets.token_urlsafe(24) + "@:/%'" for name in password_names()}
        local = LocalServices(Path(mkdtemp(prefix="containers-")), services(secret))
        try:
            with postgresql(local, folder) as superuser:
                version = query_database(superuser, "postgres", "SHOW server_version")
                print(f"PostgreSQL {version}; logs in {local.folder}", flush=True)
                for check in [CHECKS[options.only]] if options.only else CHECKS.values():
                    check(local, superuser)
        finally:
            if not options.keep:
                shutil.rmtree(local.folder)
    except Missing as error:
        print(f"error: {error}", file=sys.stderr)

        return 2
    except (AssertionError, subprocess.SubprocessError) as error:
        print(f"failed: {error}", file=sys.stderr)

        return 1
    print("\nall checks passed")

    return 0


if __name__ == "__main__":
    sys.exit(main())
