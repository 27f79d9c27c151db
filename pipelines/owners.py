"""Marks the processes that a command starts, and ends them when the command has ended without doing so.

A mark is a text in the environment variable `OWNER_VARIABLE`. It identifies the process that started the marked ones,
its *owner*. All descendants of a marked process inherit the variable, unless they set it anew. So a process whose owner
has ended is left over, and no process of another program can be taken for one.
"""

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

OWNER_VARIABLE = "DUVAE_REBUILD_OWNER"
"""Environment variable of every process that a rebuild starts. Its value is the `owner()` of the starting process."""

ROUNDS = 100
"""Largest number of searches for left-over processes. A search that finds none is the last but one."""

PAUSE = 0.2
"""Seconds between two searches. A process that is just starting gets its environment in this time."""


def owner() -> str:
    """Returns a text that identifies this process by machine, process id and start time.

    The start time distinguishes this process from earlier and later processes with the same id.
    """
    return f"{_host()}-{os.getpid()}-{_start(psutil.Process())}"


def _host() -> str:
    """The name of the machine. On Linux, the number of the namespace of process ids follows, since containers differ.

    A process id means nothing outside its namespace.
    """
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())

    return re.sub(r"\W+", "_", socket.gethostname() + space).rstrip("_")


def _start(process: psutil.Process) -> int:
    return int(process.create_time() * 100)


def is_alive(mark: str) -> bool | None:
    """Whether the process that a text from `owner` identifies still runs.

    Args:
        mark: Text that `owner` returned in some process; any other text is allowed too.

    Returns:
        True if the process runs, and False if it has ended. None if the process is on another machine, or if `mark`
        does not come from `owner`.
    """
    match = re.fullmatch(r"(\w+)-(\d+)-(\d+)", mark)
    if match is None or match[1] != _host():
        return None
    try:
        process = psutil.Process(int(match[2]))
        return abs(_start(process) - int(match[3])) <= 1 and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OverflowError):
        return False


def end_left_over() -> None:
    """Kills the running processes on this machine whose owner has ended."""
    for process in _marked(lambda mark: is_alive(mark) is False):
        with suppress(psutil.Error):
            process.kill()


def end_processes_of(mark: str, grace: float) -> None:
    """Ends all processes with a mark, and their descendants: first by SIGTERM, later by SIGKILL.

    Args:
        mark: Text that `owner` returned in some process, which has ended.
        grace: Seconds between SIGTERM and SIGKILL.
    """
    empty = 0
    for _ in range(ROUNDS):
        family = {process for marked in _marked(lambda other: other == mark) for process in _family(marked)}
        family.discard(psutil.Process())
        for process in family:
            with suppress(psutil.Error):
                process.terminate()
        for process in psutil.wait_procs(list(family), grace)[1]:
            with suppress(psutil.Error):
                process.kill()
        empty = 0 if family else empty + 1
        if empty == 2:
            break
        time.sleep(PAUSE)


def _marked(counts: Callable[[str], bool]) -> Iterator[psutil.Process]:
    """Yields the running processes whose mark fulfils a condition."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            mark = process.environ().get(OWNER_VARIABLE, "")
            if mark and counts(mark) and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all its descendants."""
    with suppress(psutil.Error):
        return [process, *process.children(recursive=True)]

    return [process]
