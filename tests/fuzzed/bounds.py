"""Runs commands in a child process with bounds of time, memory and places to write, and judges how they ended.

The parent has imported every module of the project. A child is a fork of it, so that a command starts at once, and
whatever a command does to its process ends with it.
"""

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzed.mutation import Command, Work

CPU_SECONDS = 60
"""Most seconds of CPU time for all commands of a mutation."""

PATIENCE = 600.0
"""Most seconds from start to end, for a machine that does much else."""

MEMORY = 1536 * 2**20
"""Most bytes that a child may allocate, beyond those that it shares with its parent."""

LARGEST_FILE = 2 * 2**30
LONGEST_OUTPUT = 100_000
"""Most characters that the commands may print. A message about a long value shows only its start."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.remove": 1, "os.rename": 2, "os.rmdir": 1, "os.mkdir": 1, "os.link": 2, "os.symlink": 2,
            "os.truncate": 1, "os.chmod": 1, "os.mkfifo": 1, "shutil.rmtree": 1}  # fmt: skip


@dataclass
class Child:
    """A running child.

    Attributes:
        pid: Process id, which is also the id of the child's process group.
        place: Folder of this child. It has the project and what the child prints.
        started: Time of the start in seconds.
        killed: Whether the child ran out of patience.
    """

    pid: int
    place: Path
    started: float
    killed: bool = False


def start(place: Path, prepare: Callable[[], Work], after: Callable[[], object] = lambda: None) -> Child:
    """Starts a child that runs commands in `place / "project"` until one is refused.

    Args:
        place: Folder of the child.
        prepare: Function that puts the project into the folder. The child calls it, before the bounds are set.
        after: Function that the child calls at its end.
    """
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # the child does the same
            os.setpgid(pid, pid)
        return Child(pid, place, time.monotonic())
    status = 1
    try:
        os.setpgid(0, 0)
        work = prepare()
        (place / "stdin").write_bytes(work.stdin)
        for name in ("tmp", "home"):
            (place / name).mkdir()
        _child(place.resolve(), work)
        after()
        status = 0
    except BaseException:  # noqa: BLE001 - a fork must never go on as its parent
        traceback.print_exc()
    finally:
        os._exit(status)


def _child(place: Path, work: Work) -> None:
    new = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for descriptor, name, flags in ((0, "stdin", os.O_RDONLY), (1, "output", new), (2, "errors", new)):
        os.dup2(os.open(place / name, flags, 0o600), descriptor)
    os.chdir(place / "project")
    temporary = str(place / "tmp")
    os.environ.update(HOME=str(place / "home"), TMPDIR=temporary, TORCHINDUCTOR_CACHE_DIR=temporary, MPLBACKEND="agg")
    tempfile.tempdir = str(place / "tmp")
    limits()
    codes = os.open(place / "codes", new, 0o600)
    if not work.real:
        sys.addaudithook(Fence(place))
    for command in work.commands:
        code = _real(command) if work.real else called(command)
        if command[:1] == ("doctor",) and code == 1:  # the doctor found something, which is its work
            code = 0
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(codes, f"{code}\n".encode())
        if code:
            return


def limits() -> None:
    """Sets the bounds of this process."""
    size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    for what, bound in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, size + MEMORY),
        (resource.RLIMIT_FSIZE, LARGEST_FILE),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (bound, bound))


def called(command: Command) -> int:
    """Runs a command in this process. Returns the exit status that a process of its own would have."""
    from duvae.__main__ import main

    sys.argv = ["duvae", *command]
    try:
        main()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001 - what the interpreter would do
        traceback.print_exc()
        return 1

    return 0


def _real(command: Command) -> int:
    code = subprocess.run([sys.executable, "-m", "duvae", *command], check=False).returncode

    return code if code >= 0 else 128 - code


class Fence:
    """An audit hook that refuses changes outside of a child's folder, and connections. It reports them as faults."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)
        self.busy = threading.local()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in {"open", "socket.connect"} and event not in _CHANGES:
            return
        if getattr(self.busy, "now", False):
            return
        self.busy.now = True
        try:
            if event == "socket.connect":
                self.refuse(f"connected to {arguments[1]!r}")
            elif event == "open":
                path, _, flags = arguments
                if isinstance(path, str | bytes | os.PathLike) and isinstance(flags, int) and flags & _WRITES:
                    self.check(path, event)
            else:
                for path in arguments[: _CHANGES[event]]:
                    if isinstance(path, str | bytes | os.PathLike) and not (
                        event == "os.symlink" and path == arguments[0]
                    ):
                        self.check(path, event)
        finally:
            self.busy.now = False

    def check(self, path: Any, event: str) -> None:
        # A device is not changed by writing to it, but by replacing it.
        named = Path(os.fsdecode(path))
        real = named.parent.resolve() / named.name
        if not real.is_relative_to(self.place) and not (event == "open" and real == Path("/dev/null")):
            self.refuse(f"{event} of {real}")

    def refuse(self, what: str) -> None:
        print(f"OUTSIDE: {what}", file=sys.stderr, flush=True)
        raise PermissionError(1, "outside of the project", what)


