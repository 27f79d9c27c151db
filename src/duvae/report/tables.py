"""Builds the tables of the report pages, and explains the meaning of the columns.

A setting is a system, such as DU-VAE, together with its hyperparameters. Each setting is trained with one or more
seeds, and each training gives one model. The results of a model are in a `Result`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from duvae.config import Dataset
from duvae.report.cells import Cell, Head, Row, Table, cell, number_range, word_list
from duvae.report.per_example import Floor
from duvae.report.results import (
    FLOW_METRIC_KEYS,
    OverSeeds,
    Result,
    label_counts,
    label_unit,
    over_seeds,
    setting_names,
)

Gaps = Mapping[str, Sequence[tuple[float, float]]]
"""Differences between the models' NLL and the floor (see `Floor`) in nats, by setting.

A setting has one pair per seed: the mean difference over the sentences, and the standard error of this mean.
"""

NOUNS = {"synthetic": "sentence", "text": "sentence"}
"""The word for one example, by the kind of the data set. For a kind that is not listed, the word is "image"."""


@dataclass(frozen=True)
class Metric:
    """A column of the tables.

    Attributes:
        key: The key of the value in `Result.row`.
        label: The heading of the column.
        unit: The unit below the heading; empty: the metric has no unit.
        decimals: Number of decimal places of the values.
        meaning: The meaning of the column in one or two sentences, which the page prints.
    """

    key: str
    label: str
    unit: str
    decimals: int
    meaning: str


METRICS = (
    Metric(
        "nll",
        "NLL",
        "nats",
        2,
        "−log p(x), by importance weighting with {samples} samples each; less is better."
        " In brackets the standard error of the mean over the test examples on which it was measured.",
    ),
    Metric(
        "gap",
        "Above floor",
        "nats",
        2,
        "NLL minus the generator's own −log p(x), on the {floor} sentences of the floor;"
        " in brackets the standard error of these paired differences.",
    ),
    Metric(
        "perplexity",
        "PPL",
        "",
        2,
        "exp(total NLL / total number of predicted words), where each end of a sentence counts as a word;"
        " less is better.",
    ),
    Metric("reconstruction", "Recon.", "nats", 2, "−E log p(x|z) under q(z|x): the cost of x given z."),
    Metric("kl", "KL", "nats", 2, "KL[q(z|x) ‖ p(z)]: the cost of z."),
    Metric("mi", "MI", "nats", 2, "KL[q(z|x) ‖ q(z)]: the information about x in z; 0 when all posteriors are equal."),
    Metric("au", "AU", "dimensions", 1, "Active units: the dimensions whose mean has a variance above {threshold}."),
    Metric(
        "mpd",
        "MPD",
        "nats",
        2,
        "Mutual posterior divergence, the mean over all pairs of posteriors of their symmetric KL: diversity."
        " Equation 3 in the form of its derivation S11, with the −1 inside the sum over dimensions.",
    ),
    Metric("ce", "CE", "nats", 2, "Conditional entropy of z given x: uncertainty."),
    Metric(
        "mpd_t",
        "MPD of zᵀ",
        "nats",
        2,
        "For IAF systems the column MPD is the exact value for z⁰, the start of the chain of flows. This column is an"
        " estimate for zᵀ, the end of the chain; in brackets its standard error.",
    ),
    Metric("ce_t", "CE of zᵀ", "nats", 2, "The same for the conditional entropy."),
)
"""The columns of the tables, one for each metric of a model. `docs/metrics.md` has the equations."""


def noun(dataset: Dataset) -> str:
    """Returns the word for one example of a data set: `sentence` or `image`."""
    return NOUNS.get(dataset.kind, "image")


def shown_metrics(results: Sequence[Result], floor: Floor | None = None, item: str = "sentence") -> list[str]:
    """Returns the keys of the metrics that a table of results shows.

    The metrics of flows are left out if no model has them.

    Args:
        results: Results of the models of one data set.
        floor: The floor of the NLL (see `Floor`); None: the column `gap`, the model's NLL minus the floor, is left out.
        item: The word for one example of the data set. For "image" the perplexity is left out, because it is a number
            per word.
    """
    has_flow = any(result.metrics.get(key) is not None for result in results for key in FLOW_METRIC_KEYS)
    omitted = [
        *(() if has_flow else FLOW_METRIC_KEYS),
        *(() if floor else ("gap",)),
        *(("perplexity",) if item == "image" else ()),
    ]

    return [metric.key for metric in METRICS if metric.key not in omitted]


def likelihood(
    results: Sequence[Result],
    colours: Mapping[str, str],
    floor: Floor | None = None,
    gaps: Gaps | None = None,
    prefix: str = "",
    item: str = "sentence",
) -> Table:
    """Builds the table of all metrics, with one row per setting.

    A cell shows the mean and the standard deviation over seeds. If the metric has a standard error over test examples,
    the cell shows it in brackets.

    Args:
        results: Results of the models of one data set.
        colours: The colour of each setting, by the key of the setting.
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
        cells = [Cell(None), *(known.get(metric.key, Cell(None)) for metric in metrics)]
        rows.append(Row("Floor: the true NLL", cells, note, floor=True))
    least = {key: over.mean[key].min() for key in ("nll", "perplexity") if over.mean[key].notna().sum() > 1}
    for setting, name, note in _named(results):
        cells = [cell(over.count(setting))]
        for metric in metrics:
            if metric.key == "gap":
                gap = pd.DataFrame((gaps or {}).get(setting, []), columns=["mean", "error"])
                cells.append(cell(gap["mean"].mean(), 2, gap["mean"].std(ddof=1), gap["error"].mean()))
                continue
            value = over.value(setting, metric.key)
            decimals = 0 if metric.key == "au" and over.count(setting) == 1 else metric.decimals
            error = over.value(setting, f"{metric.key}_stderr")
            entry = cell(value, decimals, over.spread(setting, metric.key), error)
            cells.append(replace(entry, strong=value == least.get(metric.key)))
        rows.append(Row(name, cells, note, colours[setting]))

    return Table(
        f"{prefix}likelihood-{results[0].job.dataset}",
        f"On {test_size_text(results, item)}, per {item}. {_spread(over)}; in brackets the standard error over {item}s;"
        " – where a system has no such number.",
        [Head("Seeds"), *(Head(metric.label, metric.unit) for metric in metrics)],
        rows,
    )


