"""Finds a training in the DVC graph that a trial would only repeat. A trial is one training of a hyperparameter search.

The DVC graph is the pipeline of dvc.yaml. It has one training for each job: a data set, a setting (a system with its
hyperparameters) and a seed.
"""

from pathlib import Path
from typing import Any

import torch

from duvae.config import Job, Params, Study, StudyReference
from duvae.errors import UserError
from duvae.inference.model_files import Description, saved_digest
from duvae.project.provenance import read_record
from duvae.training.checkpoints import training_determinants, training_key


def equal_training(
    params: Params, study: Study, seed: int, description: Description, device: torch.device, root: Path = Path()
) -> Job | None:
    """Finds the training in the DVC graph that would give the same weights as a trial, bit by bit.

    The file `train.run.json` of a training holds a hash of everything that determines the trained weights: parameters,
    data and code. A trial with the same hash gives the same weights.

    Args:
        params: All parameters of params.yaml.
        study: Parameters of the study in params.yaml.
        seed: Seed of the training.
        description: Description of the model that the trial would train.
        device: Device that the trial would run on.
        root: Folder of the project.

    Returns:
        The job of that training; None if there is no such training, or if one of its files is missing or has changed.
    """
    column, parts = params.dataset(study.dataset).column, params.setting(study.setting).parts
    optimisation = params.optimisation(study.setting, study.dataset)
    determinants = training_determinants(
        vars(description),
        optimisation.model_dump(),
        params.evaluation.active_threshold,
        seed,
        params.threads,
        device,
        params.precision,
    )
    expected = ""
    for name, setting in params.settings.items():
        hyperparameters = setting.columns.get(column)
        alike = (setting.system, setting.parts) == (description.system, parts)
        if not alike or hyperparameters is None or isinstance(hyperparameters, StudyReference):
            continue
        if hyperparameters.model_dump() != description.hyperparameters:
            continue
        job = params.job(study.dataset, name, seed)
        model, results = root / "models" / job.folder, root / "results" / job.folder
        files = (model / "weights.safetensors", model / "model.json", results / "history.csv")
        if not all(path.exists() for path in files):
            continue
        expected = expected or training_key(determinants, root / "data/prepared" / study.dataset)
        record = _record(results / "train.run.json")
        weights = record.get("weights")
        if record.get("determined_by") == expected and weights in (None, saved_digest(model)):
            return job

    return None


def _record(path: Path) -> dict[str, Any]:
    """Reads the record of a training; empty if it cannot be read, or if it or the history has changed."""
    try:
        return read_record(path, "duvae train", missing_ok=True)
    except UserError:
        return {}
