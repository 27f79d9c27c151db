"""The centres of densities whose number is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duvae.data.splits import Array
from duvae.metrics.centres import THRESHOLDS, centres, counts
from duvae.report.latent_spaces import aggregate

GRID = np.linspace(-3, 3, 61)
FIVE = [[0.0, 0.0], [-2.0, -2.0], [-2.0, 2.0], [2.0, -2.0], [2.0, 2.0]]


def mixture(means: list[list[float]], variance: float) -> Array:
    return aggregate(np.array(means), np.full((len(means), 2), variance), GRID, GRID)


@pytest.mark.parametrize(("means", "variance", "count"), [(FIVE, 0.3, 5), (FIVE[:1], 1.0, 1), (FIVE, 4.0, 1)])
def test_the_components_of_a_mixture_are_its_centres_if_they_are_narrow(
    means: list[list[float]], variance: float, count: int
) -> None:
    found = centres(mixture(means, variance))

    assert len(found) == count
    if count == len(means):
        places = {(round(float(GRID[column])), round(float(GRID[row]))) for row, column in found}
        assert places == {(round(x), round(y)) for x, y in means}


def test_a_hand_made_landscape() -> None:
    density = np.zeros((3, 9))
    density[1] = [0, 10, 4, 6, 5.8, 7, 0, 0.2, 0]  # peaks of prominence 10, 3, 0.2 and 0.2

    assert centres(density) == [(1, 1), (1, 5)]
    assert set(centres(density, 0.01)) == {(1, 1), (1, 5), (1, 3), (1, 7)}


@given(seed=st.integers(0, 10**6), factor=st.floats(0.1, 10))
def test_the_scale_of_the_density_does_not_matter(seed: int, factor: float) -> None:
    density = np.random.default_rng(seed).random((6, 7))
    assert centres(factor * density) == centres(density)
    assert len(centres(density.T)) == len(centres(density))
    assert len(centres(density, 0.0)) >= len(centres(density, 0.3)) >= 1


def test_the_number_of_centres_depends_on_how_far_they_must_stand_out() -> None:
    """The second peak of the landscape has a prominence of 3 %, the third one of 7 %, and the fourth one of 50 %."""
    density = np.zeros((3, 9))
    density[1] = [0, 100, 20, 23, 0, 7, 0, 50, 0]

    assert counts(density) == {0.01: 4, 0.02: 4, 0.05: 3, 0.1: 2}
    assert counts(np.ones((4, 4))) == dict.fromkeys(THRESHOLDS, 1)


def test_a_flat_density_has_one_centre() -> None:
    assert len(centres(np.ones((4, 4)))) == 1
    for wrong in (np.ones(3), np.ones((0, 2)), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match="finite density"):
            centres(wrong)
