"""Part 2: a CPU and the GPU compute the same, if they get the same random numbers.

Both devices compute the loss, its gradient, three training steps and all measures of a model, for each system of the
paper. `SharedNoise` gives both the same noise and the same dropout masks. In a dry run the second device is the CPU
again, without the library oneDNN.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu import models
from benchmarks.gpu.check import Case, Check
from benchmarks.gpu.models import Size
from benchmarks.gpu.noise import SharedNoise
from benchmarks.gpu.rows import Row
from duvae.data.splits import Array, Split
from duvae.inference import generation
from duvae.metrics.decoder_use import decoder_use
from duvae.metrics.dimensions import dimension_measures
from duvae.metrics.encoding import encode, features
from duvae.metrics.geometry import measures
from duvae.metrics.likelihood import importance_weighted_nll
from duvae.metrics.transformed import transformed_measures
from duvae.training.steps import Updates, optimizer
from duvae.vae import VAE

CPU = torch.device("cpu")
SEED = 3
"""Seed of all random numbers."""

WEIGHT = 0.7
"""Weight of the KL term."""

BOUNDS = {
    "loss": 1e-5,
    "gradient": 1e-5,
    "update": 1e-3,
    "encoded reconstruction": 1e-5,
    "encoded kl": 1e-5,
    "NLL": 1e-3,
    "KL by dimension": 1e-3,
    "use of z": 1e-3,
    "likeliest outputs": 0.0,
}
"""Bounds of the differences of arrays, by name and in the unit that `difference` returns; otherwise `RELATIVE`."""

RELATIVE, NATS = 1e-4, 1e-3
"""Bound of all other relative differences, and of the differences of measures in nats."""

SAMPLES, EXAMPLES, SENTENCES = 20, 16, 16
"""Numbers of importance samples, of examples, and of generated examples."""

FEW_SAMPLES, FEW_EXAMPLES = 20, 2
"""Numbers of importance samples and of examples at full size, with which a CPU takes seconds."""


@dataclass
class Results:
    """What one device computed.

    Attributes:
        arrays: Arrays by the name of their comparison.
        numbers: Measures in nats; None: the measure does not exist for the system.
        draws: The random draws of all computations, as `SharedNoise` records them.
    """

    arrays: dict[str, Array] = field(default_factory=dict)
    numbers: dict[str, float | None] = field(default_factory=dict)
    draws: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def noise(self) -> SharedNoise:
        """Builds a block with shared random numbers, whose draws are recorded here."""
        noise = SharedNoise(SEED)
        noise.draws = self.draws

        return noise


def run(check: Check) -> Iterator[Row]:
    """Yields the rows of all models."""
    yield from check.rows("comparison", lambda check, case: (small if case.small else at_full_size)(check, case))


def small(check: Check, case: Case) -> Iterator[Row]:
    """Compares a small model on both devices in all ways."""
    model = models.build(models.description(check.params, case.system, case.size))
    expected = everything(check, model, case, CPU, nullcontext())
    found = everything(check, model, case, check.device, check.other_library())
    exact = Results()
    loss_and_gradient(exact, copy.deepcopy(model).double(), batch(case.size, CPU, torch.float64))
    yield from compared(case.name, expected, found, exact)


def at_full_size(check: Check, case: Case) -> Iterator[Row]:
    """Compares a model at a size of the paper: the loss, its gradient, and the NLL with few samples.

    The CPU computes loss and gradient in double precision. In single precision its sums over all pixels of a batch of
    images, in batch normalization, are less accurate than those of a GPU.
    """
    model = models.build(models.description(check.params, case.system, case.size))
    split = models.bits(models.examples(case.size, FEW_EXAMPLES, seed=3))
    results = []
    places = ((CPU, torch.float64, nullcontext()), (check.device, torch.float32, check.other_library()))
    for device, dtype, context in places:
        found = Results()
        with context:
            loss_and_gradient(found, copy.deepcopy(model).to(device, dtype), batch(case.size, device, dtype))
            placed = copy.deepcopy(model).to(device)
            if placed.posterior(batch(case.size, device)).density:
                with found.noise():
                    found.arrays["NLL"] = importance_weighted_nll(placed, split, FEW_SAMPLES, device, SEED)
        results.append(found)
    yield from compared(case.name, *results)


def everything(
    check: Check, model: VAE, case: Case, device: torch.device, context: AbstractContextManager[None]
) -> Results:
    """Computes the loss, its gradient, training steps and all measures on one device.

    Args:
        check: The check.
        model: The model, which is copied.
        case: The system and its sizes.
        device: The device.
        context: Block in which the device computes.
    """
    found = Results()
    with context:
        loss_and_gradient(found, copy.deepcopy(model).to(device), batch(case.size, device))
        steps(found, check, copy.deepcopy(model), case, device)
        split = models.bits(models.examples(case.size, EXAMPLES, seed=3))
        with found.noise():
            measured(found, copy.deepcopy(model).to(device), split, device)

    return found


def batch(size: Size, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A training batch: documents of the first length, or images of bits."""
    same_length = replace(size, lengths=size.lengths[:1])
    split = models.bits(models.examples(same_length, size.batch, seed=2))
    x = torch.from_numpy(split.batch(np.arange(len(split)))).to(device)

    return x.to(dtype) if x.is_floating_point() else x


