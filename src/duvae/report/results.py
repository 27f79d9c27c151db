"""What the stages left behind, read into frames."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from duvae.config import Job, Params
from duvae.errors import UserError
from duvae.report import expected

Array = npt.NDArray[np.float64]

FIGURES = ("nll", "perplexity", "reconstruction", "kl", "mi", "au", "mpd", "ce")
"""What metrics.json says of a model; null where a system has no such figure."""

HISTORY = (
    *("epoch", "kl_weight", "learning_rate", "train_loss", "train_reconstruction", "train_kl", "valid_loss"),
    *("valid_reconstruction", "valid_kl", "valid_mi", "valid_au", "valid_mpd", "valid_ce", "encoder_steps", "best"),
)
"""The columns of history.csv that are used here."""

POSTERIORS = ("sentence", "label", "nll", "mean_0", "variance_0")
"""The columns of posteriors/.../<seed>.parquet that any model has; further dimensions are mean_1, variance_1, ..."""

NAMES: Mapping[str, str] = {
    "ae": "AE",
    "vae": "VAE",
    "beta_vae": "β-VAE",
    "sa_vae": "SA-VAE",
    "agg_vae": "Agg-VAE",
    "fb": "FB",
    "delta_vae": "δ-VAE",
    "bn_vae": "BN-VAE",
    "mae": "MAE",
    "du_vae": "DU-VAE",
    "iaf_fb": "IAF+FB",
    "iaf_bn": "IAF+BN",
    "du_iaf": "DU-IAF",
}
"""The systems as the paper spells them."""

LETTERS: Mapping[str, str] = {"gamma": "γ", "beta": "β", "delta": "δ", "eta": "η", "lambda": "λ"}

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
        provenance: The *.run.json by stage.
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
        name = NAMES.get(self.system, self.system)

        return name if self.job.setting == self.system else f"{name} ({self.job.setting})"

    @property
    def hyperparameters(self) -> str:
        """Those that are a single letter in the paper, such as `γ 1, p 0.5`."""
        values = self.metrics["hyperparameters"].items()

        return ", ".join(
            f"{LETTERS.get(key, key)} {value:g}" for key, value in values if key in LETTERS or len(key) == 1
        )

    @property
    def encoder_steps(self) -> int:
        """Agg-VAE's inner steps over the whole training; 0 for others."""
        return int(self.history["encoder_steps"].fillna(0).sum())

    @property
    def collapsed(self) -> bool:
        """No active dimension, or next to no information about x in z."""
        mi, au = self.metrics["mi"], self.metrics["au"]

        return au == 0 or (mi is not None and mi < COLLAPSED_MI)

    @property
    def commit(self) -> str:
        """The commit that its stages ran at, short, `+` for changes not committed; several where they differ."""
        return ", ".join(dict.fromkeys(commit(made) for made in self.provenance.values()))

    @property
    def row(self) -> dict[str, Any]:
        """All of it that is one number or word, for a table."""
        train = self.provenance["train"]
        accuracies = self.probe["by_labels"] if self.probe else {}

        return {
            "dataset": self.job.dataset,
            "setting": self.job.setting,
            "seed": self.job.seed,
            **{figure: _number(self.metrics[figure]) for figure in FIGURES},
            "nll_stderr": _number(self.metrics["nll_stderr"]),
            **{f"probe_{labels}": float(of["accuracy"]) for labels, of in accuracies.items()},
            **{
                f"probe_{labels}_spread": float(of["spread"]) if len(of["draws"]) > 1 else float("nan")
                for labels, of in accuracies.items()
            },
            "epochs": self.metrics["epochs"],
            "best_epoch": self.metrics["best_epoch"],
            "encoder_steps": self.encoder_steps,
            "seconds": sum(float(made["wall_seconds"]) for made in self.provenance.values()),
            "train_seconds": float(train["wall_seconds"]),
            "peak_memory_mib": max(float(made["peak_memory_mib"] or 0) for made in self.provenance.values()),
        }


