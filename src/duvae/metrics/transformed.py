"""Estimates MPD and CE of a transformed code z^T = f(z^0; x) from samples (supplement D of the paper).

MPD is the mutual posterior diversity, and CE is the conditional entropy. The map f is a chain of invertible maps, such
as an inverse autoregressive flow (IAF).
"""

import math

import numpy as np
import torch
from torch import Generator

from duvae.data.batches import tensor
from duvae.data.splits import Array, Split
from duvae.metrics.encoding import evaluating, map_batches
from duvae.metrics.statistics import standard_error
from duvae.posteriors import Posterior, joined
from duvae.vae import VAE

ROUNDS = 10
"""Number of estimates. Each estimate pairs every example with one other example: all estimates together use 20,000
pairs for 2,000 sentences."""

ROWS = 1024
"""Number of posteriors that are evaluated at once. They need 8 MiB for each layer of the paper's largest chain."""


def transformed_measures(model: VAE, split: Split, device: torch.device, seed: int) -> dict[str, float | None]:
    """MPD and CE of z^T in nats, with the standard errors of both estimates.

    Args:
        model: Model to measure; it is not changed.
        split: Examples to measure on.
        device: Device to compute on.
        seed: Seed of the samples and of the pairs.

    Returns:
        Values of `mpd_t`, `mpd_t_stderr`, `ce_t` and `ce_t_stderr`. All are None if the posterior does not transform z.
        A value that is not finite is None too.
    """
    names = "mpd_t", "mpd_t_stderr", "ce_t", "ce_t_stderr"
    with evaluating(model):
        example = tensor(split, np.arange(1), device)
        if not model.posterior(example).transformed:
            return dict.fromkeys(names)
        mpd, ce = estimates(joint_posterior(model, split, device), seed)
    # The inverse of a chain may overflow for a sample far from the posterior. The estimate is then unknown: None.
    with np.errstate(invalid="ignore"):
        values = float(mpd.mean()), standard_error(mpd), float(ce.mean()), standard_error(ce)

    return {name: value if math.isfinite(value) else None for name, value in zip(names, values, strict=True)}


def joint_posterior(model: VAE, split: Split, device: torch.device) -> Posterior:
    """Computes q(z|x) of all examples of a split, in the order of the split, as one posterior.

    With a single posterior, the function `estimates` can pair examples of different batches.
    """
    posteriors, restored = map_batches(model, split, device, model.posterior)

    return joined(posteriors).of(torch.from_numpy(restored).to(device))


def estimates(posterior: Posterior, seed: int, rounds: int = ROUNDS) -> tuple[Array, Array]:
    r"""Computes several estimates of MPD and CE of z in nats, independent of each other for a given set of examples.

    $$\widehat{MPD} = \frac{N-1}{N} \cdot \frac1N \sum_i \big( \log q(z_i|x_i) - \log q(z_i|x_{\pi(i)}) \big), \qquad
      \widehat{CE} = -\frac1N \sum_i \log q(z_i|x_i), \qquad z_i \sim q(z|x_i)$$

    $\pi$ is a random cycle through all x, so that each ordered pair of two different x is equally likely. The mean of
    $KL[q(z|x_1) \| q(z|x_2)]$ over these pairs equals the mean of the symmetric divergence. Equation 3 of the paper
    also counts the N pairs of an x with itself among all $N^2$ pairs; the factor $(N-1)/N$ accounts for these N pairs.
    The density of a sample under another x's posterior is computed with the inverse of that posterior's chain.

    Args:
        posterior: Posterior of the whole set, batch size N.
        seed: Seed of the samples and of the pairs.
        rounds: Number of estimates. Each estimate has its own sample of every posterior and its own $\pi$.

    Returns:
        Estimates of MPD and of CE, each with shape (rounds,).
    """
    count, device = len(posterior.mean), posterior.mean.device
    generator = Generator(device).manual_seed(seed)
    orders = np.random.default_rng(seed)
    mpd, ce = np.zeros(rounds), np.zeros(rounds)
    for n in range(rounds):
        cycle = torch.from_numpy(orders.permutation(count)).to(device)
        for first in range(0, count, ROWS):
            places = torch.arange(first, min(first + ROWS, count), device=device)
            here, there = posterior.of(cycle[places]), posterior.of(cycle[(places + 1) % count])
            drawn = here.draw(generator=generator)
            own = here.log_prob_drawn(drawn).double()
            ce[n] -= own.sum().item()
            mpd[n] += (own - there.log_prob(drawn.z).double()).sum().item()

    return (count - 1) / count * mpd / count, ce / count
