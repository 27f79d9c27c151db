"""The marginal likelihood by importance weighting (Burda et al. 2016)."""

import math
from collections.abc import Callable

import numpy as np
import torch

from duvae.data.batches import batches, tensor
from duvae.data.store import Array, Split
from duvae.metrics.encoding import evaluating
from duvae.posteriors import standard_normal_log_prob
from duvae.vae import VAE

ROWS = 4096
"""Samples of z decoded at a time, over all sentences of a block: some MiB at the synthetic size."""


def importance_weighted_nll(
    model: VAE,
    split: Split,
    samples: int,
    device: torch.device,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Array:
    r"""$-\log \frac1K \sum_k \frac{p(x, z_k)}{q(z_k|x)}$ with $z_k \sim q(z|x)$, in nats, for each example.

    Right for any K: the weights of all samples are summed in log space, whatever the blocks they come in.

    Args:
        model: One whose posterior has a density.
        split: What is evaluated.
        samples: K.
        device: Where.
        seed: Of the samples.
        progress: Told how many examples are done.

    Returns:
        An array of shape (examples,).
    """
    generator = torch.Generator(device).manual_seed(seed)
    result = np.empty(len(split), np.float64)
    done = 0
    with evaluating(model):
        for indices in batches(split.lengths, max(1, ROWS // samples)):
            x = tensor(split, indices, device, generator)
            posterior = model.posterior(x)
            total = torch.full((len(x),), -math.inf, dtype=torch.float64, device=device)
            rows = max(1, ROWS // len(x))
            for first in range(0, samples, rows):
                drawn = posterior.draw((min(rows, samples - first),), generator)
                joint = model.decoder.log_prob_samples(x, drawn.z) + standard_normal_log_prob(drawn.z)
                weights = joint - posterior.log_prob_drawn(drawn)
                total = torch.logaddexp(total, weights.double().logsumexp(0))
            result[indices] = (math.log(samples) - total).cpu().numpy()
            done += len(x)
            progress(done)

    return result


def perplexity(nll: Array, split: Split) -> float:
    r"""$\exp(\sum_x NLL(x) / \sum_x T_x)$, T the predicted words (all but `<s>`, `</s>` included) or pixels."""
    return float(np.exp(nll.sum() / split.predicted.sum()))
