"""Puts our results beside the paper's tables, with the differences, and with notes on the paper's numbers.

The folder `paper_tables` holds the numbers that the paper, Shen et al. 2021, prints. The paper does not say
from how many trainings a number is. "Our" results are those of this project.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from duvae.config import PaperTable
from duvae.errors import UserError
from duvae.registry import RECORDS
from duvae.report import convergence
from duvae.report.cells import Cell, Head, Row, Table, cell, number, number_range, word_list
from duvae.report.names import hyperparameter_text, label, same_hyperparameters
from duvae.report.paper_tables import TITLES, lines, no_rows
from duvae.report.results import Result, label_unit, over_seeds
from duvae.report.tables import test_size_text

LIKELIHOOD = {"nll": ("NLL", 2), "kl": ("KL", 2), "mi": ("MI", 2), "au": ("AU", 1)}
"""The columns of numbers in Tables 1 and S1: heading and number of decimal places, by the number's key."""


@dataclass(frozen=True)
class Note:
    """A remark on some of the paper's numbers.

    Attributes:
        text: The remark, in one or two sentences.
        tables: The tables that the remark is about.
        systems: The systems whose rows the remark is about; empty: the whole table.
        columns: The columns of data sets that the remark is about, such as `yahoo`; empty: all columns.
        metric: The key of the single number in each row, such as `au`, that the remark is about; empty: the whole row.
    """

    text: str
    tables: tuple[PaperTable, ...]
    systems: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    metric: str = ""


