"""Says how the training of a model ended, and whether it had converged.

A training has converged if it ended at its last decay of the learning rate, and each decay came after several epochs in
a row without a lower validation loss. A training can also end at its limit of epochs before that. And there is a
schedule that lowers the learning rate after every epoch, whatever the loss does, and ends the training at a small rate.
In both cases the NLL might have become lower with more epochs, so every comparison marks these trainings.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pandas as pd

from duvae.report.cells import number_range

Rule = Literal["decays", "rate", "epochs"]
"""What ends a training (see `Ending`)."""

MARK = "‡"
"""The sign beside the NLL of a setting with a training that did not converge, and beside every difference of it."""

FOOTNOTE = (
    f"{MARK}: a training ended at its limit of epochs, or at the end of a schedule that lowers the learning rate in any"
    " case, so it may not have converged; a difference may be one of the speed of training."
)
"""The meaning of `MARK`, for the captions of tables."""


class HasEnding(Protocol):
    """Anything with the ending of a training, such as a `Result`."""

    @property
    def ending(self) -> "Ending": ...


@dataclass(frozen=True)
class Ending:
    """How a training ended.

    Attributes:
        epochs: Number of epochs.
        decays: Number of decays of the learning rate. If a decay ended the training, it counts, too.
        rule: What ended the training: `decays`: the last decay, where each decay waits until the validation loss no
            longer falls; `rate`: a schedule that lowers the learning rate after every epoch; `epochs`: the limit.
        best_epoch: The epoch with the best validation loss, whose weights were kept.
    """

    epochs: int
    decays: int
    rule: Rule
    best_epoch: int

    @property
    def converged(self) -> bool:
        """Whether the training ended because the validation loss no longer fell."""
        return self.rule == "decays"

    @property
    def text(self) -> str:
        """The ending in words, such as `epoch limit (120) after 2 decays, best epoch 117 of 120`."""
        return over_seeds([self])


def ending(metrics: Mapping[str, Any], history: pd.DataFrame) -> Ending:
    """Finds out how a training ended.

    Args:
        metrics: Content of the model's metrics.json, with the reason of the end in `ending` or, in results of earlier
            versions, in `stopped`.
        history: Content of history.csv, one row per epoch.
    """
    rates = history["learning_rate"].to_numpy(float)
    stopped, decays = str(metrics.get("stopped")), metrics.get("decays")
    starts: dict[str, Rule] = {"at the ": "decays", "at a learning rate": "rate"}
    earlier = next((rule for start, rule in starts.items() if stopped.startswith(start)), "epochs")
    rule: Rule = metrics.get("ending", earlier)
    if decays is None:  # results of earlier versions; the last decay ends a training, so no epoch has its rate
        decays = int((rates[1:] < rates[:-1]).sum()) + (rule != "epochs")

    return Ending(int(metrics["epochs"]), int(decays), rule, int(metrics["best_epoch"]))


def mark(trained: Iterable[HasEnding]) -> str:
    """The sign `MARK` if one of some trainings did not converge, else an empty text."""
    return "" if all(each.ending.converged for each in trained) else MARK


def footnote(trained: Iterable[HasEnding]) -> str:
    """The sentence `FOOTNOTE` with a space before it if one of some trainings did not converge, else an empty text."""
    return f" {FOOTNOTE}" if mark(trained) else ""


def count_text(trained: Sequence[HasEnding]) -> str:
    """Says how many of some trainings converged, such as `None of these 4 trainings converged`; empty if all did."""
    converged, total = sum(each.ending.converged for each in trained), len(trained)
    if converged == total:
        return ""
    if total == 1:
        return "This training did not converge"

    return f"{converged or 'None'} of these {total} trainings converged"


def over_seeds(endings: Sequence[Ending]) -> str:
    """Puts the endings of several trainings into words; trainings that ended alike share one text."""
    alike: dict[tuple[Rule, int, int], list[Ending]] = {}
    for each in endings:
        limit = 0 if each.converged else each.epochs  # trainings that ended at different limits do not share a text
        alike.setdefault((each.rule, each.decays, limit), []).append(each)

    return "; ".join(_words(rule, decays, members) for (rule, decays, _), members in alike.items())


def _words(rule: Rule, decays: int, endings: Sequence[Ending]) -> str:
    """Puts endings of one kind into words, with the ranges of their epochs."""
    times = "1 decay" if decays == 1 else f"{decays} decays" if decays else "no decay"
    epochs, best = (number_range(values) for values in zip(*((e.epochs, e.best_epoch) for e in endings), strict=True))
    if rule == "decays":
        return f"converged after {epochs} epochs, {times}"
    if rule == "rate":
        return f"end of its schedule after {epochs} epochs, {times}, best epoch {best} of {epochs}"

    return f"epoch limit ({epochs}) after {times}, best epoch {best} of {epochs}"
