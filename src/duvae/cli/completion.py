"""Completes names on a command line when the user presses Tab: names of data sets, settings, studies and systems.

The names come from the file of parameters of the command line, which is params.yaml in the current folder unless the
line has `--params`. If the file is missing or has a mistake, there are no names and no error.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from duvae.config import Params

# The functions below are callbacks of typer, which reads their annotations. `typer.Context` is the type of the first
# argument, so that they receive the options that stand on the command line already.


def _names_of(key: str, folder: str | None = None) -> Callable[[typer.Context, str], list[str]]:
    """Makes a callback that completes the names below a key of params.yaml.

    Args:
        key: Name of the key, such as `datasets`.
        folder: Folder of the user's own files, whose names count, too; None: there is none.
    """

    def names(ctx: typer.Context, incomplete: str) -> list[str]:
        params = _params(ctx)
        own = _own(folder) if folder else []

        return _matching([*(getattr(params, key) if params else ()), *own], incomplete)

    return names


def _own(folder: str) -> list[str]:
    """Names of the user's own files in a folder. See `duvae.project.own_data`, whose import would take longer."""
    return sorted(path.stem for path in Path(folder).glob("*.yaml"))


datasets, studies = _names_of("datasets", "datasets"), _names_of("studies")


def settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of settings, with the settings of grids. After `--dataset`, only those with values for the data set.

    Args:
        ctx: Context of the command.
        incomplete: The part of the name that the user has written.
    """
    params = _params(ctx)
    if params is None:
        return []
    dataset = params.datasets.get(str(ctx.params.get("dataset")))

    fitting = (name for name, each in params.settings.items() if dataset is None or dataset.column in each.columns)

    return _matching([*fitting, *_own("settings")], incomplete)


def several_settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of settings after other names and commas.

    Args:
        ctx: Context of the command.
        incomplete: The names that the user has written, of which the last one may be a part of a name.
    """
    before, comma, last = incomplete.rpartition(",")

    return [f"{before}{comma}{name}" for name in settings(ctx, last) if name not in before.split(",")]


def systems(incomplete: str) -> list[str]:
    """Names of systems.

    Args:
        incomplete: The part of the name that the user has written.
    """
    from duvae.registry import RECORDS

    return _matching(RECORDS, incomplete)


def _params(ctx: typer.Context) -> "Params | None":
    """The parameters of the command line; None if the file is missing or has a mistake."""
    from duvae import config
    from duvae.errors import UserError

    try:
        return config.load(Path(ctx.params.get("params") or "params.yaml"))
    except (UserError, OSError, ValueError):  # such as a path with a null byte
        return None


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
