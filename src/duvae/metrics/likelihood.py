"""Estimates the marginal likelihood by importance weighting (Burda et al. 2016)."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor

from duvae.data.splits import Array, Split
from duvae.metrics.encoding import map_rows
from duvae.posteriors import standard_normal_log_prob
from duvae.vae import VAE

ROWS = 4096
"""Number of samples of z that are decoded at once, over all examples of a batch. At the size of the synthetic data
they take a few MiB."""


def importance_weighted_nll(
    model: VAE,
    split: Split,
    samples: int,
    device: torch.device,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Array:
    r"""Estimates the NLL of each example, $-\log \frac1K \sum_k \frac{p(x, z_k)}{q(z_k|x)}$ with $z_k \sim q(z|x)$.

    The samples are drawn block by block. Their weights are added in log space, so that K need not be a multiple of the
    block size.

    Args:
        model: Model whose posterior has a density; it is not changed.
        split: Examples to evaluate.
        samples: Number K of samples for each example.
        device: Device to compute on.
        seed: Seed of the samples and of the bits of grey pixels.
        progress: Function that receives the number of finished examples.

    Returns:
        NLL in nats, in the order of the split, shape (examples,), double precision.
    """
    generator = Generator(device).manual_seed(seed)
    done = 0

    def values(x: Tensor) -> dict[str, Tensor]:
        nonlocal done
        posterior = model.posterior(x)
        total = torch.full((len(x),), -math.inf, dtype=torch.float64, device=device)
        rows = max(1, ROWS // len(x))
        for first in range(0, samples, rows):
            drawn = posterior.draw((min(rows, samples - first),), generator)
            joint = model.decoder.log_prob_samples(x, drawn.z) + standard_normal_log_prob(drawn.z)
            weights = joint - posterior.log_prob_drawn(drawn)
            total = torch.logaddexp(total, weights.double().logsumexp(0))
        done += len(x)
        progress(done)

        return {"nll": math.log(samples) - total}

    return map_rows(model, split, device, values, generator, max(1, ROWS // samples))["nll"]


def nll_indices(count: int, limit: int | None, seed: int) -> Array:
    """Chooses the examples whose NLL is measured.

    Args:
        count: Number of examples in the split.
        limit: Largest number of examples to measure; None: no limit.
        seed: Seed of the random choice.

    Returns:
        All indices from 0 to `count` - 1, or `limit` of these indices drawn without repetition; in ascending order.
    """
    if limit is None or limit >= count:
        return np.arange(count)

    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def perplexity(nll: Array, split: Split) -> float:
    r"""Perplexity per word or pixel, $\exp(\sum_x NLL(x) / \sum_x T_x)$.

    Args:
        nll: NLL of each example in nats, shape (examples,).
        split: The same examples. T_x is the number of predicted words of x (with `</s>`, without `<s>`), or the number
            of pixels of x.
    """
    return float(np.exp(nll.sum() / split.predicted.sum()))
