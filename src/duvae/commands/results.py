"""`duvae results`: prints the results of models, for people as tables and for programs as JSON or CSV."""

import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from duvae.config import Job, Params
from duvae.errors import UserError
from duvae.report import brief, cells, never_run, per_example, weights
from duvae.report.results import Result

Form = Literal["table", "csv", "json", "markdown"]
"""The form of the output."""

WIDTH = 80
"""Width of the output in characters if standard output is not a terminal, and its least width on a terminal."""


def run(params: Params, dataset: str | None = None, form: Form = "table", root: Path = Path()) -> None:
    """Prints the results of all models that `run` in params.yaml names.

    Args:
        params: All parameters of params.yaml.
        dataset: Name of the data set whose results to print; None: all data sets with results.
        form: The form of the output.
        root: The project's folder.

    Raises:
        UserError: If there are no results, or if a file of a result is missing or broken.
    """
    if dataset is not None:
        params.dataset(dataset)
    jobs = [job for job in params.run_jobs() if dataset in (None, job.dataset)]
    if not jobs:
        raise UserError(
            f"--dataset {dataset}: expected a data set that 'run' in params.yaml names. Add it there, and run"
            " 'duvae graph'."
        )
    known, missing = never_run.split_by_results(params, jobs, root)
    show(params, known, form, root)
    if missing and form == "table":
        count = f"{len(missing)} models have" if len(missing) > 1 else "1 model has"
        print(f"\n{count} no results yet. 'dvc repro' or 'make rebuild' makes them.")


def show(params: Params, jobs: Sequence[Job], form: Form = "table", root: Path = Path()) -> None:
    """Prints the results of some models.

    Args:
        params: All parameters of params.yaml.
        jobs: The models.
        form: The form of the output.
        root: The project's folder.

    Raises:
        UserError: If a file of a result is missing or broken.
    """
    models = weights.current_models(params, jobs, root)
    if form == "json":
        print(json.dumps(brief.records(models), indent=2, ensure_ascii=False))
    elif form == "csv":
        print(pd.DataFrame(brief.records(models)).to_csv(index=False), end="")
    else:
        for place, name in enumerate(dict.fromkeys(model.job.dataset for model in models)):
            if place:
                print()
            _show_dataset(params, [model for model in models if model.job.dataset == name], form, root)


def _show_dataset(params: Params, models: Sequence[Result], form: Form, root: Path) -> None:
    """Prints the table of one data set and the sentences below it."""
    name = models[0].job.dataset
    table = brief.table(models, params.dataset(name))
    sentences = brief.lines(params, models, [per_example.read(model, root) for model in models], root)
    if form == "markdown":
        print(f"### {name}\n\n{table.caption}\n\n{brief.markdown(table)}\n")
        print("\n".join(f"- {line}" for line in sentences))
        return
    console = _console()
    console.print(Text(name, style="bold"), Text(f"{table.caption}\n"), sep="\n")
    console.print(_terminal_table(table))
    print()
    for line in sentences:
        print(textwrap.fill(line, console.width, initial_indent="- ", subsequent_indent="  "))


def _terminal_table(content: cells.Table) -> Table:
    """Draws a table for a terminal. The spread over seeds has a line of its own, so that 80 columns are enough."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column(content.corner, ratio=1)
    for head in content.heads:
        table.add_column(head.label, justify="left" if head is content.heads[-1] else "right", no_wrap=True)
    for row in content.rows:
        name = Text(row.name)
        if row.note:
            name.append(f" {row.note}", style="dim")
        table.add_row(name, *(Text(brief.text(entry, "\n")) for entry in row.cells))

    return table


def _console() -> Console:
    """The console of standard output, without colours where it is not a terminal."""
    terminal = sys.stdout.isatty()

    return Console(
        width=None if terminal and Console().width > WIDTH else WIDTH, highlight=False, no_color=not terminal
    )
