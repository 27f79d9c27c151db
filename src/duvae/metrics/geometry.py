r"""Computes measures of a latent space.

The measures are KL, mutual information (MI), active units (AU), mutual posterior diversity (MPD) and conditional
entropy (CE). In the docstrings, N is the number of examples, and $\mu$ and $\delta^2$ are the means and the variances
of the posterior q(z|x). Equations with a plain number are in the paper. Equations with an S are in its supplement.
"""

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch

from duvae.data.splits import Array
from duvae.metrics.encoding import Encoded

BLOCK = 2**20
"""`mutual_information` computes at most this number of densities q(z_i|x_j) at once, but always all N of one z_i.

This number of densities takes 8 MiB in double precision."""

LOG2E = 1 / math.log(2)
"""Base-2 logarithm of e, so that exp(x) = 2^(x LOG2E).

On a CPU, PyTorch computes powers of 2 four times as fast as exp."""

LARGE = 5000
"""Smallest number of posteriors for which mutual information may be computed in single precision."""

TOLERANCE = 1e-4
"""Mutual information is computed in single precision only if a bound on the error is below this value in nats.

An exponent is a sum of terms over the dimensions. For each sample, the code adds up bounds on the absolute values of
these terms. The bound on the error is the mean of these sums over the samples, times the unit roundoff. The error
itself is only about 1e-6."""

SAFE = 70.0
"""Bound on the exponents x in `mutual_information`: single precision is used only if every x is below this bound.

A sum of exp(x) over a million terms then does not overflow in single precision."""


def measures(encoded: Encoded, active_threshold: float) -> dict[str, float | int | None]:
    """Computes KL, MI, AU, MPD and CE of a whole set of examples.

    Args:
        encoded: Encoded examples of the set.
        active_threshold: Variance of the posterior mean over the data, above which a dimension of z is active.

    Returns:
        Values of `kl`, `mi`, `au`, `mpd` and `ce`, in nats (`au` is a number of dimensions). The value None means that
        the measure cannot be computed for this posterior, or that it needs more than one example.
    """
    # The variance may be None. But the measures that read it are computed only for posteriors that have a variance.
    mean, variance = encoded.mean, cast("Array", encoded.variance)
    known: dict[str, Callable[[], float | int]] = {
        "kl": lambda: float(np.mean(encoded.kl, dtype=np.float64)),
        "mi": lambda: mutual_information(mean, variance, encoded.z),
        "au": lambda: active_units(mean, active_threshold),
        "mpd": lambda: mutual_posterior_diversity(mean, variance),
        "ce": lambda: conditional_entropy(variance),
    }

    of_pairs = {"mi", "mpd", "au"} if len(mean) < 2 else set()  # these compare examples with each other

    return {
        name: measure() if name in encoded.measured and name not in of_pairs else None
        for name, measure in known.items()
    }


