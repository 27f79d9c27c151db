"""The option `--set KEY=VALUE`, which every command has that reads a file of parameters."""

import functools
import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from typing import Annotated, Any

import typer

from duvae.cli.signatures import with_options

Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Other value of a key of params.yaml, for this command. Repeat the option for several keys.",
    ),
]

_ASKED: ContextVar[Sequence[str]] = ContextVar("asked", default=())


def asked() -> Sequence[str]:
    """The values of `--set` of the running command, each as `KEY=VALUE`."""
    return _ASKED.get()


class App(typer.Typer):
    """A group of commands, in which each command with the parameter `params` also has the option `--set`."""

    def command(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        """Declares a command, like `typer.Typer.command`."""
        declare = super().command(*args, **options)

        def declared(function: Callable[..., Any]) -> Callable[..., Any]:
            declare(_with_changes(function) if "params" in inspect.signature(function).parameters else function)
            return function

        return declared


def _with_changes(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a command, with a further parameter for the option `--set`."""

    @functools.wraps(function)
    def command(*args: Any, changes: Sequence[str] | None = None, **options: Any) -> Any:
        context = copy_context()  # what the command sets in its context ends with the command
        context.run(_ASKED.set, tuple(changes or ()))

        return context.run(function, *args, **options)

    return with_options(command, function, {"changes": (Changes, None)})
