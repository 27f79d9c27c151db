"""Builds the table of all metrics of a data set's settings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from duvae.metrics import verdict
from duvae.report import convergence
from duvae.report.cells import Cell, Head, Row, Table, cell, number_range, word_list
from duvae.report.comparison import Comparison, absent_text, seeds_text
from duvae.report.metric_columns import METRICS, Gaps, reference, shown_metrics
from duvae.report.per_example import Floor, gap_over_seeds
from duvae.report.results import FLOW_METRIC_KEYS, Result, over_seeds
from duvae.report.tables import named_settings, spread_text, test_size_text


def likelihood(
    results: Sequence[Result],
    colours: Mapping[str, str],
    comparison: Comparison,
    floor: Floor | None = None,
    gaps: Gaps | None = None,
    prefix: str = "",
    item: str = "sentence",
) -> Table:
    """Builds the table of all metrics, with one row per setting.

    A cell shows the mean and the standard deviation over seeds. If the metric has a standard error over test examples,
    the cell shows it in brackets. Bold type marks the settings that cannot be distinguished from the one with the
    lowest NLL. There is no bold type if a setting with an NLL could not be compared.

    Args:
        results: Results of the models of one data set.
        colours: The colour of each setting, by the key of the setting.
        comparison: The NLL of the single test examples, by which the settings are compared.
        floor: The floor of the NLL (see `Floor`). It adds one row, and the column `gap` with the models' NLL minus the
            floor. None: the table has neither this row nor this column.
        gaps: Differences between the models' NLL and the floor; None: the cells of the column `gap` are empty.
        prefix: Start of the table's id in the HTML page.
        item: The word for one test example.
    """
    over = over_seeds(results)
    keys = shown_metrics(results, floor, item)
    metrics = [metric for metric in METRICS if metric.key in keys]
    rows = []
    if floor is not None:
        known = {"nll": cell(floor.summary["nll"], 2, error=floor.summary["nll_stderr"])}
        note = f"{floor.summary['sentences']:,} sentences"
        cells = [Cell(None), *(known.get(metric.key, Cell(None)) for metric in metrics), Cell(None)]
        rows.append(Row("Floor: the true NLL", cells, note, floor=True))
    vae = reference(results)
    for setting, name, note in named_settings(results):
        models = [result for result in results if result.job.setting == setting]
        mark = convergence.mark(models)
        cells = [cell(over.count(setting))]
        for metric in metrics:
            if metric.key == "gap":
                mean, spread, error = gap_over_seeds((gaps or {}).get(setting, []))
                cells.append(replace(cell(mean, 2, spread, error), mark=mark))
            elif metric.key == "against":
                apart = vae is None or setting == vae or bool({setting, vae} & set(comparison.shorter))
                found = None if vae is None or apart else comparison.between(setting, vae)
                entry = cell(found.difference, 2, error=found.high - found.difference) if found else Cell(None)
                both = [result for result in results if result.job.setting in (setting, vae)]
                cells.append(replace(entry, mark=convergence.mark(both)))
            else:
                value = over.value(setting, metric.key)
                decimals = 0 if metric.key == "au" and over.count(setting) == 1 else metric.decimals
                error = over.value(setting, f"{metric.key}_stderr")
                entry = cell(value, decimals, over.spread(setting, metric.key), error)
                if metric.key == "nll" and entry.text is not None:
                    entry = replace(entry, strong=setting in comparison.best and not comparison.left_out, mark=mark)
                elif metric.key == "nll_unseen" and entry.text is not None:
                    entry = replace(entry, mark=mark)
                cells.append(entry)
        cells.append(Cell(verdict.of_setting([model.metrics for model in models])))
        rows.append(Row(name, cells, note, colours[setting]))

    bracketed = [
        metric.key
        for place, metric in enumerate(metrics, 1)
        if any(row.cells[place].error is not None for row in rows if row.cells[place].text is not None)
    ]

    return Table(
        f"{prefix}likelihood-{results[0].job.dataset}",
        f"On {test_size_text(results, item)}, per {item}. {spread_text(over)};{brackets_text(bracketed, item)}"
        f" – where a system has no such number. {best_text(results, comparison)}{unseen_text(results, keys, item)}"
        f"{convergence.footnote(results)}",
        [Head("Seeds"), *(Head(metric.label, metric.unit) for metric in metrics), Head("z")],
        rows,
    )


def unseen_text(results: Sequence[Result], keys: Sequence[str], item: str) -> str:
    """Says of how many test examples the column of unseen examples is, with a space before; empty without the column.

    Args:
        results: Results of the models of one data set.
        keys: The keys of the metrics that the table shows.
        item: The word for one test example.
    """
    counts = [int(result.metrics["unseen"]) for result in results if result.metrics.get("unseen") is not None]
    if "nll_unseen" not in keys or not counts:
        return ""

    return f" Unseen: {number_range(counts)} {item}s."


def brackets_text(keys: Sequence[str], item: str) -> str:
    """Says what the numbers in brackets mean in the columns that have some; empty where there are none.

    Args:
        keys: The keys of the metrics with numbers in brackets.
        item: The word for one test example.
    """
    texts = [f"the standard error over {item}s"] if set(keys) - {"against", *FLOW_METRIC_KEYS} else []
    if "against" in keys:
        texts.append("for Minus VAE's half of the 95 % interval of that comparison alone")
    if sampled := [metric.label for metric in METRICS if metric.key in keys and metric.key in FLOW_METRIC_KEYS]:
        texts.append(f"for {word_list(sampled)} the standard error of sampling")

    return f" in brackets {', '.join(texts)};" if texts else ""


def best_text(results: Sequence[Result], comparison: Comparison) -> str:
    """Says what bold type means in the column of the NLL, or why there is none; empty where nothing can be compared.

    Args:
        results: Results of the models of one data set.
        comparison: The NLL of the single test examples.
    """
    if len(comparison.settings) + len(comparison.left_out) < 2:
        return ""
    absent = absent_text(results, comparison)
    if comparison.left_out or not comparison.best:
        return f"No setting is bold, since not all were compared. {absent}".strip()
    which = (
        "the setting with a lower NLL than all others that were compared"
        if len(comparison.best) == 1
        else "the settings that cannot be distinguished from the one with the lowest NLL"
    )

    return f"Bold: {which} (95 % for all comparisons together, {seeds_text(results, comparison)}). {absent}".strip()
