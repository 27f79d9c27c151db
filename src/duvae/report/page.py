"""The pages: what is said in their sentences, and how templates make HTML of it all."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from duvae.config import Dataset, Evaluation, ImageNetworks, OmniglotSource
from duvae.report.per_example import Floor
from duvae.report.results import COLLAPSED_MI, Result, labels, over_seeds
from duvae.report.tables import METRICS, Gaps, listed, noun, number, span


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


def seen(results: Sequence[Result], gaps: Gaps | None = None) -> list[str]:
    """What the numbers say, a sentence each: which collapsed, which did not, which has the least NLL.

    Several seeds of a setting are spoken of by their means.
    """
    over = over_seeds(results)
    names = labels(results)
    fallen, alive, untold = [], [], []
    for setting, name in names.items():
        of = [result for result in results if result.job.setting == setting]
        count = sum(result.collapsed is True for result in of)
        share = "" if count in (0, len(of)) else f"{count} of {len(of)} seeds, "
        kl, mi, mpd = (number(over.value(setting, key), 2) for key in ("kl", "mi", "mpd_t"))
        active = over.value(setting, "au")
        au = number(active, 0 if active.is_integer() else 1)
        bounds = [f"{what} {value} nats" for what, value in (("KL", kl), ("MPD", mpd)) if value]
        said = [*([f"MI {mi} nats"] if mi else bounds), f"AU {au}" if au else ""]
        told = f"{name} ({share}{', '.join(filter(None, said))})"
        if count:
            fallen.append(told)
        elif mi:
            alive.append(told)
        elif not au:
            untold.append(told)
    rule = f"no active dimension, or an MI, where not known a KL or an MPD above it, below {COLLAPSED_MI} nats"
    lines = [f"Collapsed ({rule}): {listed(fallen) if fallen else 'none'}."]
    if alive:
        lines.append(f"Not collapsed: {listed(alive)}.")
    if untold:
        lines.append(f"Without MI and AU to tell by: {listed(untold)}.")
    for key, what, sign in (
        ("nll", "Least NLL", 1),
        ("mpd", "Greatest diversity (MPD)", -1),
        ("ce", "Least uncertainty (CE)", 1),
    ):
        # Of a flow MPD and CE are z^0's; what compares with a Gaussian's z is z^T.
        values = over.mean[f"{key}_t"].fillna(over.mean[key]) if f"{key}_t" in over.mean else over.mean[key]
        known = {str(setting): float(value) for setting, value in values.dropna().items()}
        if len(known) > 1:
            best = min(known, key=lambda setting: sign * known[setting])
            lines.append(f"{what}: {names[best]}, {number(known[best], 2)} nats.")
    above = [
        f"{names[setting]} {number(sum(gap for gap, _ in of) / len(of), 2)}"
        for setting, of in (gaps or {}).items()
        if of
    ]
    if above:
        lines.append(f"Nats above the floor: {listed(above)}.")

    return lines


def explained(keys: Sequence[str], evaluation: Evaluation, floor: Floor | None = None) -> list[Mapping[str, str]]:
    """The metrics of `keys`, each with its meaning in a line."""
    values = {
        "samples": evaluation.importance_samples,
        "threshold": evaluation.active_threshold,
        "floor": floor.summary["sentences"] if floor else 0,
    }

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


def size(dataset: Dataset, counts: Mapping[str, int] | None, results: Sequence[Result]) -> list[str]:
    """At what size a data set was run: its sentences, epochs and latent dimensions, a sentence each.

    Args:
        dataset: What params.yaml says of it.
        counts: Number of documents of each split; None where git does not keep it yet.
        results: Its models.
    """
    words = {"train": "training", "valid": "validation", "test": "test"}
    ran = span([result.metrics["epochs"] for result in results])
    samples = span([result.metrics["importance_samples"] for result in results if result.metrics["importance_samples"]])
    documents = [f"{counts[name]:,} {word}" for name, word in words.items() if name in counts] if counts else []
    lines = [
        (f"{listed(documents)} {noun(dataset)}s; " if documents else "")
        + f"{dataset.networks.latent} latent dimensions; {ran} epochs of at most {dataset.optimisation.epochs}"
        + (f"; NLL with {samples} importance samples{_part(results, noun(dataset))}." if samples else ".")
    ]
    if isinstance(dataset.networks, ImageNetworks):
        kernels, width = dataset.networks.kernels, dataset.networks.width
        lines.append(
            f"Images of {dataset.networks.size} by {dataset.networks.size} bits; a decoder of {len(kernels)} masked"
            f" layers of width {width}."
        )
    if isinstance(dataset.source, OmniglotSource):
        some = len(dataset.source.alphabets)
        lines[-1] += f" {f'{some} of the 50' if some else 'All 50'} alphabets."
    sample = getattr(dataset.source, "sample", None)
    if sample is not None:
        lines.append(
            f"The training {noun(dataset)}s are a sample of {sample.size:,} (seed {sample.seed}) of the same source,"
            " not the original training file."
        )
    short = [result for result in results if not result.metrics["warmup_ended"]]
    if short:
        lines.append(
            f"{listed(list(dict.fromkeys(result.name for result in short)))} ended before the warm-up did:"
            " the last weights were kept, not the best."
        )

    return lines


def _part(results: Sequence[Result], item: str) -> str:
    """Of how many examples the NLL is, where not of all."""
    part = [result.metrics.get("nll_examples") or result.metrics["sentences"] for result in results]
    every = [result.metrics["sentences"] for result in results]

    return "" if part == every else f" on a random {span(part)} of the test {item}s"


def percent(share: float) -> str:
    """`12.3 %`."""
    return f"{number(100 * share, 1)} %"
