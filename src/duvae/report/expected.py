"""Defines the expected content of a result's files. The report checks each file before it uses the content."""

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from duvae.errors import UserError
from duvae.messages import explain
from duvae.project.files import read_json
from duvae.project.provenance import read_record


def _moment(text: str) -> str:
    """Checks that a text is a time in ISO format, and returns the text."""
    datetime.datetime.fromisoformat(text)

    return text


class Content(BaseModel):
    """The keys of a JSON file that the report reads; the file may hold further keys."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Metrics(Content):
    """Content of metrics.json.

    A metric is None where it is not defined for the system; `docs/metrics.md` defines the metrics. Keys with a default
    may be missing. `mpd_t`, `ce_t` and the standard errors of these two metrics exist only for systems with flows.
    Results of earlier versions lack `nll_examples` and `weights`.
    """

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


class Accuracy(Content):
    """Accuracies in percent of linear probes, for one size of labelled subsets of the training data.

    A linear probe is a linear classifier that predicts an example's label from the example's latent code.

    Attributes:
        accuracy: The mean over the labelled subsets.
        spread: The standard deviation over the labelled subsets; None for a single subset.
        draws: The accuracy for each labelled subset.
        by_alphabet: The accuracy in each alphabet of OMNIGLOT; empty where the alphabets have no probes of their own.
    """

    accuracy: float
    spread: float | None
    draws: list[float]
    by_alphabet: dict[str, float] = {}


class ProbeResults(Content):
    """Content of probe.json, the results of linear probes.

    Attributes:
        largest_class: Share of the largest class in percent; None where the data set has no probes.
        labels_are: Unit of the sizes of labelled subsets, such as `images a character`.
        alphabets: Number of alphabets of OMNIGLOT; None where the alphabets have no probes of their own.
        by_labels: Accuracies, by size of the labelled subsets; the size is a text such as `100`.
        weights: Digest of the model's weights; None in results of earlier versions.
    """

    largest_class: float | None
    labels_are: str = "labels"
    alphabets: int | None = None
    by_labels: dict[str, Accuracy]
    weights: str | None = None


class Machine(Content):
    """The machine that a stage ran on; `cores` is None where the number is unknown."""

    processor: str
    cores: int | None
    system: str


class StageRecord(Content):
    """The record of a stage in a *.run.json file: time, memory, versions and machine.

    `peak_memory_mib` is None where the memory was not measured. `fingerprint` is a hash of the stage's code. `weights`
    is the digest of the model's weights, which only some stages record. Records of earlier versions may lack any of
    the keys that have a default.
    """

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
    outputs: dict[str, str] = {}


class Truth(Content):
    """Content of truth.json: the NLL of test sentences under the generator of a synthetic data set.

    Attributes:
        sentences: Number of test sentences whose NLL was computed.
        nll: Mean NLL of these sentences in nats, integrated over z on a lattice.
        nll_stderr: Standard error of this mean, in nats.
        spacing: Distance between neighbouring points of the lattice.
        coarse_nll: Mean NLL that a lattice with twice this spacing gives, in nats.
        coarse_difference: Difference between the results of the two lattices, in nats.
    """

    sentences: int
    nll: float
    nll_stderr: float | None
    spacing: float
    coarse_nll: float
    coarse_difference: float


KINDS: Mapping[str, type[Content]] = {
    "metrics.json": Metrics,
    "probe.json": ProbeResults,
    "train.run.json": StageRecord,
    "evaluate.run.json": StageRecord,
    "probe.run.json": StageRecord,
    "truth.json": Truth,
}
"""The class that describes the content of each file, by the name of the file."""


def read(path: Path, command: str) -> dict[str, Any]:
    """Reads and checks a JSON file.

    Args:
        path: The file; its name is a key of `KINDS`.
        command: The command that writes the file.

    Returns:
        The content of the file, including keys that the report does not read.

    Raises:
        UserError: If the file is missing or broken, or if its content is not as expected. For a record, also if the
            record or an output of the stage has changed since the stage wrote it.
    """
    value = read_record(path, command) if KINDS[path.name] is StageRecord else read_json(path, command)
    model = KINDS[path.name]
    try:
        model.model_validate(value)
    except ValidationError as error:
        missing = [".".join(map(str, detail["loc"])) for detail in error.errors() if detail["type"] == "missing"]
        wrong = [explain(detail, value) for detail in error.errors() if detail["type"] != "missing"]
        messages = [f"expected {', '.join(missing)} in it"] if missing else []
        messages += [": ".join([*([".".join(key)] if key else []), why]) for key, why in wrong]
        raise UserError(f"{path}: {'; '.join(messages)}. Run '{command}' again.") from error

    return dict(value)


def check_columns(frame: pd.DataFrame, names: Iterable[str], path: Path, command: str) -> pd.DataFrame:
    """Checks that a table has rows and all expected columns, and that the cells of these columns are numbers or empty.

    Args:
        frame: The table.
        names: The expected columns.
        path: The file that the table comes from.
        command: The command that writes the file.

    Returns:
        The same table.

    Raises:
        UserError: If the table is empty, a column is missing, or a column holds words.
    """
    missing = [name for name in names if name not in frame]
    words = [name for name in names if name in frame and not pd.api.types.is_numeric_dtype(frame[name])]
    words = [name for name in words if not frame[name].isna().all()]
    expectation = (
        f"the columns {', '.join(missing)} in it" if missing else f"numbers in {', '.join(words)}" if words else ""
    )
    if not expectation and frame.empty:
        expectation = "a row or more"
    if expectation:
        raise UserError(f"{path}: expected {expectation}. Run '{command}' again.")

    return frame
