"""What a model writes or draws: samples of the prior, and what lies between two examples (Figure S1)."""

import copy

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from duvae.data.store import Array
from duvae.metrics.encoding import evaluating
from duvae.networks.bodies import Decoder
from duvae.networks.lstm import LSTMDecoder
from duvae.vae import VAE

LONGEST = 100
"""Ids of a sentence that is written, `<s>` and `</s>` counted, unless longer ones are asked for."""


def decoded(
    model: VAE,
    z: Float[Tensor, "batch latent"],
    generator: Generator | None = None,
    likely: bool = False,
    temperature: float = 1.0,
    longest: int = LONGEST,
) -> Tensor:
    r"""x of each z, each word or pixel drawn from $\mathrm{softmax}(l / T)$, l being its logits, or the likeliest.

    Args:
        model: Which stays as it is.
        z: What of.
        generator: Of the draws.
        likely: Draw nothing.
        temperature: T; below 1 likelier x are drawn more often.
        longest: Ids a sentence at most.
    """
    with evaluating(model):
        decoder = model.decoder if temperature == 1 else tempered(model.decoder, temperature)
        if isinstance(decoder, LSTMDecoder):
            return decoder.sample(z, generator, likely, longest)

        return decoder.sample(z, generator, likely)


def tempered(decoder: Decoder, temperature: float) -> Decoder:
    """A copy whose logits are divided by the temperature; the map to them is linear, without bias."""
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
    """x of z ~ N(0, I), an example a row.

    Args:
        model: Which stays as it is.
        count: How many.
        latent: Dimensions of z.
        seed: Of z, and of what is drawn from p(x|z).
        likely: Each element of x the likeliest instead of drawn.
        temperature: Of the draws from p(x|z).
        longest: Ids a sentence at most.
    """
    device = next(model.parameters()).device
    generator = Generator(device).manual_seed(seed)
    z = torch.randn(count, latent, generator=generator, device=device)

    return decoded(model, z, generator, likely, temperature, longest)


def between(
    one: Float[Tensor, "pairs latent"], other: Float[Tensor, "pairs latent"], steps: int
) -> Float[Tensor, "pairs steps latent"]:
    r"""$(1 - t) z_1 + t z_2$ for `steps` values of t, evenly from 0 to 1."""
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
    """x along the line from one z to another, with shape (pairs * steps, ...), pair by pair.

    Args:
        model: Which stays as it is.
        ends: z of both, such as `means` of two examples.
        steps: How many x, those of both ends included.
        seed: Of what is drawn from p(x|z).
        likely: Each element of x the likeliest instead of drawn.
        temperature: Of the draws.
        longest: Ids a sentence at most.
    """
    generator = Generator(ends.device).manual_seed(seed)
    z = between(ends[:, 0], ends[:, 1], steps).flatten(0, 1)

    return decoded(model, z, generator, likely, temperature, longest)


def pairs(count: int, examples: int, seed: int) -> Array:
    """Indices of `count` pairs of different examples, with shape (count, 2)."""
    random = np.random.default_rng(seed)

    return np.stack([random.choice(examples, 2, replace=False) for _ in range(count)])


def means(model: VAE, examples: list[Tensor]) -> Float[Tensor, "examples latent"]:
    r"""The z that stands for each example, of one x a batch: the posterior mean; z itself where q is a point.

    Of a flow it is the $z^T$ that $\mu^0$ is mapped to, since that is what the decoder is given.
    """
    with evaluating(model):
        found = [model.posterior(x) for x in examples]

        # What a probe sees of x ends in it: mu alone, or mu^0 and z^T joined.
        return torch.cat([posterior.features()[:, -posterior.mean.shape[-1] :] for posterior in found])