def test_size_text(results: Sequence[Result], item: str) -> str:
    """Writes the number of test examples as a text.

    If the NLL was measured on only some of the test examples, the text also has the number of these examples.

    Args:
        results: Results of the models of one data set.
        item: The word for one test example.
    """
    total = number_range([result.metrics["sentences"] for result in results])
    part = number_range([result.metrics.get("nll_examples") or result.metrics["sentences"] for result in results])

    return f"{total} test {item}s" + ("" if part == total else f" (NLL on a random {part} of them)")


def probes(
    results: Sequence[Result], colours: Mapping[str, str], prefix: str = "", item: str = "sentence"
) -> Table | None:
    """Builds the table of the accuracies of linear probes, with one row per setting.

    A linear probe is a linear classifier that reads the posterior means and is trained on labelled examples. The table
    has one column per number of labelled examples.

    Args:
        results: Results of the models of one data set.
        colours: The colour of each setting, by the key of the setting.
        prefix: Start of the table's id in the HTML page.
        item: The word for one test example.

    Returns:
        The table; None if no model has probes.
    """
    counts = label_counts(results)
    if not counts:
        return None
    over = over_seeds(results)
    largest = next(result.probe["largest_class"] for result in results if result.probe and result.probe["by_labels"])
    rows = [Row("Largest class", [Cell(None), *[cell(largest, 1)] * len(counts)], floor=True)]
    several_subsets = False
    for setting, name, note in _named(results):
        cells = [
            cell(over.value(setting, key), 1, over.spread(setting, key), over.value(setting, f"{key}_spread"))
            for key in (f"probe_{n}" for n in counts)
        ]
        several_subsets = several_subsets or any(entry.error for entry in cells)
        rows.append(Row(name, [cell(over.count(setting)), *cells], note, colours[setting]))
    brackets = "; in brackets the standard deviation over labelled subsets, mean over seeds" if several_subsets else ""
    unit = label_unit(results)
    groups = [result.probe["alphabets"] for result in results if result.probe and result.probe.get("alphabets")]
    per_alphabet = f", each of {number_range(groups)} alphabets on its own and their mean," if groups else ""

    return Table(
        f"{prefix}probes-{results[0].job.dataset}",
        f"Accuracy in percent on the test {item}s of a linear classifier of the posterior means (of a flow μ⁰ and zᵀ"
        f" joined){per_alphabet} by number of {unit}. {_spread(over)}{brackets}.",
        [Head("Seeds"), *(Head(f"{int(n):,}" if n.isdigit() else n) for n in counts)],
        rows,
    )


