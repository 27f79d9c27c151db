"""Part 3: a training step does not wait for the GPU.

PyTorch then refuses each operation for which the processor would wait, in five steps of each system. Agg-VAE compares
losses on the processor, once in each window of its inner steps, so its waits are counted.
"""

import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

import duvae
from benchmarks.gpu import models
from benchmarks.gpu.check import Case, Check
from benchmarks.gpu.clock import OperationCounter
from benchmarks.gpu.rows import Row
from duvae.data.batches import batches
from duvae.training.aggressive import AggressiveLoop

STEPS = 5
"""Number of steps without a wait."""

WARM_UP = 3
"""Number of steps before: at its first step with a shape, a library may wait while it prepares itself."""

WAIT = "called a synchronizing CUDA operation"
"""Message of PyTorch about an operation for which the processor waits."""


def run(check: Check) -> Iterator[Row]:
    """Yields the rows of all models."""
    yield from check.rows("steps", of_steps)


def of_steps(check: Check, case: Case) -> Iterator[Row]:
    """Takes steps as a training does, and counts the waits."""
    system, size = case.system, case.size
    model = models.build(models.description(check.params, system, size))
    training = models.training(check.params, model, system, size, check.device, count=3 * size.batch, epochs=1)
    training.order = batches(training.lengths, size.batch, (1, 1))
    training.model.train()
    sums = torch.zeros(3, dtype=torch.float64, device=check.device)

    def steps(count: int) -> None:
        for n in range(count):
            x = training.batch(training.order[n % len(training.order)])
            loss = training.loop.step(training.updates, x, 1.0)
            sums.add_(torch.stack([part.sum() for part in loss]))

    steps(max(WARM_UP, len(training.order)))
    allowed, remark = 0, ""
    if isinstance(training.loop, AggressiveLoop):
        allowed = STEPS * (training.loop.max_inner // training.loop.window)
        remark = "one for each window of the inner steps"
    count, where = waits(check, partial(steps, STEPS), errors=allowed == 0)
    yield check.on_gpu(Row(f"{case.name}: waits in {STEPS} steps", count, "waits", allowed, remark=where or remark))


def waits(check: Check, call: Callable[[], None], errors: bool) -> tuple[int, str]:
    """Counts the operations of a call for which the processor waits.

    Args:
        check: The check. In a dry run, the values that Python reads are counted.
        call: The computation.
        errors: Whether the first wait ends the call, so that the line of the wait is known.

    Returns:
        The number of waits, and the line of duvae that waits; an empty text if this line is not known.
    """
    if not check.real:
        with OperationCounter() as counter:
            call()
        return counter.reads, ""
    check.clock.wait()
    torch.cuda.set_sync_debug_mode("error" if errors else "warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    except RuntimeError as error:
        if WAIT not in str(error):
            raise
        return 1, line(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    return sum(WAIT in str(each.message) for each in caught), ""


def line(error: BaseException) -> str:
    """The last line of duvae in the traceback of an error, with its file."""
    source = Path(duvae.__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if source in Path(frame.filename).parents:
            return f"{Path(frame.filename).relative_to(source)}: {frame.line}"

    return "outside of duvae"
