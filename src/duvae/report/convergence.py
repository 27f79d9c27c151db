"""Says how the training of a model ended, and whether it had converged.

A training ends at its last decay of the learning rate, when the validation loss no longer falls even at the smallest
rate. Such a training has converged. A training can also end at its limit of epochs before that. Its NLL might have
become lower with more epochs, so every comparison marks it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from duvae.report.cells import number_range

MARK = "‡"
"""The sign beside the NLL of a setting with a training that did not converge, and beside every difference of it."""

FOOTNOTE = (
    f"{MARK}: a training ended at its limit of epochs, before it had converged; a difference may be one of the speed of"
    " training."
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
        converged: Whether a rule for the learning rate ended the training, and not the limit of epochs.
        best_epoch: The epoch with the best validation loss, whose weights were kept.
    """

    epochs: int
    decays: int
    converged: bool
    best_epoch: int

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
    kind = metrics.get("ending")
    converged = kind != "epochs" if kind else str(metrics.get("stopped")).startswith("at the ")
    decays = metrics.get("decays")
    if decays is None:  # results of earlier versions; the last decay ends a training, so no epoch has its rate
        decays = int((rates[1:] < rates[:-1]).sum()) + converged

    return Ending(int(metrics["epochs"]), int(decays), converged, int(metrics["best_epoch"]))


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
    alike: dict[tuple[bool, int, int], list[Ending]] = {}
    for each in endings:
        limit = 0 if each.converged else each.epochs  # trainings that ended at different limits do not share a text
        alike.setdefault((each.converged, each.decays, limit), []).append(each)

    return "; ".join(_words(converged, decays, members) for (converged, decays, _), members in alike.items())


def _words(converged: bool, decays: int, endings: Sequence[Ending]) -> str:
    """Puts endings of one kind into words, with the ranges of their epochs."""
    times = "1 decay" if decays == 1 else f"{decays} decays" if decays else "no decay"
    epochs, best = (number_range(values) for values in zip(*((e.epochs, e.best_epoch) for e in endings), strict=True))
    if converged:
        return f"converged after {epochs} epochs, {times}"

    return f"epoch limit ({epochs}) after {times}, best epoch {best} of {epochs}"
