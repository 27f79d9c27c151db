"""Turns the errors of typer about a command line into a `UserError`, so that all errors begin with `error:`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand

from duvae.errors import UserError

HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Settings of the help of all programs."""


class ClearUsage:
    """Mixin of a command, or of a group of commands. A wrong command line leads to a `UserError`."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Parses the arguments of the command, and takes the same arguments as the method of typer."""
        with usage_errors():
            return super().make_context(*args, **options)  # type: ignore[misc]  # of the class beside this one

    def invoke(self, ctx: Any) -> Any:
        """Runs the command, and parses the arguments of a command of the group."""
        with usage_errors():
            return super().invoke(ctx)  # type: ignore[misc]  # of the class beside this one


class Command(ClearUsage, TyperCommand):
    """The command of a program that has only one command."""


def program(function: Callable[..., None]) -> typer.Typer:
    """Makes a program with one command from a function, whose arguments declare the options.

    A wrong command line raises a `UserError`.
    """
    app = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=HELP
    )
    app.command(cls=Command)(function)

    return app


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turns the errors of typer in the `with` block into a `UserError`.

    Without arguments, a group of commands shows its help. For typer this is an error, too; it passes unchanged.

    Raises:
        UserError: If an option or a command does not exist, or if a value is missing or wrong.
    """
    try:
        yield
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        message = error.format_message()
        if not message.endswith((".", "?")):
            message += "."
        if context is None:
            raise UserError(message) from error
        raise UserError(
            f"{context.command_path}: {message} '{context.command_path} --help' explains the options."
        ) from error
