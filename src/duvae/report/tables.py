"""The tables of the pages: which columns there are, what they mean, and how numbers are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from duvae.config import Dataset
from duvae.report.per_example import Floor
from duvae.report.results import LAST, OverSeeds, Result, label_counts, labels, labels_are, over_seeds

Gaps = Mapping[str, Sequence[tuple[float, float]]]
"""How far each setting lies above the floor, a seed each: mean and standard error over sentences."""

NOUNS = {"synthetic": "sentence", "text": "sentence"}
"""What the items of a data set are; of any other kind they are images."""


@dataclass(frozen=True)
class Metric:
    """A column: how it is headed, how it is written, and what it means in one line."""

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
        " In brackets the standard error of the mean over the test examples that it is of.",
    ),
    Metric(
        "gap",
        "Above floor",
        "nats",
        2,
        "NLL minus the generator's own −log p(x), on the {floor} sentences that the floor has;"
        " in brackets the standard error of these paired differences.",
    ),
    Metric(
        "perplexity",
        "PPL",
        "",
        2,
        "exp(total NLL / total predicted words), the end of a sentence counted; less is better.",
    ),
    Metric("reconstruction", "Recon.", "nats", 2, "−E log p(x|z) under q(z|x): the cost of x, its z known."),
    Metric("kl", "KL", "nats", 2, "KL[q(z|x) ‖ p(z)]: the cost of z."),
    Metric("mi", "MI", "nats", 2, "KL[q(z|x) ‖ q(z)]: what z tells of x; 0 when all posteriors are the same."),
    Metric("au", "AU", "dimensions", 1, "Active units: those whose mean has a variance above {threshold}."),
    Metric(
        "mpd",
        "MPD",
        "nats",
        2,
        "Mutual posterior divergence, the symmetric KL of two posteriors, mean over all pairs: diversity."
        " Equation 3 in the form that its derivation S11 gives, the −1 inside the sum over dimensions.",
    ),
    Metric("ce", "CE", "nats", 2, "Conditional entropy of z given x: uncertainty."),
    Metric(
        "mpd_t",
        "MPD of zᵀ",
        "nats",
        2,
        "For IAF systems MPD is that of z⁰, where the chain of flows starts, exact; this is that of zᵀ, where it ends,"
        " estimated, in brackets its standard error.",
    ),
    Metric("ce_t", "CE of zᵀ", "nats", 2, "The same for the conditional entropy."),
)
"""What is said of each model. `docs/metrics.md` has the equations."""


@dataclass(frozen=True)
class Cell:
    """A number as it is written; `text` None: the system has no such figure.

    Attributes:
        text: The number.
        spread: Its standard deviation over seeds.
        error: Its standard error, or another spread that is not over seeds.
        strong: It is the best of its column.
        mark: The sign of a footnote.
    """

    text: str | None
    spread: str | None = None
    error: str | None = None
    strong: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Head:
    """The head of a column."""

    label: str
    unit: str = ""


@dataclass(frozen=True)
class Row:
    """A row: what it is of, its numbers, a small note and the colour that it has in the figures."""

    name: str
    cells: Sequence[Cell]
    note: str = ""
    colour: str = ""
    floor: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a page; `groups`: a row above the heads, names with the number of columns that each spans."""

    id: str
    caption: str
    heads: Sequence[Head]
    rows: Sequence[Row]
    corner: str = "System"
    groups: Sequence[tuple[str, int]] = ()


def number(value: float | None, decimals: int) -> str | None:
    """A number as a page writes it: thousands apart, a real minus sign; None where there is none."""
    if value is None or pd.isna(value):
        return None
    text = f"{value:,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")

    return text.replace("-", "−")


def cell(value: float | None, decimals: int = 0, spread: float | None = None, error: float | None = None) -> Cell:
    """A number, its spread and its error, all with `decimals` digits."""
    return Cell(number(value, decimals), number(spread, decimals), number(error, decimals))


def noun(dataset: Dataset) -> str:
    """What an item of a data set is: a sentence or an image."""
    return NOUNS.get(dataset.kind, "image")


