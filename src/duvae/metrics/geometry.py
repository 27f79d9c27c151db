"""The geometry of a latent space: KL, mutual information, active units, MPD and CE."""

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import torch

from duvae.data.store import Array
from duvae.metrics.encoding import Encoded

BLOCK = 2**20
"""Densities held at a time, 8 MiB in double precision, whatever the size of the set."""

LOG2E = 1 / math.log(2)
"""exp(x) is 2^(x LOG2E), which PyTorch computes four times as fast on a CPU."""

LARGE = 5000
"""Posteriors from which on a mutual information is computed in single precision where that changes it too little."""

TOLERANCE = 1e-4
"""What is too little: the unit roundoff times the mean sum of terms, in nats. The change itself is about 1e-6."""

SAFE = 70.0
"""Sums of exp(x) over a million terms do not overflow in single precision while x stays under this."""


def measures(encoded: Encoded, active_threshold: float) -> dict[str, float | int | None]:
    """KL, MI, AU, MPD and CE of a whole set; None for what is not known of its posterior."""
    mean, variance = encoded.mean, cast("Array", encoded.variance)  # asked of Gaussians alone
    known: dict[str, Callable[[], float | int]] = {
        "kl": lambda: float(np.mean(encoded.kl, dtype=np.float64)),
        "mi": lambda: mutual_information(mean, variance, encoded.z),
        "au": lambda: active_units(mean, active_threshold),
        "mpd": lambda: mutual_posterior_diversity(mean, variance),
        "ce": lambda: conditional_entropy(variance),
    }

    return {name: measure() if name in encoded.measured else None for name, measure in known.items()}


def mutual_information(mean: Array, variance: Array, z: Array) -> float:
    r"""$I(x, z) = E_x KL[q(z|x) \| q(z)]$ in nats, with one sample of z for each x.

    $$\frac1N \sum_i \log \frac{q(z_i|x_i)}{\frac1N \sum_j q(z_i|x_j)}
      = \log N - \frac1N \sum_i \log \sum_j \exp(\log q(z_i|x_j) - \log q(z_i|x_i))$$

    The exponents are a product of two matrices: $\log q(z_i|x_j)$ is linear in $(z_d^2, z_d, 1)$ with coefficients
    of the posterior alone. The j = i term of each sum is 1, so none of them vanishes. The product is of double
    precision; of single, which is twice as fast, for a large set whose terms (small, since $\mu$ is centred) allow it.

    Args:
        mean: With shape (N, latent).
        variance: With shape (N, latent).
        z: A sample of each posterior, with shape (N, latent).
    """
    mu, var, sample = (torch.from_numpy(np.asarray(a, np.float64)) for a in (mean, variance, z))
    mu, sample, precision = mu - mu.mean(0), sample - mu.mean(0), 1 / var
    normalizer = -0.5 * var.log().sum(1, keepdim=True)  # (N, 1), without log(2 pi), which cancels
    own = normalizer - 0.5 * ((sample - mu).square() * precision).sum(1, keepdim=True)
    constant = normalizer - 0.5 * (mu.square() * precision).sum(1, keepdim=True)
    one = torch.ones_like(own)
    of_z = torch.cat([sample.square(), sample, one, -own], 1)  # (N, 2 latent + 2)
    of_posterior = LOG2E * torch.cat([-0.5 * precision, mu * precision, constant, one], 1)
    terms = ((sample.square() + mu.square()) * precision).sum(1).mean()
    enough = terms * torch.finfo(torch.float32).eps / 2 < TOLERANCE and normalizer.max() - own.min() < SAFE
    dtype = torch.float32 if len(mu) >= LARGE and enough else torch.float64
    coefficients = of_posterior.T.to(dtype).contiguous()
    sums = torch.empty(len(mu), dtype=dtype)
    rows = max(1, BLOCK // len(mu))
    held = torch.empty(min(rows, len(mu)), len(mu), dtype=dtype)
    for part, out in zip(of_z.to(dtype).split(rows), sums.split(rows), strict=True):
        powers = torch.mm(part, coefficients, out=held[: len(part)])
        torch.sum(powers.exp2_(), 1, out=out)

    return math.log(len(mu)) - float(sums.double().log().mean())


def active_units(mean: Array, threshold: float = 0.01) -> int:
    r"""The number of dimensions with $Var_x(E[z_d|x])$ above `threshold` (0.01 in the paper)."""
    return int((np.var(mean, axis=0, dtype=np.float64) > threshold).sum())


def mutual_posterior_diversity(mean: Array, variance: Array) -> float:
    r"""MPD, equation 3, in nats: the mean over all $N^2$ ordered pairs of the symmetric KL divergence.

    $$2 MPD = \sum_d \Big( E\Big[\frac{(\mu_{1,d} - \mu_{2,d})^2}{\delta_{1,d}^2}\Big]
      + E[\delta_d^2] E\Big[\frac1{\delta_d^2}\Big] - 1 \Big)$$

    with the -1 inside the sum (it follows from S11). With $\mu$ centred the first expectation is
    $E[\mu^2 / \delta^2] + E[1 / \delta^2] E[\mu^2]$ $- 2 E[\mu / \delta^2] E[\mu]$, whose last term is then 0:
    no pairs are ever formed.

    Args:
        mean: With shape (N, latent).
        variance: With shape (N, latent).
    """
    mu, var = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    mu = mu - mu.mean(0)
    precision = 1 / var
    spread = (mu**2 * precision).mean(0) + precision.mean(0) * (mu**2).mean(0)

    return float(0.5 * (spread + var.mean(0) * precision.mean(0) - 1).sum())


def conditional_entropy(variance: Array) -> float:
    r"""CE, equation 5, in nats: $\frac n2 \log 2 \pi e + \frac12 \sum_d E[\log \delta_d^2]$.

    Args:
        variance: With shape (N, latent).
    """
    var = np.asarray(variance, np.float64)

    return float(0.5 * (math.log(2 * math.pi * math.e) + np.log(var).mean(0)).sum())
