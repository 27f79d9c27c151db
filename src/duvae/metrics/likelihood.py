"""Estimates the marginal likelihood p(x) of examples by importance weighting (Burda et al. 2016)."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor

from duvae.data.splits import Array, Split
from duvae.metrics.encoding import map_rows
from duvae.metrics.statistics import standard_error
from duvae.posteriors import standard_normal_log_prob
from duvae.vae import VAE

ROWS = 4096
"""Number of samples of z that are decoded at once: the total over all examples of a batch. For the networks of the
synthetic data, the decoder then needs a few MiB."""


def importance_weighted_nll(
    model: VAE,
    split: Split,
    samples: int,
    device: torch.device,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Array:
    r"""Estimates the NLL of each example, $-\log \frac1K \sum_k \frac{p(x, z_k)}{q(z_k|x)}$ with $z_k \sim q(z|x)$.

    The samples are drawn in blocks. A running sum in log space adds the weights p(x, z_k) / q(z_k|x) of each block. The
    last block may be smaller than the others.

    Args:
        model: Model whose posterior has a density; it is not changed.
        split: Examples to evaluate.
        samples: Number K of samples for each example.
        device: Device to compute on.
        seed: Seed of the samples and of the bits of grey pixels.
        progress: Function that receives the number of finished examples; the default does nothing.

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
        limit: Largest number of examples to measure; None: all examples are measured.
        seed: Seed of the random choice.

    Returns:
        Indices in ascending order: all indices from 0 to `count` - 1, or `limit` of them drawn without repetition.
    """
    if limit is None or limit >= count:
        return np.arange(count)

    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def perplexity(nll: Array, split: Split) -> float:
    r"""Computes the perplexity per word or pixel, $\exp(\sum_x NLL(x) / \sum_x T_x)$.

    $T_x$ is the number of pixels of the image x, or the number of words of the document x that the decoder predicts.
    The decoder predicts `</s>`, but not `<s>`.

    Args:
        nll: NLL of each example in nats, shape (examples,).
        split: Split with the same examples.
    """
    return float(np.exp(nll.sum() / split.predicted.sum()))


def unseen_measures(nll: Array, unseen: Array) -> dict[str, float | int | None]:
    """Computes the mean NLL of the examples that do not stand in the training set, and its standard error.

    Args:
        nll: NLL of each measured example in nats, shape (measured,); NaN if the posterior has no density.
        unseen: Whether the training set lacks the example, for each measured example, shape (measured,).

    Returns:
        Values of `unseen`, the number of these examples, and of `nll_unseen` and `nll_unseen_stderr` in nats. The last
        two are None if the NLL is NaN or if there is no such example.
    """
    known = nll[unseen & ~np.isnan(nll)]

    return {
        "unseen": int(unseen.sum()),
        "nll_unseen": float(known.mean()) if len(known) else None,
        "nll_unseen_stderr": standard_error(known) if len(known) else None,
    }
