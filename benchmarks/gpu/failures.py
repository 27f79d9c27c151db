"""Part 8: failures end with their exit statuses, and the pool of a rebuild decides as it should.

Each failure happens in a process of its own, like a stage of a rebuild (see `benchmarks.gpu.broken`). The pool gives it
a device, and starts it again or not.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.check import Check
from benchmarks.gpu.rows import Row, Value
from duvae.errors import DEVICE_LOST, OUT_OF_MEMORY, USER_ERROR
from pipelines.devices import Device
from pipelines.failures import Failure, TaskFailedError, of_exit_status
from pipelines.pool import ADVICE, MOST_LOSSES, Pool

ROOT = Path(__file__).parents[2]

SECONDS, LONGER = 60.0, 600.0
"""Time limit of one process on a GPU, and in a dry run, whose CPU may be slow or busy."""

SIMULATED = "a dry run: the error is simulated"

ABSENT = "GPU-00000000-0000-0000-0000-000000000000"
"""UUID of a GPU that no machine has."""

STAGE = "train@gpu-check"
"""Name of the stage that the pool runs. It is of a kind that computes on a GPU."""


ASSERT, STAYS = "device-side assert triggered", "This process does not continue on the CPU"
"""Words of the messages about a failed assertion, and about a GPU that cannot be used."""


@dataclass(frozen=True)
class Case:
    """A failure, and what it must lead to.

    Attributes:
        kind: Name of the computation in `benchmarks.gpu.broken`.
        title: Name of the failure, for the rows.
        status: Exit status of the process.
        starts: Number of processes that the pool starts for one run of the stage.
        runs: Number of runs of the stage.
        failure: Kind of the failure with which the last run ends.
        words: Words of the message or of the reason.
        kept: Number of GPUs that the pool uses afterwards.
        visible: Value of `CUDA_VISIBLE_DEVICES`; empty: the GPU of the check.
    """

    kind: str
    title: str
    status: int
    starts: int
    failure: Failure
    words: str
    runs: int = 1
    kept: int = 1
    visible: str = ""


CASES = (
    Case("memory", "out of memory", OUT_OF_MEMORY, 2, Failure.FINAL, ADVICE),
    Case("assertion", "device-side assert", 1, 1, Failure.FINAL, ASSERT),
    Case("first", "device-side assert at the first batch", 1, 1, Failure.FINAL, ASSERT),
    Case("invisible", "invisible GPU", DEVICE_LOST, 1, Failure.DEVICE, STAYS, MOST_LOSSES, 0, ABSENT),
    Case("nan", "NaN gradients", USER_ERROR, 1, Failure.FINAL, "not finite"),
)
"""The failures. After the loss of a GPU, the rebuild runs the stage again later, until the pool stops using the GPU."""


def run(check: Check) -> Iterator[Row]:
    """Yields the rows of all failures, and one on a sound process afterwards."""
    for case in CASES:
        yield from of_case(check, case)
    status, message = start(check, "works", Device("GPU 0", visible()))
    yield row(check, "a process after all failures", "exit status", status, 0, last_line(message))


def of_case(check: Check, case: Case) -> Iterator[Row]:
    """Lets a pool with one GPU run a stage that fails, and yields what happened."""
    device = Device("GPU 0", case.visible or visible())
    pool, found = Pool([device]), list[tuple[int, str]]()

    def work(given: Device) -> None:
        found.append(start(check, case.kind, given))
        status, message = found[-1]
        if status:
            raise TaskFailedError(STAGE, f"exit status {status}", of_exit_status(status), message)

    failure, reason = "none", ""
    for _ in range(case.runs):
        try:
            pool.run(STAGE, work)
        except TaskFailedError as error:
            failure, reason = error.failure.name, error.reason
    message = found[-1][1]
    statuses = sorted({status for status, _ in found})
    expected = case.words in " ".join(message.split()) or case.words in reason
    yield row(check, case.title, "exit status", ", ".join(map(str, statuses)), str(case.status), last_line(message))
    yield row(
        check, case.title, "message", "as expected" if expected else last_line(message), "as expected", case.words
    )
    yield row(check, case.title, "processes that the pool starts", len(found), case.starts * case.runs, "")
    yield row(check, case.title, "decision of the pool", failure, case.failure.name, reason[:120])
    remark = "after that many losses in a row the pool stops using a GPU" if not case.kept else ""
    yield row(check, case.title, "GPUs that the pool still uses", len(pool), case.kept, remark)


def row(check: Check, title: str, name: str, value: Value, bound: Value, remark: str) -> Row:
    """Builds a row on a failure. In a dry run the errors do not come from a GPU, so the row does not count."""
    return Row(f"{title}: {name}", value, "", bound, "==", remark=remark, missing="" if check.real else SIMULATED)


def start(check: Check, kind: str, device: Device) -> tuple[int, str]:
    """Runs a computation in a process that sees one device.

    Returns:
        The exit status, and the output with the errors.
    """
    environment = {**os.environ, **device.environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "benchmarks.gpu.broken"]
    place, limit = ("cuda", SECONDS) if check.real else ("cpu", LONGER)
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [*command, "--", kind, place],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return -1, f"no end within {limit:g} seconds"


def visible() -> str:
    """The value of `CUDA_VISIBLE_DEVICES` that names the GPU of the check."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"


def last_line(message: str) -> str:
    """The last line of an output that has words in it."""
    lines = [" ".join(line.split()) for line in message.splitlines() if line.strip()]

    return lines[-1][:160] if lines else ""
