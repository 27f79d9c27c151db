"""Estimates MPD and CE of a transformed code z^T = f(z^0; x) from samples (supplement D of the paper).

MPD is the mutual posterior diversity: the mean symmetric KL divergence between the posteriors of two examples. CE is
the conditional entropy of z given x. z^0 is a sample of a Gaussian that depends on x. The map f is a chain of
invertible maps, such as an inverse autoregressive flow (IAF).
"""

import math

import numpy as np
import torch
from torch import Generator

from duvae.data.batches import tensor, to_device
from duvae.data.splits import Array, Split
from duvae.metrics.encoding import evaluating, map_batches
from duvae.metrics.statistics import standard_error
from duvae.posteriors import Posterior, joined
from duvae.vae import VAE

ROUNDS = 10
"""Number of estimates of each measure. Each estimate pairs every example with one other example.

For 2,000 sentences, all estimates together therefore use 20,000 pairs.
"""

ROWS = 1024
"""Number of posteriors whose densities are computed at once.

They need 8 MiB for each layer of the paper's largest chain.
"""


def transformed_measures(model: VAE, split: Split, device: torch.device, seed: int) -> dict[str, float | None]:
    """Estimates MPD and CE of z^T in nats, and the standard errors of both estimates.

    Args:
        model: Trained model to measure; it is not changed.
        split: Examples to measure on.
        device: Device to compute on.
        seed: Seed of the samples and of the pairs.

    Returns:
        Values of `mpd_t` and `ce_t`, and their standard errors `mpd_t_stderr` and `ce_t_stderr`. All four are None if
        the posterior of the model does not transform z. A value that is not finite is None too.
    """
    names = "mpd_t", "mpd_t_stderr", "ce_t", "ce_t_stderr"
    with evaluating(model):
        example = tensor(split, np.arange(1), device)
        if not model.posterior(example).transformed:
            return dict.fromkeys(names)
        mpd, ce = estimates(joint_posterior(model, split, device), seed)
    # For a sample that is far from another example's posterior, the inverse of the chain may overflow. The estimate is
    # then not finite, and this function returns None.
    with np.errstate(invalid="ignore"):
        values = float(mpd.mean()), standard_error(mpd), float(ce.mean()), standard_error(ce)

    return {
        name: value if value is not None and math.isfinite(value) else None
        for name, value in zip(names, values, strict=True)
    }


def joint_posterior(model: VAE, split: Split, device: torch.device) -> Posterior:
    """Computes q(z|x) of all examples of a split, in the order of the split, as one posterior.

    The model computes q(z|x) in batches. This function joins the results, so that the function `estimates` can pair
    examples of different batches.
    """
    posteriors, restored = map_batches(model, split, device, model.posterior)

    return joined(posteriors).of(torch.from_numpy(restored).to(device))


def estimates(posterior: Posterior, seed: int, rounds: int = ROUNDS) -> tuple[Array, Array]:
    r"""Computes several estimates of MPD and CE of z in nats.

    Given the examples, the estimates are independent of each other. Each of them is

    $$\widehat{MPD} = \frac{N-1}{N} \cdot \frac1N \sum_i \big( \log q(z_i|x_i) - \log q(z_i|x_{\pi(i)}) \big), \qquad
      \widehat{CE} = -\frac1N \sum_i \log q(z_i|x_i), \qquad z_i \sim q(z|x_i)$$

    $\pi$ is a random cycle through all x, so that each ordered pair of two different x is equally likely. The mean of
    $KL[q(z|x_1) \| q(z|x_2)]$ over these pairs equals the mean of the symmetric divergence. Equation 3 of the paper is
    a mean over all $N^2$ pairs. N of them pair an x with itself, and their divergence is 0. The factor $(N-1)/N$
    accounts for these N pairs. To compute the density of $z_i$ under the posterior of another x, the chain of that
    posterior is inverted.

    Args:
        posterior: Posterior of the whole set of N examples, as one batch.
        seed: Seed of the samples and of the pairs.
        rounds: Number of estimates. Each estimate has its own sample of every posterior and its own $\pi$.

    Returns:
        Estimates of MPD and of CE, each with shape (rounds,).
    """
    count, device = len(posterior.mean), posterior.mean.device
    generator = Generator(device).manual_seed(seed)
    orders = np.random.default_rng(seed)
    mpd, ce = (torch.zeros(rounds, dtype=torch.float64, device=device) for _ in range(2))
    for n in range(rounds):
        cycle = to_device(torch.from_numpy(orders.permutation(count)), device)
        for first in range(0, count, ROWS):
            places = torch.arange(first, min(first + ROWS, count), device=device)
            here, there = posterior.of(cycle[places]), posterior.of(cycle[(places + 1) % count])
            drawn = here.draw(generator=generator)
            own = here.log_prob_drawn(drawn).double()
            ce[n] -= own.sum()
            mpd[n] += (own - there.log_prob(drawn.z).double()).sum()

    return (count - 1) / count * mpd.cpu().numpy() / count, ce.cpu().numpy() / count
