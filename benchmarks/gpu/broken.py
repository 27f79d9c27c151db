"""A command that fails in one way, in a process of its own: `python -m benchmarks.gpu.broken -- KIND DEVICE`.

The command line of `duvae` runs the failing computation, and turns its error into an exit status as it does for every
command. On a GPU the error comes from the GPU. In a dry run the computation raises the error itself, with the words of
PyTorch. The functions import torch only where they need it, because this takes seconds.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from duvae import cli
from duvae.project import gpus

if TYPE_CHECKING:
    from torch import Tensor

    from duvae.objectives import Loss
    from duvae.training.loop import Training
    from duvae.vae import VAE

ROOT = Path(__file__).parents[2]


def memory(device: str) -> None:
    """Allocates memory until none is left."""
    import torch

    if device == "cpu":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
    held = []
    while True:
        held.append(torch.empty(2**30, dtype=torch.uint8, device=device))


def assertion(device: str, first: bool = False) -> None:
    """Computes the loss of documents with a word id that is not in the vocabulary.

    Args:
        device: The device.
        first: Whether this is the first computation of the process. The libraries of CUDA then prepare themselves on a
            GPU whose kernel has failed already, and may give errors of their own.
    """
    if device == "cpu":
        raise RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later.")
    import torch

    model = training(device).model
    words = model.decoder.get_parameter("embedding.weight").shape[0]
    for word in [words] if first else [words - 1, words]:
        model.loss(torch.full((4, 6), word, device=device), 1.0).total.sum().item()


def invisible(device: str) -> None:
    """Checks the GPU of a process that sees another list of GPUs, as each stage does at its start."""
    gpus.check_device()
    works(device)


def nan(device: str) -> None:
    """Trains with a loss that is finite, but whose gradient is not."""
    prepared = training(device)
    prepared.updates.loss = partial(spoiled, prepared.model)
    prepared.run()


def works(device: str) -> None:
    """Computes a product, which fails if an earlier process has left the GPU in a bad state."""
    import torch

    one = torch.ones(64, 64, device=device)
    if float((one @ one).sum()) != 64**3:
        raise ArithmeticError("a product of ones is wrong")


def training(device: str) -> "Training":
    """Prepares a training of a small model of texts."""
    import torch

    from benchmarks.gpu import models
    from duvae import config, devices

    place = devices.prepare(torch.device(device))
    params, size = config.load(ROOT / "params.yaml"), models.SMALL["text"]
    model = models.build(models.description(params, "vae", size))

    return models.training(params, model, "vae", size, place, count=3 * size.batch, epochs=1)


def spoiled(model: "VAE", x: "Tensor", weight: float) -> "Loss":
    """The loss of a model, plus the root of 0, whose slope is 0 times infinity."""
    loss = model.loss(x, weight)
    zero = sum((0 * parameter).sum() for parameter in model.decoder.parameters())

    return loss._replace(total=loss.total + zero**0.5)


KINDS: dict[str, Callable[[str], None]] = {
    "memory": memory,
    "assertion": assertion,
    "first": partial(assertion, first=True),
    "invisible": invisible,
    "nan": nan,
    "works": works,
}
"""The computations by name."""


def main() -> None:
    """Runs the computation that the command line names as a command of `duvae`."""
    kind, device = sys.argv[-2:]
    sys.argv[1:] = []
    cli.app = lambda **_: KINDS[kind](device)  # type: ignore[assignment]
    cli.main()


if __name__ == "__main__":
    main()
