"""Compares the accuracies of classifiers of two settings, which were trained on the same labelled subsets."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from duvae.data.splits import Array
from duvae.metrics.paired import CONFIDENCE, Interval, mean_half_width


def accuracy_interval(
    first: Sequence[Array], second: Sequence[Array], tests: int, confidence: float = CONFIDENCE
) -> Interval:
    r"""Computes a confidence interval of the difference between two accuracies in percent.

    The half-width joins up to three terms by the root of the sum of their squares:

    - for several seeds, Student's interval of the mean difference over the seeds;
    - for several labelled subsets, Student's interval of the mean difference over the subsets; with one subset, the
      interval does not cover the choice of the subset;
    - the choice of the N test examples: the quantile of the normal distribution times
      $100 \sqrt{(a (1 - a) + b (1 - b)) / N}$ for the accuracies a and b as fractions. The two settings were tested on
      the same examples. Their answers agree for many of these, so this term is rather too wide than too narrow.

    Args:
        first: Accuracies of the first setting in percent, one array of shape (subsets,) per seed.
        second: Accuracies of the second setting in percent, for the same seeds and the same subsets.
        tests: Number N of test examples.
        confidence: Probability from 0 to 1 with which the interval contains the true difference.

    Raises:
        ValueError: If there is no seed or no test example, or if the numbers of seeds or subsets differ.
    """
    if (
        not first
        or len(first) != len(second)
        or tests < 1
        or {each.shape for each in (*first, *second)} != {first[0].shape}
    ):
        raise ValueError("expected accuracies of the same seeds and subsets for both settings, and test examples")
    one, other = np.stack(first), np.stack(second)
    differences = one - other
    shares = np.array([one.mean(), other.mean()]) / 100
    half = 100 * math.sqrt(float((shares * (1 - shares)).sum()) / tests) * float(stats.norm.ppf((1 + confidence) / 2))
    for axis in (0, 1):
        if differences.shape[axis] > 1:
            half = math.hypot(half, mean_half_width(differences.mean(1 - axis), confidence))
    mean = float(differences.mean())

    return Interval(mean, mean - half, mean + half, len(first))
