"""Names at the ends of lines lie near their ends and do not overlap."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.optimize import minimize

from duvae.report import direct_labels

PLACES = st.lists(st.floats(0, 1), min_size=1, max_size=8).map(sorted)


@given(PLACES, st.floats(0.01, 0.1))
def test_neighbours_have_the_distance_and_stay_between_the_bounds(wanted: list[float], gap: float) -> None:
    places = direct_labels.apart(wanted, gap)

    assert all(above - below >= gap - 1e-9 for below, above in pairwise(places))
    assert places[0] >= -1e-9
    assert places[-1] <= 1 + 1e-9


def test_places_that_are_far_apart_stay() -> None:
    np.testing.assert_allclose(direct_labels.apart([0.1, 0.5, 0.9], 0.1), [0.1, 0.5, 0.9])


def test_the_moves_are_the_least() -> None:
    """A general optimiser finds the same places."""
    generator, gap = np.random.default_rng(2), 0.12
    for _ in range(5):
        wanted = np.sort(generator.uniform(0, 1, 6))
        order = [{"type": "ineq", "fun": lambda p, i=i: p[i + 1] - p[i] - gap} for i in range(5)]
        best = minimize(
            lambda p, w=wanted: ((p - w) ** 2).sum(), np.linspace(0, 1, 6), bounds=[(0, 1)] * 6, constraints=order
        )
        np.testing.assert_allclose(direct_labels.apart(wanted.tolist(), gap), best.x, atol=1e-3)


def test_too_many_places_are_centred() -> None:
    np.testing.assert_allclose(direct_labels.apart([0.0] * 5, 0.5), [-0.5, 0.0, 0.5, 1.0, 1.5])


def test_a_name_has_the_colour_of_its_line_and_a_leader_from_its_end() -> None:
    figure = Figure(figsize=(3, 2))
    ax = figure.subplots()
    ax.set(xlim=(0, 10), ylim=(0, 1))
    figure.subplots_adjust(right=0.6)
    direct_labels.write(ax, [direct_labels.End("b", 10, 0.5, "#ff0000"), direct_labels.End("a", 5, 0.5, "#0000ff")])

    assert {text.get_text(): text.get_color() for text in ax.texts} == {"a": "#0000ff", "b": "#ff0000"}
    starts = {line.get_color(): line.get_xydata()[0].tolist() for line in ax.lines}
    np.testing.assert_allclose(starts["#0000ff"], [0.5, 0.5])
    np.testing.assert_allclose(starts["#ff0000"], [1.0, 0.5])
