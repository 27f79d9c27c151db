"""Comparisons of accuracies: values by hand, and measured coverage."""

import math

import numpy as np
import pytest

from duvae.metrics.accuracies import accuracy_interval


def test_hand_values_of_one_seed_and_one_subset() -> None:
    found = accuracy_interval([np.array([80.0])], [np.array([50.0])], 100)
    half = 1.959964 * 100 * math.sqrt((0.8 * 0.2 + 0.5 * 0.5) / 100)

    assert found.difference == 30
    assert (found.low, found.high) == pytest.approx((30 - half, 30 + half), rel=1e-6)


def test_hand_values_of_two_seeds_and_three_subsets() -> None:
    first, second = [np.array([70.0, 71.0, 75.0]), np.array([74.0, 75.0, 79.0])], [np.full(3, 60.0)] * 2
    found = accuracy_interval(first, second, 10**12)  # so many that only seeds and subsets matter
    # The differences of the seeds are 12 and 16; those of the subsets 12, 13 and 17.
    seeds = 12.706205 * math.sqrt(8) / math.sqrt(2)
    subsets = 4.302653 * np.std([12, 13, 17], ddof=1) / math.sqrt(3)

    assert found.high - found.difference == pytest.approx(math.hypot(seeds, subsets), rel=1e-4)


def test_the_interval_covers_the_true_difference() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        seed_effects, subset_effects = random.normal(0, 0.02, (2, 3, 1)), random.normal(0, 0.02, (2, 1, 5))
        shares = np.clip(np.array([0.7, 0.6])[:, None, None] + seed_effects + subset_effects, 0, 1)
        accuracies = 100 * random.binomial(500, shares) / 500
        found = accuracy_interval(list(accuracies[0]), list(accuracies[1]), 500)
        covered += found.low <= 10 <= found.high

    assert covered / 400 >= 0.93


def test_accuracies_that_do_not_belong_together_are_refused() -> None:
    for first, second, tests in (([], [], 9), ([np.ones(2)], [np.ones(3)], 9), ([np.ones(2)], [np.ones(2)], 0)):
        with pytest.raises(ValueError, match="expected accuracies"):
            accuracy_interval(first, second, tests)
