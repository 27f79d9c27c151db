import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from duvae.metrics import geometry
from duvae.metrics.encoding import Encoded
from duvae.metrics.geometry import (
    active_units,
    conditional_entropy,
    information_in_batches,
    measures,
    mutual_information,
    mutual_posterior_diversity,
)
from duvae.posteriors import DiagonalGaussian, PointMass

SIGMAS = 5


@st.composite
def parameters(draw: st.DrawFn, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances of a few Gaussian posteriors."""
    shape = draw(st.integers(least, 7)), draw(st.integers(1, 4))
    mean = draw(hnp.arrays(np.float64, shape, elements=st.floats(-5, 5)))
    variance = draw(hnp.arrays(np.float64, shape, elements=st.floats(0.02, 4)))

    return mean, variance


def posteriors(
    count: int, latent: int, seed: int = 1, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, variances, and one sample of each posterior, each of shape (count, latent)."""
    random = np.random.default_rng(seed)
    mean, variance = spread * random.standard_normal((count, latent)), random.uniform(0.1, 1.5, (count, latent))

    return mean, variance, mean + np.sqrt(variance) * random.standard_normal((count, latent))


# ----------------------------------------------------------------- MPD (its equation: test_theory.py)


@given(parameters(), st.floats(-100, 100))
def test_mpd_does_not_depend_on_where_the_space_lies(drawn: tuple[np.ndarray, np.ndarray], shift: float) -> None:
    mean, variance = drawn
    here = mutual_posterior_diversity(mean, variance)

    assert mutual_posterior_diversity(mean + shift, variance) == pytest.approx(here, rel=1e-9, abs=1e-9)
    assert here >= -1e-12


# ----------------------------------------------------------------------------------------- MI


def plain_mutual_information(mean: np.ndarray, variance: np.ndarray, z: np.ndarray) -> float:
    """Computes each density of each sample under each posterior, all at once."""
    square = (z[:, None] - mean[None]) ** 2 / variance[None]
    log = -0.5 * (square + np.log(2 * np.pi * variance[None])).sum(2)  # (sample, posterior)
    aggregate = np.log(np.exp(log).mean(1))

    return float((np.diag(log) - aggregate).mean())


@given(parameters(), st.integers(0, 1000))
def test_mutual_information_is_its_plain_form(drawn: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    mean, variance = drawn
    z = mean + np.sqrt(variance) * np.random.default_rng(seed).standard_normal(mean.shape)

    assert mutual_information(mean, variance, z) == pytest.approx(
        plain_mutual_information(mean, variance, z), rel=1e-7, abs=1e-7
    )


@pytest.mark.parametrize("block", [1, 53, 54 * 7 + 5, 2**22])
def test_mutual_information_in_blocks_is_that_of_the_whole(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = posteriors(53, 3)
    whole = plain_mutual_information(*drawn)
    monkeypatch.setattr(geometry, "BLOCK", block)

    assert mutual_information(*drawn) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("count", [50, 400])
def test_memory_does_not_grow_with_the_set(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one block of densities is in memory, or the densities of one sample if they are more."""
    sizes: list[int] = []
    product = torch.mm

    def watched(*arguments: Any, **options: Any) -> torch.Tensor:
        result = product(*arguments, **options)
        sizes.append(result.numel())
        return result

    monkeypatch.setattr(geometry, "BLOCK", 1000)
    monkeypatch.setattr(torch, "mm", watched)
    mutual_information(*posteriors(count, 2))

    assert sum(sizes) == count**2
    assert max(sizes) <= 1000


def test_posteriors_that_are_all_one_tell_nothing() -> None:
    mean, variance = np.full((40, 3), 0.7), np.full((40, 3), 0.2)
    z = mean + np.sqrt(variance) * np.random.default_rng(1).standard_normal(mean.shape)

    assert mutual_information(mean, variance, z) == pytest.approx(0, abs=1e-9)


def test_posteriors_far_apart_tell_which_document_it_was() -> None:
    mean, variance, _ = posteriors(40, 3)
    mean = mean + 100 * np.arange(40)[:, None]
    z = mean + np.sqrt(variance) * np.random.default_rng(1).standard_normal(mean.shape)

    assert mutual_information(mean, variance, z) == pytest.approx(math.log(40), abs=1e-6)


def test_mutual_information_is_the_integral() -> None:
    """Agrees within five standard errors for three posteriors in one dimension, each repeated 700 times."""
    mean, variance = np.array([[-1.0], [0.2], [1.5]]), np.array([[0.5], [0.1], [1.0]])
    z = np.linspace(-9, 9, 20_001)
    densities = np.exp(-0.5 * (z - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)
    integral = (densities * np.log(densities / densities.mean(0))).sum(1).mean() * (z[1] - z[0])
    random = np.random.default_rng(1)
    many_means, many_variances = np.repeat(mean, 700, 0), np.repeat(variance, 700, 0)
    results = []
    for _ in range(8):
        sample = many_means + np.sqrt(many_variances) * random.standard_normal(many_means.shape)
        results.append(mutual_information(many_means, many_variances, sample))
    error = np.std(results, ddof=1) / math.sqrt(len(results))

    assert error < 0.01
    assert abs(np.mean(results) - integral) < SIGMAS * error


def test_mutual_information_of_a_float32_encoder_far_from_the_origin() -> None:
    drawn = posteriors(60, 2)
    shifted = [(array + 1000 * (n != 1)).astype(np.float32) for n, array in enumerate(drawn)]

    assert mutual_information(*shifted) == pytest.approx(plain_mutual_information(*drawn), abs=0.01)


# ------------------------------------------------------------------------------------ AU, measures


def test_information_in_batches_is_at_most_the_logarithm_of_their_size() -> None:
    """Posteriors that do not overlap reach this bound: log 4 in batches of 4, and log 2 in one of 2.

    The whole set has the bound log 10.
    """
    mean = 100.0 * np.arange(10)[:, None]
    cut = [np.array([3, 8, 0, 5]), np.array([1, 2, 7, 9]), np.array([4, 6])]
    variance = np.ones_like(mean)

    assert information_in_batches(mean, variance, mean, cut) == pytest.approx(0.8 * math.log(4) + 0.2 * math.log(2))
    assert information_in_batches(mean, variance, mean, [np.arange(10)]) == pytest.approx(math.log(10))


@given(st.integers(0, 1000))
def test_information_in_one_batch_is_that_of_the_set(seed: int) -> None:
    drawn = posteriors(12, 3, seed)
    order = np.random.default_rng(seed).permutation(12)

    assert information_in_batches(*drawn, [order]) == pytest.approx(mutual_information(*drawn), rel=1e-9, abs=1e-9)


def test_active_units_are_the_dimensions_whose_means_vary() -> None:
    """The variances of the means are 0.0099, 0.0101, 1 and 0. The last dimension has 0.02 around a mean of 1000."""
    sign = np.tile([[-1.0], [1.0]], (50, 1))
    mean = np.concatenate([sign * np.sqrt([[0.0099, 0.0101, 1.0, 0.0]]), 1000 + sign * np.sqrt(0.02)], 1)

    assert active_units(mean, 0.01) == 3
    assert active_units(mean) == 3
    assert active_units(mean, 0.5) == 1
    assert active_units(mean, 0.0001) == 4
    assert active_units(np.tile([[-0.5], [0.5]], (5, 2)), 0.25) == 0  # a unit is active only above the threshold


@given(parameters(least=2), st.floats(0.001, 3))
def test_active_units_by_definition(drawn: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    mean, _ = drawn
    variances = [sum((m - sum(column) / len(column)) ** 2 for m in column) / len(column) for column in mean.T]
    if all(abs(variance - threshold) > 1e-9 for variance in variances):
        assert active_units(mean, threshold) == sum(variance > threshold for variance in variances)


def test_measures_of_a_set() -> None:
    mean, variance, z = posteriors(30, 2)
    kl = 0.5 * (mean**2 + variance - 1 - np.log(variance)).sum(1)
    results = measures(Encoded(mean, variance, z, np.zeros(30), kl, True, DiagonalGaussian.measured), 0.01)

    assert results == {
        "kl": pytest.approx(kl.mean()),
        "mi": pytest.approx(plain_mutual_information(mean, variance, z)),
        "au": 2,
        "mpd": mutual_posterior_diversity(mean, variance),
        "ce": conditional_entropy(variance),
    }


def test_measures_without_a_density() -> None:
    mean, _, z = posteriors(30, 2)
    results = measures(Encoded(mean, None, z, np.zeros(30), np.zeros(30), False, PointMass.measured), 0.01)

    assert results == {"kl": None, "mi": None, "au": 2, "mpd": None, "ce": None}


def test_a_density_that_is_no_gaussian_has_a_kl_alone() -> None:
    mean, kl = np.eye(30, 2), np.arange(30.0)
    results = measures(Encoded(mean, None, mean, np.zeros(30), kl, True, ("kl",)), 0.01)

    assert results == {"kl": 14.5, "mi": None, "au": None, "mpd": None, "ce": None}
