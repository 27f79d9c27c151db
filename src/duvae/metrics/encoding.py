"""A whole split through the encoder, in evaluation mode."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from duvae.data.batches import Examples, batches
from duvae.data.store import Array, Split
from duvae.vae import VAE

BATCH = 256
"""Documents or images encoded at a time."""


@dataclass(frozen=True)
class Encoded:
    """What the encoder makes of each document of a split, in the split's order.

    Attributes:
        mean: mu_x, with shape (documents, latent).
        variance: delta^2_x, with shape (documents, latent); None without a Gaussian.
        z: One sample of q(z|x), with shape (documents, latent).
        reconstruction: -log p(x|z) with that sample, in nats, with shape (documents,).
        kl: KL[q(z|x) || p(z)] in nats, with shape (documents,); 0 without a density.
        density: Whether q has one: without it there is no KL and no importance-weighted likelihood.
        measured: Which of KL, MI, AU, MPD and CE are known of q.
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
    """Evaluation mode and no gradients inside; the mode that was set before is set again after."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def encode(model: VAE, split: Split, device: torch.device, seed: int) -> Encoded:
    """Encodes a split; the noise of z, and of grey pixels, is a function of the seed alone, the same in every epoch.

    Args:
        model: Which stays as it is.
        split: What is encoded.
        device: Where.
        seed: Of the noise.
    """
    generator = torch.Generator(device).manual_seed(seed)
    parts: dict[str, list[Array]] = {}
    order, examples = batches(split.lengths, BATCH), Examples(split, device)
    with evaluating(model):
        for indices in order:
            x = examples(indices, generator)
            posterior = model.posterior(x)
            drawn = posterior.draw(generator=generator)
            found = {
                "mean": posterior.mean,
                "z": drawn.z,
                # Without logits kept: memory does not grow with length and vocabulary.
                "reconstruction": -model.decoder.log_prob_samples(x, drawn.z[None])[0],
                "kl": posterior.kl(drawn).sum(-1),
            }
            if posterior.variance is not None:
                found["variance"] = posterior.variance
            measured, density = posterior.measured, posterior.density
            for name, value in found.items():
                parts.setdefault(name, []).append(value.cpu().numpy())
    back = np.argsort(np.concatenate(order))
    arrays = {name: np.concatenate(values)[back] for name, values in parts.items()}

    return Encoded(variance=arrays.pop("variance", None), density=density, measured=measured, **arrays)


def features(model: VAE, split: Split, device: torch.device, seed: int = 0) -> Array:
    """What a linear probe sees of each example, in the split's order: of q(z|x) alone, nothing is decoded.

    Args:
        model: Which stays as it is.
        split: What is encoded.
        device: Where.
        seed: Of the bits, where pixels are grey.

    Returns:
        An array of shape (examples, features).
    """
    generator = torch.Generator(device).manual_seed(seed)
    order, examples = batches(split.lengths, BATCH), Examples(split, device)
    with evaluating(model):
        found = [model.posterior(examples(indices, generator)).features().cpu().numpy() for indices in order]

    return np.concatenate(found)[np.argsort(np.concatenate(order))]
