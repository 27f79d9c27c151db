"""Compares the NLL of settings on the same test examples. A setting is a system with its hyperparameters.

Only these comparisons support words such as "lower" or "best" on the pages. `duvae.metrics.paired` has the statistics.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from duvae.metrics.paired import CONFIDENCE, Interval, Paired, interval, not_worse_than_best, paired
from duvae.report.cells import word_list
from duvae.report.names import LONGER
from duvae.report.per_example import PerExample
from duvae.report.results import Array, Result, setting_names

LEVEL = f"{100 * CONFIDENCE:g} %"
"""The confidence level, as the pages write it."""


@dataclass(frozen=True)
class Comparison:
    """The NLL of the test examples of one data set under the models of several settings.

    Attributes:
        nll: NLL in nats of the examples that all models share, shape (examples,), by setting and then by seed. The
            settings are in the order of the results. A setting without likelihoods, such as AE, is left out.
        missing: Settings that have an NLL, but not the NLL of single examples, so that they cannot be compared.
        shorter: Settings that were trained for fewer epochs than others, without having converged.
        unseen: The comparison on those of the examples that the training data lack; None where this is not known.
    """

    nll: Mapping[str, Mapping[int, Array]]
    missing: Sequence[str] = ()
    shorter: Collection[str] = ()
    unseen: "Comparison | None" = None

    @cached_property
    def settings(self) -> list[str]:
        """The settings that `best` compares: all that have values, except those that were trained longer or shorter."""
        return [setting for setting in self.nll if self._takes_part(setting)]

    @cached_property
    def left_out(self) -> list[str]:
        """The settings that `best` should compare, but cannot, since the NLL of single examples is missing."""
        return [setting for setting in self.missing if self._takes_part(setting)]

    def _takes_part(self, setting: str) -> bool:
        return not setting.endswith(LONGER) and setting not in self.shorter

    @cached_property
    def examples(self) -> int:
        """Number of the examples on which the settings are compared."""
        return next((len(values) for seeds in self.nll.values() for values in seeds.values()), 0)

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds that all settings of `settings` have."""
        common = [set(self.nll[setting]) for setting in self.settings]

        return sorted(set.intersection(*common)) if common else []

    @cached_property
    def best(self) -> list[str]:
        """The settings that cannot be distinguished from the one with the lowest NLL.

        A single such setting is the best, with the confidence `CONFIDENCE` for all comparisons together. Only the seeds
        count that all settings have. If fewer than two settings are compared, the list is empty. Settings that were
        trained longer than the others, or shorter without having converged, take no part.
        """
        if len(self.settings) < 2 or not self.seeds:
            return []

        return not_worse_than_best(
            {setting: [self.nll[setting][seed] for seed in self.seeds] for setting in self.settings}
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


def setting_of(result: Result) -> str:
    """The key of a result's setting."""
    return result.job.setting


def compare(
    results: Sequence[Result],
    examples: Sequence[PerExample | None],
    key: Callable[[Result], str] = setting_of,
) -> Comparison:
    """Collects the NLL of the test examples under the models of one data set.

    Args:
        results: Results of all models of one data set, or of several data sets with the same test examples.
        examples: The values of each model's test examples; None where they are missing.
        key: Function that returns the key of a result's setting in the comparison. For several data sets, their keys
            must differ.
    """
    known = [
        (result, values, values.nll)
        for result, values in zip(results, examples, strict=True)
        if values is not None and values.nll is not None
    ]
    measured = list(dict.fromkeys(result.job.setting for result in results if result.metrics["nll"] is not None))
    shorter = trained_shorter(results, key)
    if not known:
        return Comparison({}, measured, shorter)
    shared = known[0][1].index
    for _, values, _ in known:
        shared = np.intersect1d(shared, values.index, assume_unique=True)
    if not len(shared):
        return Comparison({}, measured, shorter)
    nll: dict[str, dict[int, Array]] = {}
    for result, values, own in known:
        nll.setdefault(key(result), {})[result.job.seed] = own[np.searchsorted(values.index, shared)]
    flags = [
        values.unseen[np.searchsorted(values.index, shared)] for _, values, _ in known if values.unseen is not None
    ]
    unseen = None
    if flags and (new := np.logical_and.reduce(flags)).any() and not new.all():
        of_new = {setting: {seed: own[new] for seed, own in seeds.items()} for setting, seeds in nll.items()}
        unseen = Comparison(of_new, (), shorter)

    return Comparison(nll, [setting for setting in measured if setting not in nll], shorter, unseen)


def trained_shorter(results: Sequence[Result], key: Callable[[Result], str] = setting_of) -> list[str]:
    """Finds the settings that were trained for fewer epochs than others, without having converged.

    Their difference from another setting may be one of the number of epochs. Settings that were trained longer on
    purpose do not count as the others.

    Args:
        results: Results of all models of one data set.
        key: Function that returns the key of a result's setting in the comparison.
    """
    regular = [(key(result), result.ending) for result in results if not result.job.setting.endswith(LONGER)]
    most = max((ending.epochs for _, ending in regular), default=0)

    return list(dict.fromkeys(each for each, ending in regular if not ending.converged and ending.epochs < most))


def seeds_text(results: Sequence[Result], compared: Comparison) -> str:
    """Says over which seeds `Comparison.best` compares the settings, such as `over 2 seeds`.

    Args:
        results: Results of all models of one data set.
        compared: The NLL of the single test examples.
    """
    count = len(compared.seeds)
    seeds = "1 seed" if count == 1 else f"{count} seeds"
    trained = {result.job.seed for result in results if result.job.setting in compared.settings}
    if trained - set(compared.seeds):
        seeds += f" that all settings {'have' if count == 1 else 'share'}"
    elif count == 1:
        seeds = "one seed"

    return f"over {seeds}" + (", so other seeds may differ" if count == 1 else "")


def absent_text(results: Sequence[Result], compared: Comparison) -> str:
    """Names the settings that `Comparison.best` does not compare, with the reasons; empty if there are none.

    Args:
        results: Results of all models of one data set.
        compared: The NLL of the single test examples.
    """
    names = setting_names(results)
    longer = [name for setting, name in names.items() if setting.endswith(LONGER)]
    left_out = [names[setting] for setting in compared.left_out]
    lines = []
    if left_out:
        lines.append(f"Not compared, since the NLL of single examples is missing: {word_list(left_out)}.")
    if longer:
        lines.append(f"Settings that were trained longer take no part: {word_list(longer)}.")
    shorter = {setting: name for setting, name in names.items() if setting in compared.shorter}
    if shorter:
        unknown = [name for setting, name in shorter.items() if setting in compared.missing]
        more = ""
        if unknown:
            which = "them" if len(unknown) == len(shorter) else word_list(unknown)
            more = f" Of {which}, the NLL of single examples is missing, too."
        lines.append(
            "Not compared, since they ended unconverged after fewer epochs than others:"
            f" {word_list(list(shorter.values()))}.{more}"
        )

    return " ".join(lines)


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
    decimals = enough_decimals(found, decimals)
    size = f"{abs(found.difference):.{decimals}f} nats {'lower' if found.difference < 0 else 'higher'}"
    # The word "lower" replaces the sign; both ends of an interval on one side of 0 have that sign.
    low, high = (-found.high, -found.low) if found.sign < 0 else (found.low, found.high)
    ends = " to ".join(f"{end:.{decimals}f}".replace("-", "−") for end in (low, high))
    seeds = "one seed, so other seeds may differ" if found.seeds == 1 else f"{found.seeds} seeds"
    if found.sign == 0:
        return f"not distinguishable ({LEVEL} interval of the difference {ends} nats; {seeds})"

    return f"{size} ({LEVEL} interval {ends}; {seeds})"


def enough_decimals(found: Interval, decimals: int) -> int:
    """Chooses the number of decimal places with which an interval on one side of 0 does not seem to contain 0.

    Args:
        found: The interval.
        decimals: The usual number of decimal places.
    """
    near = min(abs(found.low), abs(found.high))
    if found.sign == 0 or not math.isfinite(near):
        return decimals

    return next((more for more in range(decimals, 9) if round(near, more) > 0), 9)


def interval_of(difference: Mapping[str, float] | None) -> Interval | None:
    """Reads a paired difference of two trials from study.json.

    Args:
        difference: `mean`, `low` and `high` of the difference in nats, and the number of `seeds`, which is 1 where an
            earlier version left it out; None: the difference is not known.
    """
    if difference is None:
        return None

    return Interval(difference["mean"], difference["low"], difference["high"], int(difference.get("seeds", 1)))


def _mean(values: Sequence[Array]) -> Array:
    return np.asarray(np.mean(values, axis=0), np.float64)
