"""Runs a part of the check in a process of its own, with a time limit.

A failed assertion on a GPU ruins its process, and a crash ends it. The other parts then still run, and the rows that
the part yielded before are kept.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDED = "ended by itself"
"""Outcome of a process that did all its work."""


@dataclass(frozen=True)
class Outcome:
    """What a process yielded, and how it ended.

    Attributes:
        values: The values that the process yielded, in their order.
        end: `ENDED`, or how else the process ended.
        seconds: The seconds that the process took.
        last: The last line of its output.
    """

    values: list[dict[str, Any]]
    end: str
    seconds: float
    last: str


def run(work: Callable[[], Iterable[dict[str, Any]]], limit: float) -> Outcome:
    """Runs a function in a new process, and collects what it yields.

    The process is a fork of this one, because an import of torch would take seconds for each part. So this process
    itself must not use the GPU, and must not have threads.

    Args:
        work: Function that yields values that JSON can hold.
        limit: Seconds after which the process is killed, together with all processes that it started.
    """
    with tempfile.TemporaryDirectory(prefix="duvae-gpu-") as name:
        values, log = Path(name) / "values", Path(name) / "log"
        values.touch()
        started = time.perf_counter()
        process = multiprocessing.get_context("fork").Process(target=_work, args=(work, values, log))
        process.start()
        try:
            process.join(limit)
            late = process.is_alive()
        finally:
            _kill(process.pid)
            process.join()
        seconds = time.perf_counter() - started
        lines = values.read_text(encoding="utf-8").splitlines(keepends=True)
        # The last line of a killed process may be cut.
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        output = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
        last = next((" ".join(line.split())[:300] for line in reversed(output) if line.strip()), "")

    return Outcome(found, _end(process.exitcode, late, limit), seconds, last)


def _end(status: int | None, late: bool, limit: float) -> str:
    """Describes how a process ended, from its exit status."""
    if late:
        return f"killed after {limit:g} seconds"
    if status is not None and status < 0:
        return f"ended by {signal.Signals(-status).name}"

    return f"exit status {status}" if status else ENDED


def _work(work: Callable[[], Iterable[dict[str, Any]]], values: Path, log: Path) -> None:
    """Runs the function in the new process, and writes each value to a file at once."""
    os.setsid()
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    with values.open("w", encoding="utf-8") as file:
        for value in work():
            file.write(json.dumps(value, allow_nan=False) + "\n")
            file.flush()


def _kill(pid: int | None) -> None:
    """Kills the process and all processes that it started, if some of them still run."""
    if pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
