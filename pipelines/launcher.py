"""One job: a stage in a workspace and a process of its own, with a log and a limit of time."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from duvae.cli import TELEMETRY_OFF
from duvae.errors import PASSING
from pipelines.devices import Device
from pipelines.workspaces import MARK, WORK, Snapshot, owner, plain, workspace

GRACE = 10.0
"""Seconds between asking a job to end and making it."""

LINES = 30
"""Of a log, when a job failed."""

KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""How a command ends that was killed: by whoever was short of memory, most often."""


class JobFailedError(Exception):
    """A job that did not end well.

    Attributes:
        passing: Whether the same job may end well at another time, or elsewhere.
        log: The end of what it wrote.
    """

    def __init__(self, stage: str, reason: str, passing: bool = False, log: str = "") -> None:
        super().__init__(stage, reason, passing, log)
        self.stage, self.reason, self.passing, self.log = stage, reason, passing, log

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


@dataclass(frozen=True)
class Place:
    """Where a job runs: what is the same for all jobs of a machine.

    Attributes:
        root: The project's folder there.
        cache: The folder of DVC's cache.
        remote: The remote through which results come and go; empty: DVC's default one; None: there is one cache.
        timeout: Seconds that a job may take; None: as long as it wants.
    """

    root: Path
    cache: Path
    remote: str | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class Done:
    """A job that ended well.

    Attributes:
        stage: Its name.
        entry: In dvc.lock.
        ran: Whether its command was run, or all found in the cache.
        seconds: What it took.
        device: Where.
    """

    stage: str
    entry: Mapping[str, Any] = field(repr=False)
    ran: bool
    seconds: float
    device: str


def log_of(root: Path, stage: str) -> Path:
    """The file of what a job writes."""
    return root / WORK / "logs" / f"{plain(stage)}.log"


def run(stage: str, place: Place, snapshot: Snapshot, entries: Mapping[str, Any], device: Device | None) -> Done:
    """Runs a stage to its end.

    Args:
        stage: Its name.
        place: Where.
        snapshot: The project.
        entries: In dvc.lock, of what the stage depends on.
        device: What it may use; None: what the process that calls this may.

    Raises:
        JobFailedError: With the end of its log, and whether another try makes sense.
    """
    started, log = time.monotonic(), log_of(place.root, stage)
    log.parent.mkdir(parents=True, exist_ok=True)
    with workspace(place.root, place.cache, stage, snapshot, entries) as here, log.open("wb") as written:
        outcome = here.parent / "outcome.json"
        command = [sys.executable, "-m", "pipelines.stage_process", stage, str(outcome)]
        command += [] if place.remote is None else ["--remote", place.remote]
        with _started(command, here, _environment(place.root, here, device), written) as process:
            if device is not None:
                device.keep(process.pid)
            try:
                code = process.wait(place.timeout)
            except subprocess.TimeoutExpired:
                late = f"ran longer than {place.timeout:g} seconds; started again, a training goes on from there"
                raise JobFailedError(stage, late, False, _tail(log)) from None
        try:
            found = json.loads(outcome.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {"code": code, "reason": f"ended with {code}, saying nothing of it"}
    if "entry" not in found:
        raise JobFailedError(stage, _reason(found), found["code"] in {PASSING, *KILLED}, _tail(log))
    name = device.name if device else socket.gethostname()

    return Done(stage, found["entry"], found["ran"], time.monotonic() - started, name)


def _environment(root: Path, here: Path, device: Device | None) -> dict[str, str]:
    """The job's: its own sources, its own device, and who answers for it."""
    package = str(Path(__file__).resolve().parents[1])
    paths = [str(here / "src"), package, os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
        **TELEMETRY_OFF,
        MARK: owner(),
    }
    mirror = os.environ.get("DUVAE_MIRROR")
    if mirror and "://" not in mirror:
        environment["DUVAE_MIRROR"] = str((root / mirror).resolve())
    if device is not None:
        environment["CUDA_VISIBLE_DEVICES"] = device.visible
    for name in [name for name in environment if name.startswith(("GIT_", "DVC_"))]:
        del environment[name]

    return environment


@contextlib.contextmanager
def _started(
    command: list[str], here: Path, environment: Mapping[str, str], log: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with this one, and whose whole session has ended when the body has."""
    watched, held = os.pipe()
    try:
        process = subprocess.Popen(
            [*command, "--watch", str(watched)],
            cwd=here,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[watched],
            start_new_session=True,
        )
    finally:
        os.close(watched)
    with _lock:
        _running.add(process)
    try:
        yield process
    finally:
        end(process)
        os.close(held)
        with _lock:
            _running.discard(process)


_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all of its session: asked first, so that a training keeps its state."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_all() -> None:
    """Ends all jobs of this process."""
    with _lock:
        running = list(_running)
    for process in running:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)
    for process in running:
        end(process)


def _reason(found: Mapping[str, Any]) -> str:
    code, reason = found["code"], str(found["reason"])
    if code in KILLED:
        return f"{reason} (it was killed: often for want of memory)"
    if code == PASSING:
        return f"{reason} (may pass: a device, memory or a connection was lost)"

    return reason


def _tail(log: Path) -> str:
    """The end of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:])
