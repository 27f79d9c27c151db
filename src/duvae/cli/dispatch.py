"""Reads and checks the parameters of a command, and then imports and calls the function that runs the command."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duvae.config import Params


STAGES = {
    *("fetch", "prepare", "binarize", "validate", "truth", "train", "evaluate", "probe", "samples"),
    *("search", "figure1", "figure2", "report", "examples"),
}
"""Commands that are stages of dvc.yaml and write files of the project."""


def run(command: str, *args: Any, **options: Any) -> None:
    """Imports the module `duvae.commands.<command>` and calls its function `run` with `args` and `options`.

    A stage first removes the unfinished files of commands that were killed.
    """
    if command in STAGES:
        from duvae.project import leftovers

        leftovers.remove_unfinished()
    importlib.import_module(f"duvae.commands.{command}").run(*args, **options)


def load_params(path: Path) -> "Params":
    """Reads params.yaml.

    Raises:
        UserError: If the file cannot be read, or has a mistake.
    """
    from duvae import config

    return config.load(path)


def params_of_dataset(path: Path, dataset: str) -> "Params":
    """Reads params.yaml, and checks that the file declares the data set.

    Raises:
        UserError: If params.yaml cannot be read, has a mistake, or lacks the data set.
    """
    params = load_params(path)
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
    params = load_params(path)
    params.job(dataset, setting, seed)

    return params
