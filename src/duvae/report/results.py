"""Reads the results of trained models from their files, and averages the numbers over seeds.

A job is one training: a data set, a setting and a seed. A setting is a system, such as DU-VAE, with hyperparameters.
Each stage of a job, such as `train` or `evaluate`, writes a file *.run.json. This file is the record of the stage: its
time, its machine and its code.
"""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from duvae.config import Job, Params
from duvae.errors import UserError
from duvae.metrics import verdict
from duvae.project import durations
from duvae.report import convergence, expected
from duvae.report.convergence import Ending
from duvae.report.names import hyperparameter_text, label, rank, setting_label

Array = npt.NDArray[np.float64]

METRIC_KEYS = ("nll", "perplexity", "reconstruction", "kl", "mi", "au", "mpd", "ce")
"""Keys of metrics.json that every model has. The value is null where a metric is not defined for the model's system."""

FLOW_METRIC_KEYS = ("mpd_t", "ce_t")
"""Keys of metrics.json for the metrics of z^T, the end of a chain of flows.

Only results of systems with flows have these keys. The standard error of each of these metrics has a key of its own,
such as `mpd_t_stderr`.
"""

USE_KEYS = ("use", "use_stderr")
"""Keys of metrics.json for the use of z by the decoder; missing in results of earlier versions."""

UNSEEN_KEYS = ("nll_unseen", "nll_unseen_stderr")
"""Keys of metrics.json for the NLL of the test examples that do not stand in the training data.

They are missing in results of earlier versions, and None where there are no such examples.
"""

HISTORY = (
    *("epoch", "kl_weight", "learning_rate", "train_loss", "train_reconstruction", "train_kl", "valid_loss"),
    *("valid_reconstruction", "valid_kl", "valid_mi", "valid_au", "valid_mpd", "valid_ce", "encoder_steps", "best"),
)
"""The columns of history.csv that the report reads."""

MOST_NAMED = 6
"""Largest number of commands that a message about missing files names one by one."""


@dataclass(frozen=True)
class Result:
    """The result of one model: its metrics, its training and its provenance.

    Attributes:
        job: Data set, setting and seed of the model.
        metrics: Content of the model's metrics.json: values by name, in the units that `METRICS` names; None where a
            metric is not defined for the model's system.
        history: Content of history.csv, one row per epoch.
        probe: Content of probe.json; None where the data set has no labels for probes.
        provenance: The records of the model's stages (*.run.json), by stage; some records are missing in results of
            earlier versions.
    """

    job: Job
    metrics: Mapping[str, Any]
    history: pd.DataFrame
    probe: Mapping[str, Any] | None
    provenance: Mapping[str, Mapping[str, Any]]

    @property
    def system(self) -> str:
        return str(self.metrics["system"])

    @property
    def name(self) -> str:
        """The paper's name of the system, such as `DU-VAE`.

        The setting's key follows in brackets if it is not the system's key.
        """
        return setting_label(self.system, self.job.setting)

    @property
    def hyperparameters(self) -> str:
        """The hyperparameters that the paper writes as letters, as text such as `γ 1, p 0.5`."""
        return hyperparameter_text(self.system, self.metrics["hyperparameters"])

    @property
    def encoder_steps(self) -> int:
        """Number of Agg-VAE's inner encoder steps over the whole training; 0 for other systems."""
        return int(self.history["encoder_steps"].fillna(0).sum())

    @property
    def collapsed(self) -> bool | None:
        """Whether the model has collapsed, by the rule of `verdict.verdict`; None where the results do not tell."""
        return verdict.collapsed(self.metrics)

    @property
    def ending(self) -> Ending:
        """How the training ended: at its last decay of the learning rate, or at the limit of epochs."""
        return convergence.ending(self.metrics, self.history)

    @property
    def last_kept(self) -> bool:
        """Whether no epoch counted as the best, so that the model has the weights of its last epoch."""
        return not (self.history["best"] == 1).any()

    @property
    def commit(self) -> str:
        """The short hashes of the commits at which the stages ran, each hash once; `+` marks uncommitted changes."""
        return ", ".join(dict.fromkeys(short_commit(record) for record in self.provenance.values()))

    @cached_property
    def row(self) -> Mapping[str, Any]:
        """The row of the result in `metrics_frame`: numbers and words, by name of the column.

        A number is NaN where the result does not have it.
        """
        records = self.provenance
        accuracies = self.probe["by_labels"] if self.probe else {}

        return {
            "dataset": self.job.dataset,
            "setting": self.job.setting,
            "seed": self.job.seed,
            **{key: _number(self.metrics[key]) for key in METRIC_KEYS},
            "nll_stderr": _number(self.metrics["nll_stderr"]),
            "kl_minus_mi": _number(self.metrics["kl"]) - _number(self.metrics["mi"]),
            **{key: _number(self.metrics.get(key)) for key in (*USE_KEYS, *UNSEEN_KEYS)},
            **{key: _number(self.metrics.get(key)) for name in FLOW_METRIC_KEYS for key in (name, f"{name}_stderr")},
            **{f"probe_{count}": float(probe["accuracy"]) for count, probe in accuracies.items()},
            **{
                f"probe_{count}_spread": float(probe["spread"]) if len(probe["draws"]) > 1 else float("nan")
                for count, probe in accuracies.items()
            },
            "epochs": self.metrics["epochs"],
            "best_epoch": self.metrics["best_epoch"],
            "encoder_steps": self.encoder_steps,
            "seconds": sum(map(durations.wall_seconds, records.values())) if records else float("nan"),
            "train_cpu": _number(durations.cpu_seconds(records["train"]) if "train" in records else None),
            "evaluate_cpu": _number(records["evaluate"]["cpu_seconds"] if "evaluate" in records else None),
            "train_seconds": _number(durations.wall_seconds(records["train"]) if "train" in records else None),
            "peak_memory_mib": max(
                (_number(record["peak_memory_mib"]) for record in records.values()), default=float("nan")
            ),
        }


