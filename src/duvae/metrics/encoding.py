"""Runs a model in evaluation mode over a whole split, batch by batch."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Generator, Tensor, nn

from duvae.data.batches import Examples, batches
from duvae.data.splits import Array, Split
from duvae.vae import VAE

BATCH = 256
"""Number of documents or images in a batch."""

T = TypeVar("T")


@dataclass(frozen=True)
class Encoded:
    """The encoder's output for each example of a split, in the order of the split.

    Attributes:
        mean: Posterior means mu_x, shape (examples, latent). IAF is a flow that transforms a Gaussian z^0 into z. For
            IAF, `mean` holds the means of z^0.
        variance: Posterior variances delta^2_x, shape (examples, latent). For IAF, these are the variances of z^0.
            None: the posterior has all probability at a single point.
        z: One sample of q(z|x) for each example, shape (examples, latent).
        reconstruction: -log p(x|z) with the sample `z`, in nats, shape (examples,).
        kl: KL[q(z|x) || p(z)] in nats, shape (examples,); 0 if the posterior has no density.
        density: Whether the posterior has a density. Without a density, KL and importance-weighted NLL are not defined.
        measured: Names of the measures that can be computed for the posterior, out of `kl`, `mi`, `au`, `mpd` and `ce`.
            docs/metrics.md defines these measures.
    """

    mean: Array
    variance: Array | None
    z: Array
    reconstruction: Array
    kl: Array
    density: bool
    measured: tuple[str, ...]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Sets evaluation mode and computes no gradients inside the `with` block; restores the previous mode afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def map_batches(
    model: VAE,
    split: Split,
    device: torch.device,
    function: Callable[[Tensor], T],
    generator: Generator | None = None,
    size: int | None = None,
) -> tuple[list[T], Array]:
    """Applies a function to each batch of a split, in evaluation mode and without gradients.

    Args:
        model: Model that the function uses; it is not changed.
        split: Examples to process. All examples of a batch have the same length. So the examples in the batches are not
            in the order of the split.
        device: Device of the batches.
        function: Function that receives a batch x and returns the result of this batch.
        generator: Random generator for the bits of grey pixels; None: PyTorch's global generator.
        size: Number of examples in a batch; None: `BATCH`.

    Returns:
        The list of results, one per batch, and a permutation of shape (examples,). If each result has one row per
        example, the permutation puts the joined rows of all results into the order of the split.
    """
    order, examples = batches(split.lengths, size or BATCH), Examples(split, device)
    with evaluating(model):
        results = [function(examples(indices, generator)) for indices in order]

    return results, np.argsort(np.concatenate(order))


def map_rows(
    model: VAE,
    split: Split,
    device: torch.device,
    function: Callable[[Tensor], Mapping[str, Tensor]],
    generator: Generator | None = None,
    size: int | None = None,
) -> dict[str, Array]:
    """Computes named values for each example of a split, in evaluation mode and without gradients.

    Args:
        model: Model that the function uses; it is not changed.
        split: Examples to process.
        device: Device of the batches.
        function: Function that receives a batch x and returns tensors by name, with one row per example.
        generator: Random generator for the bits of grey pixels; None: PyTorch's global generator.
        size: Number of examples in a batch; None: `BATCH`.

    Returns:
        One array per name, with one row per example in the order of the split.
    """

    def on_cpu(x: Tensor) -> dict[str, Array]:
        return {name: value.cpu().numpy() for name, value in function(x).items()}

    parts, restored = map_batches(model, split, device, on_cpu, generator, size)

    return {name: np.concatenate([part[name] for part in parts])[restored] for name in parts[0]}


def encode(model: VAE, split: Split, device: torch.device, seed: int) -> Encoded:
    """Encodes a split, and computes the reconstruction loss and the KL of each example with one sample of z.

    Args:
        model: Model to encode with; it is not changed.
        split: Examples to encode.
        device: Device to compute on.
        seed: Seed of the samples z and of the bits of grey pixels. With the same seed, every call uses the same random
            numbers.
    """
    generator = Generator(device).manual_seed(seed)
    density = False
    measured: tuple[str, ...] = ()

    def values(x: Tensor) -> dict[str, Tensor]:
        nonlocal density, measured
        posterior = model.posterior(x)
        density, measured = posterior.density, posterior.measured
        drawn = posterior.draw(generator=generator)
        rows = {
            "mean": posterior.mean,
            "z": drawn.z,
            # `log_prob_samples` keeps no logits, so that memory does not grow with the length and the vocabulary.
            "reconstruction": -model.decoder.log_prob_samples(x, drawn.z[None])[0],
            "kl": posterior.kl(drawn).sum(-1),
        }

        return rows if posterior.variance is None else {**rows, "variance": posterior.variance}

    arrays = map_rows(model, split, device, values, generator)

    return Encoded(variance=arrays.pop("variance", None), density=density, measured=measured, **arrays)


def features(model: VAE, split: Split, device: torch.device, seed: int = 0) -> Array:
    """Computes the input of a linear probe (a linear classifier of latent codes) for each example of a split.

    The input of the probe depends only on q(z|x). The decoder is not used.

    Args:
        model: Model to encode with; it is not changed.
        split: Examples to encode.
        device: Device to compute on.
        seed: Seed of the bits of grey pixels.

    Returns:
        Features in the order of the split, shape (examples, features).
    """
    generator = Generator(device).manual_seed(seed)

    def values(x: Tensor) -> dict[str, Tensor]:
        return {"features": model.posterior(x).features()}

    return map_rows(model, split, device, values, generator)["features"]
