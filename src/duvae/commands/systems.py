"""`duvae systems`: prints tables of the paper's systems, or the documentation of one system."""

import sys

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from duvae.config import Params
from duvae.registry import RECORDS
from duvae.report import catalogue
from duvae.report.catalogue import Entry

WIDTH = 120
"""Largest width of the output, in characters."""


def run(params: Params, name: str | None = None, console: Console | None = None) -> None:
    """Prints all systems, or one system with its documentation.

    If standard output is not a terminal, the output is plain text.

    Args:
        params: All parameters of params.yaml.
        name: Name of the system to explain; None: all systems.
        console: Console to print to; None: standard output.
    """
    console = console or _console()
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


def _console() -> Console:
    terminal = sys.stdout.isatty()

    return Console(width=min(WIDTH, Console().width) if terminal else WIDTH, highlight=False, emoji=False, markup=False)


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
