"""The watchdog: a process that ends the child processes of a command if the command is killed.

A command that SIGKILL ends cannot end its children: servers, workers, `dvc repro`. So `start` starts this module as a
process of its own. It reads from a pipe whose other end only the command holds. The operating system closes that end
when the command ends, in whatever way. Then the watchdog ends all processes that bear the command's mark (see
`owners.py`). After an orderly end there are none.

If the watchdog was killed too, the next rebuild ends the processes: see `workspaces.clean`.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from pipelines.owners import OWNER_VARIABLE, end_processes_of, owner

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL. A training saves its state in this time."""

_watchdogs: dict[int, tuple[int, "subprocess.Popen[bytes]"]] = {}
"""This process's end of the pipe and its watchdog, by the id of this process. A fork has none of its own."""


def start(mark_children: bool = False) -> None:
    """Starts a watchdog for this process, unless it has one.

    Args:
        mark_children: Whether all processes that this process starts from now on bear its mark. False: only those that
            get the mark in their environment.
    """
    if mark_children:
        os.environ[OWNER_VARIABLE] = owner()
    if os.getpid() in _watchdogs:
        return
    package = str(Path(__file__).resolve().parents[1])
    environment = {name: value for name, value in os.environ.items() if name != OWNER_VARIABLE}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    read_end, write_end = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.watchdog", str(read_end), owner()],
            cwd="/",  # it needs no folder, and keeps none from being removed
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[read_end],
            start_new_session=True,
        )
    finally:
        os.close(read_end)
    _watchdogs[os.getpid()] = write_end, process


def main() -> None:
    """Waits until the command has ended, and then ends its processes. The arguments are a file descriptor and a mark.

    The signals that end the command must not end its watchdog.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    descriptor, mark = int(sys.argv[1]), sys.argv[2]
    with contextlib.suppress(OSError):
        os.read(descriptor, 1)
    end_processes_of(mark, GRACE)


if __name__ == "__main__":
    main()
