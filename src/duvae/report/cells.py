"""Defines the cells, rows and tables of the report pages, and formats their numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd


@dataclass(frozen=True)
class Cell:
    """A number in a table.

    Attributes:
        text: The formatted number; None where the system has no such number.
        spread: The formatted standard deviation of the number over seeds; None: the cell shows no standard deviation.
        error: The formatted text in brackets: the standard error of the number, or another value; None: no brackets.
        strong: Whether the number is printed in bold, as the best one.
        mark: The sign of a footnote; empty: no footnote.
    """

    text: str | None
    spread: str | None = None
    error: str | None = None
    strong: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Head:
    """The heading of a column, with the unit of the column's numbers; an empty unit is not shown."""

    label: str
    unit: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: The heading of the row.
        cells: The cells of the row, one for each heading in `Table.heads`.
        note: A small note below the heading; empty: no note.
        colour: The colour that marks the row's setting in the figures; empty: the row has no setting.
        floor: Whether the row is a baseline that no model produced, such as the true NLL of synthetic data.
        mark: The sign of a footnote at the heading; empty: no footnote.
    """

    name: str
    cells: Sequence[Cell]
    note: str = ""
    colour: str = ""
    floor: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        id: The id of the HTML element.
        caption: The text above the table.
        heads: The headings of all columns but the first.
        rows: The rows.
        corner: The heading of the first column.
        groups: A second row of headings above `heads`, each with the number of columns that it spans; empty: no such
            row.
        sentences: Whether the headings of the rows are as long as sentences, so that they may have several lines.
    """

    id: str
    caption: str
    heads: Sequence[Head]
    rows: Sequence[Row]
    corner: str = "System"
    groups: Sequence[tuple[str, int]] = ()
    sentences: bool = False

    def compact(self) -> "Table":
        """Leaves out the columns and the rows without any number. The headings of the rows are no numbers."""
        kept = [place for place in range(len(self.heads)) if any(row.cells[place].text for row in self.rows)]
        rows = [
            replace(row, cells=[row.cells[place] for place in kept])
            for row in self.rows
            if any(cell.text for cell in row.cells)
        ]
        # The groups span the headings of all columns, of which the first is that of the rows.
        group_of = [name for name, (_, columns) in enumerate(self.groups) for _ in range(columns)]
        spans = [group_of[0], *(group_of[place + 1] for place in kept)] if group_of else []
        groups = [(name, spans.count(place)) for place, (name, _) in enumerate(self.groups) if place in spans]

        return replace(self, heads=[self.heads[place] for place in kept], rows=rows, groups=groups)


def number(value: float | None, decimals: int) -> str | None:
    """Formats a number for a page, with commas between thousands and a real minus sign.

    Args:
        value: The number; None or NaN where there is no number.
        decimals: Number of decimal places.

    Returns:
        The text; None where there is no number.
    """
    if value is None or pd.isna(value):
        return None
    text = f"{value:,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")

    return text.replace("-", "−")


def cell(value: float | None, decimals: int = 0, spread: float | None = None, error: float | None = None) -> Cell:
    """Formats a number, its spread over seeds and its standard error with the same number of decimal places.

    Args:
        value: The number; None or NaN where there is no number.
        decimals: Number of decimal places.
        spread: The standard deviation over seeds; None or NaN: the cell shows no standard deviation.
        error: The standard error; None or NaN: the cell shows no standard error.
    """
    return Cell(number(value, decimals), number(spread, decimals), number(error, decimals))


def word_list(parts: Sequence[str]) -> str:
    """Joins words to a list as in `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def number_range(values: Sequence[int]) -> str:
    """Formats the range of whole numbers, as in `31 to 50`, or as in `50` if all numbers are equal.

    The text is empty if there are no numbers.
    """
    if not values:
        return ""
    low, high = min(values), max(values)

    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