@dataclass(frozen=True)
class Outcome:
    """How the commands of a mutation ended.

    Attributes:
        codes: Exit status of each command that ended.
        faults: What was wrong; empty: the commands ended as they must.
        output: What the commands printed, first on standard error.
        seconds: CPU time.
    """

    codes: tuple[int, ...]
    faults: tuple[str, ...]
    output: str
    seconds: float

    @property
    def verdict(self) -> str:
        """The word for the summary: accepted, refused or fault."""
        return "fault" if self.faults else "refused" if 2 in self.codes else "accepted"


def poll(child: Child) -> Outcome | None:
    """The outcome of a child that has ended; None: the child still runs."""
    pid, status, usage = os.wait4(child.pid, os.WNOHANG)
    if not pid:
        if time.monotonic() - child.started > PATIENCE:
            child.killed = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        return None
    with contextlib.suppress(ProcessLookupError):  # processes that the commands left behind
        os.killpg(child.pid, signal.SIGKILL)

    return _judged(child, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime)


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "backslashreplace") if path.exists() else ""


def _judged(child: Child, status: int, seconds: float) -> Outcome:
    errors, printed = _read(child.place / "errors"), _read(child.place / "output")
    codes = tuple(int(line) for line in _read(child.place / "codes").split())
    faults = []
    if child.killed:
        faults.append(f"ran for more than {PATIENCE:.0f} seconds")
    elif status == -signal.SIGXCPU or (status == -signal.SIGKILL and seconds >= 0.9 * CPU_SECONDS):
        faults.append(f"used more than {CPU_SECONDS} seconds of CPU time")
    elif status:
        faults.append(f"ended by the signal {-status}" if status < 0 else f"the child ended with {status}")
    faults += [f"exit status {code}" for code in codes if code not in {0, 2}]
    if "Traceback (most recent call last)" in errors + printed:
        faults.append(f"a traceback: {errors.strip().splitlines()[-1][:200]}")
    if 2 in codes and not re.search(r"^(error: |Usage: )", errors, re.MULTILINE):
        faults.append("refused without a message")
    faults += [f"was refused by the fence: {line}" for line in errors.splitlines() if line.startswith("OUTSIDE: ")]
    if found := _CONTROL.search(errors + printed):
        faults.append(f"printed the control character {found[0]!r}")
    if len(errors) + len(printed) > LONGEST_OUTPUT:
        faults.append(f"printed {len(errors) + len(printed):,} characters")
    left = [path.relative_to(child.place) for path in (child.place / "project").rglob("*.part")]
    if left:
        faults.append(f"left {left[0]}")

    return Outcome(codes, tuple(faults), errors + printed, seconds)
