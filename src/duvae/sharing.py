"""Trainings that the graph has made already, for trials that would train the very same."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from duvae import config
from duvae.config import Found, Job, Params, Study
from duvae.errors import UserError
from duvae.files import read_json
from duvae.provenance import unwrapped

ALIKE = ("kind", "source", "binarize", "networks", "optimisation")
"""What of a data set a training's bits depend on."""


def made(
    params: Params, study: Study, hyperparameters: Mapping[str, Any], sources: list[str], root: Path = Path()
) -> Job | None:
    """The training of the graph that a trial would repeat, or None.

    It has the system, parts, hyperparameters, data set and seed, and was made, as its results say, from a commit whose
    sources and parameters are, where a training's bits depend on them, those of now.

    Args:
        params: All of params.yaml.
        study: Whose trial it is.
        hyperparameters: All of the trial's.
        sources: Files and folders that a training's bits depend on, below the project's folder.
        root: The project's folder.
    """
    wanted = params.setting(study.setting)
    column = params.dataset(study.dataset).column
    for name, setting in params.settings.items():
        given = setting.columns.get(column)
        alike = (setting.system, setting.parts) == (wanted.system, wanted.parts)
        if not alike or given is None or isinstance(given, Found) or given.model_dump() != hyperparameters:
            continue
        job = params.job(study.dataset, name, study.seed)
        model, results = root / "models" / job.folder, root / "results" / job.folder
        files = (model / "weights.safetensors", model / "model.json", results / "history.csv")
        if all(path.exists() for path in files) and _of_now(params, job, results / "train.run.json", sources, root):
            return job

    return None


def _of_now(params: Params, job: Job, run: Path, sources: list[str], root: Path) -> bool:
    """Whether a training was made from what is there now."""
    try:
        told = unwrapped(read_json(run, "duvae train"))
        commit = told["commit"]
        if told["dirty"] is not False or told["threads"] != params.threads:
            return False
        if _git(root, "diff", "--quiet", commit, "--", "src/duvae/data", *sources) is None:
            return False
        before = config.parse(yaml.safe_load(_git(root, "show", f"{commit}:params.yaml") or ""))
        then, now = before.dataset(job.dataset), params.dataset(job.dataset)
    except (UserError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return False
    same = [getattr(then, key, None) == getattr(now, key, None) for key in ALIKE]

    return all(same) and before.evaluation.active_threshold == params.evaluation.active_threshold


def _git(root: Path, *arguments: str) -> str | None:
    """What git says; None where it fails."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None

    return done.stdout
