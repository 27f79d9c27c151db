"""Compares the NLL of settings on the same test examples. A setting is a system with its hyperparameters.

Only these comparisons support words such as "lower" or "best" on the pages. `duvae.metrics.paired` has the statistics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from duvae.metrics.paired import CONFIDENCE, Interval, Paired, interval, not_worse_than_best, paired
from duvae.report.per_example import PerExample
from duvae.report.results import Array, Result

LEVEL = f"{100 * CONFIDENCE:g} %"
"""The confidence level, as the pages write it."""


@dataclass(frozen=True)
class Comparison:
    """The NLL of the test examples of one data set under the models of several settings.

    Attributes:
        nll: NLL in nats of the examples that all models share, shape (examples,), by setting and then by seed. The
            settings are in the order of the results. A setting without likelihoods, such as AE, is left out.
    """

    nll: Mapping[str, Mapping[int, Array]]

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds that all settings have."""
        common = [set(seeds) for seeds in self.nll.values()]

        return sorted(set.intersection(*common)) if common else []

    @cached_property
    def best(self) -> list[str]:
        """The settings that cannot be distinguished from the one with the lowest NLL.

        A single such setting is the best, with the confidence `CONFIDENCE` for all comparisons together. Only the seeds
        count that all settings have. If fewer than two settings are compared, the list is empty.
        """
        if len(self.nll) < 2 or not self.seeds:
            return []

        return not_worse_than_best(
            {setting: [models[seed] for seed in self.seeds] for setting, models in self.nll.items()}
        )

    def between(self, first: str, second: str, confidence: float = CONFIDENCE) -> Interval | None:
        """Computes an interval of the NLL of one setting minus that of another.

        Args:
            first: The first setting.
            second: The second setting.
            confidence: The confidence level of this interval alone.

        Returns:
            The interval, over the seeds that both settings have; None where a setting has no likelihoods, or where the
            settings have no seed in common.
        """
        one, other = self.nll.get(first), self.nll.get(second)
        if one is None or other is None:
            return None
        seeds = sorted(set(one) & set(other))
        if not seeds:
            return None

        return interval([one[seed] for seed in seeds], [other[seed] for seed in seeds], confidence)

    def pair(self, first: str, second: str) -> Paired | None:
        """Computes the paired difference of two settings, with each NLL averaged over the seeds that both have.

        The error is that of the choice of test examples. It does not contain the spread over seeds.
        """
        one, other = self.nll.get(first, {}), self.nll.get(second, {})
        seeds = sorted(set(one) & set(other))
        if not seeds:
            return None

        return paired(_mean([one[seed] for seed in seeds]), _mean([other[seed] for seed in seeds]))


def compare(results: Sequence[Result], examples: Sequence[PerExample | None]) -> Comparison:
    """Collects the NLL of the test examples under the models of one data set.

    Args:
        results: Results of all models of one data set.
        examples: The values of each model's test examples; None where they are missing.
    """
    known = [
        (result, values, values.nll)
        for result, values in zip(results, examples, strict=True)
        if values is not None and values.nll is not None
    ]
    if not known:
        return Comparison({})
    shared = known[0][1].index
    for _, values, _ in known:
        shared = np.intersect1d(shared, values.index, assume_unique=True)
    if not len(shared):
        return Comparison({})
    nll: dict[str, dict[int, Array]] = {}
    for result, values, own in known:
        nll.setdefault(result.job.setting, {})[result.job.seed] = own[np.searchsorted(values.index, shared)]

    return Comparison(nll)


def difference_text(found: Interval | None, decimals: int = 2) -> str:
    """Puts the difference between two settings' NLL into words that do not say more than the interval supports.

    Args:
        found: Interval of the first setting's NLL minus the second's; None: the difference is not known.
        decimals: Number of decimal places.

    Returns:
        A text such as `0.52 nats lower (95 % interval 0.44 to 0.60; one seed, so other seeds may differ)`. If the
        interval contains 0, its ends have the signs of the first setting's NLL minus the second's.
    """
    if found is None:
        return "not compared, since the NLL of single examples is missing"
    size = f"{abs(found.difference):.{decimals}f} nats {'lower' if found.difference < 0 else 'higher'}"
    # The word "lower" replaces the sign; both ends of an interval on one side of 0 have that sign.
    low, high = (-found.high, -found.low) if found.sign < 0 else (found.low, found.high)
    ends = " to ".join(f"{end:.{decimals}f}".replace("-", "−") for end in (low, high))
    seeds = "one seed, so other seeds may differ" if found.seeds == 1 else f"{found.seeds} seeds"
    if found.sign == 0:
        return f"not distinguishable ({LEVEL} interval of the difference {ends} nats; {seeds})"

    return f"{size} ({LEVEL} interval {ends}; {seeds})"


def interval_of(difference: Mapping[str, float] | None) -> Interval | None:
    """Reads a paired difference of two trials of one seed from study.json.

    Args:
        difference: `mean`, `low` and `high` of the difference in nats; None: it is not known.
    """
    return None if difference is None else Interval(difference["mean"], difference["low"], difference["high"], 1)


def _mean(values: Sequence[Array]) -> Array:
    return np.asarray(np.mean(values, axis=0), np.float64)
