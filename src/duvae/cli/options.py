"""Declares the options that several commands have, and formats the examples in the help of a command."""

from pathlib import Path
from typing import Annotated

import typer

from duvae.errors import UserError
from duvae.paths import LONGEST_PART, LONGEST_PATH

PARAMS_FILE = Path("params.yaml")
"""The file of parameters that a command reads if `--params` is not given."""

ParamsFile = Annotated[Path, typer.Option("--params", metavar="PATH", help="File of parameters.")]
Dataset = Annotated[str, typer.Option("--dataset", metavar="NAME", help="Name of a data set in params.yaml.")]
Setting = Annotated[
    str,
    typer.Option(
        "--setting", metavar="NAME", help="Name of a setting in params.yaml: a system with its hyperparameters."
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Seed of the training.")]
Study = Annotated[
    str,
    typer.Option("--study", metavar="NAME", help="Name of a study in params.yaml: a search for hyperparameters."),
]


def checked_output(path: Path | None) -> Path | None:
    """Checks that a path can be the name of a new file.

    Raises:
        UserError: If the path is empty, is too long, or names a folder, a pipe or a device.
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
    if path.exists() and not path.is_file():
        raise UserError(
            f"--output {path}: expected the name of a file to write; found a pipe or a device, which the file would"
            " replace. Choose another name."
        )

    return path


CheckOnly = Annotated[
    bool, typer.Option("--check", help="Write nothing; end with an error if the file is out of date.")
]


def new_app() -> typer.Typer:
    """Creates an empty group of commands. `duvae --help` lists the commands of the group, but no name of the group."""
    return typer.Typer(rich_markup_mode=None)


def examples(*lines: str) -> str:
    r"""Formats the last part of a command's help: examples of how to call the command.

    Args:
        lines: Lines of the examples. A line ends with a backslash if its command continues on the next line.
    """
    return "Examples:\n\n\b\n" + "\n".join(f"  {line}" for line in lines)
