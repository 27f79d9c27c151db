"""Defines the expected content of a result's files. The report checks each file before it uses the content."""

import datetime
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from duvae.errors import UserError
from duvae.messages import explain, refusal, show
from duvae.project.files import read_json
from duvae.project.provenance import read_record
from duvae.training.state import Ending

EARLIEST, LATEST = 1970, 9999
"""A stage runs after the first and before the second of these years. Python's times end in 9999."""

Count = Annotated[int, Field(ge=0, lt=2**53)]
"""A number of things. The report computes in floating-point numbers, which larger whole numbers do not fit."""

NotNegative = Annotated[float, Field(ge=0, le=1e15)]
"""A time, a size of memory or an error. The bound is beyond any real value, and tables can still show it."""

Percent = Annotated[float, Field(ge=0, le=100)]
"""An accuracy or a share, in percent."""


def _moment(text: str) -> str:
    """Checks that a text is a time in ISO format, and returns the text."""
    if not EARLIEST < datetime.datetime.fromisoformat(text).year < LATEST:
        raise refusal("", f"expected a year between {EARLIEST} and {LATEST}; found {text}")

    return text


class Content(BaseModel):
    """The keys of a JSON file that the report reads; the file may hold further keys."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class BiasPoint(Content):
    """The bias of the importance-weighted NLL for one number of samples.

    Attributes:
        samples: Number K of samples for each sentence.
        nll: Mean importance-weighted NLL in nats.
        bias: Mean of the importance-weighted NLL minus the exact NLL, in nats.
        bias_stderr: Standard error of `bias`, in nats; None for a single sentence.
    """

    samples: Count
    nll: float
    bias: float
    bias_stderr: NotNegative | None


class ExactNLL(Content):
    """The exact NLL of a model on the first test sentences, and the bias of the importance-weighted NLL.

    Attributes:
        sentences: Count of these sentences.
        nll: Mean exact NLL of these sentences in nats, integrated over z on a lattice.
        nll_stderr: Standard error of this mean, in nats; None for a single sentence.
        coarse_difference: Mean change of the exact NLL on a lattice with twice the spacing, in nats.
        importance_nll: Mean importance-weighted NLL of these sentences, in nats.
        bias: `importance_nll` minus `nll`, in nats.
        bias_stderr: Standard error of `bias`, in nats; None for a single sentence.
        curve: The bias for several numbers of samples; None where it was not measured.
    """

    sentences: Count
    nll: float
    nll_stderr: NotNegative | None
    coarse_difference: float
    importance_nll: float
    bias: float
    bias_stderr: NotNegative | None
    curve: list[BiasPoint] | None = None


class Metrics(Content):
    """Content of metrics.json.

    A metric is None where it is not defined for the system; `docs/metrics.md` defines the metrics. Keys with a default
    may be missing. `mpd_t`, `ce_t` and the standard errors of these two metrics exist only for systems with flows.
    Results of earlier versions lack `nll_examples`, `weights`, `decays`, `ending`, and all keys from `unseen` on.
    """

    system: str
    hyperparameters: dict[str, bool | int | float | None]
    sentences: Count
    nll_examples: Count | None = None
    importance_samples: Count | None
    nll: float | None
    nll_stderr: NotNegative | None
    perplexity: NotNegative | None
    reconstruction: float
    kl: float | None
    mi: float | None
    au: Count | None
    mpd: float | None
    ce: float | None
    mpd_t: float | None = None
    mpd_t_stderr: NotNegative | None = None
    ce_t: float | None = None
    ce_t_stderr: NotNegative | None = None
    epochs: Count
    best_epoch: Count
    warmup_ended: bool
    decays: Count | None = None
    ending: Ending | None = None
    weights: str | None = None
    unseen: Count | None = None
    nll_unseen: float | None = None
    nll_unseen_stderr: NotNegative | None = None
    use: float | None = None
    use_stderr: NotNegative | None = None
    kl_by_dimension: list[float] | None = None
    mean_variances: list[NotNegative] | None = None
    exact: ExactNLL | None = None


class Accuracy(Content):
    """Accuracies in percent of linear probes, for one size of labelled subsets of the training data.

    A linear probe is a linear classifier that predicts an example's label from the example's latent code.

    Attributes:
        accuracy: The mean over the labelled subsets.
        spread: The standard deviation over the labelled subsets; None for a single subset.
        draws: The accuracy for each labelled subset.
        by_alphabet: The accuracy in each alphabet of OMNIGLOT; empty where the alphabets have no probes of their own.
        in_test: Number of labelled examples of each subset that the test split has too; empty if they were not counted.
        in_valid: The same for the validation split.
    """

    accuracy: Percent
    spread: NotNegative | None
    draws: Annotated[list[Percent], Field(min_length=1)]
    by_alphabet: dict[str, Percent] = {}
    in_test: list[Count] = []
    in_valid: list[Count] = []

    @model_validator(mode="after")
    def several_draws_have_a_spread(self) -> Self:
        if self.spread is None and len(self.draws) > 1:
            raise refusal("spread", f"expected a number, since there are {len(self.draws)} draws; found nothing")

        return self


class ProbeResults(Content):
    """Content of probe.json, the results of linear probes.

    Attributes:
        largest_class: Share of the largest class in percent; None where the data set has no probes.
        labels_are: Unit of the sizes of labelled subsets, such as `images a character`.
        alphabets: Count of alphabets of OMNIGLOT; None where the alphabets have no probes of their own.
        by_labels: Accuracies, by size of the labelled subsets; the size is a text such as `100`.
        weights: Digest of the model's weights; None in results of earlier versions.
    """

    largest_class: Percent | None
    labels_are: str = "labels"
    alphabets: Count | None = None
    by_labels: dict[str, Accuracy]
    weights: str | None = None

    @model_validator(mode="after")
    def keys_are_sizes(self) -> Self:
        for key in self.by_labels:
            if not re.fullmatch(r"[0-9]{1,9}", key):
                raise refusal("by_labels", f"expected the size of a labelled subset as the key; found {show(key)}")

        return self


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

    wall_seconds: NotNegative
    cpu_seconds: NotNegative
    peak_memory_mib: NotNegative | None
    device: str
    threads: Count
    started: Annotated[str, AfterValidator(_moment)]
    fingerprint: str | None = None
    weights: str | None = None
    versions: dict[str, str] = {}
    machine: Machine | None = None
    outputs: dict[str, str] = {}
    seconds_per_epoch: list[NotNegative] | None = None
    parameters: dict[str, Any] | None = None
    commit: str | None = None


class Truth(Content):
    """Content of truth.json: the NLL of test sentences under the generator of a synthetic data set.

    Attributes:
        sentences: Count of test sentences whose NLL was computed.
        nll: Mean NLL of these sentences in nats, integrated over z on a lattice.
        nll_stderr: Standard error of this mean, in nats.
        spacing: Distance between neighbouring points of the lattice.
        coarse_nll: Mean NLL that a lattice with twice this spacing gives, in nats.
        coarse_difference: Difference between the results of the two lattices, in nats.
    """

    sentences: Count
    nll: float
    nll_stderr: NotNegative | None
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
    model = KINDS[path.name]
    try:
        value = read_record(path, command) if model is StageRecord else read_json(path, command)
    except RecursionError as error:  # Python's JSON reader has no bound of its own
        raise UserError(f"{path}: expected JSON; found lists in lists without end. Run '{command}' again.") from error
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

    No number may be infinite. Every row has the number of its epoch.

    Args:
        frame: The table.
        names: The expected columns.
        path: The file that the table comes from.
        command: The command that writes the file.

    Returns:
        The same table.

    Raises:
        UserError: If the table is empty, a column is missing, or a column holds words or infinite numbers. Also if a
            row has no number of an epoch or too many cells.
    """
    missing = [name for name in names if name not in frame]
    words = [name for name in names if name in frame and not pd.api.types.is_numeric_dtype(frame[name])]
    words = [name for name in words if not frame[name].isna().all()]
    expectation = (
        f"the columns {', '.join(missing)} in it" if missing else f"numbers in {', '.join(words)}" if words else ""
    )
    if not expectation and frame.empty:
        expectation = "a row or more"
    if not expectation:
        infinite = [name for name in names if np.isinf(frame[name].to_numpy(float)).any()]
        expectation = f"finite numbers in {', '.join(infinite)}" if infinite else ""
    if not expectation and not ((frame["epoch"] >= 0).all() and frame["epoch"].is_monotonic_increasing):
        expectation = "the number of an epoch in each row, in rising order"
    # With too many cells in each row, pandas takes the first cells for the names of the rows.
    if not expectation and not frame.index.equals(pd.RangeIndex(len(frame))):
        expectation = "as many cells in each row as there are columns"
    if expectation:
        raise UserError(f"{path}: expected {expectation}. Run '{command}' again.")

    return frame
