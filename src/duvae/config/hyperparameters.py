"""Settings: a system, its parts and its hyperparameters for each column of data sets."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from duvae.fields import Frozen, Name, Positive
from duvae.mistakes import unknown
from duvae.registry import HYPERPARAMETERS


class Found(Frozen):
    """In place of hyperparameters: those that a study has found, `results/studies/<study>/best_params.yaml`."""

    study: Name


def found(name: str, root: Path = Path()) -> Path:
    """The file of a study's best hyperparameters."""
    return root / "results" / "studies" / name / "best_params.yaml"


class Parts(Frozen):
    """What a system's encoder is made of besides its hyperparameters."""

    init: Literal["torch", "paper"]
    variance_floor: Literal["alpha", "none"] = "none"
    start: Literal["after_warmup", "at_once"] = "after_warmup"
    epsilon: Positive = 1e-8


class Setting(Frozen):
    """A system with its hyperparameters for each column of data sets.

    `optimisation`: the values that replace those of a data set's optimisation for this setting; `{}`: none. The key is
    always written, since DVC fails where a parameter that a stage depends on is missing.
    """

    system: str
    parts: Parts
    optimisation: dict[str, Any]
    columns: dict[Name, Any]

    @model_validator(mode="after")
    def typed_columns(self) -> Self:
        if self.system not in HYPERPARAMETERS:
            raise PydanticCustomError(
                "unknown_system", "{why}", {"why": unknown("system", self.system, HYPERPARAMETERS), "at": "system"}
            )
        if not self.columns:
            raise PydanticCustomError(
                "no_columns", "expected at least one column of hyperparameters", {"at": "columns"}
            )

        return self
