"""Collects what the results of one data set say for or against a claim of the paper.

A claim is about systems, not about single trained models. So a difference counts only if several seeds support it. With
one seed, the difference is shown, but it decides nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from duvae.metrics.accuracies import accuracy_interval
from duvae.metrics.paired import CONFIDENCE, Interval, interval_over_seeds
from duvae.report.cells import number, word_list
from duvae.report.comparison import Comparison
from duvae.report.names import label
from duvae.report.per_example import Space
from duvae.report.results import Array, Result, label_counts

SUPPORTED = "supported"
NOT_SUPPORTED = "not supported"
CANNOT_TELL = "cannot tell"
NOT_TESTED = "not tested"

LEAST_SEEDS = 2
"""Smallest number of seeds with which a difference between two systems can decide about a claim."""


@dataclass(frozen=True)
class Check:
    """One part of a claim, such as a difference between two systems.

    Attributes:
        holds: Whether the part holds; None where the results do not tell.
        text: The numbers, in words.
        seeds: Number of seeds; 0 where a system has no results.
    """

    holds: bool | None
    text: str
    seeds: int


@dataclass(frozen=True)
class Finding:
    """What the results of one data set say about a claim.

    Attributes:
        verdict: `SUPPORTED`, `NOT_SUPPORTED`, `CANNOT_TELL` or `NOT_TESTED`.
        text: What was found, in words.
        seeds: Smallest number of seeds of the parts.
    """

    verdict: str
    text: str
    seeds: int


@dataclass(frozen=True)
class Evidence:
    """The results of one data set.

    Attributes:
        dataset: Name of the data set.
        kind: `synthetic`, `text` or `image`.
        latent: Number of dimensions of z.
        results: Results of all models of the data set.
        comparison: The NLL of the single test examples.
        spaces: The latent spaces of the models with two latent dimensions, by setting and seed.
        centre: Label of the central component of synthetic data.
        train: Number of training examples; None where it is not known.
    """

    dataset: str
    kind: str
    latent: int
    results: Sequence[Result]
    comparison: Comparison
    spaces: Mapping[tuple[str, int], Space]
    centre: int = 0
    train: int | None = None

    def setting(self, system: str) -> str | None:
        """The setting of a system: the one with the system's name, or else its first one; None where there is none."""
        settings = [result.job.setting for result in self.results if result.system == system]

        return system if system in settings else next(iter(settings), None)

    def models(self, system: str) -> dict[int, Result]:
        """The results of a system's setting, by seed; empty where there is none."""
        setting = self.setting(system)

        return {result.job.seed: result for result in self.results if result.job.setting == setting}

    def below(self, first: str, second: str, count: int = 1) -> Check:
        """Checks that one system has a lower NLL than another.

        Args:
            first: The system that shall have the lower NLL.
            second: The other system.
            count: Number of comparisons that shall hold together. The confidence of each one is higher accordingly.
        """
        one, other = self.setting(first), self.setting(second)
        found = self.comparison.between(one, other, _level(count)) if one and other else None

        return _check(found, -1, f"NLL of {label(first)} minus {label(second)}", "nats")

    def lower_setting(self, first: str, second: str, count: int) -> Check:
        """Checks that one setting has a lower NLL than another. See `below`."""
        found = self.comparison.between(first, second, _level(count))

        return _check(found, -1, f"NLL of {first} minus {second}", "nats")

    def greater(
        self, first: str, second: str, value: Callable[[Result], float | None], name: str, count: int = 1
    ) -> Check:
        """Checks that a number of one system, such as its MI, is greater than that of another.

        Args:
            first: The system that shall have the greater number.
            second: The other system.
            value: Function that returns the number of a model in nats; None where the model does not have it.
            name: The name of the number.
            count: Number of comparisons that shall hold together.
        """
        one, other = self.models(first), self.models(second)
        pairs = [(value(one[seed]), value(other[seed])) for seed in sorted(set(one) & set(other))]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        found = interval_over_seeds([a for a, _ in known], [b for _, b in known], _level(count)) if known else None

        return _check(found, 1, f"{name} of {label(first)} minus {label(second)}", "nats")

    def beyond(
        self,
        system: str,
        value: Callable[[Result], float | None],
        bound: float,
        sign: int,
        names: tuple[str, str],
        count: int = 1,
    ) -> Check:
        """Checks that a number of a system, such as the entropy of q(z), lies on one side of a bound.

        Args:
            system: The system.
            value: Function that returns the number of a model in nats; None where the model does not have it.
            bound: The bound in nats.
            sign: 1 if the number shall lie above the bound, -1 if it shall lie below.
            names: The name of the number, and that of the bound.
            count: Number of comparisons that shall hold together.
        """
        name, bound_name = names
        known = [number for model in self.models(system).values() if (number := value(model)) is not None]
        found = interval_over_seeds(known, [bound] * len(known), _level(count)) if known else None

        return _check(found, sign, f"{name} of {label(system)} minus {bound_name} ({bound:.2f})", "nats")

    def more_accurate(self, first: str, second: str, count: int = 1) -> Check:
        """Checks that the probes of one system are more accurate than those of another, at each number of labels.

        Args:
            first: The system that shall be more accurate.
            second: The other system.
            count: Number of comparisons for each number of labels that shall hold together.
        """
        one, other = self.models(first), self.models(second)
        labels = label_counts([*one.values(), *other.values()])
        name = f"accuracy of {label(first)} minus {label(second)}"
        found: list[Interval] = []
        subsets: list[int] = []
        for size in labels:
            draws = [(_draws(one[seed], size), _draws(other[seed], size)) for seed in sorted(set(one) & set(other))]
            known = [(a, b) for a, b in draws if a is not None and b is not None and a.shape == b.shape]
            if known:
                tests = int(next(iter(one.values())).metrics["sentences"])
                level = _level(count * len(labels))
                found.append(accuracy_interval([a for a, _ in known], [b for _, b in known], tests, level))
                subsets.append(len(known[0][0]))
        if not found:
            return Check(None, f"{name}: no results", 0)
        seeds = min(each.seeds for each in found)
        ends = [_signed(end(each.difference for each in found), 1) for end in (min, max)]
        span = ends[0] if ends[0] == ends[1] else f"between {ends[0]} and {ends[1]}"
        numbers = "one number" if len(found) == 1 else f"{len(found)} numbers"
        text = f"{name}: {span} points over {numbers} of labels"
        if seeds < LEAST_SEEDS:
            return Check(None, f"{text} (one seed, so no interval)", seeds)
        signs = [each.sign for each in found]
        sides = [(1, "above"), (-1, "below"), (0, "around")]
        counts = [f"{signs.count(sign)} {side} 0" for sign, side in sides if sign in signs]
        holds = True if set(signs) == {1} else False if -1 in signs else None
        worst = min(found, key=lambda each: each.low)
        least = f"least favourable interval {_signed(worst.low, 1)} to {_signed(worst.high, 1)}"

        return Check(
            holds, f"{text} (of {len(found)} intervals, {word_list(counts)}; {least}{_single_subsets(subsets)})", seeds
        )

    def state(self, system: str, collapsed: bool) -> Check:
        """Checks that all models of a system have collapsed, or that none has.

        If the seeds differ, the check decides nothing.

        Args:
            system: The system.
            collapsed: Whether the models shall have collapsed.
        """
        return self.state_of(list(self.models(system).values()), collapsed, label(system))

    def state_of(self, models: Sequence[Result], collapsed: bool, name: str) -> Check:
        """Checks that all given models have collapsed, or that none has. See `state`."""
        if not models:
            return Check(None, f"{name}: no results", 0)
        fallen = sum(model.collapsed is True for model in models)
        alive = sum(model.collapsed is False for model in models)
        wanted, opposite = (fallen, alive) if collapsed else (alive, fallen)
        seeds = len({model.job.seed for model in models})
        text = f"{name}: {fallen} of {len(models)} model{'s' if len(models) > 1 else ''} collapsed" + (
            f", {len(models) - fallen - alive} unclear" if fallen + alive < len(models) else ""
        )
        if seeds < LEAST_SEEDS:
            return Check(None, text, seeds)

        return Check(True if wanted == len(models) else False if opposite == len(models) else None, text, seeds)


