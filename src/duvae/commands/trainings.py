"""Runs the trainings of a private project side by side, each with its measurements, before `dvc repro` records them."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import yaml

from duvae.commands import side_by_side
from duvae.commands.side_by_side import Work
from duvae.config import Job, Params
from duvae.errors import Interrupted, UserError
from duvae.project import copies, gpus

MEMORY = 2**30
"""Free memory in bytes for each training. Most of it is for the libraries, since the models are small."""

CHATTER = ("Updating lock file", "Generating lock file", "Use `dvc push`", "Running stage", "> duvae ")
"""Beginnings of the lines of DVC that are not shown, since each training prints lines of its own."""


def places(params: Params, jobs: int) -> list[Sequence[int]]:
    """The CPU cores of each training that can run at the same time.

    The bits of a result depend on the number of threads, so each training has `threads` of params.yaml. Where trainings
    fill all cores, each has cores of its own. On a GPU, one training runs at a time.

    Args:
        params: All parameters of the private project.
        jobs: Number of trainings that are out of date.

    Returns:
        One entry for each place. Its cores are empty if the system chooses them.
    """
    cores, threads = side_by_side.cores(), params.threads
    if gpus.in_use():
        return [()]
    most = len(cores) // threads
    count = max(1, min(jobs, most, psutil.virtual_memory().available // MEMORY))
    if count < most or count == 1:
        return [()] * count

    return [cores[number * threads :][:threads] for number in range(count)]


def run(params: Params, folder: Path, environment: Mapping[str, str]) -> None:
    """Runs those jobs of a private project side by side that are out of date. The results are in DVC's run cache then.

    The function does nothing if only one training can run at a time, or if at most one job is out of date.

    Args:
        params: All parameters of the private project.
        folder: Folder of the private project.
        environment: Environment variables for DVC.

    Raises:
        Interrupted: If the user asks for a stop. The trainings have saved their states.
        UserError: If a stage fails.
    """
    jobs = params.run_jobs()
    if len(places(params, len(jobs))) < 2:
        return
    dvc = [sys.executable, "-m", "dvc"]
    checked = [f"validate@{dataset}" for dataset in dict.fromkeys(job.dataset for job in jobs)]
    if subprocess.run([*dvc, "repro", *checked], cwd=folder, env=environment, check=False).returncode:
        raise UserError(stage_failed(folder))
    stages = kinds(folder)
    waiting = _out_of_date(jobs, stages, folder, [*dvc, "status", "--json"], environment)
    if len(waiting) < 2:
        return
    try:
        with copies.exclusive(folder):
            works = [_work(params, job, stages, folder, dvc, environment) for job in waiting]
            side_by_side.run(works, places(params, len(waiting)), is_wanted)
    except KeyboardInterrupt as error:
        raise Interrupted(f"{folder}: the trainings have saved their states") from error


def stage_failed(folder: Path) -> str:
    """The message after a stage has failed, whose own message stands above it."""
    return f"{folder}: a stage has failed; its message is above. Mend the cause, and run the command again."


def kinds(folder: Path) -> list[str]:
    """The kinds of stages that a project has for each of its jobs, in the order in which they run."""
    stages = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]

    return [name for name, stage in stages.items() if stage.get("foreach") == "${jobs}"]


def is_wanted(line: str) -> bool:
    """Whether to show a line that DVC or a stage has printed."""
    return bool(line) and not line.startswith(CHATTER)


def _out_of_date(
    jobs: Sequence[Job], stages: Sequence[str], folder: Path, status: Sequence[str], environment: Mapping[str, str]
) -> list[Job]:
    """The jobs with a stage that is out of date."""
    names = {job.name: [f"{stage}@{job.name}" for stage in stages] for job in jobs}
    every = [name for group in names.values() for name in group]
    done = subprocess.run(
        [*status, *every], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise UserError(stage_failed(folder))
    changed = json.loads(done.stdout)

    return [job for job in jobs if any(name in changed for name in names[job.name])]


def _work(
    params: Params, job: Job, stages: Sequence[str], folder: Path, dvc: Sequence[str], environment: Mapping[str, str]
) -> Work:
    """The process that runs all stages of a job, in a copy of the project."""
    copy = copies.create(folder, job.name)
    targets = [f"{stage}@{job.name}" for stage in stages]
    guarded = [sys.executable, "-P", "-m", "duvae.project.ends_with_caller"]
    command = [*guarded, *dvc, "repro", "--single-item", *targets]
    epochs = params.optimisation(job.setting, job.dataset).epochs

    return Work(job.name, epochs, command, {**environment, **copies.environment(copy)}, copy)
