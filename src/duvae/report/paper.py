"""The paper's tables, and ours beside them: same rows, the difference, and notes on what the paper prints.

The numbers are those of Shen et al. 2021 as printed, one run a cell; `paper_tables` holds them.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from duvae.config import PaperTable
from duvae.errors import UserError
from duvae.registry import RECORDS
from duvae.report.names import label, same, written
from duvae.report.results import Result, labels_are, over_seeds
from duvae.report.tables import Cell, Head, Row, Table, cell, number, span, tested

FILES: Mapping[PaperTable, str] = {
    "table1": "table1_likelihood.csv",
    "table2": "table2_short_yelp_probe.csv",
    "table3": "table3_omniglot_probe.csv",
    "tableS1": "tableS1_yahoo_fixed_beta.csv",
    "tableS2": "tableS2_short_yelp_fixed_beta.csv",
}

TITLES: Mapping[PaperTable, str] = {
    "table1": "Table 1: likelihood",
    "table2": "Table 2: accuracy of classification, short Yelp",
    "table3": "Table 3: average accuracy of classification, OMNIGLOT",
    "tableS1": "Table S1: BN-VAE with a fixed shift β, likelihood on Yahoo",
    "tableS2": "Table S2: BN-VAE with a fixed shift β, accuracy on short Yelp",
}

LIKELIHOOD = {"nll": ("NLL", 2), "kl": ("KL", 2), "mi": ("MI", 2), "au": ("AU", 1)}
"""What Tables 1 and S1 give, and the digits."""


@dataclass(frozen=True)
class Note:
    """What has to be known of some of the paper's numbers.

    Attributes:
        text: It, in a sentence or two.
        tables: Where it holds.
        systems: Of which rows; empty: of the whole table.
        columns: Of which data sets of Table 1; empty: of all.
        figure: Of which figure; empty: of the row.
    """

    text: str
    tables: tuple[PaperTable, ...]
    systems: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    figure: str = ""


NOTES = (
    Note(
        "Each of the paper's cells is one run, without a spread.",
        ("table1", "table2", "table3", "tableS1", "tableS2"),
    ),
    Note(
        "The paper took this row from He et al. 2018 and did not run it.",
        ("table1",),
        ("beta_vae", "sa_vae"),
    ),
    Note(
        "The paper prints the same AU here as for Yahoo, in seven rows: probably copied by mistake.",
        ("table1",),
        ("vae", "beta_vae", "sa_vae", "agg_vae", "fb", "delta_vae", "bn_vae"),
        ("omniglot",),
        "au",
    ),
    Note(
        "The paper prints the same KL, 6.77, for IAF+FB and DU-IAF.",
        ("table1",),
        ("iaf_fb", "du_iaf"),
        ("omniglot",),
        "kl",
    ),
    Note("The paper prints five active units at a KL of 0.0.", ("table1",), ("vae",), ("yahoo",), "au"),
    Note(
        "The paper calls its decoder a gated PixelCNN; the released code has no gates, nor has this one.",
        ("table1", "table3"),
        columns=("omniglot",),
    ),
    Note(
        "The sentences are the short ones of Shen et al. 2017, at most 15 words and two classes,"
        " not the long Yelp reviews of Table 1.",
        ("table2", "tableS2"),
    ),
    Note(
        "The paper prints the same three numbers for AE and δ-VAE: one of the two rows is a slip.",
        ("table3",),
        ("ae", "delta_vae"),
    ),
    Note(
        "Printed as 0.1 and 0.15 in the paper's brackets, which are 1 − p; shown here is p.",
        ("table3",),
        ("du_vae", "du_iaf"),
    ),
    Note(
        "60.46 is the share of the larger class among the test sentences: where it stands, nothing was learnt.",
        ("tableS2",),
    ),
)
"""The slips of the paper, and what its captions leave out."""


@dataclass(frozen=True)
class Printed:
    """A row of the paper.

    Attributes:
        system: Its name here.
        values: The row's hyperparameters, by their keys in params.yaml; p is always the probability to keep.
        numbers: The text of each of nll, kl, mi and au, or of each probe_<labels>; empty for the paper's dash.
    """

    system: str
    values: Mapping[str, float]
    numbers: Mapping[str, str]


@dataclass(frozen=True)
class Beside:
    """Ours beside a table of the paper.

    Attributes:
        title: Of the paper's table.
        table: The numbers.
        notes: The sign of each footnote, empty where it is of the whole table, and its text.
    """

    title: str
    table: Table
    notes: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class _Line:
    """A row to be: the paper's numbers, ours, or both."""

    system: str
    note: str
    setting: str | None
    numbers: Mapping[str, str]