def together(checks: Sequence[Check]) -> Finding:
    """Decides about a claim all of whose parts shall hold.

    - `not tested`: a part has no results.
    - `not supported`: a part does not hold.
    - `supported`: all parts hold.
    - `cannot tell`: otherwise.
    """
    seeds = min((check.seeds for check in checks), default=0)
    text = "; ".join(check.text for check in checks)
    if not checks or seeds == 0:
        return Finding(NOT_TESTED, "no results of these systems", 0)
    if any(check.holds is False for check in checks):
        return Finding(NOT_SUPPORTED, text, seeds)
    if all(check.holds for check in checks):
        return Finding(SUPPORTED, text, seeds)

    return Finding(CANNOT_TELL, text, seeds)


def _check(found: Interval | None, sign: int, name: str, unit: str, decimals: int = 2) -> Check:
    """Turns the interval of a difference into a check that the difference has a sign."""
    if found is None:
        return Check(None, f"{name}: no results", 0)
    difference = _signed(found.difference, decimals)
    if found.seeds < LEAST_SEEDS:
        return Check(None, f"{name}: {difference} {unit} (one seed)", found.seeds)
    holds = None if found.sign == 0 else found.sign == sign
    ends = f"{_signed(found.low, decimals)} to {_signed(found.high, decimals)}"

    return Check(holds, f"{name}: {difference} {unit} ({ends})", found.seeds)


def _single_subsets(subsets: Sequence[int]) -> str:
    """Says for how many numbers of labels there is one labelled subset, so that no interval covers its choice.

    Args:
        subsets: Number of labelled subsets for each number of labels.
    """
    single = sum(count == 1 for count in subsets)
    if not single:
        return ""
    where = "each number" if single == len(subsets) else f"{single} of the {len(subsets)} numbers"

    return f"; one labelled subset for {where} of labels: its choice is not covered"


def _signed(value: float, decimals: int) -> str:
    text = number(value, decimals) if math.isfinite(value) else ("∞" if value > 0 else "−∞")

    return f"+{text}" if value > 0 and text and not text.startswith("+") else str(text)


def _level(count: int) -> float:
    """The confidence of each of `count` comparisons, so that all together have the confidence `CONFIDENCE`."""
    return 1 - (1 - CONFIDENCE) / max(1, count)


def _draws(result: Result, size: str) -> Array | None:
    by_labels = result.probe["by_labels"] if result.probe else {}

    return np.asarray(by_labels[size]["draws"], np.float64) if size in by_labels else None
