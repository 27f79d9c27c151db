"""Measures of each single dimension of z: the KL, and the variance of the posterior means."""

import numpy as np
import torch
from torch import Generator, Tensor

from duvae.data.batches import tensor
from duvae.data.splits import Split
from duvae.metrics.encoding import Encoded, evaluating, map_rows
from duvae.posteriors import DiagonalGaussian
from duvae.vae import VAE


def dimension_measures(
    model: VAE, split: Split, encoded: Encoded, device: torch.device, seed: int
) -> dict[str, list[float] | None]:
    """Computes the KL of each dimension of z, and the variance over the examples of each dimension's posterior mean.

    Args:
        model: Trained model to measure; it is not changed.
        split: Examples to measure on.
        encoded: Result of `encode` for this model, split and seed.
        device: Device to compute on.
        seed: Seed of the samples of z, the one that `encode` got.

    Returns:
        Values of `kl_by_dimension` in nats, whose sum is the KL, and of `mean_variances`, each a list with one number
        per dimension. `kl_by_dimension` is None if the posterior has no density. `mean_variances` is None if the number
        of active units is not defined for the posterior, or if there is only one example.
    """
    comparable = "au" in encoded.measured and len(encoded.mean) > 1

    return {
        "kl_by_dimension": kl_by_dimension(model, split, encoded, device, seed) if encoded.density else None,
        "mean_variances": np.var(encoded.mean, axis=0, dtype=np.float64).tolist() if comparable else None,
    }


def kl_by_dimension(model: VAE, split: Split, encoded: Encoded, device: torch.device, seed: int) -> list[float]:
    """Computes the mean KL of each dimension of z, in nats.

    For a Gaussian posterior, the KL follows from `encoded`. For a flow, the KL is an estimate with one sample of z for
    each example, the sample of `encode`. The chain is computed once more, because `encoded` has only sums.

    Args:
        model: Trained model to measure; it is not changed.
        split: Examples to measure on.
        encoded: Result of `encode` for this model, split and seed; its posterior has a density.
        device: Device to compute on.
        seed: Seed of the samples of z, the one that `encode` got.

    Returns:
        One number per dimension. Their sum is the mean of `encoded.kl`, up to rounding.
    """
    with evaluating(model):
        flow = model.posterior(tensor(split, np.arange(1), device)).transformed
    if not flow:
        assert encoded.variance is not None  # a posterior with a density has a variance
        gaussian = DiagonalGaussian(torch.from_numpy(encoded.mean), torch.from_numpy(encoded.variance))
        return gaussian.kl().double().mean(0).tolist()
    generator = Generator(device).manual_seed(seed)

    def values(x: Tensor) -> dict[str, Tensor]:
        posterior = model.posterior(x)
        return {"kl": posterior.kl(posterior.draw(generator=generator))}

    by_dimension: list[float] = (
        map_rows(model, split, device, values, generator)["kl"].mean(0, dtype=np.float64).tolist()
    )

    return by_dimension
