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
from duvae.networks.pixelcnn import PixelCNN
from duvae.vae import VAE

MOST_IMAGES = 512
"""Largest number of images that are drawn at once, to limit the memory."""

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


@torch.no_grad()
def mean_images(
    model: VAE, z: Float[Tensor, "batch latent"], draws: int, generator: Generator | None = None
) -> Float[Tensor, "batch 1 height width"]:
    r"""Estimates each pixel's probability of ink given z, which is the mean of the images of p(x|z).

    The decoder gives the probability of a pixel $x_i$ only if the earlier pixels $x_{<i}$ are known. So the function
    draws images from p(x|z), and averages $p(x_i = 1 | x_{<i}, z)$ over them. This average has the same expectation as
    the average of the drawn pixels themselves, and at most its variance (Rao-Blackwell).

    Args:
        model: The trained VAE of images; it does not change.
        z: Latent codes, shape (batch, latent).
        draws: Number of images to draw for each z. The standard error of a pixel is at most $1 / (2 \sqrt{draws})$.
        generator: The random generator of the draws; None: PyTorch's global generator.

    Returns:
        The probabilities, from 0 to 1.
    """
    decoder = model.decoder
    if not isinstance(decoder, PixelCNN):
        raise TypeError(f"expected a decoder of images; found {type(decoder).__name__}")
    means = []
    for some in z.split(max(1, MOST_IMAGES // draws)):
        repeated = some.repeat_interleave(draws, 0)
        x = decode(model, repeated, generator)
        with evaluating(model):
            ink = torch.sigmoid(decoder.logits(x, repeated))
        means.append(ink.unflatten(0, (-1, draws)).mean(1))

    return torch.cat(means)


def prior_codes(
    count: int, latent: int, seed: int, device: torch.device
) -> tuple[Float[Tensor, "count latent"], Generator]:
    """Draws latent codes z from the prior N(0, I).

    Args:
        count: Number of latent codes to draw.
        latent: Number of dimensions of each latent code.
        seed: Seed of the random generator.
        device: Device of the latent codes and of the generator: that of the model which will decode them.

    Returns:
        The latent codes, shape (count, latent), and the generator after their draws, for draws from p(x|z).
    """
    generator = Generator(device).manual_seed(seed)

    return torch.randn(count, latent, generator=generator, device=device), generator


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
    z, generator = prior_codes(count, latent, seed, next(model.parameters()).device)

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
