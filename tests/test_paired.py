"""Paired comparisons: values by hand, measured coverage of intervals, and the search for the best setting."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from duvae.data.splits import Array
from duvae.metrics.paired import (
    Interval,
    Spread,
    interval,
    not_worse_than_best,
    paired,
    pooled_interval,
    seed_spread,
)

VALUES = arrays(np.float64, 7, elements=st.floats(-100, 100))


def test_hand_values_of_a_pair() -> None:
    found = paired(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 5.0, 3.0]))  # differences -1, 0, -2, 1

    assert found.difference == -0.5
    assert found.error == pytest.approx(math.sqrt((0.25 + 0.25 + 2.25 + 2.25) / 3 / 4))
    assert found.won == (2 + 0.5) / 4
    assert found.examples == 4


def test_hand_values_of_an_interval_of_one_seed() -> None:
    found = interval([np.array([1.0, 2.0, 3.0])], [np.zeros(3)])
    half = 4.302653 * 1 / math.sqrt(3)  # the quantile of Student's distribution with 2 degrees of freedom

    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-6)
    assert found.seeds == 1


def test_hand_values_of_an_interval_of_two_seeds() -> None:
    found = interval([np.array([1.0, 3.0]), np.array([2.0, 6.0])], [np.zeros(2), np.zeros(2)])
    # The means of the seeds are 2 and 4, those of the examples 1.5 and 4.5; the quantile for 1 degree is 12.7062.
    half = 12.706205 * math.hypot(math.sqrt(2) / math.sqrt(2), math.sqrt(4.5) / math.sqrt(2))

    assert found.difference == 3
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert found.sign == 0


def test_a_single_example_shows_nothing() -> None:
    assert paired(np.ones(1), np.zeros(1)).error is None
    assert interval([np.ones(1)], [np.zeros(1)]) == Interval(1.0, -math.inf, math.inf, 1)


@given(first=VALUES, second=VALUES)
def test_exchanging_the_models_changes_only_the_sign(first: Array, second: Array) -> None:
    one, other = paired(first, second), paired(second, first)

    assert one.difference == pytest.approx(-other.difference)
    assert one.won + other.won == pytest.approx(1)
    assert one.error == pytest.approx(other.error)
    assert interval([first], [second]).sign == -interval([second], [first]).sign


@given(first=VALUES, second=VALUES, shift=VALUES)
def test_what_both_models_share_does_not_matter(first: Array, second: Array, shift: Array) -> None:
    assert paired(first + shift, second + shift).difference == pytest.approx(paired(first, second).difference, abs=1e-9)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("parts", [(1, 0, 0.1), (1, 10, 3), (0, 5, 0), (0, 0, 1), (1, 30, 0)])
def test_intervals_cover_the_true_difference(seeds: int, parts: tuple[float, float, float]) -> None:
    """The standard deviations in `parts` are those of the seed, of the example and of both."""
    random = np.random.default_rng(1)
    of_seed, of_example, of_both = parts
    zero, examples, rounds = np.zeros(100), 100, 600
    covered = 0
    for _ in range(rounds):
        noise = of_seed * random.standard_normal((seeds, 1)) + of_example * random.standard_normal((1, examples))
        values = 0.7 + noise + of_both * random.standard_normal((seeds, examples))
        found = interval(list(values), [zero] * seeds)
        covered += found.low <= 0.7 <= found.high

    assert covered / rounds >= 0.93


def test_a_bootstrap_or_a_normal_quantile_would_cover_too_little() -> None:
    """The test above can fail: the quantile of the normal distribution is too small for two seeds."""
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(600):
        means = random.standard_normal(2)
        covered += abs(means.mean()) <= 1.96 * means.std(ddof=1) / math.sqrt(2)

    assert covered / 600 < 0.8


def test_hand_values_of_the_spread_of_seeds() -> None:
    """Seed 2 is 1 higher than seed 1 for one setting and 3 higher for the other; each residual is then 0.5."""
    values = [[np.array([1.0, 3.0]), np.array([2.0, 4.0])], [np.array([0.0, 0.0]), np.array([3.0, 3.0])]]
    assert seed_spread(values) == Spread(1.0, 1)
    assert seed_spread(values[:1]) is None
    assert seed_spread([each[:1] for each in values]) is None
    assert seed_spread([]) is None


def test_hand_values_of_a_pooled_interval() -> None:
    """t is 12.7062 with 1 degree of freedom and 4.302653 with 2. The examples' part has the standard error 1/√3."""
    found = pooled_interval([np.array([1.0, 2.0, 3.0])], [np.zeros(3)], Spread(0.5, 2))
    half = math.hypot(4.302653 * 0.5 * math.sqrt(2), 4.302653 / math.sqrt(3))
    assert (found.low, found.high, found.seeds) == (pytest.approx(2 - half), pytest.approx(2 + half), 1)
    found = pooled_interval([np.ones(2), 3 * np.ones(2)], [np.zeros(2)] * 2, Spread(0.5, 1))
    assert (found.low, found.high) == (pytest.approx(2 - 12.7062 * 0.5), pytest.approx(2 + 12.7062 * 0.5))


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize(("settings", "all_seeds"), [(2, 2), (2, 3), (5, 3)])
def test_pooled_intervals_cover_the_true_difference(seeds: int, settings: int, all_seeds: int) -> None:
    """A new setting with few seeds is compared with one of several settings that have all seeds."""
    random = np.random.default_rng(1)
    covered, rounds = 0, 600
    for _ in range(rounds):
        shared = 3 * random.standard_normal(all_seeds)  # a seed that suits all settings
        level = random.standard_normal(settings + 1)
        hard = 5 * random.standard_normal(100)
        of_setting = 2 * random.standard_normal((settings + 1, 100))
        of_both = random.standard_normal((settings + 1, all_seeds))
        values = [
            [level[k] + shared[s] + of_both[k, s] + hard + of_setting[k] for s in range(all_seeds)]
            for k in range(settings + 1)
        ]
        spread = seed_spread(values[:-1])
        assert spread is not None
        found = pooled_interval(values[-1][:seeds], values[0][:seeds], spread)
        covered += found.low <= level[-1] - level[0] <= found.high

    assert covered / rounds >= 0.93


def test_the_best_is_named_alone_only_if_it_is_far_ahead() -> None:
    random = np.random.default_rng(2)
    hard = 30 + 10 * random.standard_normal(500)  # what all settings share

    def models(level: float) -> list[Array]:
        return [hard + level + 0.5 * random.standard_normal(500) for _ in range(2)]

    assert not_worse_than_best({"a": models(0), "b": models(5), "c": models(6)}) == ["a"]
    assert set(not_worse_than_best({"a": models(0), "b": models(0), "c": models(6)})) >= {"a", "b"}
    assert not_worse_than_best({"a": models(0)}) == ["a"]
    assert not_worse_than_best({}) == []


def test_the_best_stays_in_the_set() -> None:
    """Over many simulated studies of four equally good settings, a given one is left out in at most 5 % of them."""
    random = np.random.default_rng(3)
    kept = 0
    for _ in range(300):
        values = {key: [random.standard_normal(60)] for key in "abcd"}
        kept += "a" in not_worse_than_best(values)

    assert kept / 300 >= 0.93


@pytest.mark.parametrize(
    ("first", "second"),
    [([], []), ([np.ones(3)], []), ([np.ones(3)], [np.ones(4)]), ([np.ones(0)], [np.ones(0)])],
)
def test_values_that_do_not_belong_together_are_refused(first: list[Array], second: list[Array]) -> None:
    with pytest.raises(ValueError, match="expected"):
        interval(first, second)
