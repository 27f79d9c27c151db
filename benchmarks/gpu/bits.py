"""Part 4: the same training gives the same bits, also if it was stopped and resumed."""

import json
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu import models
from benchmarks.gpu.check import Case, Check
from benchmarks.gpu.models import Size
from benchmarks.gpu.rows import Row
from duvae.errors import Interrupted
from duvae.inference import model_files
from duvae.metrics.likelihood import importance_weighted_nll
from duvae.training.checkpoints import Checkpoint
from duvae.training.loop import Training
from duvae.training.state import NoProgress

EPOCHS, BATCHES, STOP = 2, 3, 4
"""Numbers of epochs, of batches of each, and of steps after which the third training stops."""

SAMPLES = 30
"""Number of importance samples."""

NEVER = 1e9
"""Seconds between two saved states, so that only a stop saves a state within an epoch."""

UNORDERED = "does not have a deterministic implementation"
"""Part of PyTorch's warning about an operation that may give other bits in each run."""


class StopAt(NoProgress):
    """A display that stops a training after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, epoch: int, batch: int, batches: int) -> bool:
        self.left -= 1

        return self.left == 0


def run(check: Check) -> Iterator[Row]:
    """Yields the rows of all models, and one on operations that may give other bits in each run."""
    with warnings.catch_warnings(record=True) as caught, tempfile.TemporaryDirectory(prefix="duvae-gpu-") as folder:
        warnings.simplefilter("always")
        yield from check.rows("trainings", partial(of_trainings, folder=Path(folder)))
    unordered = sorted(
        {str(each.message).split(UNORDERED)[0][-60:] for each in caught if UNORDERED in str(each.message)}
    )
    yield check.on_gpu(
        Row("operations without a deterministic form", len(unordered), "operations", 0, remark="; ".join(unordered))
    )


def of_trainings(check: Check, case: Case, folder: Path) -> Iterator[Row]:
    """Trains three times, and compares the bits of the weights and of the history. The third training is stopped."""
    name, system, size = case.name, case.system, case.size
    first, again = (outcome(prepared(check, system, size)) for _ in range(2))
    yield Row(f"{name}: the same bits twice", same(first, again), "", "equal", "==")
    checkpoint = Checkpoint(folder / f"{name}-{system}.safetensors", NEVER)
    stopped = prepared(check, system, size, StopAt(STOP), checkpoint)
    try:
        stopped.run()
        yield Row(f"{name}: stopped and resumed", "did not stop", "", "equal", "==")
    except Interrupted:
        resumed = prepared(check, system, size, None, checkpoint, seed=2)  # the saved state has the random generators
        yield Row(f"{name}: stopped and resumed", same(first, outcome(resumed)), "", "equal", "==")
    checkpoint.remove()
    if model_has_density(first["training"]):
        split = models.bits(models.examples(size, 2 * size.batch, seed=3))
        values = [importance_weighted_nll(first["training"].model, split, SAMPLES, check.device, 1) for _ in range(2)]
        equal = (
            "equal"
            if np.array_equal(values[0], values[1])
            else f"differs by up to {np.abs(values[0] - values[1]).max():.0e}"
        )
        yield Row(f"{name}: the same likelihood twice", equal, "", "equal", "==")


def model_has_density(training: Training) -> bool:
    """Whether the posterior of a trained model has a density, so that the model has a likelihood."""
    return training.state.history[-1]["valid_kl"] is not None


def prepared(
    check: Check,
    system: str,
    size: Size,
    progress: StopAt | None = None,
    checkpoint: Checkpoint | None = None,
    seed: int = 1,
) -> Training:
    """Prepares a training, with the same weights and data each time.

    Args:
        check: The check.
        system: Name of the system.
        size: Sizes of the model.
        progress: Object that stops the training; None: it is not stopped.
        checkpoint: File of the state; None: no file.
        seed: Seed of PyTorch's global generators.
    """
    model = models.build(models.description(check.params, system, size))
    count = BATCHES * size.batch
    training = models.training(check.params, model, system, size, check.device, count, EPOCHS, progress, checkpoint)
    torch.manual_seed(seed)

    return training


def outcome(training: Training) -> dict[str, Any]:
    """Runs a training, and returns the training, the digest of its weights and its history as text."""
    training.run()

    return {
        "training": training,
        "weights": model_files.digest(training.model),
        "history": json.dumps(training.state.history),
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Compares the bits of two trainings. Returns `equal`, or what differs."""
    return next((f"{name} differ" for name in ("weights", "history") if one[name] != other[name]), "equal")