@dataclass(frozen=True)
class Space:
    """A two-dimensional latent space.

    Attributes:
        means: Of q(z given x), with shape (sentences, 2).
        variances: Its diagonal, with the same shape; None for point masses.
        labels: The component that each sentence came from, with shape (sentences,).
    """

    name: str
    means: Array
    variances: Array | None
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Floor:
    """The generator's own negative log-likelihood, in nats a sentence.

    Attributes:
        summary: truth.json.
        sentences: truth.csv: `sentence` (its index in test) and `nll`.
    """

    summary: Mapping[str, Any]
    sentences: pd.DataFrame

    def gap(self, posteriors: pd.DataFrame) -> tuple[float, float] | None:
        """How far a model's NLL lies above the floor on the floor's own sentences.

        Returns:
            The mean of the paired differences and its standard error; None where the model has no likelihood.
        """
        both = self.sentences.merge(posteriors[["sentence", "nll"]], on="sentence", suffixes=("_true", ""))
        difference = both["nll"].astype(float) - both["nll_true"]
        if len(both) < len(self.sentences):
            raise UserError(
                f"the floor has {len(self.sentences)} sentences, of which a model was evaluated on {len(both)}:"
                " they come from different data. Run 'dvc repro' to make them again."
            )
        if difference.isna().any():
            return None

        return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


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
    if params.dataset(job.dataset).probe.wanted:
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
    """Reads the results of `jobs`.

    Raises:
        UserError: Naming every file that is missing, with the command that makes it.
    """
    jobs = list(jobs)
    need({path: command for job in jobs for path, command in commands(params, job, root).items()})

    return [_read(commands(params, job, root), job) for job in jobs]


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


def posteriors(job: Job, root: Path = Path()) -> pd.DataFrame:
    """q(z given x) of every test sentence, a row each, in test order."""
    path = root / "posteriors" / job.folder.with_suffix(".parquet")
    command = f"duvae evaluate --dataset {job.dataset} --setting {job.setting} --seed {job.seed}"
    need({path: command})
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a table, but {error}. Delete it and run '{command}' again.") from error

    return expected.columns(frame, POSTERIORS, path, command)


def floor(dataset: str, root: Path = Path()) -> Floor:
    """The true negative log-likelihood of a synthetic data set."""
    command = f"duvae truth --dataset {dataset}"
    summary, sentences = root / "results" / dataset / "truth.json", root / "posteriors" / dataset / "truth.csv"
    need({summary: command, sentences: command})

    return Floor(
        expected.read(summary, command),
        expected.columns(csv(sentences, command), ("sentence", "nll"), sentences, command),
    )


def counts(dataset: str, root: Path = Path()) -> dict[str, int]:
    """How many documents each split of a prepared data set holds."""
    path = root / "data" / "prepared" / dataset / "summary.json"
    splits = expected.read(path, f"duvae prepare --dataset {dataset}")["splits"]

    return {name: int(split["documents"]) for name, split in splits.items()}


def space(result: Result, frame: pd.DataFrame) -> Space:
    """The latent space of a model with two latent dimensions, from its posteriors."""
    if "mean_1" not in frame or "variance_1" not in frame:
        raise UserError(
            f"posteriors of {result.job.name}: expected two latent dimensions, to draw; found one. Give"
            f" datasets.{result.job.dataset}.networks.latent in params.yaml the value 2 and train again."
        )
    means = frame[["mean_0", "mean_1"]].to_numpy(np.float64)
    variances = frame[["variance_0", "variance_1"]].astype(float).to_numpy(np.float64)

    return Space(
        result.name, means, None if np.isnan(variances).any() else variances, frame["label"].to_numpy(np.int64)
    )


def table(results: Iterable[Result]) -> pd.DataFrame:
    """A row a model."""
    return pd.DataFrame([result.row for result in results])


def over_seeds(results: Iterable[Result]) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """A row a setting, in the order in which they come.

    Returns:
        Mean and standard deviation (n - 1; empty for one seed) of every number, and how many seeds there are.
    """
    frame = table(results)
    groups = frame.drop(columns=["dataset", "seed"]).groupby("setting", sort=False)

    return groups.mean(numeric_only=True), groups.std(numeric_only=True, ddof=1), groups.size()


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


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