NOTES = (
    Note(
        "The paper does not say from how many trainings each number is, and gives no spread.",
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
    Note(
        "The paper's MI of 8.90 is close to its ceiling: an estimate from N images is at most log N, 9.00 for the 8,070"
        " test images.",
        ("table1",),
        ("mae",),
        ("omniglot",),
        "mi",
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
        "Of the 10,000 test sentences, 43, 120, 240, 338 and 662 are also among the 100, 500, 1,000, 2,000 and 10,000"
        " labelled ones, in the files that the paper's authors published.",
        ("table2",),
    ),
    Note(
        "The paper prints the same three numbers for AE and δ-VAE: one of the two rows is probably a mistake.",
        ("table3",),
        ("ae", "delta_vae"),
    ),
    Note(
        "The paper's brackets print 1 − p here, 0.1 and 0.15; this table shows p.",
        ("table3",),
        ("du_vae", "du_iaf"),
    ),
    Note(
        "60.46 is the share of the larger class among the test sentences:"
        " a classifier with this accuracy is no better than always the larger class.",
        ("tableS2",),
    ),
)
"""Errors in the paper's tables, and facts that the captions of the tables leave out."""


@dataclass(frozen=True)
class PaperRow:
    """A row of a table of the paper.

    Attributes:
        system: The system's key in the registry.
        values: The row's hyperparameters, by key in params.yaml. p is the probability to keep a variance, also where
            the paper prints 1 - p.
        numbers: The printed numbers as text, by key. The keys are nll, kl, mi and au, or one key probe_<labels> for
            each number of labels with which a classifier was trained. A text is empty where the paper has a dash.
    """

    system: str
    values: Mapping[str, float]
    numbers: Mapping[str, str]


@dataclass(frozen=True)
class PaperComparison:
    """A table of the paper with our results beside it.

    Attributes:
        title: The title of the paper's table.
        table: Our numbers, the paper's numbers and the differences.
        notes: The footnotes, as pairs of a sign, such as `a`, and a text. The sign is empty if a note names no systems.
    """

    title: str
    table: Table
    notes: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class _Line:
    """A row of the comparison before its numbers are formatted.

    Attributes:
        system: The system's key in the registry.
        note: The note below the row's heading.
        setting: The key of our setting (a system with hyperparameters); None where only the paper has such a row.
        numbers: The paper's printed numbers, by key; empty where the paper has no such row.
    """

    system: str
    note: str
    setting: str | None
    numbers: Mapping[str, str]


def paper_rows(name: PaperTable, column: str) -> list[PaperRow]:
    """Reads the rows of a table of the paper, in the printed order.

    Args:
        name: Key of the paper's table, such as `table1`.
        column: The column of data sets: yahoo, yelp or omniglot. Table 1 has all three columns, and Table S1 has only
            yahoo. The other tables have no such columns, so the function returns all rows of these tables.
    """
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for line in lines(name, column):
        numbers = rows.setdefault((line["system"], line.get("hyperparameters", line.get("beta", ""))), {})
        if "labels" in line:
            numbers[f"probe_{line['labels']}"] = line["accuracy"]
        else:
            numbers |= {key: line[key] for key in LIKELIHOOD}

    return [PaperRow(system, _values(name, system, bracket), numbers) for (system, bracket), numbers in rows.items()]


def _values(name: PaperTable, system: str, bracket: str) -> dict[str, float]:
    values = dict(zip(RECORDS[system].bracketed, map(float, bracket.split()), strict=True))
    if name == "table3" and "p" in values:
        values["p"] = round(1 - values["p"], 10)  # Table 3 prints 1 - p; see NOTES.

    return values


def compare_with_paper(
    name: PaperTable,
    column: str,
    results: Sequence[Result],
    colours: Mapping[str, str],
    item: str = "sentence",
    departs: Sequence[str] = (),
) -> PaperComparison:
    """Puts our results beside a table of the paper.

    The first rows are those of the paper, with our numbers where we have a setting with the same hyperparameters. After
    these rows come our other settings of the same systems.

    Args:
        name: The paper's table.
        column: The data set's column in the paper: yahoo, yelp or omniglot.
        results: Results of all models of one data set.
        colours: The colour of each setting.
        item: The word for one test example: `sentence` or `image`.
        departs: Differences between this experiment and the paper's. If there are any, nothing is subtracted: the
            numbers are of other data, or of models that were trained in another way.

    Raises:
        UserError: If the table has no such column.
    """
    theirs = paper_rows(name, column)
    if not theirs:
        raise UserError(no_rows(results[0].job.dataset, name, column))
    keys = theirs[0].numbers
    metrics = LIKELIHOOD if "nll" in keys else {key: (f"{int(key.removeprefix('probe_')):,}", 2) for key in keys}
    notes = [note for note in NOTES if name in note.tables and (not note.columns or column in note.columns)]
    letters = iter("abcdefghij")
    footnotes = [(next(letters) if note.systems else "", note) for note in notes]
    over = over_seeds(results)
    heads = ["ours", "paper", *([] if departs else ["diff."])]
    rows = []
    for line in _lines(theirs, results):
        marks = [(mark, note) for mark, note in footnotes if line.system in note.systems and line.numbers]
        cells = [cell(over.count(line.setting)) if line.setting else Cell(None)]
        for key, (_, decimals) in metrics.items():
            paper, ours, signed = line.numbers.get(key, ""), Cell(None), None
            if line.setting is not None:
                value, error = over.value(line.setting, key), over.value(line.setting, f"{key}_stderr")
                ours = cell(value, decimals, over.spread(line.setting, key), error)
                signed = None if departs else difference(value, paper)
            mark = "".join(mark for mark, note in marks if note.metric == key)
            cells += [ours, Cell(paper or None, mark=mark), *([] if departs else [Cell(signed)])]
        colour = colours[line.setting] if line.setting else ""
        mark = "".join(mark for mark, note in marks if not note.metric)
        mark += convergence.mark([result for result in results if result.job.setting == line.setting])
        rows.append(Row(label(line.system), cells, line.note, colour, mark=mark))
    differs = "" if departs else "; and ours minus the paper's"
    omitted = " Nothing is subtracted, since this is not the paper's experiment." if departs else ""
    if metrics is LIKELIHOOD:
        examples = test_size_text(results, item)
        errors = f"; in brackets a standard error over {item}s"
    else:
        count = number_range([result.metrics["sentences"] for result in results])
        examples = f"{count} test {item}s, by number of {label_unit(results)}"
        errors = ""

    ceiling = _ceiling_note(theirs, results, item) if "mi" in keys else None

    return PaperComparison(
        TITLES[name],
        Table(
            f"{name}-{results[0].job.dataset}",
            f"Ours on {examples}; the paper's as printed{differs}. ± is the standard deviation over our seeds, not"
            f" shown for one seed{errors}. – where there is no such number.{omitted}{convergence.footnote(results)}",
            [Head("Seeds"), *(Head(head) for _ in metrics for head in heads)],
            rows,
            groups=[("", 2), *((title, len(heads)) for title, _ in metrics.values())],
        ),
        [
            *((mark, note.text) for mark, note in sorted(footnotes, key=lambda pair: pair[0])),
            *([("", ceiling)] if ceiling else []),
        ],
    )


def _ceiling_note(theirs: Sequence[PaperRow], results: Sequence[Result], item: str) -> str | None:
    """Says that our MI cannot reach one that the paper prints, since its estimate from N examples is at most log N.

    Args:
        theirs: The rows of the paper's table.
        results: Results of all models of one data set.
        item: The word for one test example.
    """
    highest = max((float(row.numbers["mi"]) for row in theirs if row.numbers["mi"]), default=0.0)
    tests = min(int(result.metrics["sentences"]) for result in results)
    if highest < math.log(tests):
        return None

    return (
        f"Our MI is at most log N, {number(math.log(tests), 2)} for {tests:,} test {item}s. So it cannot reach the"
        f" highest MI of the paper, {highest:g}, and is not to be compared with values above this bound."
    )


def with_results(compared: PaperComparison) -> PaperComparison | None:
    """Leaves out the rows of the paper for which we have no results, and the notes on these rows alone.

    Args:
        compared: A table of the paper with our results beside it.

    Returns:
        The rest, with a note that names the rows that are left out; None if nothing is left.
    """
    rows = [row for row in compared.table.rows if row.cells[0].text is not None]
    if not rows:
        return None
    marks = "".join([row.mark for row in rows] + [cell.mark for row in rows for cell in row.cells])
    notes = [(mark, text) for mark, text in compared.notes if not mark or mark in marks]
    absent = [f"{row.name} {row.note}".strip() for row in compared.table.rows if row.cells[0].text is None]
    if absent:
        notes.append(("", f"Not run: {word_list(absent)}."))

    return replace(compared, table=replace(compared.table, rows=rows), notes=notes)


def _lines(theirs: Sequence[PaperRow], results: Sequence[Result]) -> list[_Line]:
    """Pairs the rows of the paper with our settings of the same system and the same hyperparameters.

    Returns:
        One row for each pair, and one for each row of the paper without such a setting; then one row for each of our
        other settings of the paper's systems.
    """
    systems = {row.system for row in theirs}
    ours = {result.job.setting: result for result in results if result.system in systems}
    lines = []
    for row in theirs:
        matches = [
            setting
            for setting, result in ours.items()
            if result.system == row.system
            and same_hyperparameters(row.system, result.metrics["hyperparameters"], row.values)
        ]
        for setting in matches or (None,):
            suffix = f"; {setting}" if len(matches) > 1 else ""
            lines.append(
                _Line(
                    row.system,
                    (hyperparameter_text(row.system, row.values) + suffix).removeprefix("; "),
                    setting,
                    row.numbers,
                )
            )
    known = {line.setting for line in lines}

    return lines + [
        _Line(result.system, f"{result.hyperparameters}; not in the paper".removeprefix("; "), setting, {})
        for setting, result in ours.items()
        if setting not in known
    ]


def difference(ours: float, paper: str) -> str | None:
    """Subtracts the paper's number from our number, and formats the difference with a sign.

    Args:
        ours: Our number; NaN where our results lack the number.
        paper: The number as the paper prints it; empty where the paper lacks the number.

    Returns:
        The difference with the decimal places that the paper prints; None where either number is missing.
    """
    if not paper or math.isnan(ours):
        return None
    text = str(number(ours - float(paper), len(paper.partition(".")[2])))

    return text if text.startswith("−") or not text.strip("0.") else f"+{text}"


def gaps(name: PaperTable, column: str, results: Sequence[Result]) -> tuple[str, list[str]]:
    """Subtracts the paper's numbers from ours, for settings with the same hyperparameters.

    Args:
        name: The paper's table.
        column: The data set's column in the paper: yahoo, yelp or omniglot.
        results: Results of models of one data set.

    Returns:
        What is compared: the NLL, or the accuracy with the largest number of labels; and one text for each setting,
        such as `DU-VAE −0.3`.
    """
    theirs = paper_rows(name, column)
    if not theirs:
        return "", []
    key = "nll" if "nll" in theirs[0].numbers else list(theirs[0].numbers)[-1]
    over, texts = over_seeds(results) if results else None, []
    for line in _lines(theirs, results):
        if over is not None and line.setting is not None:
            found = difference(over.value(line.setting, key), line.numbers.get(key, ""))
            mark = convergence.mark([result for result in results if result.job.setting == line.setting])
            texts += [f"{label(line.system)} {found}{mark}"] if found else []
    what = "NLL in nats" if key == "nll" else f"accuracy in points, {int(key.removeprefix('probe_')):,}"

    return f"{TITLES[name].partition(':')[0]}, {what}", texts
