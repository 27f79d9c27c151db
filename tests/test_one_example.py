"""What a single example cannot tell is unknown (None), not 0."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from duvae.metrics.encoding import Encoded
from duvae.metrics.geometry import measures, mutual_posterior_diversity
from duvae.metrics.statistics import standard_error, with_error


def encoded(count: int) -> Encoded:
    random = np.random.default_rng(1)
    mean, variance, z = (random.random((count, 3)) + 0.5 for _ in range(3))
    kl, reconstruction = random.random((2, count))

    return Encoded(
        mean=mean,
        variance=variance,
        z=z,
        reconstruction=reconstruction,
        kl=kl,
        measured=("kl", "mi", "au", "mpd", "ce"),
        density=True,
    )


def test_measures_that_compare_examples_need_two() -> None:
    one, two = (measures(encoded(count), 0.01) for count in (1, 2))

    assert {name for name, value in one.items() if value is None} == {"mi", "au", "mpd"}
    assert None not in two.values()


@given(arrays(float, (1, 4), elements=st.floats(-5, 5)), st.integers(2, 50))
def test_equal_posteriors_have_no_diversity(row: np.ndarray, count: int) -> None:
    mean, variance = np.repeat(row, count, 0), np.exp(np.repeat(row, count, 0))

    assert 0 <= mutual_posterior_diversity(mean, variance) == pytest.approx(0, abs=1e-9)


def test_an_unknown_error_is_said() -> None:
    assert standard_error(np.array([3.0])) is None
    assert with_error(3.0, None, 2) == "3.00 (error unknown)"
    assert with_error(3.0, float("nan"), 2) == "3.00 (error unknown)"
    assert with_error(3.0, 0.123, 2) == "3.00 [0.12]"
