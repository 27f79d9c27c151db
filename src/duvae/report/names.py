"""Reads the paper's names of systems and hyperparameters from the registry, `duvae.registry`."""

import math
from collections.abc import Mapping
from typing import Any

from duvae.registry import RECORDS

LONGER = "_fifth_decay"
"""End of the keys of settings whose trainings go on to the fifth decay of the learning rate.

The rest of the key is that of the setting with the same hyperparameters and the limit of epochs of the data set.
"""


def label(system: str) -> str:
    """A system's name as the paper writes it; the system's key if the registry has no record of the system."""
    return RECORDS[system].label if system in RECORDS else system


def setting_label(system: str, setting: str) -> str:
    """A system's name, followed by the key of the setting in brackets if that is not the system's key."""
    return label(system) if setting == system else f"{label(system)} ({setting})"


def letter(system: str, hyperparameter: str) -> str:
    """The paper's letter for a hyperparameter, such as `γ`; the hyperparameter's key if the paper has no letter."""
    return RECORDS[system].letters.get(hyperparameter, hyperparameter) if system in RECORDS else hyperparameter


def rank(system: str) -> int:
    """A system's position in the registry. A system that the registry does not have comes last."""
    return list(RECORDS).index(system) if system in RECORDS else len(RECORDS)


def letter_values(system: str, hyperparameters: Mapping[str, Any]) -> dict[str, float]:
    """Selects the hyperparameters that the paper writes as letters.

    Returns:
        The values of these hyperparameters, by key in params.yaml.
    """
    letters = RECORDS[system].letters if system in RECORDS else {}

    return {key: float(value) for key, value in hyperparameters.items() if key in letters}


def hyperparameter_text(system: str, hyperparameters: Mapping[str, Any]) -> str:
    """Formats the hyperparameters that have a letter in the paper, as text such as `γ 1, p 0.5`."""
    values = letter_values(system, hyperparameters)

    return ", ".join(f"{letter(system, key)} {value:g}" for key, value in values.items())


def same_hyperparameters(system: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> bool:
    """Whether two settings of a system agree in the hyperparameters that the paper's tables print in brackets.

    Args:
        system: The system's key.
        ours: Hyperparameters of this project's setting, by key.
        theirs: Hyperparameters of a row of a table in the paper, by key.
    """
    keys = RECORDS[system].bracketed if system in RECORDS else ()

    return all(key in ours and key in theirs and math.isclose(ours[key], theirs[key], abs_tol=1e-9) for key in keys)
