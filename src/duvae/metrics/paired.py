r"""Compares trained models by their values for the same examples, such as the NLL of each test sentence.

The models of two settings were measured on the same test examples. An example that is hard for one setting is usually
hard for the other, too. So the differences per example vary much less than the values themselves, and the error of
their mean is smaller than the errors of the two means.

With several seeds, the difference $d_{s,i}$ of seed s and example i is modelled as

$$d_{s,i} = \mu + a_s + b_i + e_{s,i}$$

with independent parts of the seed ($a_s$), of the example ($b_i$) and of both ($e_{s,i}$). $\mu$ is the difference that
an unlimited number of seeds and examples would show.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from duvae.data.splits import Array
from duvae.metrics.statistics import standard_error

CONFIDENCE = 0.95
"""Confidence level of intervals, and of all statements that several intervals support together."""


@dataclass(frozen=True)
class Paired:
    """The differences between two models on the same examples.

    Attributes:
        difference: Mean over the examples of the first model's value minus the second's, in the unit of the values.
        error: Standard error of this mean; None for a single example.
        won: Share of the examples for which the first model has the smaller value. A tie counts as half an example.
        examples: Number of examples on which both models were measured.
    """

    difference: float
    error: float | None
    won: float
    examples: int


@dataclass(frozen=True)
class Interval:
    """A confidence interval of the mean difference between two settings.

    Attributes:
        difference: Mean over seeds and examples of the first setting's value minus the second's.
        low: Lower end of the interval.
        high: Upper end of the interval.
        seeds: Number of seeds. With one seed, the interval covers the choice of test examples, but not the choice of
            the seed: another seed may give a difference outside the interval.
    """

    difference: float
    low: float
    high: float
    seeds: int

    @property
    def sign(self) -> int:
        """-1 if the whole interval is below 0, 1 if it is above 0, and 0 if it contains 0."""
        return -1 if self.high < 0 else 1 if self.low > 0 else 0


def paired(first: Array, second: Array) -> Paired:
    """Compares two models by their values for the same examples.

    Args:
        first: Values of the first model, one per example, shape (examples,).
        second: Values of the second model for the same examples in the same order, shape (examples,).

    Raises:
        ValueError: If the arrays are empty or have different shapes.
    """
    differences = _differences(first, second)
    won = float(np.mean((differences < 0) + 0.5 * (differences == 0)))

    return Paired(float(differences.mean()), standard_error(differences), won, len(differences))


def interval(first: Sequence[Array], second: Sequence[Array], confidence: float = CONFIDENCE) -> Interval:
    r"""Computes a confidence interval of the mean difference $\mu$ between two settings.

    For S seeds and N examples, half the width of the interval is

    $$\sqrt{\big(t_{S-1} \, s / \sqrt S\big)^2 + \big(t_{N-1} \, r / \sqrt N\big)^2}$$

    s is the standard deviation of the S means over the examples, and r is the standard deviation of the N means over
    the seeds. $t_k$ is the quantile of Student's distribution with k degrees of freedom. With one seed, only the second
    term is there. The second term also contains a part of the variance that the first one has already. So the interval
    is rather too wide than too narrow.

    Args:
        first: Values of the first setting's models, one array of shape (examples,) per seed.
        second: Values of the second setting's models, for the same seeds and the same examples.
        confidence: Probability from 0 to 1 with which the interval contains the true difference.

    Raises:
        ValueError: If there is no seed, or if the numbers of seeds or examples differ.
    """
    differences = _differences_by_seed(first, second)
    seeds = len(differences)
    half = mean_half_width(differences.mean(0), confidence)
    if seeds > 1:
        half = math.hypot(half, mean_half_width(differences.mean(1), confidence))
    mean = float(differences.mean())

    return Interval(mean, mean - half, mean + half, seeds)


@dataclass(frozen=True)
class Spread:
    """How much the difference between two settings varies from seed to seed, estimated from several settings together.

    Attributes:
        deviation: Standard deviation of the interaction of setting and seed: of the part of a model's mean that neither
            its setting alone nor its seed alone determines. It has the unit of the values.
        degrees: Number of degrees of freedom of the estimate.
    """

    deviation: float
    degrees: int


def seed_spread(values: Sequence[Sequence[Array]]) -> Spread | None:
    r"""Estimates how much the differences between settings vary from seed to seed.

    The mean of setting k with seed s is modelled as $m_{k,s} = \mu_k + c_s + a_{k,s}$. A seed may suit all settings
    ($c_s$); that part falls out of every difference. The parts $a_{k,s}$ are independent, and have the same variance
    for all settings. Its estimate from K settings with S seeds each is

    $$\frac1{(K-1)(S-1)} \sum_{k,s} \big(m_{k,s} - \bar m_{k,\cdot} - \bar m_{\cdot,s} + \bar m\big)^2$$

    Args:
        values: Values of each setting's models, one array of shape (examples,) per seed. All settings have the same
            seeds in the same order, and all arrays are of the same examples.

    Returns:
        The estimate; None with fewer than two settings or two seeds.
    """
    if len(values) < 2 or len(values[0]) < 2:
        return None
    means = np.array([[float(np.mean(each)) for each in of_setting] for of_setting in values])
    residuals = means - means.mean(1, keepdims=True) - means.mean(0, keepdims=True) + means.mean()
    degrees = (len(means) - 1) * (means.shape[1] - 1)

    return Spread(math.sqrt(float(np.sum(residuals**2)) / degrees), degrees)


def pooled_interval(
    first: Sequence[Array], second: Sequence[Array], spread: Spread, confidence: float = CONFIDENCE
) -> Interval:
    r"""Computes a confidence interval of the mean difference between two settings that may have very few seeds.

    The interval is that of `interval`, but its part for the choice of seeds is $t \, \sqrt{2 / S} \, \sigma$, with the
    standard deviation $\sigma$ that other settings have shown. So it also covers the choice of a single seed. This
    supposes that the seeds of all settings vary equally.

    Args:
        first: Values of the first setting's models, one array of shape (examples,) per seed.
        second: Values of the second setting's models, for the same seeds and the same examples.
        spread: Standard deviation of the interaction of setting and seed, estimated by `seed_spread` from settings that
            have more seeds.
        confidence: Probability from 0 to 1 with which the interval contains the true difference.

    Raises:
        ValueError: If there is no seed, or if the numbers of seeds or examples differ.
    """
    differences = _differences_by_seed(first, second)
    seeds = len(differences)
    of_seeds = _quantile(confidence, spread.degrees) * spread.deviation * math.sqrt(2 / seeds)
    half = math.hypot(of_seeds, mean_half_width(differences.mean(0), confidence))
    mean = float(differences.mean())

    return Interval(mean, mean - half, mean + half, seeds)


def interval_over_seeds(first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Computes a confidence interval of the difference in a number that each model has once, such as its MI.

    The interval does not cover the choice of the test examples. With one seed, it is infinite.

    Args:
        first: Numbers of the first setting's models, one per seed.
        second: Numbers of the second setting's models, for the same seeds.
        confidence: Probability from 0 to 1 with which the interval contains the true difference.
    """
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    half = mean_half_width(differences, confidence)
    mean = float(differences.mean())

    return Interval(mean, mean - half, mean + half, len(differences))