def alphabets(results: Sequence[Result]) -> list[Table]:
    """Builds the tables of the probes' accuracies in each alphabet. The accuracies are means over seeds.

    Only models of Omniglot, a data set of characters of many alphabets, can have probes of single alphabets.

    Args:
        results: Results of the models of one data set.

    Returns:
        One table for each number of labelled examples. There is no table if no probes were trained for single
        alphabets.
    """
    names = setting_names(results)
    tables = []
    for count in label_counts(results):
        accuracies: dict[str, dict[str, list[float]]] = {}
        for result in results:
            by_labels = (result.probe or {"by_labels": {}})["by_labels"]
            for alphabet, accuracy in by_labels.get(count, {}).get("by_alphabet", {}).items():
                accuracies.setdefault(alphabet, {}).setdefault(result.job.setting, []).append(accuracy)
        rows = [
            Row(alphabet, [cell(sum(ours[s]) / len(ours[s]), 1) if s in ours else Cell(None) for s in names])
            for alphabet, ours in sorted(accuracies.items())
        ]
        if rows:
            tables.append(
                Table(
                    f"alphabets-{count}-{results[0].job.dataset}",
                    f"Accuracy in percent in each alphabet, {count} {label_unit(results)}; means over seeds.",
                    [Head(name) for name in names.values()],
                    rows,
                    "Alphabet",
                )
            )

    return tables


def costs(results: Sequence[Result], colours: Mapping[str, str], prefix: str = "") -> Table:
    """Builds the table of each setting's cost: epochs, time and memory.

    These numbers are means over seeds, with standard deviations. The table also shows the devices, the numbers of
    threads and the commits with which the results were computed.

    Args:
        results: Results of the models of one data set.
        colours: The colour of each setting, by the key of the setting.
        prefix: Start of the table's id in the HTML page.
    """
    over = over_seeds(results)
    steps = bool(over.mean["encoder_steps"].any())
    columns = {
        "epochs": Head("Epochs", "run"),
        "best_epoch": Head("Best", "epoch"),
        **({"encoder_steps": Head("Inner steps", "of the encoder")} if steps else {}),
        "train_cpu": Head("Training", "CPU seconds"),
        "evaluate_cpu": Head("Evaluation", "CPU seconds"),
        "train_seconds": Head("Wall time", "training, s"),
        "peak_memory_mib": Head("Memory", "MiB, peak"),
    }
    rows = []
    for setting, name, note in _named(results):
        models = [result for result in results if result.job.setting == setting]
        cells = [cell(over.count(setting))]
        for key in columns:
            value = over.value(setting, key)
            no_steps = key == "encoder_steps" and not value
            cells.append(Cell(None) if no_steps else cell(value, 0, over.spread(setting, key)))
        records = [result.provenance["train"] for result in models if "train" in result.provenance]
        devices = dict.fromkeys(f"{record['device']}, {record['threads']}" for record in records)
        cells.append(Cell(word_list(list(devices)) or None))
        cells.append(Cell(", ".join(dict.fromkeys(result.commit for result in models if result.commit)) or None))
        if not all(result.metrics["warmup_ended"] for result in models):
            note = f"{note}; ended before its warm-up, last weights kept".removeprefix("; ")  # noqa: PLW2901
        rows.append(Row(name, cells, note, colours[setting]))

    return Table(
        f"{prefix}making-{results[0].job.dataset}",
        "The cost of each result and its commit (+: with uncommitted changes); – where there is no record.",
        [Head("Seeds"), *columns.values(), Head("Device", "threads"), Head("Commit")],
        rows,
    )


def per_model(results: Sequence[Result], colours: Mapping[str, str], item: str = "sentence") -> Table:
    """Builds the table of single models, with one row per setting and seed.

    Args:
        results: Results of the models of one data set.
        colours: The colour of each setting, by the key of the setting.
        item: The word for one test example.
    """
    metrics = [metric for metric in METRICS if metric.key in shown_metrics(results, None, item)]
    more = {"epochs": Head("Epochs"), "best_epoch": Head("Best", "epoch"), "train_cpu": Head("Training", "CPU s")}
    names = setting_names(results)
    rows = []
    for result in results:
        values = result.row
        cells = [
            cell(
                values[metric.key],
                0 if metric.key == "au" else metric.decimals,
                None,
                values.get(f"{metric.key}_stderr"),
            )
            for metric in metrics
        ]
        cells += [*(cell(values[key]) for key in more), Cell(result.commit or None)]
        rows.append(Row(names[result.job.setting], cells, f"seed {result.job.seed}", colours[result.job.setting]))

    return Table(
        f"models-{results[0].job.dataset}",
        "Every single model; in brackets standard errors.",
        [*(Head(metric.label, metric.unit) for metric in metrics), *more.values(), Head("Commit")],
        rows,
    )


def _spread(over: OverSeeds) -> str:
    return "± is the standard deviation over seeds" if (over.seeds > 1).any() else "One seed, so no spread over seeds"


def _named(results: Sequence[Result]) -> list[tuple[str, str, str]]:
    """Returns the key, the name and the note of each setting.

    The note gives the hyperparameters; it is empty if the name contains the hyperparameters already.
    """
    names = setting_names(results)
    first = {result.job.setting: result for result in reversed(results)}

    return [
        (setting, name, "" if f"({first[setting].hyperparameters})" in name else first[setting].hyperparameters)
        for setting, name in names.items()
    ]
