"""The group of all commands: `duvae --help` lists the commands by topic."""

import inspect
import re
from typing import Any

from typer.core import TyperGroup

from duvae.cli.usage import ClearUsage

TOPICS: dict[str, tuple[str, ...]] = {
    "Use your own data": ("new", "run"),
    "Rebuild": (
        *("fetch", "prepare", "binarize", "validate", "truth", "search", "train", "evaluate", "probe", "samples"),
    ),
    "Use a model": ("generate", "interpolate", "reconstruct", "encode"),
    "Explore": ("demo", "doctor", "systems", "results"),
    "Report": ("figure1", "figure2", "figures", "report", "examples", "claims", "track"),
    "Maintain the project": ("graph", "parameters", "fingerprint", "own-files"),
}
"""Names of the commands, by topic. `duvae --help` lists them in this order. A command without a topic comes last."""

OTHER = "More commands"
"""Heading of the commands that have no topic."""


class CommandsByTopic(ClearUsage, TyperGroup):
    """The group of all commands of `duvae`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands, in the order of `TOPICS`."""
        names = super().list_commands(ctx)
        order = [name for members in TOPICS.values() for name in members]

        return sorted(names, key=lambda name: order.index(name) if name in order else len(order))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes one list for each topic. The first sentence of each command is complete and may have several lines.

        Args:
            ctx: Context of the group.
            formatter: Formatter of the library click, which receives the lists.
        """
        rows: dict[str, list[tuple[str, str]]] = {topic: [] for topic in (*TOPICS, OTHER)}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows[topic_of(name)].append((name, first_sentence(command.help or "")))
        width = max(len(name) for members in rows.values() for name, _ in members)
        for topic, members in rows.items():
            if members:
                with formatter.section(topic):
                    formatter.write_dl([(name.ljust(width), text) for name, text in members])


def topic_of(name: str) -> str:
    """The topic of a command."""
    return next((topic for topic, members in TOPICS.items() if name in members), OTHER)


def first_sentence(text: str) -> str:
    """The first sentence of a command's help, on one line."""
    paragraph = " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())

    return re.split(r"(?<=\.) (?=[A-Z'])", paragraph)[0]