def not_worse_than_best(values: Mapping[str, Sequence[Array]], confidence: float = CONFIDENCE) -> list[str]:
    r"""Finds the settings that cannot be distinguished from the best one, the one with the smallest expected value.

    This is a multiple comparison with the best (Hsu 1981; here with Bonferroni's inequality). A setting is left out if
    another setting is better by an interval of the confidence level $1 - (1 - c) / (k - 1)$, for k settings and the
    confidence level c. The best setting takes part in k - 1 such comparisons. So the probability that the best setting
    is left out is at most 1 - c; it is at most half of that, since each comparison can fail on one side only. With two
    settings, the interval is the same as that of their difference.

    Args:
        values: Values of each setting's models, one array of shape (examples,) per seed, by setting. All arrays are of
            the same examples, and the seeds of all settings have the same order. If settings have different numbers of
            seeds, two of them are compared by the seeds that both have.
        confidence: Confidence level c of the statement about all settings together.

    Returns:
        The keys of the settings in the order of `values`. If there is one, this setting is the best.
    """
    if len(values) < 2:
        return list(values)
    level = 1 - (1 - confidence) / (len(values) - 1)
    # A setting that is left out is mostly so because of the best ones, so these are compared first.
    ordered = sorted(values, key=lambda setting: float(np.mean(values[setting])))
    kept = []
    for setting, own in values.items():
        others = (values[key] for key in ordered if key != setting)
        intervals = (
            interval(own[:seeds], other[:seeds], level) for other in others for seeds in [min(len(own), len(other))]
        )
        if all(each.sign <= 0 for each in intervals):
            kept.append(setting)

    return kept


def mean_half_width(values: Array, confidence: float) -> float:
    """Computes half the width of Student's confidence interval of a mean; infinite for a single value.

    Args:
        values: Independent values, shape (values,).
        confidence: Probability from 0 to 1 with which the interval contains the true mean.
    """
    error = standard_error(values)

    return math.inf if error is None else _quantile(confidence, len(values) - 1) * error


@functools.lru_cache(maxsize=1000)
def _quantile(confidence: float, degrees: int) -> float:
    """The quantile of Student's distribution for a two-sided interval; cached, since it takes most of the time."""
    return float(stdtrit(degrees, (1 + confidence) / 2))


def _differences(first: Array, second: Array) -> Array:
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.ndim != 1 or one.shape != other.shape or not len(one):
        raise ValueError(f"expected two arrays of one value per example; found shapes {one.shape} and {other.shape}")

    return one - other


def _differences_by_seed(first: Sequence[Array], second: Sequence[Array]) -> Array:
    """The differences of two settings with the same seeds, shape (seeds, examples)."""
    if not first or len(first) != len(second):
        raise ValueError(f"expected the same seeds for both settings; found {len(first)} and {len(second)}")

    return np.stack([_differences(one, other) for one, other in zip(first, second, strict=True)])
