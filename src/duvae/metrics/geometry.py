"""The geometry of a latent space: KL, mutual information, active units, MPD and CE."""

import math

import numpy as np
import torch

from duvae.data.store import Array
from duvae.metrics.encoding import Encoded

BLOCK = 2**22
"""Densities held at a time, 32 MiB in double precision, whatever the size of the set."""


def measures(encoded: Encoded, active_threshold: float) -> dict[str, float | int | None]:
    """KL, MI, AU, MPD and CE of a whole set; None for what a posterior without a density does not have."""
    au = active_units(encoded.mean, active_threshold)
    kl = float(np.mean(encoded.kl, dtype=np.float64)) if encoded.density else None
    if encoded.variance is None:
        return {"kl": kl, "mi": None, "au": au, "mpd": None, "ce": None}

    return {
        "kl": kl,
        "mi": mutual_information(encoded.mean, encoded.variance, encoded.z),
        "au": au,
        "mpd": mutual_posterior_diversity(encoded.mean, encoded.variance),
        "ce": conditional_entropy(encoded.variance),
    }


def mutual_information(mean: Array, variance: Array, z: Array) -> float:
    r"""$I(x, z) = E_x KL[q(z|x) \| q(z)]$ in nats, with one sample of z for each x.

    $$\frac1N \sum_i \Big[\log q(z_i|x_i) - \log \frac1N \sum_j q(z_i|x_j)\Big]$$

    The exponent is a product of two matrices: $-\frac12 \sum_d (z_d - \mu_d)^2 / \delta_d^2$ is linear in
    $(z_d^2, z_d)$ with coefficients of the posterior alone.

    Args:
        mean: With shape (N, latent).
        variance: With shape (N, latent).
        z: A sample of each posterior, with shape (N, latent).
    """
    mu, var, sample = (torch.from_numpy(np.asarray(a, np.float64)) for a in (mean, variance, z))
    precision = 1 / var
    coefficients = torch.cat([-0.5 * precision, mu * precision], 1).T  # (2 latent, N)
    constant = -0.5 * (mu.square() * precision + var.log()).sum(1)  # (N,), without log(2 pi), which cancels
    own = -0.5 * ((sample - mu).square() * precision + var.log()).sum(1)
    aggregate = torch.empty(len(mu), dtype=torch.float64)
    rows = max(1, BLOCK // len(mu))
    for part, out in zip(sample.split(rows), aggregate.split(rows), strict=True):
        exponents = torch.addmm(constant, torch.cat([part.square(), part], 1), coefficients)
        torch.logsumexp(exponents, 1, out=out)

    return float((own - aggregate).mean() + np.log(len(mu)))


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