def printed(name: PaperTable, column: str) -> list[Printed]:
    """The rows of a table of the paper, in its order, as they are printed.

    Args:
        name: The table.
        column: Of Tables 1 and S1: yahoo, yelp or omniglot.
    """
    with (files("duvae.report") / "paper_tables" / FILES[name]).open(encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line.get("dataset", column) == column]
    found: dict[tuple[str, str], dict[str, str]] = {}
    for line in lines:
        numbers = found.setdefault((line["system"], line.get("hyperparameters", line.get("beta", ""))), {})
        if "labels" in line:
            numbers[f"probe_{line['labels']}"] = line["accuracy"]
        else:
            numbers |= {figure: line[figure] for figure in LIKELIHOOD}

    return [Printed(system, _values(name, system, bracket), of) for (system, bracket), of in found.items()]


def _values(name: PaperTable, system: str, bracket: str) -> dict[str, float]:
    values = dict(zip(RECORDS[system].bracketed, map(float, bracket.split()), strict=True))
    if name == "table3" and "p" in values:
        values["p"] = round(1 - values["p"], 10)  # the slip that a note tells of

    return values


def beside(
    name: PaperTable, column: str, results: Sequence[Result], colours: Mapping[str, str], item: str = "sentence"
) -> Beside:
    """Ours beside the paper's, row by row: the paper's rows, then our further settings of its systems.

    Args:
        name: The paper's table.
        column: The data set's column: yahoo, yelp or omniglot.
        results: Models of one data set.
        colours: Of each setting.
        item: What is tested on.

    Raises:
        UserError: Where the table has no such column.
    """
    theirs = printed(name, column)
    if not theirs:
        raise UserError(
            f"params.yaml: datasets.{results[0].job.dataset}.paper.tables: {TITLES[name]} has no rows for the column"
            f" '{column}'. Take '{name}' out of the list, or give the data set the column that it belongs to."
        )
    first = theirs[0].numbers
    figures = LIKELIHOOD if "nll" in first else {key: (f"{int(key.removeprefix('probe_')):,}", 2) for key in first}
    notes = [note for note in NOTES if name in note.tables and (not note.columns or column in note.columns)]
    letter = iter("abcdefghij")
    marked = [(next(letter) if note.systems else "", note) for note in notes]
    over = over_seeds(results)
    rows = []
    for line in _lines(theirs, results):
        marks = [pair for pair in marked if line.system in pair[1].systems and line.numbers]
        cells = [cell(over.count(line.setting)) if line.setting else Cell(None)]
        for figure, (_, decimals) in figures.items():
            paper, own, apart = line.numbers.get(figure, ""), Cell(None), None
            if line.setting is not None:
                value, error = over.value(line.setting, figure), over.value(line.setting, f"{figure}_stderr")
                own = cell(value, decimals, over.spread(line.setting, figure), error)
                apart = difference(value, paper)
            mark = "".join(mark for mark, note in marks if note.figure == figure)
            cells += [own, Cell(paper or None, mark=mark), Cell(apart)]
        colour = colours[line.setting] if line.setting else ""
        mark = "".join(mark for mark, note in marks if not note.figure)
        rows.append(Row(label(line.system), cells, line.note, colour, mark=mark))
    errors = f"; in brackets a standard error over {item}s" if figures is LIKELIHOOD else ""
    if figures is LIKELIHOOD:
        of = tested(results, item)
    else:
        every = span([result.metrics["sentences"] for result in results])
        of = f"{every} test {item}s, by number of {labels_are(results)}"

    return Beside(
        TITLES[name],
        Table(
            f"{name}-{results[0].job.dataset}",
            f"Ours on {of}; the paper's as printed; and ours minus the paper's. ± is the standard"
            f" deviation over our seeds, empty for one{errors}. – where there is no such number.",
            [Head("Seeds"), *(Head(head) for _ in figures for head in ("ours", "paper", "diff."))],
            rows,
            groups=[("", 2), *((label, 3) for label, _ in figures.values())],
        ),
        [(mark, note.text) for mark, note in sorted(marked, key=lambda pair: pair[0])],
    )


def _lines(theirs: Sequence[Printed], results: Sequence[Result]) -> list[_Line]:
    """The paper's rows with our settings of the same hyperparameters, then our others of the same systems."""
    systems = {row.system for row in theirs}
    ours = {result.job.setting: result for result in results if result.system in systems}
    lines = []
    for row in theirs:
        fits = [
            setting
            for setting, result in ours.items()
            if result.system == row.system and same(row.system, result.metrics["hyperparameters"], row.values)
        ]
        for setting in fits or (None,):
            apart = f"; {setting}" if len(fits) > 1 else ""
            lines.append(
                _Line(row.system, (written(row.system, row.values) + apart).removeprefix("; "), setting, row.numbers)
            )
    known = {line.setting for line in lines}

    return lines + [
        _Line(of.system, f"{of.hyperparameters}; not in the paper".removeprefix("; "), setting, {})
        for setting, of in ours.items()
        if setting not in known
    ]


def difference(ours: float, paper: str) -> str | None:
    """Ours minus the paper's, with its sign, as exact as the paper prints; None where either is missing."""
    if not paper or math.isnan(ours):
        return None
    apart = str(number(ours - float(paper), len(paper.partition(".")[2])))

    return apart if apart.startswith("−") or not apart.strip("0.") else f"+{apart}"