def loss_and_gradient(found: Results, model: VAE, x: Tensor, bfloat16: bool = False) -> None:
    """Computes the parts of the loss of a batch, and the gradient of its mean with respect to all parameters."""
    encoder, decoder = (
        optimizer(list(parameters), "sgd", 1.0)
        for parameters in (model.inference_parameters(), model.generative_parameters())
    )
    updates = Updates(model, encoder, decoder, math.inf, lambda: x, bfloat16)
    with found.noise():
        loss = updates.gradients(x, WEIGHT)
    found.arrays["loss"] = torch.stack(list(loss)).double().cpu().numpy()
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    found.arrays["gradient"] = torch.cat(gradients).double().cpu().numpy()


def steps(found: Results, check: Check, model: VAE, case: Case, device: torch.device) -> None:
    """Takes the steps of one epoch with the loop and the optimisers of a training, and computes all changes."""
    count = 3 * case.size.batch
    training = models.training(check.params, model, case.system, case.size, device, count, epochs=1)
    before = weights(training.model)
    with found.noise():
        training.train_epoch()
    found.arrays["update"] = weights(training.model) - before


def weights(model: VAE) -> Array:
    """All parameters and running statistics of a model in one row, in double precision."""
    values = [value.flatten() for value in model.state_dict().values() if value.is_floating_point()]

    return torch.cat(values).double().cpu().numpy()


def measured(found: Results, model: VAE, split: Split, device: torch.device) -> None:
    """Measures a model in all ways in which the project measures models."""
    encoded = encode(model, split, device, SEED)
    for name in ("mean", "variance", "z", "reconstruction", "kl"):
        value = getattr(encoded, name)
        if value is not None:
            found.arrays[f"encoded {name}"] = value
    if encoded.density:
        found.arrays["NLL"] = importance_weighted_nll(model, split, SAMPLES, device, SEED)
        by_dimension = dimension_measures(model, split, encoded, device, SEED)["kl_by_dimension"]
        found.arrays["KL by dimension"] = np.array(by_dimension)
    values = measures(encoded, 0.01)
    found.numbers |= {name.upper(): values[name] for name in ("mi", "mpd", "ce")}
    values = transformed_measures(model, split, device, SEED)
    found.numbers |= {f"{name.upper()} of z^T": values[f"{name}_t"] for name in ("mpd", "ce")}
    found.arrays["use of z"] = np.nan_to_num(decoder_use(model, split, encoded, device, SEED))
    found.arrays["features"] = features(model, split, device)
    likeliest = generation.prior(model, SENTENCES, encoded.z.shape[1], SEED, likely=True, longest=20)
    found.arrays["likeliest outputs"] = likeliest.cpu().numpy()


def compared(name: str, expected: Results, found: Results, exact: Results | None = None) -> Iterator[Row]:
    """Yields the rows that compare the results of two devices.

    Args:
        name: What the results are about, the beginning of the names of the rows.
        expected: Results of the CPU.
        found: Results of the other device.
        exact: Results of the CPU in double precision, which show the rounding errors of float32 itself; None: unknown.
    """
    same = "equal" if expected.draws == found.draws else "different"
    yield Row(f"{name}: random draws", same, "", "equal", "==", remark=f"{len(expected.draws)} draws")
    for key, value in expected.arrays.items():
        remark = ""
        if exact is not None and key in exact.arrays:
            remark = f"float32 against float64 on the CPU: {difference(key, exact.arrays[key], value)[0]:.0e}"
        error, unit = difference(key, value, found.arrays[key])
        yield Row(f"{name}: {key}", error, unit, BOUNDS.get(key, RELATIVE), remark=remark)
        if key == "gradient":
            norms = [np.asarray(np.linalg.norm(each)) for each in (value, found.arrays[key])]
            yield Row(f"{name}: norm of the gradient", relative(*norms), "relative", RELATIVE)
    for key, number in expected.numbers.items():
        second = found.numbers[key]
        if number is not None and second is not None:
            yield Row(f"{name}: {key}", abs(second - number), "nats", NATS, remark=f"{number:.4g} nats")
        elif number is not second:
            yield Row(f"{name}: {key}", f"{number} on the CPU, {second} here", "", "equal", "==")


def difference(key: str, expected: Array, found: Array) -> tuple[float, str]:
    """Measures how much two arrays differ.

    Args:
        key: Name of the comparison.
        expected: The values of the CPU.
        found: The values of the other device.

    Returns:
        The difference and its unit.
    """
    if expected.shape != found.shape:
        return math.inf, f"shape {found.shape} instead of {expected.shape}"
    if key == "likeliest outputs":
        return float((expected != found).mean()), "share"
    if key in {"gradient", "update"}:
        return 1 - cosine(expected, found), "1 - cosine"
    if key in {"NLL", "KL by dimension", "use of z"}:
        return float(np.abs(expected - found).max()), "nats"
    if key == "loss":  # each part of the loss has a size of its own
        return max(map(relative, expected, found)), "relative"

    return relative(expected, found), "relative"


def relative(expected: Array, found: Array) -> float:
    """The largest difference of two arrays, divided by the largest absolute value of the first array."""
    largest, error = float(np.abs(expected).max()), float(np.abs(expected - found).max())

    return error / largest if largest else math.inf if error else 0.0


def cosine(one: Array, other: Array) -> float:
    """The cosine of the angle between two vectors. Vectors that are equal have the cosine 1, also if they are 0."""
    if np.array_equal(one, other):
        return 1.0

    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