def commands(params: Params, job: Job, root: Path = Path()) -> dict[Path, str]:
    """Lists the files of a job's result, each with the command that writes the file.

    Args:
        params: All of params.yaml.
        job: Data set, setting and seed of the model.
        root: The project's folder.

    Returns:
        The command that writes each file, by the path of the file.
    """
    folder = root / "results" / job.folder
    arguments = f"--dataset {job.dataset} --setting {job.setting} --seed {job.seed}"
    stages = {
        "history.csv": "train",
        "train.run.json": "train",
        "metrics.json": "evaluate",
        "evaluate.run.json": "evaluate",
    }
    if params.dataset(job.dataset).probe.enabled:
        stages |= {"probe.json": "probe", "probe.run.json": "probe"}

    return {folder / name: f"duvae {stage} {arguments}" for name, stage in stages.items()}


def require_files(files: Mapping[Path, str]) -> None:
    """Checks that files exist.

    Args:
        files: The command that writes each file, by the path of the file.

    Raises:
        UserError: If files are missing. The message names the files and the commands that write them, for at most
            `MOST_NAMED` commands.
    """
    missing: dict[str, list[Path]] = {}
    for path, command in files.items():
        if not path.exists():
            missing.setdefault(command, []).append(path)
    messages = []
    for command, paths in missing.items():
        names = ", ".join([str(paths[0]), *(path.name for path in paths[1:])])
        messages.append(f"{names}: not there. '{command}' makes {'it' if len(paths) == 1 else 'them'}.")
    if len(messages) > MOST_NAMED:
        messages[MOST_NAMED:] = [f"... and {len(messages) - MOST_NAMED} more"]
    if len(messages) > 1:
        messages.append("'dvc repro' makes all missing files.")
    if messages:
        raise UserError("\n".join(messages))


def read(params: Params, jobs: Iterable[Job], root: Path = Path()) -> list[Result]:
    """Reads the results of jobs.

    Records of stages (*.run.json) may be missing, because earlier versions did not write all records.

    Args:
        params: All of params.yaml.
        jobs: The jobs.
        root: The project's folder.

    Returns:
        One result per job, in the order of the jobs.

    Raises:
        UserError: If a file that is not a record is missing, or if any file is broken. The message names the file and
            the command that writes the file.
    """
    jobs = list(jobs)
    commands_of_jobs = [
        {
            path: command
            for path, command in commands(params, job, root).items()
            if path.exists() or not _is_record(path)
        }
        for job in jobs
    ]
    require_files({path: command for files in commands_of_jobs for path, command in files.items()})

    return [_read(files, job) for files, job in zip(commands_of_jobs, jobs, strict=True)]


def in_paper_order(results: Iterable[Result]) -> list[Result]:
    """Sorts results by data set, and then by the order of systems in the paper's Table 1.

    The data sets are in the order of their first results in `results`. Results of one system on one data set keep their
    order.
    """
    results = list(results)
    datasets = list(dict.fromkeys(result.job.dataset for result in results))

    return sorted(results, key=lambda result: (datasets.index(result.job.dataset), rank(result.system)))


