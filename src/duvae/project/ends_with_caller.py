"""Runs a command that ends with the process that started it: `python -m duvae.project.ends_with_caller COMMAND`.

The standard input of this process is a pipe whose other end only the caller holds. So this process notices if the
caller was killed. DVC does not pass signals on to the commands of its stages. So this process sends SIGTERM to all of
them, and SIGKILL later. A training saves its state in between.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

GRACE = 15.0
"""Seconds between SIGTERM and SIGKILL."""

STEP = 0.05
"""Seconds between two looks at the processes that have to end."""


def run(command: list[str]) -> int:
    """Runs a command in a process group of its own.

    Args:
        command: Program with its arguments.

    Returns:
        The exit status; 128 + the signal's number if a signal ended the command.
    """
    stopped = threading.Event()
    process: subprocess.Popen[bytes] | None = None

    def stop(*_: object) -> None:
        stopped.set()
        if process:
            _send(process.pid, signal.SIGTERM)

    def end_with_caller() -> None:
        while os.read(sys.stdin.fileno(), 1):  # without the lock of `sys.stdin`, which Python needs at its end
            pass
        stop()

    signal.signal(signal.SIGTERM, stop)  # first, so that no signal leaves a command behind that has just started
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    if stopped.is_set():  # the signal came before `process` had its value
        stop()
    threading.Thread(target=end_with_caller, daemon=True).start()
    status = process.wait()
    until = time.monotonic() + GRACE
    while stopped.is_set() and _send(process.pid, 0):  # the command may end before its own children
        if time.monotonic() > until:
            _send(process.pid, signal.SIGKILL)
        time.sleep(STEP)

    return status if status >= 0 else 128 - status


def _send(group: int, number: int) -> bool:
    """Sends a signal to a process group. The number 0 sends none; it only asks whether the group exists."""
    with contextlib.suppress(OSError):
        os.killpg(group, number)
        return True

    return False


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
