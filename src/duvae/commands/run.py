"""`duvae run`: runs all stages of one data set through DVC, in a private project of its own."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from duvae.commands import trainings
from duvae.config import Params
from duvae.data.mirrors import is_url
from duvae.errors import UserError
from duvae.project import own_data, private
from duvae.project.own_data import Selection

PAGE = "reports/index.html"
"""The page of all results of a project."""

HEADER = "# Written by 'duvae run', which replaces it; change datasets/NAME.yaml or settings/NAME.yaml instead.\n"
"""First line of the params.yaml of a private project."""


def run(selection: Selection, root: Path = Path(), file: Path = Path("params.yaml")) -> None:
    """Creates or updates the private project of a data set, runs its stages that are out of date, and prints results.

    Args:
        selection: The data set, the settings and the seeds.
        root: Folder of the main project.
        file: The main project's file of parameters.

    Raises:
        UserError: If a file has a mistake, a name is unknown, a stage fails, or the folder of the private project has
            a params.yaml of the user.
    """
    name = selection.dataset
    content, params = own_data.compose(selection, root, file)
    require_written_here(own_data.folder(name, root) / "params.yaml")
    folder = private.write(root, name, content, HEADER)
    jobs = [job.name for job in params.run_jobs()]
    print(f"{name}: {len(jobs)} {'training' if len(jobs) == 1 else 'trainings'} ({', '.join(jobs)}), in {folder}.")
    print("Stages that are up to date are not repeated; Ctrl-C interrupts, and the same command goes on.", flush=True)
    reproduce(folder, params)
    own = (root / own_data.DATASETS / f"{name}.yaml").is_file()
    show(params, folder, "" if own else f"cd {shlex.quote(str(folder))} && ")


def require_written_here(path: Path) -> None:
    """Checks that a params.yaml is missing or was written by `duvae run`.

    Raises:
        UserError: If the file is the user's own, which `duvae run` would replace.
    """
    if path.is_file() and not path.read_text(encoding="utf-8", errors="replace").startswith(HEADER):
        raise UserError(
            f"{path}: expected a file that 'duvae run' has written; found one of your own, which would be replaced."
            f" Run 'dvc repro' in {path.parent}, or move that folder to another name."
        )


def reproduce(folder: Path, params: Params) -> None:
    """Runs the stages of a project that are out of date, with `dvc repro`. Trainings run side by side before.

    Args:
        folder: The folder of the private project.
        params: All parameters of the private project.

    Raises:
        Interrupted: If the user asks for a stop while trainings run side by side.
        UserError: If a stage fails. Its own message is printed before.
    """
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    if (mirror := os.environ.get("DUVAE_MIRROR")) and not is_url(mirror):
        environment["DUVAE_MIRROR"] = str(Path(mirror).absolute())  # dvc and its stages run in another folder
    trainings.run(params, folder, environment)
    command = [sys.executable, "-m", "dvc", "repro"]
    if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
        raise UserError(trainings.stage_failed(folder))


def show(params: Params, folder: Path, before: str = "") -> None:
    """Prints the results of a private project, and commands that use its last model.

    Args:
        params: All parameters of the private project.
        folder: The folder of the private project.
        before: Command that stands before the others, such as `cd private/synthetic && `. A data set of the main
            project needs it, since the commands would otherwise use the main project's models.
    """
    from duvae.commands import results  # imported here, since the libraries for tables take a second

    print()
    results.run(params, root=folder)
    job = params.run_jobs()[-1]
    model = f"--dataset {job.dataset} --setting {job.setting} --seed {job.seed}"
    print(f"\nPage: {folder / PAGE}")
    print(f"Samples: {before}duvae generate {model}")
    print(f"Codes of the test set: {before}duvae encode {model} --split test")
