"""The pages: what is in their tables and sentences, and how templates make HTML of it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from duvae.config import Dataset
from duvae.report.results import COLLAPSED_MI, Floor, Result, label_counts, over_seeds, table


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
        "−log p(x), by importance weighting with {samples} samples a sentence; less is better.",
    ),
    Metric(
        "gap",
        "Above floor",
        "nats",
        2,
        "NLL minus the generator's own −log p(x), on the {floor} sentences that the floor has;"
        " ± is the standard error of these paired differences.",
    ),
    Metric(
        "perplexity",
        "PPL",
        "",
        2,
        "exp(total NLL / total predicted words), the end of a sentence counted; less is better.",
    ),
    Metric("reconstruction", "Recon.", "nats", 2, "−E log p(x|z) under q(z|x): the cost of a sentence, its z known."),
    Metric("kl", "KL", "nats", 2, "KL[q(z|x) ‖ p(z)]: the cost of z."),
    Metric("mi", "MI", "nats", 2, "KL[q(z|x) ‖ q(z)]: what z tells of x; 0 when all posteriors are the same."),
    Metric("au", "AU", "dimensions", 1, "Active units: those whose mean has a variance above {threshold}."),
    Metric(
        "mpd",
        "MPD",
        "nats",
        2,
        "Mutual posterior divergence, the symmetric KL of two sentences' posteriors, mean over all pairs: diversity.",
    ),
    Metric("ce", "CE", "nats", 2, "Conditional entropy of z given x: uncertainty."),
)
"""What is said of each model. `docs/metrics.md` has the equations."""


@dataclass(frozen=True)
class Cell:
    """A number as it is written; `text` None: the system has no such figure."""

    text: str | None
    spread: str | None = None


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


@dataclass(frozen=True)
class Table:
    """A table of a page."""

    id: str
    caption: str
    heads: Sequence[Head]
    rows: Sequence[Row]
    corner: str = "System"


def render(template: str, **content: Any) -> str:
    """A page from `templates/<template>`; whatever it asks for and is not given is an error."""
    environment = Environment(
        loader=PackageLoader("duvae.report"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    return environment.get_template(template).render(**content) + "\n"


def image(png: bytes, alt: str) -> Markup:
    """A PNG that needs no file beside the page."""
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(alt, base64.b64encode(png).decode())


def drawing(svg: str) -> Markup:
    """An SVG of our own making as part of the page."""
    return Markup(svg)  # noqa: S704 (made by figures.svg, whose text is escaped)


def number(value: float | None, decimals: int) -> str | None:
    """A number as a page writes it: thousands apart, a real minus sign; None where there is none."""
    if value is None or pd.isna(value):
        return None
    text = f"{value:,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")

    return text.replace("-", "−")


def cell(value: float | None, decimals: int = 0, spread: float | None = None) -> Cell:
    """A number and its spread, both with `decimals` digits."""
    return Cell(number(value, decimals), number(spread, decimals))


# ---------------------------------------------------------------------------------- tables


def likelihood(
    results: Sequence[Result],
    colours: Mapping[str, str],
    floor: Floor | None = None,
    gaps: Mapping[str, tuple[float, float] | None] | None = None,
) -> Table:
    """Every metric of METRICS: one seed with the standard error over sentences, several with their spread.

    Args:
        results: Models of one data set.
        colours: Of each setting.
        floor: The generator's own NLL, a row of its own.
        gaps: How far each setting lies above it; without them there is no such column.
    """
    mean, std, seeds = over_seeds(results)
    several = bool((seeds > 1).any())
    metrics = [metric for metric in METRICS if metric.key != "gap" or gaps is not None]
    rows = []
    if floor is not None:
        known = {"nll": cell(floor.summary["nll"], 2, floor.summary["nll_stderr"])}
        note = f"{floor.summary['sentences']:,} sentences, ± standard error"
        rows.append(Row("Floor: the true NLL", [known.get(m.key, Cell(None)) for m in metrics], note, floor=True))
    for setting in mean.index:
        first = next(result for result in results if result.job.setting == setting)
        cells = []
        for metric in metrics:
            if metric.key == "gap":
                gap = (gaps or {}).get(setting)
                cells.append(cell(gap[0], metric.decimals, gap[1]) if gap else Cell(None))
                continue
            spread = std.loc[setting, metric.key] if several else None
            if metric.key == "nll" and not several:
                spread = mean.loc[setting, "nll_stderr"]
            whole = metric.key == "au" and not several
            cells.append(cell(mean.loc[setting, metric.key], 0 if whole else metric.decimals, spread))
        note = first.hyperparameters + (f"; {seeds[setting]} seeds" if several else "")
        rows.append(Row(first.name, cells, note.removeprefix("; "), colours[setting]))
    after = "± is the standard deviation over seeds" if several else "± is the standard error over sentences"
    sentences = span([result.metrics["sentences"] for result in results])

    return Table(
        "likelihood-" + results[0].job.dataset,
        f"On {sentences} test sentences, in nats a sentence; {after}; – where a system has no such figure.",
        [Head(metric.label, metric.unit) for metric in metrics],
        rows,
    )


def probes(results: Sequence[Result], colours: Mapping[str, str]) -> Table | None:
    """Accuracy by number of labels; None where nothing was probed."""
    counts = label_counts(results)
    if not counts:
        return None
    mean, std, seeds = over_seeds(results)
    several = bool((seeds > 1).any())
    largest = next(result.probe["largest_class"] for result in results if result.probe and result.probe["by_labels"])
    rows = [Row("Largest class", [cell(largest, 1)] * len(counts), floor=True)]
    for setting in mean.index:
        first = next(result for result in results if result.job.setting == setting)
        cells = [
            cell(
                mean.loc[setting, f"probe_{n}"],
                1,
                std.loc[setting, f"probe_{n}"] if several else mean.loc[setting, f"probe_{n}_spread"],
            )
            for n in counts
        ]
        rows.append(Row(first.name, cells, first.hyperparameters, colours[setting]))
    what = (
        "standard deviation over seeds"
        if several
        else "standard deviation over labelled subsets, where several were drawn"
    )

    return Table(
        "probes-" + results[0].job.dataset,
        f"Accuracy in percent on the test sentences of a linear classifier of the posterior means; ± is the {what}.",
        [Head(f"{int(n):,}" if n.isdigit() else n, "labels" if index == 0 else "") for index, n in enumerate(counts)],
        rows,
    )


def making(results: Sequence[Result], colours: Mapping[str, str]) -> Table:
    """How each model was made: a row a model."""
    frame = table(results)
    steps = bool(frame["encoder_steps"].any())
    heads = [
        Head("Epochs", "run"),
        Head("Best", "epoch"),
        *([Head("Inner steps", "of the encoder")] if steps else []),
        Head("Training", "seconds"),
        Head("All stages", "seconds"),
        Head("Memory", "MiB, peak"),
        Head("Device", "threads"),
        Head("Commit", "+ uncommitted"),
    ]
    rows = []
    several = len({result.job.seed for result in results}) > 1
    for result, (_, row) in zip(results, frame.iterrows(), strict=True):
        train = result.provenance["train"]
        cells = [
            cell(row["epochs"]),
            cell(row["best_epoch"]),
            *([cell(row["encoder_steps"] or None)] if steps else []),
            cell(row["train_seconds"]),
            cell(row["seconds"]),
            cell(row["peak_memory_mib"] or None),
            Cell(f"{train['device']}, {train['threads']}"),
            Cell(result.commit),
        ]
        note = f"seed {result.job.seed}" if several else ""
        if not result.metrics["warmup_ended"]:
            note = f"{note}; ended before its warm-up, last weights kept".removeprefix("; ")
        rows.append(Row(result.name, cells, note, colours[result.job.setting]))

    caption = "What each result took, and the commit that it came from."

    return Table("making-" + results[0].job.dataset, caption, heads, rows)


# ---------------------------------------------------------------------------------- sentences


def seen(results: Sequence[Result], gaps: Mapping[str, tuple[float, float] | None] | None = None) -> list[str]:
    """What the numbers say, a sentence each: which collapsed, which did not, which has the least NLL.

    Several seeds of a setting are spoken of by their means.
    """
    mean, _, _ = over_seeds(results)
    names = {result.job.setting: result.name for result in results}
    fallen, alive = [], []
    for setting in mean.index:
        of = [result for result in results if result.job.setting == setting]
        count = sum(result.collapsed for result in of)
        share = "" if count in (0, len(of)) else f"{count} of {len(of)} seeds, "
        mi, au = number(mean.loc[setting, "mi"], 2), mean.loc[setting, "au"]
        units = number(au, 0 if float(au).is_integer() else 1)
        told = f"{names[setting]} ({share}{f'MI {mi} nats, ' if mi else ''}AU {units})"
        if count:
            fallen.append(told)
        elif mi:
            alive.append(told)
    rule = f"no active dimension, or an MI below {COLLAPSED_MI} nats"
    lines = [f"Collapsed ({rule}): {listed(fallen) if fallen else 'none'}."]
    if alive:
        lines.append(f"Not collapsed: {listed(alive)}.")
    for key, what, sign in (
        ("nll", "Least NLL", 1),
        ("mpd", "Greatest diversity (MPD)", -1),
        ("ce", "Least uncertainty (CE)", 1),
    ):
        known = {str(setting): float(value) for setting, value in mean[key].dropna().items()}
        if len(known) > 1:
            best = min(known, key=lambda setting: sign * known[setting])
            lines.append(f"{what}: {names[best]}, {number(known[best], 2)} nats.")
    above = [f"{names[s]} {number(gap[0], 2)} ± {number(gap[1], 2)}" for s, gap in (gaps or {}).items() if gap]
    if above:
        lines.append(f"Nats above the floor: {listed(above)}.")

    return lines


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def explained(keys: Sequence[str], **values: Any) -> list[Mapping[str, str]]:
    """The metrics of `keys`, their one-line meanings filled with `values`."""
    return [
        {"label": metric.label, "unit": metric.unit, "meaning": metric.meaning.format(**values)}
        for metric in METRICS
        if metric.key in keys
    ]


def quadrature(floor: Floor) -> str:
    """How the floor was computed and how far that can be trusted."""
    of = floor.summary
    apart = abs(of["coarse_difference"])

    return (
        f"The floor is the generator's own −log p(x) on {of['sentences']:,} of the test sentences, integrated over z"
        f" on a lattice of spacing {of['spacing']:g}; on one twice as coarse it is {of['coarse_nll']:.4f},"
        f" {f'{apart:.1e}' if apart else '0'} nats from the {of['nll']:.4f} of the fine one."
    )


def size(dataset: Dataset, counts: Mapping[str, int], results: Sequence[Result]) -> list[str]:
    """At what size a data set was run: its sentences, epochs and latent dimensions, a sentence each.

    Args:
        dataset: What params.yaml says of it.
        counts: Documents of each split.
        results: Its models.
    """
    words = {"train": "training", "valid": "validation", "test": "test"}
    ran = span([result.metrics["epochs"] for result in results])
    samples = span([result.metrics["importance_samples"] for result in results if result.metrics["importance_samples"]])
    lines = [
        f"{listed([f'{counts[name]:,} {word}' for name, word in words.items() if name in counts])} sentences;"
        f" {dataset.networks.latent} latent dimensions; {ran} epochs of at most {dataset.optimisation.epochs}"
        + (f"; NLL with {samples} importance samples." if samples else ".")
    ]
    sample = getattr(dataset.source, "sample", None)
    if sample is not None:
        lines.append(
            f"The training sentences are a sample of {sample.size:,} (seed {sample.seed}) of the same source,"
            " not the original training file."
        )
    short = [result for result in results if not result.metrics["warmup_ended"]]
    if short:
        lines.append(
            f"{listed(sorted({result.name for result in short}))} ended before the warm-up did:"
            " the last weights were kept, not the best."
        )

    return lines


def percent(share: float) -> str:
    """`12.3 %`."""
    return f"{number(100 * share, 1)} %"


def span(values: Sequence[int]) -> str:
    """`50` or `31 to 50`."""
    if not values:
        return ""
    low, high = min(values), max(values)

    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