def mutual_information(mean: Array, variance: Array, z: Array) -> float:
    r"""Estimates $I(x, z) = E_x KL[q(z|x) \| q(z)]$ in nats, with one sample of z for each x.

    $$\frac1N \sum_i \log \frac{q(z_i|x_i)}{\frac1N \sum_j q(z_i|x_j)}
      = \log N - \frac1N \sum_i \log \sum_j \exp(\log q(z_i|x_j) - \log q(z_i|x_i))$$

    The exponents are a product of two matrices: $\log q(z_i|x_j)$ is linear in $(z_d^2, z_d, 1)$, and its coefficients
    depend only on the posterior of $x_j$. The term j = i of each sum is 1, so that no sum vanishes.

    The product is usually computed in double precision. Single precision is twice as fast. It is used for a large set
    (see `LARGE`) if the terms of the product and the exponents are small enough (see `TOLERANCE` and `SAFE`).
    Subtracting the mean of $\mu$ from $\mu$ and z makes the terms small.

    Args:
        mean: Posterior means, shape (N, latent).
        variance: Posterior variances, shape (N, latent).
        z: One sample of each posterior, shape (N, latent).

    Returns:
        Mutual information in nats.
    """
    mu, var, sample = (torch.from_numpy(np.asarray(a, np.float64)) for a in (mean, variance, z))
    mu, sample, precision = mu - mu.mean(0), sample - mu.mean(0), 1 / var
    # The term with log(2 pi) is left out, because it cancels in the difference of the two log densities.
    normalizer = -0.5 * var.log().sum(1, keepdim=True)  # (N, 1)
    own = normalizer - 0.5 * ((sample - mu).square() * precision).sum(1, keepdim=True)
    constant = normalizer - 0.5 * (mu.square() * precision).sum(1, keepdim=True)
    one = torch.ones_like(own)
    powers_of_z = torch.cat([sample.square(), sample, one, -own], 1)  # (N, 2 latent + 2)
    factors = LOG2E * torch.cat([-0.5 * precision, mu * precision, constant, one], 1)
    terms = ((sample.square() + mu.square()) * precision).sum(1).mean()
    precise = terms * torch.finfo(torch.float32).eps / 2 < TOLERANCE and normalizer.max() - own.min() < SAFE
    dtype = torch.float32 if len(mu) >= LARGE and precise else torch.float64
    coefficients = factors.T.to(dtype).contiguous()
    sums = torch.empty(len(mu), dtype=dtype)
    rows = max(1, BLOCK // len(mu))
    buffer = torch.empty(min(rows, len(mu)), len(mu), dtype=dtype)
    for part, out in zip(powers_of_z.to(dtype).split(rows), sums.split(rows), strict=True):
        exponents = torch.mm(part, coefficients, out=buffer[: len(part)])
        torch.sum(exponents.exp2_(), 1, out=out)

    return math.log(len(mu)) - float(sums.double().log().mean())


def information_in_batches(mean: Array, variance: Array, z: Array, batches: Sequence[Array]) -> float:
    r"""Estimates the mean mutual information of x and z within batches, in nats, as in the code of He et al. (2018).

    The value of a batch is that of `mutual_information`, with the batch as the whole set: q(z) is the mixture of the
    posteriors of the batch. It is at most the logarithm of the number of examples in the batch. The mean over the
    batches weights each batch by its number of examples.

    Args:
        mean: Posterior means, shape (N, latent).
        variance: Posterior variances, shape (N, latent).
        z: One sample of each posterior, shape (N, latent).
        batches: Indices of the examples of each batch, one array of shape (batch,) per batch.

    Returns:
        Mean mutual information in nats.
    """
    total = sum(len(batch) * mutual_information(mean[batch], variance[batch], z[batch]) for batch in batches)

    return total / sum(map(len, batches))


def active_units(mean: Array, threshold: float = 0.01) -> int:
    r"""Counts the dimensions d with $Var_x(E[z_d|x])$ above a threshold (section 4.1 of the paper; Burda et al. 2016).

    Args:
        mean: Posterior means, shape (N, latent).
        threshold: Variance of the posterior mean above which a dimension is active; 0.01 in the paper.
    """
    return int((np.var(mean, axis=0, dtype=np.float64) > threshold).sum())


def mutual_posterior_diversity(mean: Array, variance: Array) -> float:
    r"""Computes the MPD in nats (equation 3).

    The MPD is the mean of the symmetric KL divergence over all $N^2$ ordered pairs of posteriors. The symmetric
    divergence is half the sum of the KL divergences in both directions. This gives:

    $$2 MPD = \sum_d \Big( E\Big[\frac{(\mu_{1,d} - \mu_{2,d})^2}{\delta_{1,d}^2}\Big]
      + E[\delta_d^2] E\Big[\frac1{\delta_d^2}\Big] - 1 \Big)$$

    The indices 1 and 2 stand for the two posteriors of a pair. The -1 stands inside the sum, as equation S11 implies.

    The code never forms pairs, because the first expectation is
    $E[\mu^2 / \delta^2] + E[1 / \delta^2] E[\mu^2]$ $- 2 E[\mu / \delta^2] E[\mu]$. Its last term is 0, since the code
    first subtracts the mean of $\mu$ from $\mu$.

    Args:
        mean: Posterior means, shape (N, latent).
        variance: Posterior variances, shape (N, latent).
    """
    mu, var = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    mu = mu - mu.mean(0)
    precision = 1 / var
    spread = (mu**2 * precision).mean(0) + precision.mean(0) * (mu**2).mean(0)

    # The MPD is never negative. Rounding may give a negative number where all posteriors are equal.
    return max(0.0, float(0.5 * (spread + var.mean(0) * precision.mean(0) - 1).sum()))


def conditional_entropy(variance: Array) -> float:
    r"""Computes the CE in nats for n latent dimensions (equation 5).

    $$\frac n2 \log 2 \pi e + \frac12 \sum_d E[\log \delta_d^2]$$

    Args:
        variance: Posterior variances, shape (N, latent).
    """
    var = np.asarray(variance, np.float64)

    return float(0.5 * (math.log(2 * math.pi * math.e) + np.log(var).mean(0)).sum())
