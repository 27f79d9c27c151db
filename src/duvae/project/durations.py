"""How long a training took, by its record in `train.run.json`.

A training that was interrupted and resumed measures its time from its last start on. Only the seconds of its epochs are
kept across the parts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

ROUNDING = 0.005
"""Greatest error of a rounded number of seconds in a record."""


def resumed(record: Mapping[str, Any]) -> bool:
    """Whether a training was resumed, so that its record has the CPU time and the wall time of the last part only.

    Args:
        record: Record of the training. Without the seconds of the epochs, the result is False.
    """
    epochs = _seconds_of_epochs(record)

    return sum(epochs) > _number(record.get("wall_seconds")) + ROUNDING * (len(epochs) + 1)


def wall_seconds(record: Mapping[str, Any]) -> float:
    """Returns the wall time of a training in seconds.

    For a resumed training, it is the time of its epochs. The part of an epoch before an interruption is missing.

    Args:
        record: Record of a training or of another stage.
    """
    return sum(_seconds_of_epochs(record)) if resumed(record) else _number(record.get("wall_seconds"))


def cpu_seconds(record: Mapping[str, Any]) -> float | None:
    """Returns the CPU time of a training in seconds, summed over all threads; None for a resumed training.

    Args:
        record: Record of a training or of another stage.
    """
    return None if resumed(record) else _number(record.get("cpu_seconds"))


def _seconds_of_epochs(record: Mapping[str, Any]) -> list[float]:
    found = record.get("seconds_per_epoch")

    return [_number(seconds) for seconds in found] if isinstance(found, Sequence) and not isinstance(found, str) else []


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
