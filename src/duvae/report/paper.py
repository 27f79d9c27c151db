"""The paper's tables, and ours beside them: same rows, the difference, and what the paper's print needs to be read with.

The numbers are those of Shen et al. 2021 as printed, one run a cell; `paper_tables` holds them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import pandas as pd

from duvae.config import PaperTable
from duvae.report.names import BRACKETS, NAMES, letters, same, written
from duvae.report.results import Result, over_seeds
from duvae.report.tables import Cell, Head, Row, Table, cell, number, span

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


def load(name: PaperTable) -> pd.DataFrame:
    """A table of the paper, its numbers as they are printed.

    Args:
        name: Which.

    Returns:
        The columns `system`, `values` (its hyperparameters by letter, p being the keep probability throughout),
        `dataset` where there are several, and the text of either nll, kl, mi and au or `labels` and `accuracy`.
    """
    with (files("duvae.report") / "paper_tables" / FILES[name]).open(encoding="utf-8") as file:
        frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    values = []
    for system, bracket in zip(
        frame["system"], frame["hyperparameters" if "hyperparameters" in frame else "beta"], strict=True
    ):
        of = dict(zip(BRACKETS.get(system, ()), map(float, bracket.split()), strict=True))
        if name == "table3" and "p" in of:
            of["p"] = round(1 - of["p"], 10)  # the slip that a note tells of
        values.append(of)

    return frame.drop(columns=["hyperparameters", "beta"], errors="ignore").assign(values=values)


def printed(name: PaperTable, column: str) -> list[tuple[str, Mapping[str, float], Mapping[str, str]]]:
    """The rows of a table of the paper, in its order: system, hyperparameters, and what stands under each figure.

    Args:
        name: The table.
        column: Of Tables 1 and S1: yahoo, yelp or omniglot.
    """
    frame = load(name)
    rows: list[tuple[str, Mapping[str, float], dict[str, str]]] = []
    for row in frame[frame["dataset"] == column].to_dict("records") if "dataset" in frame else frame.to_dict("records"):
        if not rows or rows[-1][:2] != (row["system"], row["values"]):
            rows.append((row["system"], row["values"], {}))
        if "labels" in row:
            rows[-1][2][f"probe_{row['labels']}"] = row["accuracy"]
        else:
            rows[-1][2].update({figure: row[figure] for figure in LIKELIHOOD})

    return rows


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
    """
    theirs = printed(name, column)
    of_system = {result.job.setting: result for result in results if result.system in {system for system, *_ in theirs}}
    figures = LIKELIHOOD if "nll" in theirs[0][2] else {key: (f"{int(key[6:]):,}", 2) for key in theirs[0][2]}
    notes = [note for note in NOTES if name in note.tables and (not note.columns or column in note.columns)]
    letter = iter("abcdefghij")
    marked = [(next(letter) if note.systems else "", note) for note in notes]
    lines: list[tuple[str, str, str | None, Mapping[str, str]]] = []
    for system, values, numbers in theirs:
        fits = [
            setting
            for setting, result in of_system.items()
            if result.system == system and same(system, letters(result.metrics["hyperparameters"]), values)
        ]
        for setting in fits or [None]:
            apart = f"; {setting}" if len(fits) > 1 else ""
            lines.append((system, (written(values) + apart).removeprefix("; "), setting, numbers))
    known = {setting for _, _, setting, _ in lines}
    lines += [
        (of.system, f"{of.hyperparameters}; not in the paper", setting, {})
        for setting, of in of_system.items()
        if setting not in known
    ]
    mean, std, seeds = over_seeds(results)
    rows = []
    for system, note, setting, numbers in lines:
        cells = [cell(seeds[setting]) if setting else Cell(None)]
        for figure, (_, decimals) in figures.items():
            mark = "".join(m for m, n in marked if system in n.systems and n.figure == figure) if numbers else ""
            theirs_of, ours, own = numbers.get(figure, ""), None, Cell(None)
            if setting is not None and figure in mean:
                ours = float(mean.loc[setting, figure])
                error = f"{figure}_stderr"
                own = cell(
                    ours, decimals, std.loc[setting, figure], mean.loc[setting, error] if error in mean else None
                )
            cells += [own, Cell(theirs_of or None, mark=mark), Cell(difference(ours, theirs_of))]
        mark = "".join(m for m, n in marked if system in n.systems and not n.figure) if numbers else ""
        rows.append(Row(NAMES[system], cells, note, colours[setting] if setting else "", mark=mark))
    what = f"on {span([result.metrics['sentences'] for result in results])} test {item}s"

    return Beside(
        TITLES[name],
        Table(
            f"{name}-{results[0].job.dataset}",
            f"Ours {what}, the paper's as printed, and ours minus the paper's. ± is the standard deviation over our"
            f" seeds, empty for one; in brackets a standard error over {item}s. – where there is no such number.",
            [Head("Seeds"), *(Head(head) for _ in figures for head in ("ours", "paper", "diff."))],
            rows,
            groups=[("", 2), *((label, 3) for label, _ in figures.values())],
        ),
        [(mark, note.text) for mark, note in sorted(marked, key=lambda pair: pair[0])],
    )


def difference(ours: float | None, paper: str) -> str | None:
    """Ours minus the paper's, with its sign, as exact as the paper prints; None where either is missing."""
    if not paper or ours is None or math.isnan(ours):
        return None
    apart = str(number(ours - float(paper), len(paper.partition(".")[2])))

    return apart if apart.startswith("−") or not apart.strip("0.") else f"+{apart}"
