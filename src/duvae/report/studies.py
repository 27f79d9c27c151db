"""Writes the page of a study, which is a search over the hyperparameters of one system on one data set.

A trial trains one model per seed with the same hyperparameters. The page shows a figure in the manner of the paper's
Figure 2, a figure of the course of the search, a table of the trials, and sentences about the results and the cost.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from duvae.config import Params, is_own
from duvae.project.files import read_json
from duvae.project.provenance import read_record
from duvae.report import drawings, figures, names, site, study_front
from duvae.report.cells import Cell, Head, Row, Table, number, word_list
from duvae.report.convergence import MARK
from duvae.report.origin import machine_name
from duvae.report.page import render
from duvae.report.results import read_table, short_commit
from duvae.report.study_figures import heat_map, letter, paper_choice, progress
from duvae.report.study_text import (
    at_limit,
    earlier_lines,
    ending_lines,
    errors_over,
    origin_line,
    seeds_of,
    seeds_text,
    summary_lines,
)


def figure2(summary: Mapping[str, Any], trials: pd.DataFrame) -> Table | None:
    """Builds the table of a grid search, which shows the NLL of each trial as the paper's Figure 2 does.

    The table has one row per value of the second hyperparameter, and one column per value of the first hyperparameter.

    Args:
        summary: Content of study.json, which a finished study writes.
        trials: Content of trials.csv, one row per trial.

    Returns:
        The table; None for a study that is not a grid over two hyperparameters.
    """
    if summary["sampler"] != "grid" or len(summary["space"]) != 2:
        return None
    (x, x_values), (y, y_values) = summary["space"].items()
    complete = trials[trials["state"] == "complete"]
    rows = {(row[x], row[y]): row for _, row in complete.iterrows()}
    best, paper = summary["best"], paper_choice(summary)

    def cell(column: float, row: float) -> Cell:
        trial = rows.get((column, row))
        if trial is None:
            return Cell(None)
        hyperparameters = {x: column, y: row}

        return Cell(
            number(trial["nll"], 2),
            error=number(trial["mi"], 2),
            mark=("c" if best and best["hyperparameters"] == hyperparameters else "")
            + ("p" if paper is not None and dict(paper) == hyperparameters else "")
            + (MARK if at_limit(summary, trial) else ""),
        )

    return Table(
        id="figure2",
        caption="NLL on validation in nats; in brackets the MI. c: the study's choice, which other trials may equal;"
        f" p: the paper's; {MARK}: ended at the limit of epochs.",
        corner=f"{letter(summary, y)} \\ {letter(summary, x)}",
        heads=[Head(f"{letter(summary, x)} {value:g}") for value in x_values],
        rows=[
            Row(f"{letter(summary, y)} {value:g}", [cell(column, value) for column in x_values])
            for value in reversed(y_values)
        ],
    )


def trials_table(summary: Mapping[str, Any], trials: pd.DataFrame) -> Table:
    """Builds the table of all trials, with one row per trial.

    Args:
        summary: Content of study.json, which a finished study writes.
        trials: Content of trials.csv, one row per trial.
    """
    keys = list(summary["space"])
    best = summary.get("maybe_best") or []
    several = len(seeds_of(summary)) > 1
    rows = [
        Row(
            f"{int(row['trial'])}",
            [
                *(Cell(number(row[key], 3)) for key in keys),
                Cell(
                    number(row["nll"], 2),
                    error=number(row["nll_stderr"], 2),
                    strong=row["trial"] in best,
                    mark=MARK if at_limit(summary, row) else "",
                ),
                *(Cell(number(row[name], 2)) for name in ("kl", "mi", *(["least_mi"] if several else []))),
                Cell(str(int(row["epochs"]))),
                Cell(str(row["state"])),
            ],
            note="" if pd.isna(row["why"]) else str(row["why"]),
        )
        for _, row in trials.iterrows()
    ]
    measures = ("NLL", "KL", "MI", *(["least MI"] if several else []))
    heads = [*(Head(letter(summary, key)) for key in keys), *(Head(name, "nats") for name in measures)]
    error = f"On validation{', means over the seeds' if several else ''}; in brackets the standard error over the"
    error += f" {errors_over(summary)}."

    return Table(
        id="trials",
        caption=f"{error} Bold: the trials that cannot be distinguished from the one with the lowest NLL among those"
        " whose MI is high enough."
        if summary.get("maybe_best")
        else f"{error} No trial is bold, since they were not compared in pairs.",
        corner="Trial",
        heads=[*heads, Head("Epochs"), Head("State")],
        rows=rows,
    )


# ---------------------------------------------------------------------------------- the page


def page(folder: Path, params: Params | None = None) -> tuple[bytes, str]:
    """Renders the page of a study.

    Args:
        folder: The folder of the study's results. `duvae search` has written study.json, trials.csv and curves.csv
            there. The file search.run.json, the record of commit, machine and time of the search, may be missing.
        params: All parameters of params.yaml, with which those of the study are compared; None: no comparison.

    Returns:
        The heat map of the study as PNG, and the study's page as HTML.

    Raises:
        UserError: If a file is missing or broken.
    """
    command = f"duvae search --study {folder.name}"
    record: Mapping[str, Any] = read_record(folder / "search.run.json", command, missing_ok=True)
    summary = read_json(folder / "study.json", command)
    searched = params.datasets.get(summary["dataset"]) if params is not None else None
    summary["own_data"] = searched is not None and is_own(searched)
    trials, curves = read_table(folder / "trials.csv", command), read_table(folder / "curves.csv", command)

    figure, course = heat_map(summary, trials), progress(summary, trials, curves)
    front = study_front.front_figure(summary, trials) if study_front.front(trials) else None
    pages = {**(site.RESULTS if summary["own_data"] else site.PAGES), **site.STUDIES}
    html = render(
        "study.html",
        site=site.header("Studies", site.origin_of_records([record]), pages, "../"),
        study=summary,
        seeds=seeds_text(summary),
        system=names.label(summary["system"]),
        ranges=word_list([f"{letter(summary, n)} {min(v):g} to {max(v):g}" for n, v in summary["space"].items()]),
        summary_lines=[
            *summary_lines(summary, trials),
            *ending_lines(summary, trials),
            *filter(None, [study_front.importance_line(summary)]),
            *([] if params is None else earlier_lines(summary, params)),
            origin_line(record),
        ],
        map=drawings.inline_svg(figure, [figure.axes]),
        progress=drawings.inline_svg(course, drawings.each_panel(course)),
        front=drawings.inline_svg(front, [front.axes]) if front else None,
        over=errors_over(summary),
        figure2=figure2(summary, trials),
        trials=trials_table(summary, trials),
        commit=short_commit(record) if record else None,
        versions=", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()),
        machine=machine_name(record["machine"]) if record.get("machine") else None,
        cpu=number(record.get("cpu_seconds"), 0),
    )

    return figures.png(figure), html
