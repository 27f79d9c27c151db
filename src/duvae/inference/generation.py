"""Generates examples from samples of the prior, and interpolates between examples.

An example is a sentence or an image. Figure S1 of the paper's supplement shows such interpolations.
"""

import copy

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from duvae.data.splits import Array
from duvae.metrics.encoding import evaluating
from duvae.networks.bodies import Decoder
from duvae.networks.lstm import LSTMDecoder
from duvae.vae import VAE

LONGEST = 100
"""Default limit on the number of word ids in a generated sentence, including `<s>` and `</s>`."""


def decode(
    model: VAE,
    z: Float[Tensor, "batch latent"],
    generator: Generator | None = None,
    likely: bool = False,
    temperature: float = 1.0,
    longest: int = LONGEST,
) -> Tensor:
    r"""Decodes each z into a sentence or an image.

    The decoder computes logits l for each word or pixel. The value of the word or pixel is drawn from
    $\mathrm{softmax}(l / T)$, or it is the likeliest value.

    Args:
        model: The trained VAE; it does not change.
        z: Latent codes to decode, shape (batch, latent).
        generator: The random generator of the draws; None: PyTorch's global generator.
        likely: Whether to take the likeliest value of each word or pixel, instead of drawing the value.
        temperature: Temperature T of the draws. A temperature below 1 makes likely words or pixel values likelier.
        longest: The greatest number of word ids of a sentence, including `<s>` and `</s>`; not used for images.

    Returns:
        Word ids, shape (batch, words), or images of bits, shape (batch, 1, height, width).
    """
    with evaluating(model):
        decoder = model.decoder if temperature == 1 else tempered(model.decoder, temperature)
        if isinstance(decoder, LSTMDecoder):
            return decoder.sample(z, generator, likely, longest)

        return decoder.sample(z, generator, likely)


def tempered(decoder: Decoder, temperature: float) -> Decoder:
    """A copy of a decoder whose logits are divided by the temperature.

    Dividing the weights of the output layer suffices, because that layer is linear and has no bias.
    """
    copied = copy.deepcopy(decoder)
    copied.get_parameter("output.weight").div_(temperature)

    return copied


def prior(
    model: VAE,
    count: int,
    latent: int,
    seed: int,
    likely: bool = False,
    temperature: float = 1.0,
    longest: int = LONGEST,
) -> Tensor:
    """Decodes samples of the prior, z ~ N(0, I).

    Args:
        model: The trained VAE; it does not change.
        count: Number of samples.
        latent: Number of dimensions of z.
        seed: Seed of z and of the draws from p(x|z).
        likely: Whether to take the likeliest value of each word or pixel, instead of drawing the value.
        temperature: Temperature of the draws from p(x|z), as in `decode`.
        longest: The greatest number of word ids of a sentence, as in `decode`.

    Returns:
        The examples in the form that `decode` returns, shape (count, ...).
    """
    device = next(model.parameters()).device
    generator = Generator(device).manual_seed(seed)
    z = torch.randn(count, latent, generator=generator, device=device)

    return decode(model, z, generator, likely, temperature, longest)


def between(
    one: Float[Tensor, "pairs latent"], other: Float[Tensor, "pairs latent"], steps: int
) -> Float[Tensor, "pairs steps latent"]:
    r"""Computes the points $(1 - t) z_1 + t z_2$ for `steps` evenly spaced values of t from 0 to 1.

    $z_1$ is a row of `one`, and $z_2$ is the same row of `other`.
    """
    t = torch.linspace(0, 1, steps, dtype=one.dtype, device=one.device)[:, None]

    return torch.lerp(one[:, None], other[:, None], t)


def interpolations(
    model: VAE,
    ends: Float[Tensor, "pairs 2 latent"],
    steps: int,
    seed: int,
    likely: bool = False,
    temperature: float = 1.0,
    longest: int = LONGEST,
) -> Tensor:
    """Decodes points on the lines between pairs of z.

    Args:
        model: The trained VAE; it does not change.
        ends: The first and the last z of each line, shape (pairs, 2, latent), such as the posterior means of two
            examples, which the function `means` computes.
        steps: Number of points on each line, including both ends.
        seed: Seed of the draws from p(x|z).
        likely: Whether to take the likeliest value of each word or pixel, instead of drawing the value.
        temperature: Temperature of the draws from p(x|z), as in `decode`.
        longest: The greatest number of word ids of a sentence, as in `decode`.

    Returns:
        The examples in the form that `decode` returns, shape (pairs * steps, ...): first all points of the first pair,
        then all points of the second pair, and so on.
    """
    generator = Generator(ends.device).manual_seed(seed)
    z = between(ends[:, 0], ends[:, 1], steps).flatten(0, 1)

    return decode(model, z, generator, likely, temperature, longest)


def pairs(count: int, examples: int, seed: int) -> Array:
    """Draws pairs of examples. The two examples of a pair are different.

    Args:
        count: Number of pairs to draw.
        examples: Number of examples to choose from.
        seed: Seed of the draws.

    Returns:
        The indices of the examples in each pair, shape (count, 2).
    """
    generator = np.random.default_rng(seed)

    return np.stack([generator.choice(examples, 2, replace=False) for _ in range(count)])


def means(model: VAE, examples: list[Tensor]) -> Float[Tensor, "examples latent"]:
    r"""Computes the posterior mean of each example. If q(z|x) has all probability at one z, the mean is this z.

    The posterior may be a flow, which transforms a Gaussian $z^0$ with the mean $\mu^0$ into $z^T$. The decoder reads
    $z^T$. So for a flow the function returns the $z^T$ that the flow computes from $\mu^0$.

    Args:
        model: The trained VAE; it does not change.
        examples: Batches of x.
    """
    with evaluating(model):
        posteriors = [model.posterior(x) for x in examples]

        # The features are mu or, for a flow, mu^0 joined with z^T. So the last columns of the features are mu or z^T.
        return torch.cat([posterior.features()[:, -posterior.mean.shape[-1] :] for posterior in posteriors])
