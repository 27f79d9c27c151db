"""Builds the tables of the report pages, and explains the meaning of the columns.

A setting is a system, such as DU-VAE, together with its hyperparameters. Each setting is trained with one or more
seeds, and each training gives one model. The results of a model are in a `Result`.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from duvae.project import durations
from duvae.report import convergence
from duvae.report.cells import Cell, Head, Row, Table, cell, number, number_range, word_list
from duvae.report.metric_columns import METRICS, shown_metrics
from duvae.report.results import OverSeeds, Result, label_counts, label_unit, over_seeds, setting_names

RESUMED = (
    "Of a training that was interrupted and resumed, the CPU time is not known, and the wall time is the sum over its"
    " epochs."
)
"""The sentence below a table of costs with such a training."""


def test_size_text(results: Sequence[Result], item: str) -> str:
    """Writes the number of test examples as a text.

    If the NLL was measured on only some of the test examples, the text also has the number of these examples.

    Args:
        results: Results of the models of one data set.
        item: The word for one test example.
    """
    total = number_range([result.metrics["sentences"] for result in results])
    part = number_range([result.metrics.get("nll_examples") or result.metrics["sentences"] for result in results])

    return f"{total} test {item}s" + ("" if part == total else f" (NLL on a random {part} of them, the rest on all)")


def labelled_elsewhere(results: Sequence[Result], item: str) -> str:
    """Says how many examples of the largest labelled subset also occur in the test and the validation split.

    Args:
        results: Results of the models of one data set. All of them have the same labelled subsets.
        item: The word for one example.

    Returns:
        A sentence that starts with a space. Empty if no result has counted these examples.
    """
    for result in results:
        by_labels = result.probe["by_labels"] if result.probe else {}
        counted = [size for size, accuracy in by_labels.items() if accuracy.get("in_test")]
        if not counted:
            continue
        size = max(counted, key=int)
        means = [fmean(by_labels[size][key]) for key in ("in_test", "in_valid")]
        draws = len(by_labels[size]["in_test"])
        in_test, in_valid = (f"{mean:,.1f}".removesuffix(".0") for mean in means)
        return (
            f" Of {int(size):,} labelled {item}s{', as a mean over the subsets' if draws > 1 else ''}, {in_test} also"
            f" stand in the test set and {in_valid} in the validation set."
        )

    return ""


def test_choice_text(results: Sequence[Result], item: str) -> str:
    r"""Says how much the accuracies of probes vary with the choice of the test examples.

    It is the standard error of a share a of N examples, $100 \sqrt{a (1 - a) / N}$ points, for the accuracy for which
    it is largest.

    Args:
        results: Results of the models of one data set.
        item: The word for one test example.

    Returns:
        A sentence that starts with a space; empty if there are no probes.
    """
    found = [
        (float(probe["accuracy"]) / 100, int(result.metrics["sentences"]))
        for result in results
        if result.probe
        for probe in result.probe["by_labels"].values()
    ]
    if not found:
        return ""
    most = max(100 * math.sqrt(share * (1 - share) / tests) for share, tests in found)
    tests = number_range([tests for _, tests in found])

    return (
        f" The choice of the {tests} test {item}s is not covered: it alone gives a standard error of up to"
        f" {number(most, 1)} points, if the {item}s are independent of each other."
    )


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
    for setting, name, note in named_settings(results):
        cells = [
            cell(over.value(setting, key), 1, over.spread(setting, key), over.value(setting, f"{key}_spread"))
            for key in (f"probe_{n}" for n in counts)
        ]
        mark = convergence.mark([result for result in results if result.job.setting == setting])
        rows.append(Row(name, [cell(over.count(setting)), *cells], note, colours[setting], mark=mark))
    subsets = {
        len(accuracy["draws"]) for result in results if result.probe for accuracy in result.probe["by_labels"].values()
    }
    brackets = (
        "; in brackets the standard deviation over labelled subsets, mean over seeds (too small for large subsets,"
        " since these overlap)"
    )
    if subsets == {1}:
        brackets = "; one labelled subset for each number, whose choice is not covered"
    elif 1 in subsets:
        brackets += "; without brackets there is one labelled subset, whose choice is not covered"
    unit = label_unit(results)
    groups = [result.probe["alphabets"] for result in results if result.probe and result.probe.get("alphabets")]
    per_alphabet = f", each of {number_range(groups)} alphabets on its own and their mean," if groups else ""

    return Table(
        f"{prefix}probes-{results[0].job.dataset}",
        f"Accuracy in percent on the test {item}s of a linear classifier of the posterior means (of a flow μ⁰ and zᵀ"
        f" joined){per_alphabet} by number of {unit}. {spread_text(over)}{brackets}."
        f"{test_choice_text(results, item)} The means have no noise, so a classifier of them can be accurate although"
        f" the decoder ignores z.{labelled_elsewhere(results, item)}"
        f"{convergence.footnote(results)}",
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
    marks = {
        setting: convergence.mark([result for result in results if result.job.setting == setting]) for setting in names
    }
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
                    f"Accuracy in percent in each alphabet, {count} {label_unit(results)}; means over seeds."
                    f"{convergence.footnote(results)}",
                    [Head(f"{name}{marks[setting]}") for setting, name in names.items()],
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
    for setting, name, note in named_settings(results):
        models = [result for result in results if result.job.setting == setting]
        commits = ", ".join(dict.fromkeys(result.commit for result in models if result.commit))
        cells = [cell(over.count(setting)), Cell(commits or None)]
        for key in columns:
            value = over.value(setting, key)
            no_steps = key == "encoder_steps" and not value
            cells.append(Cell(None) if no_steps else cell(value, 0, over.spread(setting, key)))
        records = [result.provenance["train"] for result in models if "train" in result.provenance]
        devices = dict.fromkeys(f"{record['device']}, {record['threads']}" for record in records)
        cells.append(Cell(word_list(list(devices)) or None))
        cells.append(Cell(convergence.over_seeds([result.ending for result in models])))
        if not all(result.metrics["warmup_ended"] for result in models):
            kept = "last" if any(result.last_kept for result in models) else "best"
            note = f"{note}; ended before its warm-up, {kept} weights kept".removeprefix("; ")  # noqa: PLW2901
        rows.append(Row(name, cells, note, colours[setting]))

    resumed = any(durations.resumed(result.provenance.get("train", {})) for result in results)
    parts = f" {RESUMED}" if resumed else ""

    return Table(
        f"{prefix}making-{results[0].job.dataset}",
        f"The cost of each result and its commit (+: with uncommitted changes); – where there is no record.{parts}",
        [Head("Seeds"), Head("Commit"), *columns.values(), Head("Device", "threads"), Head("End of training")],
        rows,
    )


def per_model(results: Sequence[Result], colours: Mapping[str, str], item: str = "sentence") -> Table:
    """Builds the table of single models, with one row per setting and seed.

    Args:
        results: Results of the models of one data set.
        colours: The colour of each setting, by the key of the setting.
        item: The word for one test example.
    """
    shown = set(shown_metrics(results, None, item)) - {"against"}  # that column compares settings
    metrics = [metric for metric in METRICS if metric.key in shown]
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
        setting, mark = result.job.setting, convergence.mark([result])
        rows.append(Row(names[setting], cells, f"seed {result.job.seed}", colours[setting], mark=mark))

    return Table(
        f"models-{results[0].job.dataset}",
        f"Every single model; in brackets standard errors.{convergence.footnote(results)}",
        [*(Head(metric.label, metric.unit) for metric in metrics), *more.values(), Head("Commit")],
        rows,
    )


def spread_text(over: OverSeeds) -> str:
    """Says what the sign ± means in a table, or that there is only one seed."""
    if (over.seeds > 1).any():
        return "± is the standard deviation over seeds"

    return "One seed, so no spread over seeds, and other seeds may differ"


def named_settings(results: Sequence[Result]) -> list[tuple[str, str, str]]:
    """Returns the key, the name and the note of each setting.

    The note gives the hyperparameters; it is empty if the name contains the hyperparameters already.
    """
    names = setting_names(results)
    first = {result.job.setting: result for result in reversed(results)}

    return [
        (setting, name, "" if f"({first[setting].hyperparameters})" in name else first[setting].hyperparameters)
        for setting, name in names.items()
    ]