def shown(results: Sequence[Result], floor: Floor | None = None, item: str = "sentence") -> list[str]:
    """The metrics that a table of `results` has columns for; images have no words to be perplexed by."""
    chain = any(result.metrics.get(key) is not None for result in results for key in LAST)
    without = [*(() if chain else LAST), *(() if floor else ("gap",)), *(("perplexity",) if item == "image" else ())]

    return [metric.key for metric in METRICS if metric.key not in without]


def likelihood(
    results: Sequence[Result],
    colours: Mapping[str, str],
    floor: Floor | None = None,
    gaps: Gaps | None = None,
    prefix: str = "",
    item: str = "sentence",
) -> Table:
    """Every metric: mean and standard deviation over seeds, standard errors in brackets.

    Args:
        results: Models of one data set.
        colours: Of each setting.
        floor: The generator's own NLL, a row of its own; `gaps` to it have a column.
        gaps: How far each setting lies above the floor.
        prefix: Of the table's id.
        item: What is tested on.
    """
    over = over_seeds(results)
    keys = shown(results, floor, item)
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
                found = pd.DataFrame((gaps or {}).get(setting, []), columns=["gap", "error"])
                cells.append(cell(found["gap"].mean(), 2, found["gap"].std(ddof=1), found["error"].mean()))
                continue
            value = over.value(setting, metric.key)
            decimals = 0 if metric.key == "au" and over.count(setting) == 1 else metric.decimals
            error = over.value(setting, f"{metric.key}_stderr")
            of = cell(value, decimals, over.spread(setting, metric.key), error)
            cells.append(replace(of, strong=value == least.get(metric.key)))
        rows.append(Row(name, cells, note, colours[setting]))

    return Table(
        f"{prefix}likelihood-{results[0].job.dataset}",
        f"On {tested(results, item)}, per {item}. {_spread(over)}; in brackets the standard error over {item}s;"
        " – where a system has no such figure.",
        [Head("Seeds"), *(Head(metric.label, metric.unit) for metric in metrics)],
        rows,
    )


def tested(results: Sequence[Result], item: str) -> str:
    """How many test examples there are, and where the NLL is of fewer, of how many."""
    every = span([result.metrics["sentences"] for result in results])
    part = span([result.metrics.get("nll_examples") or result.metrics["sentences"] for result in results])

    return f"{every} test {item}s" + ("" if part == every else f" (NLL on a random {part} of them)")


def probes(
    results: Sequence[Result], colours: Mapping[str, str], prefix: str = "", item: str = "sentence"
) -> Table | None:
    """Accuracy by number of labels; None where nothing was probed."""
    counts = label_counts(results)
    if not counts:
        return None
    over = over_seeds(results)
    largest = next(result.probe["largest_class"] for result in results if result.probe and result.probe["by_labels"])
    rows = [Row("Largest class", [Cell(None), *[cell(largest, 1)] * len(counts)], floor=True)]
    drawn = False
    for setting, name, note in _named(results):
        cells = [
            cell(over.value(setting, key), 1, over.spread(setting, key), over.value(setting, f"{key}_spread"))
            for key in (f"probe_{n}" for n in counts)
        ]
        drawn = drawn or any(of.error for of in cells)
        rows.append(Row(name, [cell(over.count(setting)), *cells], note, colours[setting]))
    brackets = "; in brackets the standard deviation over labelled subsets, mean over seeds" if drawn else ""

    what = labels_are(results)
    groups = [result.probe["alphabets"] for result in results if result.probe and result.probe.get("alphabets")]
    each_of = f", each of {span(groups)} alphabets on its own and their mean," if groups else ""

    return Table(
        f"{prefix}probes-{results[0].job.dataset}",
        f"Accuracy in percent on the test {item}s of a linear classifier of the posterior means (of a flow μ⁰ and zᵀ"
        f" joined){each_of} by number of {what}. {_spread(over)}{brackets}.",
        [Head("Seeds"), *(Head(f"{int(n):,}" if n.isdigit() else n) for n in counts)],
        rows,
    )