def setting_names(results: Iterable[Result]) -> dict[str, str]:
    """Names the settings of one data set.

    Args:
        results: Results of one data set.

    Returns:
        The name of each setting, by setting. If the setting's key is the system's key, and no other setting has this
        system, the name is the system's name. Otherwise brackets follow the system's name. The brackets hold the
        hyperparameters if these distinguish the setting, or else the part of the setting's key after the system's key.
        Without such a part there are no brackets.
    """
    settings = {result.job.setting: result for result in results}
    names = {setting: label(result.system) for setting, result in settings.items()}
    unique = {}
    for setting, result in settings.items():
        others = [other for other in settings.values() if other.system == result.system and other is not result]
        if not others and setting == result.system:
            unique[setting] = names[setting]
        elif result.hyperparameters and result.hyperparameters not in {other.hyperparameters for other in others}:
            unique[setting] = f"{names[setting]} ({result.hyperparameters})"
        else:
            suffix = setting.removeprefix(f"{result.system}_").replace("_", " ")
            unique[setting] = names[setting] if setting == result.system else f"{names[setting]} ({suffix})"

    return unique


def _read(files: Mapping[Path, str], job: Job) -> Result:
    parts = {path.name: path for path in files}
    # Reading a record checks its outputs, so the records are read first.
    names = sorted((name for name in parts if name.endswith(".json")), key=lambda name: not _is_record(parts[name]))
    jsons = {name: expected.read(parts[name], files[parts[name]]) for name in names}
    history = parts["history.csv"]

    return Result(
        job,
        jsons["metrics.json"],
        expected.check_columns(read_table(history, files[history]), HISTORY, history, files[history]),
        jsons.get("probe.json"),
        {name.removesuffix(".run.json"): value for name, value in jsons.items() if name.endswith(".run.json")},
    )


def read_table(path: Path, command: str) -> pd.DataFrame:
    """Reads a CSV file.

    Args:
        path: Path of the CSV file.
        command: The command that writes the file.

    Raises:
        UserError: If the file is missing, cannot be read or is not a table.
    """
    require_files({path: command})
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a table, but {error}. Delete it and run '{command}' again.") from error


def metrics_frame(results: Iterable[Result]) -> pd.DataFrame:
    """Builds a table with one row per model and one column per key of `Result.row`."""
    return pd.DataFrame([result.row for result in results])


class OverSeeds(NamedTuple):
    """The numbers of each setting of one data set, averaged over the setting's seeds.

    Attributes:
        mean: Means, one row per setting in the order of the results, and one column per number in `Result.row`.
        std: Standard deviations (divisor n - 1), with the same rows and columns as `mean`; NaN for a single seed.
        seeds: Number of seeds of each setting.
    """

    mean: pd.DataFrame
    std: pd.DataFrame
    seeds: "pd.Series[int]"

    def value(self, setting: str, key: str) -> float:
        """The mean of one number; NaN where the setting has no such number."""
        return float(self.mean[key][setting]) if key in self.mean else float("nan")

    def spread(self, setting: str, key: str) -> float:
        """The standard deviation of one number; NaN where the setting has no such number."""
        return float(self.std[key][setting]) if key in self.std else float("nan")

    def count(self, setting: str) -> int:
        """Number of seeds of a setting."""
        return int(self.seeds[setting])


def over_seeds(results: Iterable[Result]) -> OverSeeds:
    """Computes the mean and the standard deviation over seeds, for every setting of one data set."""
    frame = metrics_frame(results)
    groups = frame.drop(columns=["dataset", "seed"]).groupby("setting", sort=False)

    return OverSeeds(groups.mean(numeric_only=True), groups.std(numeric_only=True, ddof=1), groups.size())


def short_commit(provenance: Mapping[str, Any]) -> str:
    """The short hash of the commit in a stage's record, with `+` for uncommitted changes.

    The text is `no commit` if the record names no commit.
    """
    if not provenance.get("commit"):
        return "no commit"

    return str(provenance["commit"])[:7] + ("+" if provenance.get("dirty") else "")


def started(result: Result) -> datetime.datetime:
    """The time when the training of a model began, from the record of the stage `train`."""
    return datetime.datetime.fromisoformat(str(result.provenance["train"]["started"]))


def label_counts(results: Sequence[Result]) -> list[str]:
    """Lists the sizes of the labelled subsets on which the probes (linear classifiers of latent codes) were trained.

    The sizes are in ascending order, and are texts such as `100`, as in probe.json.
    """
    counts = {count for result in results if result.probe for count in result.probe["by_labels"]}

    return sorted(counts, key=lambda count: (not count.isdigit(), int(count) if count.isdigit() else 0, count))


def label_unit(results: Sequence[Result]) -> str:
    """The unit of the sizes of labelled subsets: `labels`, or the unit in probe.json, such as `images a character`."""
    units = [result.probe.get("labels_are", "labels") for result in results if result.probe]

    return str(units[0]) if units else "labels"


def _is_record(path: Path) -> bool:
    return path.name.endswith(".run.json")


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
