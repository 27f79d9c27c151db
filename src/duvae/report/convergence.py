"""Says how the training of a model ended, and whether it had converged.

A training ends at its last decay of the learning rate, when the validation loss no longer falls even at the smallest
rate. Such a training has converged. A training can also end at its limit of epochs before that. Its NLL would probably
have become lower with more epochs, so every comparison marks it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from duvae.report.cells import number_range

MARK = "‡"
"""The sign beside the NLL of a setting with a training that did not converge, and beside every difference of it."""


class HasEnding(Protocol):
    """Anything with the ending of a training, such as a `Result`."""

    @property
    def ending(self) -> "Ending": ...


PATIENCE = 5
"""Number of last epochs among which the best epoch must be if the validation loss was still falling.

It is the number of epochs without a better loss that leads to a decay on text. Records of trainings name their own
number, which takes the place of this one.
"""


@dataclass(frozen=True)
class Ending:
    """How a training ended.

    Attributes:
        epochs: Number of epochs.
        decays: Number of decays of the learning rate. If a decay ended the training, it counts, too.
        converged: Whether a rule for the learning rate ended the training, and not the limit of epochs.
        falling: Whether the best validation loss was reached in one of the last epochs. More epochs would then probably
            have lowered the loss.
    """

    epochs: int
    decays: int
    converged: bool
    falling: bool

    @property
    def text(self) -> str:
        """The ending in words, such as `epoch limit (120) after 2 decays, still falling`."""
        return self.words(str(self.epochs))

    def words(self, epochs: str) -> str:
        """The ending in words.

        Args:
            epochs: Number or range of epochs, as text.
        """
        times = "1 decay" if self.decays == 1 else f"{self.decays} decays" if self.decays else "no decay"
        if self.converged:
            return f"converged after {epochs} epochs, {times}"

        return f"epoch limit ({epochs}) after {times}{', still falling' if self.falling else ''}"


def ending(metrics: Mapping[str, Any], history: pd.DataFrame, record: Mapping[str, Any] | None = None) -> Ending:
    """Finds out how a training ended.

    Args:
        metrics: Content of the model's metrics.json, with the reason of the end in `ending` or, in results of earlier
            versions, in `stopped`.
        history: Content of history.csv, one row per epoch.
        record: Content of train.run.json, which may hold the parameters of the training; None: there is no record.
    """
    rates = history["learning_rate"].to_numpy(float)
    kind = metrics.get("ending")
    converged = kind != "epochs" if kind else str(metrics.get("stopped")).startswith("at the ")
    decays = metrics.get("decays")
    if decays is None:  # results of earlier versions; the last decay ends a training, so no epoch has its rate
        decays = int((rates[1:] < rates[:-1]).sum()) + converged
    epochs = int(metrics["epochs"])
    parameters = (record or {}).get("parameters") or {}
    patience = parameters.get("optimisation", {}).get("decay", {}).get("patience", PATIENCE)
    falling = not converged and int(metrics["best_epoch"]) > epochs - int(patience)

    return Ending(epochs, int(decays), converged, falling)


def mark(trained: Iterable[HasEnding]) -> str:
    """The sign `MARK` if one of some trainings did not converge, else an empty text."""
    return "" if all(each.ending.converged for each in trained) else MARK


def over_seeds(endings: Sequence[Ending]) -> str:
    """Puts the endings of all seeds of a setting into words; seeds that ended alike share one text."""
    alike: dict[tuple[bool, int, bool], list[int]] = {}
    for each in endings:
        alike.setdefault((each.converged, each.decays, each.falling), []).append(each.epochs)

    return "; ".join(
        Ending(0, decays, converged, falling).words(number_range(epochs))
        for (converged, decays, falling), epochs in alike.items()
    )
