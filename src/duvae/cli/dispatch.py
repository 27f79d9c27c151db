"""Reads and checks the parameters of a command, and then imports and calls the function that runs the command."""

import importlib
from collections.abc import Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duvae.cli import changes
from duvae.cli.options import PARAMS_FILE
from duvae.errors import UserError

if TYPE_CHECKING:
    from duvae.config import Job, Params


_ROOT: ContextVar[Path | None] = ContextVar("root", default=None)
"""Folder of the private project in which the running command works; None: the command works in the current folder."""

STAGES = {
    *("fetch", "prepare", "binarize", "validate", "truth", "train", "evaluate", "probe", "samples"),
    *("search", "figure1", "figure2", "report", "examples"),
}
"""Commands that are stages of dvc.yaml and write files of the project."""


def run(command: str, *args: Any, **options: Any) -> None:
    """Imports the module `duvae.commands.<command>` and calls its function `run` with `args` and `options`.

    A stage first removes the unfinished files of commands that were killed. A stage that computes on a GPU
    then checks that it can use the GPU.

    Raises:
        DeviceLostError: If the stage cannot use its GPU.
    """
    if command in STAGES:
        from duvae.project import gpus, leftovers

        leftovers.remove_unfinished(root())
        if command in gpus.STAGES:
            gpus.check_device()
    if _ROOT.get() is not None:
        options.setdefault("root", root())
    importlib.import_module(f"duvae.commands.{command}").run(*args, **options)


def root() -> Path:
    """The folder of the project in which the running command works."""
    return _ROOT.get() or Path()


def measure(command: str, path: Path, dataset: str, setting: str, seed: int) -> "tuple[Job, Params]":
    """Runs a stage that loads a trained model. Warns if params.yaml has changed since the training.

    Args:
        command: The stage: `evaluate`, `probe` or `samples`.
        path: Path of the file of parameters, such as `params.yaml`.
        dataset: Name of the data set on which the model was trained.
        setting: Name of the model's setting, a system with its hyperparameters.
        seed: Seed of the training.

    Returns:
        The model's job, and the parameters.
    """
    params = params_of_job(path, dataset, setting, seed)
    job = params.job(dataset, setting, seed)
    run(command, params, dataset, setting, seed)
    warn_of_changes(params, [job])

    return job, params


def warn_of_changes(params: "Params", jobs: "Iterable[Job]") -> None:
    """Warns of results that other parameters than those in params.yaml have made."""
    from duvae.report import then_and_now

    then_and_now.warn(params, jobs, root())


def load_params(path: Path, dataset: str | None = None) -> "Params":
    """Reads params.yaml, and changes the values for which the user gave `--set`.

    If params.yaml lacks the data set, but the data set has a private project (see `duvae run`), that project's
    params.yaml is read. `run` then works in the folder of that project.

    Args:
        path: Path of the file of parameters, such as `params.yaml`.
        dataset: Name of the data set on which the command works; None: the command works on no single data set.

    Raises:
        UserError: If the file cannot be read, or has a mistake.
    """
    from duvae import config

    if dataset is not None and path == PARAMS_FILE and (folder := _private(dataset)) is not None:
        _ROOT.set(folder)
        path = folder / PARAMS_FILE

    return config.load(path, changes.asked(), dataset)


def _private(dataset: str) -> Path | None:
    """The folder of a data set's private project; None if params.yaml declares the data set, or if there is none.

    Raises:
        UserError: If the data set has a declaration, but no private project yet.
    """
    # Without one of these two, no library is imported and params.yaml is read only once.
    folder, declaration = Path("private", dataset), Path("datasets", f"{dataset}.yaml")
    if not (folder / PARAMS_FILE).is_file() and not declaration.is_file():
        return None
    from duvae import config

    if dataset in config.load(PARAMS_FILE).datasets:
        return None
    if (folder / PARAMS_FILE).is_file():
        return folder
    raise UserError(
        f"data set '{dataset}': it has no results yet. Run 'duvae run {dataset}', which trains models on it."
    )


def params_of_dataset(path: Path, dataset: str) -> "Params":
    """Reads params.yaml, and checks that the file declares the data set.

    Raises:
        UserError: If params.yaml cannot be read, has a mistake, or lacks the data set.
    """
    params = load_params(path, dataset)
    params.dataset(dataset)

    return params


def params_of_job(path: Path, dataset: str, setting: str, seed: int) -> "Params":
    """Reads params.yaml, and checks that it declares a job: one training of a setting on a data set.

    A setting is a system, such as DU-VAE, with its hyperparameters. The setting must have hyperparameters for the data
    set.

    Raises:
        UserError: If params.yaml cannot be read, or has a mistake. Also if it lacks the data set, the setting, or the
            hyperparameters of the setting for the data set.
    """
    params = load_params(path, dataset)
    params.job(dataset, setting, seed)

    return params
