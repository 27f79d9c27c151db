"""`duvae systems`: lists the paper's systems, explains one of them, or prints tables about all of them."""

import re
import sys
import textwrap

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from duvae.config import Params
from duvae.registry import RECORDS
from duvae.report import catalogue
from duvae.report.catalogue import Entry

WIDTH = 120
"""Largest width of the tables, in characters, and their width if standard output is not a terminal."""

LIST_WIDTH = 80
"""Width of the list of systems if standard output is not a terminal, in characters."""

LABELS = 100
"""Smallest width at which the list has the paper's names of the systems beside the names in params.yaml."""

ADVICE = "'duvae systems NAME' explains one system. 'duvae systems --full' explains all of them."


def run(params: Params, name: str | None = None, console: Console | None = None, full: bool = False) -> None:
    """Prints a list of all systems, or explains one system or all systems.

    If standard output is not a terminal, the output is plain text.

    Args:
        params: All parameters of params.yaml.
        name: Name of the system to explain; None: all systems.
        console: Console to print to; None: standard output.
        full: Whether to explain all systems, in tables, instead of listing them.
    """
    if not name and not full:
        console = console or _console(LIST_WIDTH)
        for line in _list_of_all([catalogue.entry(key, params) for key in RECORDS], console.width):
            console.print(line, soft_wrap=True)
        return
    console = console or _console(WIDTH)
    columns = catalogue.columns(params)
    entries = [catalogue.entry(key, params) for key in ([name] if name else RECORDS)]
    if name:
        console.print(_one(entries[0]))
    else:
        console.print(_all(entries, console))
    if any(entry.hyperparameters for entry in entries):
        console.print(_hyperparameters(entries, console))
    if any(entry.settings for entry in entries):
        console.print(_settings(entries, columns, console))


def _console(width: int) -> Console:
    """Standard output.

    Args:
        width: Number of characters of a line if standard output is not a terminal.
    """
    width = min(WIDTH, Console().width) if sys.stdout.isatty() else width

    return Console(width=width, highlight=False, emoji=False, markup=False)


def _list_of_all(entries: list[Entry], width: int) -> list[Text]:
    """One line for each system: its name, the paper's name of it in wide lines, and its summary as far as it fits."""
    names = max(len(entry.name) for entry in entries)
    labels = max(len(entry.label) for entry in entries)
    lines = []
    for entry in entries:
        line = Text(entry.name.ljust(names), "bold").append("  ", "not bold")
        if width >= LABELS:
            line.append(f"{entry.label:{labels}}  ", "not bold")
        summary = re.sub(r" \([^()]*\d{4}[^()]*\)", "", entry.summary)  # without the cited papers
        line.append(textwrap.shorten(summary, max(len(" ..."), width - len(line)), placeholder=" ..."), "not bold")
        lines.append(line)

    return [*lines, Text(), *map(Text, textwrap.wrap(ADVICE, width))]


def _table(console: Console, title: str, *heads: str, names: int = 0) -> Table:
    """Creates an empty table whose first `names` columns are never wrapped.

    If the output is not a terminal, the lines of the table are ASCII characters.
    """
    lines = box.ROUNDED if console.is_terminal else box.ASCII2
    table = Table(title=title, title_justify="left", title_style="bold", box=lines)
    for index, head in enumerate(heads):
        table.add_column(head, overflow="fold", no_wrap=index < names)

    return table


def _all(entries: list[Entry], console: Console) -> RenderableType:
    table = _table(console, f"{len(entries)} systems", "system", "parts", "summary, equation, source", names=1)
    for entry in entries:
        parts = _pairs()
        roles = dict.fromkeys(part.role for part in entry.parts)
        for role in roles:
            members = [part for part in entry.parts if part.role == role]
            detail = f" ({members[0].detail})" if role == "schedule" else ""
            parts.add_row(Text(role, "dim"), ", ".join(part.name for part in members) + detail)
        table.add_row(
            Group(Text(entry.name, "bold"), entry.label),
            parts if roles else "no setting in params.yaml",
            Group(entry.summary, Text(entry.equation, "cyan"), Text(entry.source, "dim")),
            end_section=True,
        )

    return table


def _one(entry: Entry) -> RenderableType:
    parts = _pairs()
    for part in entry.parts:
        line = f"{part.name}: {part.detail}" if part.detail else part.name
        parts.add_row(Text(part.role, "dim"), Group(line, Text(part.summary, "dim")))

    return Group(
        Text(f"{entry.name}: {entry.label}", "bold"),
        "",
        entry.documentation,
        "",
        Text(entry.equation, "cyan"),
        f"Source: {entry.source}.",
        "",
        parts if entry.parts else "No setting in params.yaml has this system.",
        "",
    )


def _hyperparameters(entries: list[Entry], console: Console) -> RenderableType:
    heads = "system", "hyperparameter", "description", "the paper chose from"
    table = _table(console, "Hyperparameters", *heads, names=2)
    for entry in entries:
        for hyperparameter in entry.hyperparameters:
            searched = [f"{', '.join(columns)}: {_list(values)}" for columns, values in hyperparameter.searched]
            table.add_row(entry.name, hyperparameter.name, hyperparameter.description, "\n".join(searched) or "-")
        table.add_section()

    return table


def _settings(entries: list[Entry], columns: list[str], console: Console) -> RenderableType:
    table = _table(console, "Settings of params.yaml, by column of data sets", "setting", "system", *columns, names=2)
    for entry in entries:
        for setting, values in entry.settings.items():
            cells = []
            for column in columns:
                lines = [f"{key} {_number(value)}" for key, value in values.get(column, {}).items()]
                cells.append("\n".join(lines) or ("nothing" if column in values else "-"))
            table.add_row(setting, entry.name, *cells)
        table.add_section()

    return table


def _pairs() -> Table:
    pairs = Table.grid(padding=(0, 2))
    pairs.add_column(no_wrap=True)
    pairs.add_column(overflow="fold")

    return pairs


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(map(_number, values))


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
