"""Completes names on a command line when the user presses Tab: names of data sets, settings, studies and systems.

The names come from the file of parameters of the command line, which is params.yaml in the current folder unless the
line has `--params`. If the file is missing or has a mistake, there are no names and no error.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from duvae.config import Params

# The functions below are callbacks of typer, which reads their annotations. `typer.Context` is the type of the first
# argument, so that they receive the options that stand on the command line already.


def datasets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of data sets.

    Args:
        ctx: Context of the command.
        incomplete: The part of the name that the user has written.
    """
    params = _params(ctx)

    return _matching(params.datasets if params else (), incomplete)


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

    return _matching(
        (name for name, setting in params.settings.items() if dataset is None or dataset.column in setting.columns),
        incomplete,
    )


def studies(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of studies.

    Args:
        ctx: Context of the command.
        incomplete: The part of the name that the user has written.
    """
    params = _params(ctx)

    return _matching(params.studies if params else (), incomplete)


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
