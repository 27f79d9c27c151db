"""Says in one line what a training or an evaluation has measures: whether the latent space has collapsed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from duvae.config import Job, Params
from duvae.metrics import verdict
from duvae.report.cells import number
from duvae.report.names import label


def of_training(params: Params, job: Job, root: Path = Path()) -> str:
    """Says what the encoder of a trained model does on validation. Whether the decoder uses z is not known yet.

    Args:
        params: All parameters of params.yaml.
        job: Data set, setting and seed of the model, whose training has written history.csv.
        root: The project's folder.
    """
    history = pd.read_csv(root / "results" / job.folder / "history.csv")
    best = history[history["best"] == 1]
    row = (best if len(best) else history).iloc[-1]
    mi, kl, units = (None if pd.isna(row[f"valid_{key}"]) else float(row[f"valid_{key}"]) for key in ("mi", "kl", "au"))
    state = verdict.verdict({"mi": mi, "kl": kl}) if mi is not None or kl is not None else verdict.CANNOT_TELL
    measures = _information(mi, kl) + _active(units, params.dataset(job.dataset).networks.latent)
    name = _name(params, job)
    if state == verdict.COLLAPSED:
        return f"{name}: {verdict.COLLAPSED} ({', '.join(measures)} on validation)"
    command = f"duvae evaluate --dataset {job.dataset} --setting {job.setting} --seed {job.seed}"
    seen = f"{', '.join(measures)} on validation; " if measures else ""

    return f"{name}: {seen}'{command}' measures whether the decoder uses z"


def of_evaluation(params: Params, job: Job, root: Path = Path()) -> str:
    """Says whether an evaluated model has collapsed on the test set.

    Args:
        params: All parameters of params.yaml.
        job: Data set, setting and seed of the model, whose evaluation has written metrics.json.
        root: The project's folder.
    """
    path = root / "results" / job.folder / "metrics.json"
    metrics: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    use = metrics.get("use")
    measures = _information(metrics["mi"], metrics["kl"]) if use is None else [f"uses {number(use, 2)} nats of z"]
    measures += _active(metrics["au"], params.dataset(job.dataset).networks.latent)

    return f"{_name(params, job)}: {verdict.verdict(metrics)} ({'; '.join(measures) or 'no measure could tell'})"


def _information(mi: float | None, kl: float | None) -> list[str]:
    """Gives the MI, or else the KL, which bounds it from above; nothing for systems in which neither is defined."""
    return next(
        ([f"{name} {number(value, 2)} nats"] for name, value in (("MI", mi), ("KL", kl)) if value is not None), []
    )


def _active(units: float | None, latent: int) -> list[str]:
    """Says how many dimensions are active; nothing for systems in which this is not defined."""
    return [] if units is None else [f"{units:.0f} of {latent} dimensions active"]


def _name(params: Params, job: Job) -> str:
    return label(params.setting(job.setting).system)
