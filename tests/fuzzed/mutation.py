"""A mutation: one change of a sound project, and the commands that meet it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Command = tuple[str, ...]
"""Arguments of one call of `duvae`."""


@dataclass(frozen=True)
class Mutation:
    """One change of a sound project.

    Attributes:
        kind: What is changed: parameters, texts, arrays, pictures or lines.
        what: Description of the change, for a person who looks for a fault.
        change: Function that changes the project in a folder.
        commands: Commands to run in the project, one after the other, until one is refused.
        stdin: Content of standard input.
    """

    kind: str
    what: str
    change: Callable[[Path], object]
    commands: tuple[Command, ...]
    stdin: bytes = b""


@dataclass(frozen=True)
class Work:
    """What a child has to do.

    Attributes:
        commands: Commands to run, one after the other, until one is refused.
        stdin: Content of standard input.
        real: Whether each command is a process of its own, instead of a call in the child.
    """

    commands: tuple[Command, ...]
    stdin: bytes = b""
    real: bool = False


def job(command: str, dataset: str, setting: str = "du_vae") -> Command:
    """A command about one training."""
    return (command, "--dataset", dataset, "--setting", setting, "--seed", "1")


def stages(dataset: str, *later: Command, images: bool = False, generated: bool = False) -> tuple[Command, ...]:
    """The commands that bring a data set from the user's files to the form that trainings read.

    Args:
        dataset: Name of the data set.
        later: Commands to run after these.
        images: Whether the examples are images.
        generated: Whether there is nothing to fetch.
    """
    names = [*([] if generated else ["fetch"]), "prepare", *(["binarize"] if images else [])]

    return (*((name, "--dataset", dataset) for name in names), *later)
