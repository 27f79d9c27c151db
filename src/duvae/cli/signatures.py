"""Gives the function of a command further options, which typer reads from the function's signature."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

Options = Mapping[str, tuple[Any, Any]]
"""Options by name: the annotation that typer reads, and the default value."""


def with_options(
    wrapper: Callable[..., Any], function: Callable[..., Any], options: Options, instead: str | None = None
) -> Callable[..., Any]:
    """Gives a wrapper the signature of the function that it calls, with further options.

    Args:
        wrapper: Function that receives the options, and calls `function`.
        function: The function of a command.
        options: Options by name, which `function` does not declare itself.
        instead: Name of the parameter of `function` in whose place the options stand; None: they stand at the end.

    Returns:
        The wrapper.
    """
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in options.items()
    ]
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        parameters += added if parameter.name == instead else [parameter]
    parameters += [] if instead else added
    # typer calls the function with keywords only, so the kind of a parameter does not matter.
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    wrapper.__dict__["__signature__"] = inspect.Signature(keywords)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in keywords}

    return wrapper
