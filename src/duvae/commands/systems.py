"""The systems of the paper, listed and explained."""

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
"""Columns, at most."""


def run(params: Params, name: str | None = None, console: Console | None = None) -> None:
    """Prints all systems, or one of them with its documentation; plain text where it goes into a file or a pipe.

    Args:
        params: All of params.yaml.
        name: One system; None: all.
        console: Where to; None: the terminal.
    """
    shown = console or _console()
    columns = catalogue.columns(params)
    entries = [catalogue.entry(key, params) for key in ([name] if name else RECORDS)]
    if name:
        shown.print(_one(entries[0]))
    else:
        shown.print(_all(entries, shown))
    if any(entry.hyperparameters for entry in entries):
        shown.print(_hyperparameters(entries, shown))
    if any(entry.settings for entry in entries):
        shown.print(_settings(entries, columns, shown))


def _console() -> Console:
    terminal = sys.stdout.isatty()

    return Console(width=min(WIDTH, Console().width) if terminal else WIDTH, highlight=False, emoji=False, markup=False)


def _table(console: Console, title: str, *heads: str, names: int = 0) -> Table:
    """An empty table, drawn with letters where it is no terminal; the first columns hold names, which stay whole."""
    lines = box.ROUNDED if console.is_terminal else box.ASCII2
    table = Table(title=title, title_justify="left", title_style="bold", box=lines)
    for index, head in enumerate(heads):
        table.add_column(head, overflow="fold", no_wrap=index < names)

    return table


def _all(entries: list[Entry], console: Console) -> RenderableType:
    table = _table(
        console, f"{len(entries)} systems", "system", "parts", "what it is, its equation, its source", names=1
    )
    for entry in entries:
        parts = _pairs()
        roles = dict.fromkeys(part.role for part in entry.parts)
        for role in roles:
            of = [part for part in entry.parts if part.role == role]
            detail = f" ({of[0].detail})" if role == "schedule" else ""
            parts.add_row(Text(role, "dim"), ", ".join(part.name for part in of) + detail)
        table.add_row(
            Group(Text(entry.name, "bold"), entry.label),
            parts if roles else "no setting in params.yaml",
            Group(entry.does, Text(entry.equation, "cyan"), Text(entry.source, "dim")),
            end_section=True,
        )

    return table


def _one(entry: Entry) -> RenderableType:
    parts = _pairs()
    for part in entry.parts:
        made = f"{part.name}: {part.detail}" if part.detail else part.name
        parts.add_row(Text(part.role, "dim"), Group(made, Text(part.does, "dim")))

    return Group(
        Text(f"{entry.name}: {entry.label}", "bold"),
        "",
        entry.documentation,
        "",
        Text(entry.equation, "cyan"),
        f"Source: {entry.source}.",
        "",
        parts if entry.parts else "No setting in params.yaml has it.",
        "",
    )


def _hyperparameters(entries: list[Entry], console: Console) -> RenderableType:
    heads = "system", "hyperparameter", "what it is", "the paper chose from"
    table = _table(console, "Hyperparameters", *heads, names=2)
    for entry in entries:
        for hyperparameter in entry.hyperparameters:
            searched = [f"{', '.join(of)}: {_list(values)}" for of, values in hyperparameter.searched]
            table.add_row(entry.name, hyperparameter.name, hyperparameter.what, "\n".join(searched) or "-")
        table.add_section()

    return table


def _settings(entries: list[Entry], columns: list[str], console: Console) -> RenderableType:
    table = _table(console, "Settings of params.yaml, by column of data sets", "setting", "system", *columns, names=2)
    for entry in entries:
        for setting, values in entry.settings.items():
            cells = []
            for column in columns:
                of = [f"{key} {_number(value)}" for key, value in values.get(column, {}).items()]
                cells.append("\n".join(of) or ("nothing" if column in values else "-"))
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
