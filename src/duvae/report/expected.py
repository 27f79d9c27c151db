"""What the files of a result hold: one that does not is told before anything is made of it."""

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from duvae.errors import UserError
from duvae.messages import explain
from duvae.project.files import read_json
from duvae.project.provenance import unwrapped


def _moment(text: str) -> str:
    datetime.datetime.fromisoformat(text)

    return text


class Held(BaseModel):
    """What is used of a JSON file; it may hold more."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Metrics(Held):
    """metrics.json; nothing where a system has no such figure."""

    system: str
    hyperparameters: dict[str, Any]
    sentences: int
    nll_examples: int | None = None
    importance_samples: int | None
    nll: float | None
    nll_stderr: float | None
    perplexity: float | None
    reconstruction: float
    kl: float | None
    mi: float | None
    au: int | None
    mpd: float | None
    ce: float | None
    mpd_t: float | None = None
    mpd_t_stderr: float | None = None
    ce_t: float | None = None
    ce_t_stderr: float | None = None
    epochs: int
    best_epoch: int
    warmup_ended: bool
    weights: str | None = None


class Accuracy(Held):
    """One size of labelled subsets in probe.json."""

    accuracy: float
    spread: float | None
    draws: list[float]
    by_alphabet: dict[str, float] = {}


class Probed(Held):
    """probe.json."""

    largest_class: float | None
    labels_are: str = "labels"
    alphabets: int | None = None
    by_labels: dict[str, Accuracy]
    weights: str | None = None


class Machine(Held):
    """The machine of a record."""

    processor: str
    cores: int | None
    system: str


class Made(Held):
    """The record within a *.run.json."""

    wall_seconds: float
    cpu_seconds: float
    peak_memory_mib: float | None
    device: str
    threads: int
    started: Annotated[str, AfterValidator(_moment)]
    fingerprint: str | None = None
    weights: str | None = None
    versions: dict[str, str] = {}
    machine: Machine | None = None


class Truth(Held):
    """truth.json."""

    sentences: int
    nll: float
    nll_stderr: float
    spacing: float
    coarse_nll: float
    coarse_difference: float


KINDS: Mapping[str, type[Held]] = {
    "metrics.json": Metrics,
    "probe.json": Probed,
    "train.run.json": Made,
    "evaluate.run.json": Made,
    "probe.run.json": Made,
    "truth.json": Truth,
}


def read(path: Path, command: str) -> dict[str, Any]:
    """Reads a JSON file of KINDS.

    Args:
        path: The file.
        command: What makes it.

    Raises:
        UserError: Where it is missing, broken, or does not hold what it should.
    """
    value = unwrapped(read_json(path, command))
    model = KINDS[path.name]
    try:
        model.model_validate(value)
    except ValidationError as error:
        lacks = [".".join(map(str, detail["loc"])) for detail in error.errors() if detail["type"] == "missing"]
        wrong = [explain(detail, value) for detail in error.errors() if detail["type"] != "missing"]
        said = [f"expected {', '.join(lacks)} in it"] if lacks else []
        said += [": ".join([*([".".join(key)] if key else []), why]) for key, why in wrong]
        raise UserError(f"{path}: {'; '.join(said)}. Run '{command}' again.") from error

    return dict(value)


def columns(frame: pd.DataFrame, names: Iterable[str], path: Path, command: str) -> pd.DataFrame:
    """The table, once it has rows and the columns of `names`, all numbers.

    Raises:
        UserError: Where it has not.
    """
    lacks = [name for name in names if name not in frame]
    words = [name for name in names if name in frame and not pd.api.types.is_numeric_dtype(frame[name])]
    words = [name for name in words if not frame[name].isna().all()]
    said = f"the columns {', '.join(lacks)} in it" if lacks else f"numbers in {', '.join(words)}" if words else ""
    if not said and frame.empty:
        said = "a row or more"
    if said:
        raise UserError(f"{path}: expected {said}. Run '{command}' again.")

    return frame
