"""What the stages left behind, read into frames."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from duvae.config import Job, Params
from duvae.errors import UserError
from duvae.report import expected
from duvae.report.names import label, rank, written

Array = npt.NDArray[np.float64]

FIGURES = ("nll", "perplexity", "reconstruction", "kl", "mi", "au", "mpd", "ce")
"""What metrics.json says of a model; null where a system has no such figure."""

LAST = ("mpd_t", "ce_t")
"""The same of z^T, the last of a chain of flows, estimated, each with its standard error; of such systems alone."""

HISTORY = (
    *("epoch", "kl_weight", "learning_rate", "train_loss", "train_reconstruction", "train_kl", "valid_loss"),
    *("valid_reconstruction", "valid_kl", "valid_mi", "valid_au", "valid_mpd", "valid_ce", "encoder_steps", "best"),
)
"""The columns of history.csv that are used here."""

COLLAPSED_MI = 0.1
"""Below this mutual information, in nats, a latent space is called collapsed."""

SHOWN = 6
"""So many missing results are named one by one."""


@dataclass(frozen=True)
class Result:
    """One model: what was measured of it, how it was trained, and who made which part.

    Attributes:
        metrics: metrics.json.
        history: history.csv, a row an epoch.
        probe: probe.json; None where its data set has no labels to probe with.
        provenance: The records of its stages (*.run.json) by stage, those that are there.
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
        """As the paper spells the system; a setting of another name adds it."""
        name = label(self.system)

        return name if self.job.setting == self.system else f"{name} ({self.job.setting})"

    @property
    def hyperparameters(self) -> str:
        """Those that are a single letter in the paper, such as `γ 1, p 0.5`."""
        return written(self.system, self.metrics["hyperparameters"])

    @property
    def encoder_steps(self) -> int:
        """Agg-VAE's inner steps over the whole training; 0 for others."""
        return int(self.history["encoder_steps"].fillna(0).sum())

    @property
    def collapsed(self) -> bool | None:
        r"""No active dimension, or next to no information about x in z; None where that cannot be told.

        Where the MI is not known, what bounds it may tell. KL[q(z|x) || p(z)] is the MI plus KL[q(z) || p(z)]. And
        since the divergence is convex, $I(x, z) = E_x KL[q(z|x) \| E_{x'} q(z|x')]$ is at most the mean over all
        pairs of KL[q(z|x) || q(z|x')], which is the MPD.
        """
        mi, au = self.metrics["mi"], self.metrics["au"]
        bounds = [mi] if mi is not None else [self.metrics["kl"], self.metrics.get("mpd_t")]
        if au == 0 or any(bound is not None and bound < COLLAPSED_MI for bound in bounds):
            return True

        return None if mi is None and au is None else False

    @property
    def commit(self) -> str:
        """The commit that its stages ran at, short, `+` for changes not committed; several where they differ."""
        return ", ".join(dict.fromkeys(commit(made) for made in self.provenance.values()))

    @property
    def row(self) -> dict[str, Any]:
        """All of it that is one number or word, for a table."""
        made = self.provenance
        accuracies = self.probe["by_labels"] if self.probe else {}

        return {
            "dataset": self.job.dataset,
            "setting": self.job.setting,
            "seed": self.job.seed,
            **{figure: _number(self.metrics[figure]) for figure in FIGURES},
            "nll_stderr": _number(self.metrics["nll_stderr"]),
            **{key: _number(self.metrics.get(key)) for name in LAST for key in (name, f"{name}_stderr")},
            **{f"probe_{labels}": float(of["accuracy"]) for labels, of in accuracies.items()},
            **{
                f"probe_{labels}_spread": float(of["spread"]) if len(of["draws"]) > 1 else float("nan")
                for labels, of in accuracies.items()
            },
            "epochs": self.metrics["epochs"],
            "best_epoch": self.metrics["best_epoch"],
            "encoder_steps": self.encoder_steps,
            "seconds": sum(float(of["wall_seconds"]) for of in made.values()) if made else float("nan"),
            "train_cpu": _number(made["train"]["cpu_seconds"] if "train" in made else None),
            "evaluate_cpu": _number(made["evaluate"]["cpu_seconds"] if "evaluate" in made else None),
            "train_seconds": _number(made["train"]["wall_seconds"] if "train" in made else None),
            "peak_memory_mib": max((_number(of["peak_memory_mib"]) for of in made.values()), default=float("nan")),
        }


def commands(params: Params, job: Job, root: Path = Path()) -> dict[Path, str]:
    """The small files that make up a job's result, each with the command that makes it."""
    folder = root / "results" / job.folder
    arguments = f"--dataset {job.dataset} --setting {job.setting} --seed {job.seed}"
    made = {
        "history.csv": "train",
        "train.run.json": "train",
        "metrics.json": "evaluate",
        "evaluate.run.json": "evaluate",
    }
    if params.dataset(job.dataset).probe.enabled:
        made |= {"probe.json": "probe", "probe.run.json": "probe"}

    return {folder / name: f"duvae {stage} {arguments}" for name, stage in made.items()}


