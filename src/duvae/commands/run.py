"""`duvae run`: runs all stages of one data set through DVC, in a private project of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from duvae.config import Params
from duvae.errors import UserError
from duvae.project import own_data, private

PAGE = "reports/index.html"
"""The page of all results of a project."""


def run(
    name: str,
    settings: Sequence[str],
    seeds: Sequence[int],
    asked: Sequence[str] = (),
    root: Path = Path(),
    file: Path = Path("params.yaml"),
) -> None:
    """Creates or updates the private project of a data set, runs its stages that are out of date, and prints results.

    Args:
        name: Name of the data set: of a file in `datasets`, or of an entry in params.yaml.
        settings: Names of settings: of files in `settings`, or of entries in params.yaml.
        seeds: Seeds of the trainings of each setting.
        asked: Changes of single values, each as `KEY=VALUE` (see `duvae.config.changes`).
        root: Folder of the main project.
        file: The main project's file of parameters.

    Raises:
        UserError: If a file has a mistake, a name is unknown, or a stage fails.
    """
    content, params = own_data.compose(name, settings, seeds, asked, root, file)
    folder = private.write(root, name, content)
    jobs = [job.name for job in params.run_jobs()]
    print(f"{name}: {len(jobs)} {'training' if len(jobs) == 1 else 'trainings'} ({', '.join(jobs)}), in {folder}.")
    print("Stages that are up to date are not repeated; Ctrl-C interrupts, and the same command goes on.", flush=True)
    reproduce(folder)
    show(params, folder, name)


def reproduce(folder: Path) -> None:
    """Runs the stages of a project that are out of date, with `dvc repro`.

    Raises:
        UserError: If a stage fails. Its own message is printed before.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "dvc", "repro"]
    status = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, check=False).returncode
    if status:
        raise UserError(
            f"{folder}: a stage has failed; its message is above. Mend the cause, and run the command again."
        )


def show(params: Params, folder: Path, name: str) -> None:
    """Prints the results of a private project, and what can be done with its models."""
    from duvae.commands import results  # imported here, since the libraries for tables take a second

    print()
    results.run(params, name, root=folder)
    job = params.run_jobs()[-1]
    model = f"--dataset {name} --setting {job.setting} --seed {job.seed}"
    print(f"\nPage: {folder / PAGE}")
    print(f"Samples: duvae generate {model}")
    print(f"Codes of the test set: duvae encode {model} --split test")
