"""Collects what the results of one data set say for or against a claim of the paper.

A claim is about systems, not about single trained models. So a difference counts only if several seeds support it. With
one seed, the difference is shown, but it decides nothing. Models whose training ended at its limit of epochs, before it
had converged, decide nothing either, unless the training was as long as the paper's on data of the paper's size.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np

from duvae.metrics.accuracies import accuracy_interval
from duvae.metrics.paired import CONFIDENCE, Interval, interval_over_seeds
from duvae.report.cells import number, word_list
from duvae.report.checks import LEAST_SEEDS, Check, lacking, unanimous
from duvae.report.comparison import Comparison, enough_decimals
from duvae.report.names import LONGER, label, setting_label
from duvae.report.per_example import Space
from duvae.report.results import Array, Result, label_counts

LIMITS = {"synthetic": 120, "text": 120, "image": 500}
"""Largest number of epochs of the paper's trainings, by the kind of data (text: supplement E; images: released code).

On data of the paper's size, a training that ended there is as long as those of the paper, although it may not have
converged.
"""


class Endings(TypedDict):
    """How some trainings ended, as arguments of `Check`."""

    converged: bool
    long_enough: bool


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
        departs: Sentences that say how the experiment departs from the paper's; None: params.yaml does not compare the
            data set with a table of the paper.
    """

    dataset: str
    kind: str
    latent: int
    results: Sequence[Result]
    comparison: Comparison
    spaces: Mapping[tuple[str, int], Space]
    centre: int = 0
    train: int | None = None
    departs: Sequence[str] | None = None

    def setting(self, system: str) -> str | None:
        """The setting of a system: the one with the system's name, or else its first one; None where there is none.

        Settings that were trained longer than the others do not count.
        """
        settings = [result.job.setting for result in self.results if result.system == system]
        settings = [setting for setting in settings if not setting.endswith(LONGER)]

        return system if system in settings else next(iter(settings), None)

    def name(self, system: str) -> str:
        """The name of a system, with the key of its setting in brackets if that is not the system's key."""
        return setting_label(system, self.setting(system) or system)

    def endings(self, *settings: str | None) -> Endings:
        """How all trainings of some settings ended (see `endings_of`)."""
        return self.endings_of([result for result in self.results if result.job.setting in settings])

    def endings_of(self, models: Sequence[Result]) -> Endings:
        """How the trainings of some models ended, as arguments of `Check`.

        Returns:
            - `converged`: whether each training converged;
            - `long_enough`: whether each one converged, or ended by the paper's schedule of the learning rate, or at
              the paper's limit of epochs or later. Only on data of the paper's size does a training that did not
              converge have as many updates as the paper's.
        """
        full_size = self.kind == "synthetic" or (self.departs is not None and not self.departs)
        endings = [model.ending for model in models]

        return {
            "converged": all(ending.converged for ending in endings),
            "long_enough": all(
                ending.converged or (full_size and (ending.rule == "rate" or ending.epochs >= LIMITS[self.kind]))
                for ending in endings
            ),
        }

    def without_results(self, *systems: str) -> Check | None:
        """A check that names those of the systems that have no results; None where all have some."""
        missing = [label(system) for system in systems if self.setting(system) is None]

        return lacking("no results of", missing) if missing else None

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
        missing = self.without_results(first, second)
        if missing or one is None or other is None:
            return missing or lacking("no results of", [first, second])

        return self._lower((one, other), (self.name(first), self.name(second)), count)

    def lower_setting(self, first: str, second: str, count: int) -> Check:
        """Checks that one setting has a lower NLL than another. See `below`."""
        return self._lower((first, second), (first, second), count)

    def _lower(self, settings: tuple[str, str], names: tuple[str, str], count: int) -> Check:
        found = self.comparison.between(*settings, _level(count))
        unknown = [name for name, setting in zip(names, settings, strict=True) if setting not in self.comparison.nll]
        missing = lacking("no NLL of single examples of", unknown) if unknown else _no_common_seed(*names)
        check = _check(found, -1, f"NLL of {names[0]} minus {names[1]}", "nats", missing)

        return self._with_same_state(replace(check, **self.endings(*settings)), *settings)

    def _with_same_state(self, check: Check, *settings: str | None) -> Check:
        """Lets a difference decide nothing if some seeds of a setting have collapsed and others have not.

        The interval of a difference assumes that the differences of the seeds are normal. They are not if a setting
        collapses with some of its seeds.
        """
        for setting in settings:
            states = {result.collapsed for result in self.results if result.job.setting == setting}
            if len(states) > 1 and check.seeds >= LEAST_SEEDS:
                text = f"{check.text}, but {setting} has collapsed with some seeds only"
                return replace(check, holds=None, text=text)

        return check

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
        names = self.name(first), self.name(second)
        missing = lacking(f"no {name} of", names) if pairs else _no_common_seed(*names)
        check = _check(found, 1, f"{name} of {names[0]} minus {names[1]}", "nats", missing)

        settings = self.setting(first), self.setting(second)

        return self.without_results(first, second) or self._with_same_state(
            replace(check, **self.endings(*settings)), *settings
        )

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
            system: Key of the system, such as `du_vae`.
            value: Function that returns the number of a model in nats; None where the model does not have it.
            bound: The bound in nats.
            sign: 1 if the number shall lie above the bound, -1 if it shall lie below.
            names: The name of the number, and that of the bound.
            count: Number of comparisons that shall hold together.
        """
        name, bound_name = names
        known = [number for model in self.models(system).values() if (number := value(model)) is not None]
        found = interval_over_seeds(known, [bound] * len(known), _level(count)) if known else None
        text = f"{name} of {self.name(system)} minus {bound_name} ({bound:.2f})"
        check = _check(found, sign, text, "nats", lacking(f"no {name} of", [self.name(system)]))

        setting = self.setting(system)

        return self.without_results(system) or self._with_same_state(replace(check, **self.endings(setting)), setting)

    def more_accurate(self, first: str, second: str, count: int = 1) -> Check:
        """Checks that the probes of one system are more accurate than those of another, at each number of labels.

        Args:
            first: The system that shall be more accurate.
            second: The other system.
            count: Number of comparisons for each number of labels that shall hold together.
        """
        one, other = self.models(first), self.models(second)
        labels = label_counts([*one.values(), *other.values()])
        names = self.name(first), self.name(second)
        settings = self.setting(first), self.setting(second)
        endings = self.endings(*settings)
        name = f"accuracy of {names[0]} minus {names[1]}"
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
            return self.without_results(first, second) or lacking("no accuracies of", names)
        seeds = min(each.seeds for each in found)
        ends = [_signed(end(each.difference for each in found), 1) for end in (min, max)]
        span = ends[0] if ends[0] == ends[1] else f"between {ends[0]} and {ends[1]}"
        numbers = "one number" if len(found) == 1 else f"{len(found)} numbers"
        text = f"{name}: {span} points over {numbers} of labels"
        if seeds < LEAST_SEEDS:
            return Check(None, f"{text} (one seed, so no interval)", seeds, **endings)
        signs = [each.sign for each in found]
        sides = [(1, "above"), (-1, "below"), (0, "around")]
        counts = [f"{signs.count(sign)} {side} 0" for sign, side in sides if sign in signs]
        holds = True if set(signs) == {1} else False if -1 in signs else None
        worst = min(found, key=lambda each: each.low)
        least = f"least favourable interval {_signed(worst.low, 1)} to {_signed(worst.high, 1)}"

        check = Check(
            holds,
            f"{text} (of {len(found)} intervals, {word_list(counts)}; {least}{_single_subsets(subsets)})",
            seeds,
            **endings,
        )

        return self._with_same_state(check, *settings)

    def state(self, system: str, collapsed: bool) -> Check:
        """Checks that all models of a system have collapsed, or that none has.

        If the seeds differ, or if there are fewer than `LEAST_UNANIMOUS`, the check decides nothing.

        Args:
            system: Key of the system, such as `du_vae`.
            collapsed: Whether the models shall have collapsed.
        """
        return self.state_of(list(self.models(system).values()), collapsed, self.name(system))

    def state_of(self, models: Sequence[Result], collapsed: bool, name: str) -> Check:
        """Checks that all given models have collapsed, or that none has. See `state`."""
        if not models:
            return lacking("no results of", [name])
        fallen = sum(model.collapsed is True for model in models)
        alive = sum(model.collapsed is False for model in models)
        text = f"{name}: {fallen} of {len(models)} model{'s' if len(models) > 1 else ''} collapsed" + (
            f", {len(models) - fallen - alive} unclear" if fallen + alive < len(models) else ""
        )
        outcomes = [None if model.collapsed is None else model.collapsed == collapsed for model in models]

        return unanimous(outcomes, text, seeds_of(models), **self.endings_of(models))


def seeds_of(models: Sequence[Result]) -> int:
    """The number of seeds that each setting of some models has at least; 0 without models."""
    seeds: dict[str, set[int]] = {}
    for model in models:
        seeds.setdefault(model.job.setting, set()).add(model.job.seed)

    return min((len(each) for each in seeds.values()), default=0)


def _check(found: Interval | None, sign: int, name: str, unit: str, missing: Check, decimals: int = 2) -> Check:
    """Turns the interval of a difference into a check that the difference has a sign.

    Args:
        found: The interval; None where results are missing.
        sign: The sign that the difference shall have: -1 or 1.
        name: The name of the difference.
        unit: The unit of the difference.
        missing: The check where results are missing.
        decimals: Number of decimal places.
    """
    if found is None:
        return missing
    decimals = enough_decimals(found, decimals)
    difference = _signed(found.difference, decimals)
    if found.seeds < LEAST_SEEDS:
        return Check(None, f"{name}: {difference} {unit} (one seed)", found.seeds)
    holds = None if found.sign == 0 else found.sign == sign
    ends = f"{_signed(found.low, decimals)} to {_signed(found.high, decimals)}"

    return Check(holds, f"{name}: {difference} {unit} ({ends})", found.seeds)


def _no_common_seed(first: str, second: str) -> Check:
    return lacking(f"no seed that {first} and {second} share", [])


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