def need(files: Mapping[Path, str]) -> None:
    """Refuses to go on without any of `files`, each of which the command beside it makes."""
    missing: dict[str, list[Path]] = {}
    for path, command in files.items():
        if not path.exists():
            missing.setdefault(command, []).append(path)
    said = []
    for command, paths in missing.items():
        names = ", ".join([str(paths[0]), *(path.name for path in paths[1:])])
        said.append(f"{names}: not there. '{command}' makes {'it' if len(paths) == 1 else 'them'}.")
    if len(said) > SHOWN:
        said[SHOWN:] = [f"... and {len(said) - SHOWN} more"]
    if len(said) > 1:
        said.append("'dvc repro' makes all that is missing.")
    if said:
        raise UserError("\n".join(said))


def read(params: Params, jobs: Iterable[Job], root: Path = Path()) -> list[Result]:
    """Reads the results of `jobs`; and the records of their stages (*.run.json), which old results lack.

    Raises:
        UserError: Naming every file that is missing, with the command that makes it.
    """
    jobs = list(jobs)
    files = [
        {path: command for path, command in commands(params, job, root).items() if not _record(path) or path.exists()}
        for job in jobs
    ]
    need({path: command for of in files for path, command in of.items()})

    return [_read(of, job) for of, job in zip(files, jobs, strict=True)]


def arranged(results: Iterable[Result]) -> list[Result]:
    """In the order of the paper's Table 1, data set after data set; settings of a system as they came."""
    results = list(results)
    datasets = list(dict.fromkeys(result.job.dataset for result in results))

    return sorted(results, key=lambda result: (datasets.index(result.job.dataset), rank(result.system)))


def labels(results: Iterable[Result]) -> dict[str, str]:
    """What each setting of one data set is called: its system's name, and where several share it what differs."""
    settings = {result.job.setting: result for result in results}
    names = {setting: label(result.system) for setting, result in settings.items()}
    told = {}
    for setting, result in settings.items():
        others = [other for other in settings.values() if other.system == result.system and other is not result]
        if not others and setting == result.system:
            told[setting] = names[setting]
        elif result.hyperparameters and result.hyperparameters not in {other.hyperparameters for other in others}:
            told[setting] = f"{names[setting]} ({result.hyperparameters})"
        else:
            apart = setting.removeprefix(f"{result.system}_").replace("_", " ")
            told[setting] = names[setting] if setting == result.system else f"{names[setting]} ({apart})"

    return told


def _read(files: Mapping[Path, str], job: Job) -> Result:
    parts = {path.name: path for path in files}
    jsons = {name: expected.read(path, files[path]) for name, path in parts.items() if name.endswith(".json")}
    history = parts["history.csv"]

    return Result(
        job,
        jsons["metrics.json"],
        expected.columns(csv(history, files[history]), HISTORY, history, files[history]),
        jsons.get("probe.json"),
        {name.removesuffix(".run.json"): value for name, value in jsons.items() if name.endswith(".run.json")},
    )


def csv(path: Path, command: str) -> pd.DataFrame:
    """Reads a table; `command` makes it."""
    need({path: command})
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a table, but {error}. Delete it and run '{command}' again.") from error


def table(results: Iterable[Result]) -> pd.DataFrame:
    """A row a model."""
    return pd.DataFrame([result.row for result in results])


class OverSeeds(NamedTuple):
    """What there is of each setting over its seeds.

    Attributes:
        mean: Of every number, a row a setting, in the order in which they come.
        std: Their standard deviation (n - 1); empty for one seed.
        seeds: How many there are.
    """

    mean: pd.DataFrame
    std: pd.DataFrame
    seeds: "pd.Series[int]"

    def value(self, setting: str, key: str) -> float:
        """A mean; not a number where there is none."""
        return float(self.mean[key][setting]) if key in self.mean else float("nan")

    def spread(self, setting: str, key: str) -> float:
        """The standard deviation of it; not a number where there is none."""
        return float(self.std[key][setting]) if key in self.std else float("nan")

    def count(self, setting: str) -> int:
        return int(self.seeds[setting])


def over_seeds(results: Iterable[Result]) -> OverSeeds:
    """Mean and spread over seeds of every setting of one data set."""
    frame = table(results)
    groups = frame.drop(columns=["dataset", "seed"]).groupby("setting", sort=False)

    return OverSeeds(groups.mean(numeric_only=True), groups.std(numeric_only=True, ddof=1), groups.size())


def commit(provenance: Mapping[str, Any]) -> str:
    """A short hash, `+` for changes that were not committed."""
    if not provenance.get("commit"):
        return "no commit"

    return str(provenance["commit"])[:7] + ("+" if provenance.get("dirty") else "")


def started(result: Result) -> datetime.datetime:
    """When the training began."""
    return datetime.datetime.fromisoformat(str(result.provenance["train"]["started"]))


def label_counts(results: Sequence[Result]) -> list[str]:
    """The sizes of the labelled subsets that any of `results` was probed with, ascending."""
    found = {labels for result in results if result.probe for labels in result.probe["by_labels"]}

    return sorted(found, key=lambda labels: (not labels.isdigit(), int(labels) if labels.isdigit() else 0, labels))


def labels_are(results: Sequence[Result]) -> str:
    """What the sizes of labelled subsets count: `labels`, or `images a character`."""
    found = [result.probe.get("labels_are", "labels") for result in results if result.probe]

    return str(found[0]) if found else "labels"


def _record(path: Path) -> bool:
    return path.name.endswith(".run.json")


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
