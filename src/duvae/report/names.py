"""The systems and their hyperparameters as the paper writes them, read from the registry."""

import math
from collections.abc import Mapping
from typing import Any

from duvae.registry import RECORDS


def label(system: str) -> str:
    """A system's name as the paper writes it; a system without a record keeps its own."""
    return RECORDS[system].label if system in RECORDS else system


def letter(system: str, hyperparameter: str) -> str:
    """The letter of a hyperparameter in the paper, such as `γ`; its key where the paper has no letter for it."""
    return RECORDS[system].letters.get(hyperparameter, hyperparameter) if system in RECORDS else hyperparameter


def rank(system: str) -> int:
    """A system's place in the order of the registry; unknown systems come last."""
    return list(RECORDS).index(system) if system in RECORDS else len(RECORDS)


def lettered(system: str, hyperparameters: Mapping[str, Any]) -> dict[str, float]:
    """The hyperparameters that the paper writes as one letter, by their keys."""
    letters = RECORDS[system].letters if system in RECORDS else {}

    return {key: float(value) for key, value in hyperparameters.items() if key in letters}


def written(system: str, hyperparameters: Mapping[str, Any]) -> str:
    """The hyperparameters with a letter as text, such as `γ 1, p 0.5`."""
    values = lettered(system, hyperparameters)

    return ", ".join(f"{letter(system, key)} {value:g}" for key, value in values.items())


def same(system: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> bool:
    """Whether two settings of a system agree in the hyperparameters that the paper's tables print in brackets."""
    keys = RECORDS[system].bracketed if system in RECORDS else ()

    return all(key in ours and key in theirs and math.isclose(ours[key], theirs[key], abs_tol=1e-9) for key in keys)
