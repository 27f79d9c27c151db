"""Part 6: compiled training is close to training without a compiler."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from benchmarks.gpu import models
from benchmarks.gpu.check import Check
from benchmarks.gpu.models import Size
from benchmarks.gpu.parity import batch, cosine, relative
from benchmarks.gpu.rows import Row, guarded
from duvae.data.splits import Array
from duvae.training.compilation import compile_parts
from duvae.training.steps import JointLoop, Updates, optimizer
from duvae.vae import VAE

SYSTEM = "du_vae"
"""The system that is compiled. The compiled parts of all systems are the same."""

LOSS, ANGLE = 1e-5, 1e-5
"""Bounds of the relative difference of the parts of the loss, and of 1 - cosine of the gradients."""

IMAGES = replace(models.SMALL["images"], networks=models.SMALL_IMAGES.model_copy(update={"kernels": [5, 3]}))
"""Sizes of small images. The decoder has two layers, since the time of the compiler grows with their number."""

BATCHES = (8, 5)
"""Numbers of examples of the two batches that are compared. The compiled code is made for any number."""


def run(check: Check) -> Iterator[Row]:
    """Yields the rows of texts at the size of Yahoo and of small images."""
    check.prepare()
    for name, size in (("yahoo", check.size("yahoo")), ("images", IMAGES)):
        yield from guarded(f"{name}: compiled step", SYSTEM, partial(of_step, check, name, size))


def of_step(check: Check, name: str, size: Size) -> Iterator[Row]:
    """Compares the loss of batches and its gradient, compiled and not, and the time of a step."""
    model = models.build(models.description(check.params, SYSTEM, size)).to(check.device)
    compiled = copy.deepcopy(model)
    compile_parts(compiled, "inductor" if check.real else "eager")
    for count in BATCHES:
        x = batch(size, check.device)[:count]
        expected, found = (gradient(each, x) for each in (model, compiled))
        error = max(map(relative, expected[0], found[0]))
        yield Row(f"{name}: loss of {count} examples, compiled", error, "relative", LOSS)
        angle = 1 - cosine(expected[1], found[1])
        yield Row(f"{name}: gradient of {count} examples, compiled", angle, "1 - cosine", ANGLE)
    x, loop = batch(size, check.device), JointLoop()
    plain, fast = (check.clock.seconds(partial(loop.step, updates(each, x), x, 1.0), 0.7) for each in (model, compiled))
    remark = f"{1e3 * fast:.3g} ms instead of {1e3 * plain:.3g}"
    yield check.on_gpu(Row(f"{name}: compiled step, share of the plain one", fast / plain, "x", remark=remark))


def gradient(model: VAE, x: torch.Tensor) -> tuple[Array, Array]:
    """Computes the parts of the loss, shape (3, batch), and the gradient. The random numbers are the same each time.

    The running statistics of batch normalizations do not change.
    """
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    torch.manual_seed(3)
    loss = updates(model, x).gradients(x, 1.0)
    for name, value in model.named_buffers():
        value.copy_(statistics[name])
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]

    return torch.stack(list(loss)).double().cpu().numpy(), torch.cat(gradients).double().cpu().numpy()


def updates(model: VAE, x: torch.Tensor) -> Updates:
    """Builds the optimisers of a step without clipping, with a learning rate of 0 so that the weights stay."""
    encoder, decoder = (
        optimizer(list(parameters), "sgd", 0.0)
        for parameters in (model.inference_parameters(), model.generative_parameters())
    )

    return Updates(model, encoder, decoder, 1e9, lambda: x)
