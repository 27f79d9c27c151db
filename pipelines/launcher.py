"""Launches one task: runs a stage in a process and a workspace of its own, with a log and a time limit.

A workspace is a throwaway clone of the project.
"""

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
from pipelines.devices import Device
from pipelines.failures import Failure, TaskFailedError, of_exit_status
from pipelines.owners import OWNER_VARIABLE, owner
from pipelines.workspaces import WORK_FOLDER, ProjectSnapshot, file_name, workspace

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL. A training saves its state in this time."""

LOG_LINES = 30
"""An error shows this number of lines from the end of a task's log."""


@dataclass(frozen=True)
class Machine:
    """Settings that are the same for all tasks on one machine.

    Attributes:
        root: The project's folder on that machine.
        cache: The folder of DVC's cache on that machine.
        remote: Name of the DVC remote that carries results between machines; empty: DVC's default remote; None: no
            remote, since all tasks run on one machine.
        timeout: Time limit of each task in seconds; None: no limit.
    """

    root: Path
    cache: Path
    remote: str | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class TaskResult:
    """The result of a task that succeeded.

    Attributes:
        stage: Name of the stage.
        entry: The stage's entry in dvc.lock, which holds the hashes of the stage's inputs and outputs.
        ran: Whether the stage's command ran; False: DVC's run cache had the stage's outputs.
        seconds: Wall-clock seconds of the task.
        device: Name of the device; on a cluster, it begins with the name of the machine.
    """

    stage: str
    entry: Mapping[str, Any] = field(repr=False)
    ran: bool
    seconds: float
    device: str


def log_path(root: Path, stage: str) -> Path:
    """The path of a task's log."""
    return root / WORK_FOLDER / "logs" / f"{file_name(stage)}.log"


def run(
    stage: str, machine: Machine, snapshot: ProjectSnapshot, entries: Mapping[str, Any], device: Device | None
) -> TaskResult:
    """Runs a stage in a process and a workspace of its own, and waits for the end of the process.

    Args:
        stage: Name of the stage.
        machine: Settings of this machine.
        snapshot: The project's content when the rebuild began.
        entries: Entries for the dvc.lock of the workspace, by name of the stage. They are the entries of those stages
            that write the inputs of `stage`.
        device: The task's device; None: any device that the calling process may use.

    Raises:
        TaskFailedError: If the stage fails or exceeds the time limit. The error holds the end of the task's log.
    """
    started, log = time.monotonic(), log_path(machine.root, stage)
    log.parent.mkdir(parents=True, exist_ok=True)
    with workspace(machine.root, machine.cache, stage, snapshot, entries) as folder, log.open("wb") as log_file:
        result_file = folder.parent / "result.json"
        command = [sys.executable, "-m", "pipelines.stage_process", stage, str(result_file)]
        command += [] if machine.remote is None else ["--remote", machine.remote]
        with _process(command, folder, _environment(machine.root, folder, device), log_file) as process:
            if device is not None:
                device.pin(process.pid)
            try:
                code = process.wait(machine.timeout)
            except subprocess.TimeoutExpired:
                reason = (
                    f"ran longer than {machine.timeout:g} seconds. A training continues from its saved state when it is"
                    " started again"
                )
                raise TaskFailedError(stage, reason, Failure.FINAL, _tail(log)) from None
        try:
            result = json.loads(result_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            result = {"code": code, "reason": f"its process ended with exit code {code} and gave no reason"}
    if "entry" not in result:
        failure = of_exit_status(result["code"])
        reason = f"{result['reason']} ({failure.value})" if failure.value else str(result["reason"])
        raise TaskFailedError(stage, reason, failure, _tail(log))
    name = device.name if device else socket.gethostname()

    return TaskResult(stage, result["entry"], result["ran"], time.monotonic() - started, name)


def _environment(root: Path, folder: Path, device: Device | None) -> dict[str, str]:
    """The environment variables of a task's process.

    They name the source code and the device that the task's process uses, and the process that started it.
    """
    package = str(Path(__file__).resolve().parents[1])
    paths = [str(folder / "src"), package, os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
        **TELEMETRY_OFF,
        OWNER_VARIABLE: owner(),
    }
    mirror = os.environ.get("DUVAE_MIRROR")
    if mirror and "://" not in mirror:
        environment["DUVAE_MIRROR"] = str((root / mirror).resolve())
    if device is not None:
        environment |= device.environment()
    for name in [name for name in environment if name.startswith(("GIT_", "DVC_"))]:
        del environment[name]
    # Workspaces do not share it. In the configuration of DVC, the path would have to be ASCII.
    environment["DVC_SITE_CACHE_DIR"] = str(folder.parent / "site")

    return environment


@contextlib.contextmanager
def _process(
    command: list[str], folder: Path, environment: Mapping[str, str], log_file: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a process in a session of its own, and terminates the whole session at the end of the `with` block.

    The started process watches one end of a pipe, and the calling process holds the other end. If the calling process
    dies, the end that it holds closes. Then the started process kills its own session.
    """
    read_end, write_end = os.pipe()
    try:
        process = subprocess.Popen(
            [*command, "--watch", str(read_end)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=subprocess.STDOUT,
            pass_fds=[read_end],
            start_new_session=True,
        )
    finally:
        os.close(read_end)
    with _lock:
        _running.add(process)
    try:
        yield process
    finally:
        terminate(process)
        os.close(write_end)
        with _lock:
            _running.discard(process)


_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Terminates a process and its whole session: first with SIGTERM, so that a training saves its state."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def terminate_all() -> None:
    """Terminates all tasks that this process has started."""
    with _lock:
        running = list(_running)
    for process in running:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)
    for process in running:
        terminate(process)


def _tail(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])
