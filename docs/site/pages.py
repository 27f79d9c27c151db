"""Pages of the site that have no file in docs/: the commands of `duvae`, and the changes of the versions."""

import html
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from duvae.cli import app
from duvae.cli.topics import TOPICS, topic_of

ROOT = Path(__file__).parents[2]

HEAD = """# Commands

`make` or `pip install '.[pipeline]'` installs the command `duvae`. `duvae --help` lists its commands, and `duvae
COMMAND --help` prints what this page says about one of them. A command reads `params.yaml` in the current folder
([parameters](../parameters.md)). `duvae --install-completion` lets the key Tab complete commands, options and names.

The exit status is 0 after success, 2 after a mistake in the input, 130 after an interruption, and another number after
any other failure.
"""


def commands_page() -> str:
    """Writes the page of the commands in Markdown, from the declarations that `duvae --help` reads, too."""
    group: Any = typer.main.get_command(app)
    root = group.context_class(group, info_name="duvae", **group.context_settings)
    members = {name: group.get_command(root, name) for name in group.list_commands(root)}
    parts = [HEAD]
    for topic in dict.fromkeys([*TOPICS, *map(topic_of, members)]):
        parts.append(f"## {topic}\n")
        for name, command in members.items():
            if topic_of(name) == topic and not command.hidden:
                context = command.context_class(command, info_name=name, parent=root, **command.context_settings)
                parts.extend(command_section(command, context))

    return "\n".join(parts)


def command_section(command: Any, context: Any) -> Iterator[str]:
    """Writes the section of one command: its help, its usage, its options, and examples.

    Args:
        command: The command.
        context: The context of the command, in which its parameters are described.
    """
    yield f"### duvae {context.info_name}\n"
    yield prose(inspect.cleandoc(command.help or "")) + "\n"
    yield f"```text\nduvae {context.info_name} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    yield "| argument or option | meaning |\n|---|---|"
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            name, text = record
            yield f"| {code(name)} | {prose(' '.join(text.split()))} |"
    yield ""
    if command.epilog:
        lines = inspect.cleandoc(command.epilog.partition("\b\n")[2])
        yield f"```sh\n{lines}\n```\n"


def code(text: str) -> str:
    """Text as code in a cell of a table, where an entity stands for the sign that ends the cell."""
    return f"<code>{html.escape(text).replace('|', '&#124;')}</code>"


def prose(text: str) -> str:
    """Text of the help as Markdown: signs of Markdown are escaped, and names of pages become links."""
    escaped = re.sub(r"([\\`*_\[\]])", r"\\\1", html.escape(text, quote=False)).replace("|", "&#124;")

    return re.sub(r"docs/([\w-]+)\.md", r"[\1](../\1.md)", escaped)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    files.append(File.generated(config, "reference/changelog.md", abs_src_path=str(ROOT / "CHANGELOG.md")))

    return files
