"""Builds the tables of a data set's details: single dimensions of z, and the exact NLL of synthetic data."""

from collections.abc import Mapping, Sequence

import numpy as np

from duvae.report.cells import Cell, Head, Row, Table, cell, number, number_range
from duvae.report.results import Result
from duvae.report.tables import named_settings

THRESHOLDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Thresholds of the variance of a dimension's mean, above which the dimension counts as active; the paper's is 0.01."""

MOST_LISTED = 4
"""Largest number of dimensions whose KL the table gives one by one. For more, it gives quantiles."""

QUANTILES = ((1.0, "largest"), (0.75, "upper quartile"), (0.5, "median"), (0.25, "lower quartile"), (0.0, "least"))


def dimensions(results: Sequence[Result], colours: Mapping[str, str]) -> Table | None:
    """Builds the table of the KL of single dimensions, and of the active dimensions over several thresholds.

    A dimension of one model has nothing to do with the dimension of the same number of another model. So the table
    sorts the dimensions of each model by their KL, and only then averages over the seeds.

    Args:
        results: Results of the models of one data set.
        colours: The colour of each setting, by the key of the setting.

    Returns:
        The table; None if no model has these values, as in results of earlier versions.
    """
    known = [r for r in results if r.metrics.get("kl_by_dimension") or r.metrics.get("mean_variances")]
    if not known:
        return None
    latent = max(len(r.metrics.get("kl_by_dimension") or r.metrics["mean_variances"]) for r in known)
    listed = latent <= MOST_LISTED
    heads = (
        [Head(f"KL of dimension {d + 1}", "nats") for d in range(latent)]
        if listed
        else [Head(f"KL, {name}", "nats") for _, name in QUANTILES]
    )
    rows = []
    for setting, name, note in named_settings(known):
        models = [result.metrics for result in known if result.job.setting == setting]
        kl = [np.sort(model["kl_by_dimension"])[::-1] for model in models if model.get("kl_by_dimension")]
        variances = [np.asarray(model["mean_variances"]) for model in models if model.get("mean_variances")]
        if kl:
            sorted_kl = np.mean(kl, axis=0)
            values = sorted_kl if listed else [np.quantile(sorted_kl, share) for share, _ in QUANTILES]
            cells = [Cell(number(float(value), 2)) for value in values]
        else:
            cells = [Cell(None)] * len(heads)
        for threshold in THRESHOLDS:
            counts = [int((each > threshold).sum()) for each in variances]
            whole = all(count == counts[0] for count in counts)
            cells.append(cell(float(np.mean(counts)), 0 if whole else 1) if counts else Cell(None))
        rows.append(Row(name, cells, note, colours[setting]))

    return Table(
        f"dimensions-{results[0].job.dataset}",
        "Left: the mean KL of single dimensions on test, the dimensions of each model sorted by it. Right: the number"
        " of dimensions whose mean has a variance over the test set above a threshold. Means over seeds; – where a"
        " system has no such number.",
        [*heads, *(Head(f"AU > {threshold:g}", "dimensions") for threshold in THRESHOLDS)],
        rows,
    )


def has_curve(results: Sequence[Result]) -> bool:
    """Whether the bias of the importance-weighted NLL was measured for several numbers of samples."""
    return any((result.metrics.get("exact") or {}).get("curve") for result in results)


def exact(results: Sequence[Result], colours: Mapping[str, str]) -> Table | None:
    """Builds the table of the exact NLL, and of the bias of the importance-weighted NLL for several numbers of samples.

    Args:
        results: Results of the models of one data set.
        colours: The colour of each setting, by the key of the setting.

    Returns:
        The table; None if no model has an exact NLL.
    """
    known = [result for result in results if result.metrics.get("exact")]
    if not known:
        return None
    curves = {
        result.job.setting: {point["samples"]: point for point in result.metrics["exact"]["curve"]}
        for result in reversed(known)
        if result.metrics["exact"].get("curve")
    }
    samples = sorted({count for curve in curves.values() for count in curve})
    rows = []
    for setting, name, note in named_settings(known):
        models = [result.metrics["exact"] for result in known if result.job.setting == setting]
        cells = []
        for key, decimals in (("nll", 2), ("bias", 3)):
            values = [model[key] for model in models]
            errors = [model[f"{key}_stderr"] for model in models if model[f"{key}_stderr"] is not None]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            cells.append(cell(float(np.mean(values)), decimals, spread, float(np.mean(errors)) if errors else None))
        for count in samples:
            point = curves.get(setting, {}).get(count)
            cells.append(cell(point["bias"], 3, error=point["bias_stderr"]) if point else Cell(None))
        rows.append(Row(name, cells, note, colours[setting]))
    sentences = number_range([int(result.metrics["exact"]["sentences"]) for result in known])
    used = number_range(sorted({int(result.metrics["importance_samples"]) for result in known}))

    return Table(
        f"exact-{results[0].job.dataset}",
        f"The exact NLL of the first {sentences} test sentences, by quadrature over z, and how far the"
        " importance-weighted NLL of the same sentences lies above it for K samples. In brackets standard errors over"
        " sentences, for the bias of the paired differences"
        + ("; ± is the standard deviation over seeds." if len(known) > len(rows) else ".")
        + (" The columns from K = 1 on are of one seed." if samples else ""),
        [
            Head("Exact NLL", "nats"),
            Head(f"Bias, K {used}", "nats"),
            *(Head(f"K {count:,}", "bias, nats") for count in samples),
        ],
        rows,
    )
