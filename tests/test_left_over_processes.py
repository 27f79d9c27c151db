"""No process stays after the command that started it has ended, in whatever way it ended."""

import contextlib
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import small_project
from pipelines import owners, prefect_home
from pipelines.owners import OWNER_VARIABLE

ROOT = Path(__file__).parents[1]
PYTHONPATH = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), str(ROOT)])


def wait(condition: Callable[[], object], message: str, seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.05)


def family(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """All running descendants of a process."""
    try:
        return [each for each in psutil.Process(process.pid).children(recursive=True) if running(each)]
    except psutil.NoSuchProcess:
        return []


def running(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def words(process: psutil.Process) -> str:
    """The command line of a process; empty: the process has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextlib.contextmanager
def started(folder: Path, code: str, *arguments: str, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """Runs Python code as a process; at the end, kills it and whatever it has left."""
    known = {name: value for name, value in os.environ.items() if name not in {"PREFECT_API_URL", OWNER_VARIABLE}}
    environment = {
        **known,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PYTHONPATH": PYTHONPATH,
        **variables,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        mark = f"{owners.owner().rsplit('-', 2)[0]}-{process.pid}-"
        process.kill()
        for other in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if other.environ().get(OWNER_VARIABLE, "").startswith(mark):
                    other.kill()
        process.communicate(timeout=60)


COMMAND = """
import subprocess, sys, time
from pathlib import Path
from pipelines import watchdog
watchdog.start(mark_children=True)
subprocess.Popen(["sh", "-c", "sleep 300 & exec sleep 301"])
subprocess.Popen(["sleep", "302"], start_new_session=True)
subprocess.Popen(["sh", "-c", "trap '' TERM HUP; sleep 303 & touch deaf; wait; sleep 304"])
time.sleep(300)
"""


def wait_for_children(process: "subprocess.Popen[str]", folder: Path) -> list[psutil.Process]:
    """Waits until COMMAND has started all its children; returns them."""

    def started() -> bool:
        sleeping = [child for child in family(process) if words(child).startswith("sleep")]
        return len(sleeping) == 4 and (folder / "deaf").exists()

    wait(started, "not all children started")

    return family(process)


def test_the_children_of_a_killed_command_end(tmp_path: Path) -> None:
    """The children end, and their children: in another session, and even one that ignores SIGTERM."""
    with started(tmp_path, COMMAND) as process:
        children = wait_for_children(process, tmp_path)
        process.kill()
        process.wait()
        assert not psutil.wait_procs(children, timeout=120)[1]


def test_what_a_killed_watchdog_has_left_ends_at_the_next_start(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "300"], env={**os.environ, OWNER_VARIABLE: owners.owner()})
    stranger = subprocess.Popen(["sleep", "300"])
    try:
        with started(tmp_path, COMMAND) as process:
            children = wait_for_children(process, tmp_path)
            (watchdog,) = [child for child in children if "pipelines.watchdog" in words(child)]
            watchdog.kill()
            process.kill()
            process.wait()
            kept = [child for child in children if child != watchdog]
            owners.end_left_over()
            assert not psutil.wait_procs(kept, timeout=120)[1]
        assert other.poll() is None
        assert stranger.poll() is None
    finally:
        for process in (other, stranger):
            process.kill()
            process.wait()


def test_a_mark_of_another_machine_or_container_says_nothing() -> None:
    host, pid, start = owners.owner().rsplit("-", 2)

    assert owners.is_alive(f"{host}-{pid}-{start}") is True
    assert owners.is_alive(f"{host}-{pid}-1") is False
    assert owners.is_alive(f"{host}-{10**40}-1") is False
    for other in (f"{host}x-{pid}-{start}", f"elsewhere-{pid}-{start}", "", "x", f"{host}-{pid}-x"):
        assert owners.is_alive(other) is None


def test_a_killed_rebuild_leaves_no_server(tmp_path: Path) -> None:
    """After SIGKILL, Prefect's temporary server ends, and so does the running task. Its database is in the project."""
    folder = small_project.create(tmp_path / "project", f"touch {tmp_path / 'task'}; sleep 300")
    with started(folder, small_project.LONG_REBUILD, PREFECT_HOME="") as process:

        def sleeps() -> bool:
            return any("sleep 300" in words(child) for child in family(process))

        wait(lambda: sleeps() or process.poll() is not None, "no task started")
        assert (tmp_path / "task").exists()
        children = family(process)
        assert any("uvicorn" in words(child) for child in children)
        assert any("sleep 300" in words(child) for child in children)
        assert (folder / prefect_home.FOLDER / "prefect.db").exists()
        process.kill()
        process.wait()
        assert not psutil.wait_procs(children, timeout=120)[1]


SERVE = """
import signal
from pipelines import prefect_server

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # even if the tests run under nohup
prefect_server.main()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_killed_server_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """`make serve` ends its server when it is killed, and when its terminal is closed."""
    with contextlib.closing(socket.socket()) as opened:
        opened.bind(("127.0.0.1", 0))
        port = str(opened.getsockname()[1])
    with started(tmp_path, SERVE, "--port", port) as process:
        serving = lambda: any("server start" in words(child) for child in family(process))  # noqa: E731
        wait(lambda: serving() or process.poll() is not None, "no server started")
        children = family(process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=240)
        assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), errors
        assert "Traceback" not in errors
        assert not psutil.wait_procs(children, timeout=120)[1]


STUDY = """
import sys
from pathlib import Path
from pipelines import parallel_study

class Sleeping(parallel_study.Crew):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.command = [sys.executable, "-c", "import time; time.sleep(300)"]

parallel_study.Crew = Sleeping
parallel_study.main("synthetic_tpe", 1, "cpu", None, Path(sys.argv[1]))
"""


def test_a_killed_search_leaves_no_worker(tmp_path: Path) -> None:
    with started(tmp_path, STUDY, str(ROOT / "params.yaml")) as process:
        working = lambda: any("--worker" in words(child) for child in family(process))  # noqa: E731
        wait(lambda: working() or process.poll() is not None, "no worker started")
        children = family(process)
        process.kill()
        process.wait()
        assert not psutil.wait_procs(children, timeout=120)[1]


# ---------------------------------------------------------------------------------- signals

INTERRUPTED = """
import os, signal, sys, time
from pathlib import Path
from pipelines import rebuild

def plan(*arguments):
    try:
        os.write(1, b"ready")  # one write; `print` needs two, and the second can meet the closed terminal
        for _ in range(3000):  # Python handles a signal that comes just before a sleep only after it
            time.sleep(0.1)
    finally:
        Path("cleaning").touch()
        while not Path("second").exists():
            time.sleep(0.01)
        Path("cleaned").touch()

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # even if the tests run under nohup
rebuild.plan = plan
sys.argv[1:] = ["--plan"]
rebuild.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_disturb_the_clean_up(tmp_path: Path, number: signal.Signals) -> None:
    """The terminal is closed: each write to it fails, and SIGHUP comes twice."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    try:
        text = b""  # a read of a terminal returns any part of what was written, such as the end of a line alone
        while b"ready" not in text:
            text += os.read(controller, 100)
        assert text.startswith(b"Reading params.yaml")  # the first line of the command
        os.close(controller)
        process.send_signal(number)
        wait(lambda: (tmp_path / "cleaning").exists() or process.poll() is not None, "no clean-up started")
        process.send_signal(signal.SIGHUP)
        (tmp_path / "second").touch()
        assert process.wait(120) == 128 + number
        assert (tmp_path / "cleaned").exists()
    finally:
        process.kill()
        process.wait()


def test_nohup_survives_the_end_of_the_terminal(tmp_path: Path) -> None:
    code = "import signal; from pipelines import signals; signals.install(); print(signal.getsignal(signal.SIGHUP))"
    for start, expected in ((["nohup"], "Handlers.SIG_IGN"), ([], "<function")):
        done = subprocess.run(
            [*start, sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": PYTHONPATH},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith((expected, str(int(signal.SIG_IGN)) if start else expected))
