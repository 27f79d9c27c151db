"""MPD and CE of z^T where z^T = f(z^0; x): supplement D, by samples."""

import math

import numpy as np
import torch
from torch import Generator

from duvae.data.batches import batches, tensor
from duvae.data.store import Array, Split
from duvae.metrics import encoding
from duvae.metrics.encoding import evaluating
from duvae.metrics.statistics import standard_error
from duvae.posteriors import Posterior, joined
from duvae.vae import VAE

ROUNDS = 10
"""How often each example gets a sample and a partner: 20,000 pairs of 2,000 sentences."""

ROWS = 1024
"""Posteriors at a time: 8 MiB for each layer of the paper's largest chain."""


def transformed_measures(model: VAE, split: Split, device: torch.device, seed: int) -> dict[str, float | None]:
    """`mpd_t`, `ce_t` and the standard errors of both estimates; None where z is not transformed, or not finite.

    Args:
        model: Which stays as it is.
        split: What is measured.
        device: Where.
        seed: Of samples and partners.
    """
    names = "mpd_t", "mpd_t_stderr", "ce_t", "ce_t_stderr"
    with evaluating(model):
        one = tensor(split, np.arange(1), device)
        if not model.posterior(one).transformed:
            return dict.fromkeys(names)
        mpd, ce = estimates(whole(model, split, device), seed)
    # A sample far from another posterior may not be inverted in floating point: then the mean is not known.
    with np.errstate(invalid="ignore"):
        found = float(mpd.mean()), standard_error(mpd), float(ce.mean()), standard_error(ce)

    return {name: value if math.isfinite(value) else None for name, value in zip(names, found, strict=True)}


def whole(model: VAE, split: Split, device: torch.device) -> Posterior:
    """q(z|x) of all examples as one posterior, in their order: pairs lie across batches."""
    order = batches(split.lengths, encoding.BATCH)
    parts = [model.posterior(tensor(split, chosen, device)) for chosen in order]

    return joined(parts).of(torch.from_numpy(np.argsort(np.concatenate(order))).to(device))


def estimates(posterior: Posterior, seed: int, rounds: int = ROUNDS) -> tuple[Array, Array]:
    r"""MPD and CE of z in nats, `rounds` estimates of each, independent given the set.

    $$\widehat{MPD} = \frac{N-1}{N} \cdot \frac1N \sum_i \big( \log q(z_i|x_i) - \log q(z_i|x_{\pi(i)}) \big), \qquad
      \widehat{CE} = -\frac1N \sum_i \log q(z_i|x_i), \qquad z_i \sim q(z|x_i)$$

    $\pi$ is a random order of all x as one cycle, so that each ordered pair of two x is equally likely. The mean over
    them of $KL[q(z|x_1) \| q(z|x_2)]$ is that of the symmetric divergence; the factor counts the N of all $N^2$
    pairs that are of one x with itself, as equation 3 does. The second density is that of another posterior's
    sample, found by inverting its chain.

    Args:
        posterior: Of the whole set.
        seed: Of samples and partners.
        rounds: Each has a sample of every posterior and a $\pi$ of its own.
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
