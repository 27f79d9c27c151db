"""Trainings that the graph has made already, for trials that would train the very same."""

from pathlib import Path

import torch

from duvae.config import Job, Params, Study, StudyReference
from duvae.errors import UserError
from duvae.inference.model_files import Description
from duvae.project.files import read_json
from duvae.project.provenance import unwrapped
from duvae.training.checkpoints import determined, key


def made(
    params: Params, study: Study, description: Description, device: torch.device, root: Path = Path()
) -> Job | None:
    """The training of the graph that a trial would repeat to the bit, or None.

    Its record says what determined it: parameters, data and code. A trial with the same key gives the same weights.

    Args:
        params: All of params.yaml.
        study: The study of the trial.
        description: The model that the trial would train.
        device: The device that the trial would run on.
        root: The project's folder.
    """
    column, parts = params.dataset(study.dataset).column, params.setting(study.setting).parts
    optimisation = params.optimisation(study.setting, study.dataset)
    determines = determined(
        vars(description),
        optimisation.model_dump(),
        params.evaluation.active_threshold,
        study.seed,
        params.threads,
        device,
    )
    wanted = ""
    for name, setting in params.settings.items():
        given = setting.columns.get(column)
        alike = (setting.system, setting.parts) == (description.system, parts)
        if not alike or given is None or isinstance(given, StudyReference):
            continue
        if given.model_dump() != description.hyperparameters:
            continue
        job = params.job(study.dataset, name, study.seed)
        model, results = root / "models" / job.folder, root / "results" / job.folder
        files = (model / "weights.safetensors", model / "model.json", results / "history.csv")
        if not all(path.exists() for path in files):
            continue
        wanted = wanted or key(determines, root / "data/prepared" / study.dataset)
        if _determined_by(results / "train.run.json") == wanted:
            return job

    return None


def _determined_by(record: Path) -> str | None:
    """The key of a training's record; None where there is no such record."""
    try:
        found = unwrapped(read_json(record, "duvae train"))
    except UserError:
        return None

    return found.get("determined_by") if isinstance(found, dict) else None