def alphabets(results: Sequence[Result]) -> list[Table]:
    """Accuracy in each alphabet, mean over seeds: a table a size of labelled subsets; none where there are none."""
    names = labels(results)
    tables = []
    for count in label_counts(results):
        found: dict[str, dict[str, list[float]]] = {}
        for result in results:
            of = (result.probe or {"by_labels": {}})["by_labels"].get(count, {}).get("by_alphabet", {})
            for alphabet, accuracy in of.items():
                found.setdefault(alphabet, {}).setdefault(result.job.setting, []).append(accuracy)
        rows = [
            Row(alphabet, [cell(sum(of[s]) / len(of[s]), 1) if s in of else Cell(None) for s in names])
            for alphabet, of in sorted(found.items())
        ]
        if rows:
            tables.append(
                Table(
                    f"alphabets-{count}-{results[0].job.dataset}",
                    f"Accuracy in percent in each alphabet, {count} {labels_are(results)}; means over seeds.",
                    [Head(name) for name in names.values()],
                    rows,
                    "Alphabet",
                )
            )

    return tables


def making(results: Sequence[Result], colours: Mapping[str, str], prefix: str = "") -> Table:
    """What each setting took, mean and spread over seeds, and the commits that its results came from."""
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
        of = [result for result in results if result.job.setting == setting]
        cells = [cell(over.count(setting))]
        for key in columns:
            value = over.value(setting, key)
            none = key == "encoder_steps" and not value
            cells.append(Cell(None) if none else cell(value, 0, over.spread(setting, key)))
        trained = [result.provenance["train"] for result in of if "train" in result.provenance]
        machines = dict.fromkeys(f"{made['device']}, {made['threads']}" for made in trained)
        cells.append(Cell(listed(list(machines)) or None))
        cells.append(Cell(", ".join(dict.fromkeys(result.commit for result in of if result.commit)) or None))
        if not all(result.metrics["warmup_ended"] for result in of):
            note = f"{note}; ended before its warm-up, last weights kept".removeprefix("; ")  # noqa: PLW2901
        rows.append(Row(name, cells, note, colours[setting]))

    return Table(
        f"{prefix}making-{results[0].job.dataset}",
        "What each result took, and the commit that it came from (+: with changes); – where it is not kept.",
        [Head("Seeds"), *columns.values(), Head("Device", "threads"), Head("Commit")],
        rows,
    )


def each(results: Sequence[Result], colours: Mapping[str, str], item: str = "sentence") -> Table:
    """Every model by itself, a row a seed."""
    metrics = [metric for metric in METRICS if metric.key in shown(results, None, item)]
    more = {"epochs": Head("Epochs"), "best_epoch": Head("Best", "epoch"), "train_cpu": Head("Training", "CPU s")}
    names = labels(results)
    rows = []
    for result in results:
        of = result.row
        cells = [cell(of[m.key], 0 if m.key == "au" else m.decimals, None, of.get(f"{m.key}_stderr")) for m in metrics]
        cells += [*(cell(of[key]) for key in more), Cell(result.commit or None)]
        rows.append(Row(names[result.job.setting], cells, f"seed {result.job.seed}", colours[result.job.setting]))

    return Table(
        f"models-{results[0].job.dataset}",
        "Every model by itself; in brackets standard errors.",
        [*(Head(metric.label, metric.unit) for metric in metrics), *more.values(), Head("Commit")],
        rows,
    )


def _spread(over: OverSeeds) -> str:
    return "± is the standard deviation over seeds" if (over.seeds > 1).any() else "One seed, so no spread over seeds"


def _named(results: Sequence[Result]) -> list[tuple[str, str, str]]:
    """Each setting, what it is called, and what is noted beside that."""
    names = labels(results)
    first = {result.job.setting: result for result in reversed(results)}

    return [
        (setting, name, "" if f"({first[setting].hyperparameters})" in name else first[setting].hyperparameters)
        for setting, name in names.items()
    ]


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def span(values: Sequence[int]) -> str:
    """`50` or `31 to 50`."""
    if not values:
        return ""
    low, high = min(values), max(values)

    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
