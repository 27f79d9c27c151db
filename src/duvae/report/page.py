"""Explains metrics and sizes of experiments in sentences, and renders the templates of the pages."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from duvae.config import Dataset, Evaluation, ImageNetworks, OmniglotSource
from duvae.report.cells import number, number_range, word_list
from duvae.report.metric_columns import METRICS, noun
from duvae.report.per_example import Floor
from duvae.report.results import Result

PACKAGE = "duvae.report"
"""Name of the package whose folder `templates` has the templates of the report."""


def render(template: str, package: str = PACKAGE, **content: Any) -> str:
    """Renders a template. A variable that the template uses and `content` lacks is an error.

    Args:
        template: Name of a file in the folder `templates` of `package`.
        package: Name of the package. Its templates can extend and import those of `duvae.report`.
        content: The variables of the template.

    Returns:
        The HTML of the page.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(each) for each in dict.fromkeys((package, PACKAGE))]),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}

    return environment.get_template(template).render(**content) + "\n"


def inline_png(png: bytes, alt: str) -> Markup:
    """An HTML image that contains the PNG itself, so that the page needs no second file."""
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(alt, base64.b64encode(png).decode())


def metric_explanations(
    keys: Sequence[str], evaluation: Evaluation, floor: Floor | None = None
) -> list[Mapping[str, str]]:
    """Explains the metrics of a table.

    Args:
        keys: The keys of the metrics, as `metric_columns.shown_metrics` returns them.
        evaluation: The parameters of the evaluation.
        floor: The floor of the NLL (see `Floor`); None: `keys` has no `gap`, the distance from the floor.

    Returns:
        The label, unit and meaning of each metric, in the order of the tables.
    """
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
    """Writes sentences that say how the floor (see `Floor`) was computed, and how large its numerical error is."""
    summary = floor.summary
    difference = abs(summary["coarse_difference"])

    return (
        f"The floor is the generator's own −log p(x) on {summary['sentences']:,} of the test sentences, integrated over"
        f" z on a lattice of spacing {summary['spacing']:g}. A lattice twice as coarse gives"
        f" {summary['coarse_nll']:.4f} nats, which is {f'{difference:.1e}' if difference else '0'} nats from the"
        f" {summary['nll']:.4f} of the fine lattice."
    )


def size(
    dataset: Dataset, counts: Mapping[str, int] | None, results: Sequence[Result], same_limit: bool = True
) -> list[str]:
    """Writes sentences about the size of an experiment: the numbers of examples, latent dimensions and epochs.

    Further sentences name deviations from the paper, such as a training set that is only a sample.

    Args:
        dataset: The data set's parameters in params.yaml.
        counts: Numbers of examples, by name of the split; None: the text does not mention these numbers.
        results: Results of all models of the data set.
        same_limit: Whether the trainings had the limit of epochs in params.yaml. If not, the text does not mention it.
    """
    words = {"train": "training", "valid": "validation", "test": "test"}
    epochs, most = [result.metrics["epochs"] for result in results], dataset.optimisation.epochs
    samples = number_range(
        [result.metrics["importance_samples"] for result in results if result.metrics["importance_samples"]]
    )
    documents = [f"{counts[name]:,} {word}" for name, word in words.items() if name in counts] if counts else []
    lines = [
        (f"{word_list(documents)} {noun(dataset)}s; " if documents else "")
        + f"{dataset.networks.latent} latent dimensions; {number_range(epochs)} epochs"
        + (
            ""
            if not same_limit
            else f" of at most {most}"
            if max(epochs) <= most
            else f", at most {most} unless the setting has a limit of its own"
        )
        + (f"; NLL with {samples} importance samples{_subset_text(results, noun(dataset))}." if samples else ".")
    ]
    if isinstance(dataset.networks, ImageNetworks):
        kernels, width = dataset.networks.kernels, dataset.networks.width
        lines.append(
            f"Images of {dataset.networks.size} by {dataset.networks.size} bits; a decoder of {len(kernels)} masked"
            f" layers of width {width}."
        )
    if isinstance(dataset.source, OmniglotSource):
        alphabets = len(dataset.source.alphabets)
        lines[-1] += f" {f'{alphabets} of the 50' if alphabets else 'All 50'} alphabets."
    sample = getattr(dataset.source, "sample", None)
    if sample is not None:
        lines.append(
            f"The training {noun(dataset)}s are a sample of {sample.size:,} (seed {sample.seed}) of the same source,"
            " not the original training file."
        )
    short = [result for result in results if not result.metrics["warmup_ended"]]
    for last, kept in ((True, "the last weights were kept, not the best"), (False, "the best weights were kept")):
        names = dict.fromkeys(result.name for result in short if result.last_kept == last)
        if names:
            lines.append(f"The training of {word_list(list(names))} ended before the end of its warm-up: {kept}.")

    return lines


def _subset_text(results: Sequence[Result], item: str) -> str:
    """Says on how many test examples the NLL was measured; empty where the NLL was measured on all test examples."""
    part = [result.metrics.get("nll_examples") or result.metrics["sentences"] for result in results]
    total = [result.metrics["sentences"] for result in results]

    return "" if part == total else f" on a random {number_range(part)} of the test {item}s"


def percent(share: float) -> str:
    """Formats a fraction from 0 to 1 as a percentage, such as `12.3 %`."""
    return f"{number(100 * share, 1)} %"
