"""Part 5: training in bfloat16 and in TF32 is close to training in IEEE float32, with the same random numbers."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from benchmarks.gpu import models
from benchmarks.gpu.check import Case, Check
from benchmarks.gpu.parity import Results, batch, cosine, loss_and_gradient
from benchmarks.gpu.rows import Row
from duvae import devices

BOUNDS = {"bfloat16": (0.01, 1e-3), "tf32": (1e-3, 1e-4)}
"""Bounds by precision: relative difference of the mean of a part of the loss, and 1 - cosine of the gradients."""

LEAST = 32
"""Least number of examples of a batch: batch normalization over few examples would enlarge the rounding errors."""

FLOOR = 0.2
"""Smallest mean of a part of the loss, in nats, to which a difference is related."""


def run(check: Check) -> Iterator[Row]:
    """Yields the rows of all models."""
    yield from check.rows("step", of_step)


def of_step(check: Check, case: Case) -> Iterator[Row]:
    """Compares the loss of a batch and its gradient in all precisions."""
    name, described = case.name, models.description(check.params, case.system, case.size)
    model, results = models.build(described).to(check.device), {}
    x = batch(replace(case.size, batch=max(LEAST, case.size.batch)), check.device)
    for precision in ("ieee", "bfloat16", "tf32"):
        devices.set_products(check.device, "tf32" if precision == "tf32" else "ieee")
        results[precision] = Results()
        loss_and_gradient(results[precision], copy.deepcopy(model), x, precision == "bfloat16")
    devices.set_products(check.device, "ieee")
    expected = results["ieee"].arrays
    for precision, (of_loss, of_gradient) in BOUNDS.items():
        found = results[precision].arrays
        means = [each["loss"].mean(1) for each in (expected, found)]
        error = float((np.abs(means[1] - means[0]) / np.maximum(np.abs(means[0]), FLOOR)).max())
        missing = "a CPU has no TF32" if precision == "tf32" and not check.real else ""
        yield Row(f"{name}: loss in {precision}", error, "relative", of_loss, missing=missing)
        angle = 1 - cosine(expected["gradient"], found["gradient"])
        if precision == "bfloat16" or not case.small:  # a library may compute small products without TF32
            used = "no" if np.array_equal(expected["gradient"], found["gradient"]) else "yes"
            yield Row(f"{name}: {precision} is used", used, "", "yes", "==", missing=missing)
        yield Row(f"{name}: gradient in {precision}", angle, "1 - cosine", of_gradient, missing=missing)
