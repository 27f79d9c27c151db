"""Declares the options that several commands have, and formats the examples in the help of a command."""

import os
from pathlib import Path
from typing import Annotated

import typer

from duvae.cli import completion
from duvae.cli.changes import App
from duvae.errors import UserError
from duvae.paths import LONGEST_PART, LONGEST_PATH

PARAMS_FILE = Path("params.yaml")
"""The file of parameters that a command reads if `--params` is not given."""

ParamsFile = Annotated[Path, typer.Option("--params", metavar="PATH", help="File of parameters.")]
Dataset = Annotated[
    str,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="Name of a data set in params.yaml.",
        autocompletion=completion.datasets,
    ),
]
Setting = Annotated[
    str,
    typer.Option(
        "--setting",
        metavar="NAME",
        help="Name of a setting in params.yaml: a system with its hyperparameters.",
        autocompletion=completion.settings,
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Seed of the training.")]
Study = Annotated[
    str,
    typer.Option(
        "--study",
        metavar="NAME",
        help="Name of a study in params.yaml: a search for hyperparameters.",
        autocompletion=completion.studies,
    ),
]


def checked_output(path: Path | None) -> Path | None:
    """Checks that a path can be the name of a new file.

    Raises:
        UserError: If the path is empty, too long, or has control characters. Also if it names a folder or a device, or
            lies below a file.
    """
    if path is None:
        return None
    if len(str(path).encode()) > LONGEST_PATH or len(path.name.encode()) > LONGEST_PART:
        raise UserError(
            f"--output {str(path)[:60]}…: expected a path of at most {LONGEST_PATH:,} bytes, with a name of at most"
            f" {LONGEST_PART} bytes. Choose a shorter one."
        )
    if path.name in {"", ".."} or path.is_dir():
        raise UserError(f"--output {str(path)!r}: expected the name of a file to write; found the name of a folder.")
    if str(path) == "-" or not str(path).isprintable() or (path.exists() and not path.is_file()):
        raise UserError(f"--output {str(path)!r}: expected the name of a file to write; found {_no_file(path)}.")
    if file := next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), None):
        raise UserError(f"--output {str(path)!r}: expected the name of a file in a folder; {str(file)!r} is no folder.")

    return path


def checked_folder(path: Path) -> Path:
    """Checks that a path can be the name of a folder to write into.

    Raises:
        UserError: If the path is empty, too long, or has control characters. Also if it names a file or a device, or
            lies below a file.
    """
    if len(str(path).encode()) > LONGEST_PATH or len(path.name.encode()) > LONGEST_PART:
        raise UserError(
            f"--output {str(path)[:60]}…: expected a path of at most {LONGEST_PATH:,} bytes, with a name of at most"
            f" {LONGEST_PART} bytes. Choose a shorter one."
        )
    if path.name in {"", "..", "-"} or not str(path).isprintable():
        raise UserError(
            f"--output {str(path)!a}: expected the name of a new folder; found none. Choose another, such as demo."
        )
    if file := next((each for each in (path, *path.parents) if os.path.lexists(each) and not each.is_dir()), None):
        raise UserError(
            f"--output {str(path)!r}: expected the name of a new folder; {str(file)!r} is no folder. Choose another."
        )

    return path


def _no_file(path: Path) -> str:
    """What a path names that is not the name of a file. The file would replace a device such as /dev/null."""
    if str(path) == "-":
        return "-, which is no file"

    return "a name with control characters" if not str(path).isprintable() else "a device or a pipe"


CheckOnly = Annotated[
    bool, typer.Option("--check", help="Write nothing; end with an error if the file is out of date.")
]


def new_app() -> typer.Typer:
    """Creates an empty group of commands. `duvae --help` lists the commands of the group, but no name of the group."""
    return App(rich_markup_mode=None)


def examples(*lines: str) -> str:
    r"""Formats the last part of a command's help: examples of how to call the command.

    Args:
        lines: Lines of the examples. A line ends with a backslash if its command continues on the next line.
    """
    return "Examples:\n\n\b\n" + "\n".join(f"  {line}" for line in lines)
