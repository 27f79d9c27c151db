"""Forms the short table of a data set's results for a terminal, and the same numbers for other programs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duvae.config import Dataset, Params
from duvae.metrics import verdict
from duvae.report import comparison, convergence, earlier_results, observations
from duvae.report.cells import Cell, Head, Row, Table, cell
from duvae.report.comparison import Comparison
from duvae.report.metric_columns import METRICS, noun
from duvae.report.per_example import PerExample
from duvae.report.results import Result, metrics_frame, over_seeds
from duvae.report.tables import named_settings, test_size_text

KEYS = ("nll", "kl", "mi", "use", "au")
"""Keys of the metrics in the table."""

WITH_ERROR = ("nll", "use")
"""Keys of the metrics whose error over the test examples the table shows, where a setting has one seed."""

UNDEFINED = "–"
"""Text of a cell without a number, for a system that does not have it."""


def table(results: Sequence[Result], dataset: Dataset) -> Table:
    """Builds a table with one row per setting that fits into 80 columns for most systems.

    A cell shows the mean over seeds. With several seeds, their standard deviation follows; with one seed, the standard
    error over test examples follows in brackets, for the metrics in `WITH_ERROR`.

    Args:
        results: Results of the models of one data set.
        dataset: The data set in params.yaml.
    """
    over, rows = over_seeds(results), []
    mixed = len(set(over.seeds)) > 1
    metrics = sorted((metric for metric in METRICS if metric.key in KEYS), key=lambda metric: KEYS.index(metric.key))
    for setting, name, note in named_settings(results):
        models = [result for result in results if result.job.setting == setting]
        several, cells = over.count(setting) > 1, []
        for metric in metrics:
            error = None if several or metric.key not in WITH_ERROR else over.value(setting, f"{metric.key}_stderr")
            decimals = 0 if metric.key == "au" and not several else metric.decimals
            cells.append(cell(over.value(setting, metric.key), decimals, over.spread(setting, metric.key), error))
        cells.append(Cell(verdict.of_setting([model.metrics for model in models])))
        count = f", {over.count(setting)} seed{'s' * several}" if mixed else ""
        mark = convergence.mark(models)
        rows.append(Row(f"{name}{mark}", cells, f"{note}{count}".removeprefix(", ")))
    item = noun(dataset)
    means = "" if mixed or over.seeds.iloc[0] == 1 else f" Means over {over.seeds.iloc[0]} seeds."

    return Table(
        f"brief-{results[0].job.dataset}",
        f"On {test_size_text(results, item)}, in nats per {item} (AU: dimensions).{means}",
        [*(Head(metric.label) for metric in metrics), Head("z")],
        rows,
    )


def lines(
    params: Params, results: Sequence[Result], examples: Sequence[PerExample | None], root: Path = Path()
) -> list[str]:
    """Writes the sentences below the table: the lowest NLL, the trainings that did not converge, and older results.

    Args:
        params: All parameters of params.yaml.
        results: Results of the models of one data set.
        examples: The values of each model's test examples; None where they are missing.
        root: The project's folder.
    """
    compared: Comparison = comparison.compare(results, examples)
    sentences = [brackets(results), *observations.nll_lines(results, compared)]
    sentences += [convergence.footnote(results).strip()]
    sentences += earlier_results.sentences(params, results, root)

    return [sentence for sentence in sentences if sentence]


def brackets(results: Sequence[Result]) -> str:
    """Says what the numbers after the means are."""
    seeds = over_seeds(results).seeds
    several, one = bool((seeds > 1).any()), bool((seeds == 1).any())
    parts = ["after ±, the standard deviation over seeds"] if several else []
    parts += ["in brackets, the standard error over the test examples"] if one else []

    return f"{'; '.join(parts)}.".capitalize() + (" One seed: others may differ." if one else "")


def text(entry: Cell, before_spread: str = " ") -> str:
    """The text of a cell: the number, its spread over seeds or its error, and the sign of a footnote.

    Args:
        entry: The cell.
        before_spread: Characters between the number and its spread.
    """
    if entry.text is None:
        return UNDEFINED
    spread = f"{before_spread}± {entry.spread}" if entry.spread is not None else ""
    error = f" [{entry.error}]" if entry.error is not None else ""

    return f"{entry.text}{spread}{error}{entry.mark}"


def markdown(table: Table) -> str:
    """Writes a table in Markdown."""
    heads = [table.corner, *(head.label for head in table.heads)]
    rows = [
        [f"{row.name} ({row.note})" if row.note else row.name, *(text(entry) for entry in row.cells)]
        for row in table.rows
    ]
    below = ["---", *["---:"] * (len(heads) - 2), "---"]

    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, below, *rows))


def records(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Lists all numbers of each model by name, for other programs. A number that a system does not have is None."""
    rows = []
    for result, row in zip(results, metrics_frame(results).to_dict("records"), strict=True):
        numbers = {
            str(name): None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()
        }
        words = {"system": result.system, "verdict": verdict.of_setting([result.metrics])}
        rows.append({**numbers, **words, "converged": result.ending.converged})

    return rows
