"""Trains the models of a demonstration in processes of their own, one on each core."""

import os
import sys
from pathlib import Path

from duvae.commands import side_by_side
from duvae.commands.demo import folder, model
from duvae.commands.side_by_side import Work
from duvae.config import Job, Params
from duvae.errors import Interrupted
from duvae.project import gpus


def at_once(jobs: int) -> int:
    """Number of models that train at the same time: one on each core.

    Args:
        jobs: Number of models that have to be trained.
    """
    return max(1, min(jobs, len(side_by_side.cores())))


def train_all(params: Params, root: Path) -> None:
    """Trains and measures all models that have not been trained and measured yet.

    Args:
        params: All parameters of the demonstration.
        root: Folder of the demonstration.

    Raises:
        Interrupted: If the user asks for a stop. The trainings have saved their states.
        UserError: If a process fails; the other one is stopped, too.
    """
    jobs = [job for job in params.run_jobs() if model.waiting(job, root)]
    if not jobs:
        return
    works = [_work(job, params.optimisation(job.setting, job.dataset).epochs, root) for job in jobs]
    try:
        side_by_side.run(works, [()] * at_once(len(jobs)))
    except KeyboardInterrupt as error:
        raise Interrupted(f"{root}: the trainings have saved their states") from error


def _work(job: Job, epochs: int, root: Path) -> Work:
    """The process that trains and measures one model."""
    arguments = ["demo", "--output", str(root), "--params", str(root / folder.PARAMS), "--model", job.name]
    environment = {**os.environ, gpus.VARIABLE: gpus.CPU, "CUDA_VISIBLE_DEVICES": ""}

    return Work(job.name, epochs, [sys.executable, "-P", "-m", "duvae", *arguments], environment)
