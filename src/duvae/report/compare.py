"""Computes the numbers and curves for the script `templates/compare.js` of the report page.

The script compares two settings of one data set. A setting is a system, such as DU-VAE, with hyperparameters.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from duvae.metrics import verdict
from duvae.report import convergence, names
from duvae.report.cells import word_list
from duvae.report.comparison import Comparison
from duvae.report.figures import CURVES, line_styles
from duvae.report.metric_columns import METRICS, Gaps, shown_metrics
from duvae.report.per_example import Floor, gap_over_seeds
from duvae.report.results import FLOW_METRIC_KEYS, Result, label_counts, label_unit, over_seeds, setting_names

POINTS = 100
"""Largest number of epochs in a curve on the page. If a training has more epochs, only some of them are kept."""

DIGITS = 5
"""Number of significant digits in a curve on the page; the panels are some hundred pixels high."""

LIKELIHOOD_KEYS = ("nll", "nll_unseen", "gap", "perplexity")
"""Keys of the NLL and of the measures that follow from it."""


def measures(results: Sequence[Result], floor: Floor | None = None, item: str = "sentence") -> list[dict[str, Any]]:
    """Lists the rows of the table that compares two settings. Each row shows one number for both settings.

    Args:
        results: Results of all models of one data set.
        floor: The floor of the NLL, which is the NLL under the generator of the synthetic data (see `Floor`); None: no
            row for the distance from the floor.
        item: The word for one test example: `sentence` or `image`.

    Returns:
        One dictionary per row, with its `key`, `label`, `unit` and number of `decimals`. `paired` is true for the NLL,
        whose difference `pairs` gives with an interval. `likelihood` is true for the NLL and for what follows from it:
        without a pair in `pairs`, `compare.js` shows no difference of these. Rows of metrics also have `last`, which is
        true for metrics of z^T, the end of a chain of flows. If `last` is true and neither setting has a value,
        `compare.js` hides the row.
    """
    rows = [
        {"key": metric.key, "label": metric.label, "unit": metric.unit, "decimals": metric.decimals}
        | {"paired": metric.key == "nll", "last": metric.key in FLOW_METRIC_KEYS}
        | {"likelihood": metric.key in LIKELIHOOD_KEYS}
        for metric in METRICS
        if metric.key in shown_metrics(results, floor, item) and metric.key != "against"
    ]
    rows += [
        {"key": f"probe_{n}", "label": f"Accuracy, {int(n):,} {label_unit(results)}" if n.isdigit() else n, "unit": "%"}
        | {"decimals": 1, "paired": False}
        for n in label_counts(results)
    ]
    more = (("epochs", "Epochs", ""), ("best_epoch", "Best epoch", ""), ("train_cpu", "Training", "CPU s"))
    rows += [
        {"key": key, "label": label, "unit": unit, "decimals": 0, "paired": False}
        for key, label, unit in (*more, ("evaluate_cpu", "Evaluation", "CPU s"))
    ]

    return rows


def settings(
    results: Sequence[Result], gaps: Gaps | None = None, pictures: Mapping[str, str] | None = None
) -> list[Any]:
    """Collects the names, numbers and curves of each setting of one data set.

    Args:
        results: Results of all models of one data set.
        gaps: Distances of the models' NLL from the floor (see `Floor`), by setting; None: there is no floor.
        pictures: HTML ids of the latent-space pictures on the page, by setting; None: the page has no such pictures.

    Returns:
        One dictionary per setting. `id` is `<data set>/<setting>`. `name` is the name of the setting, `system` is the
        label of its system, and `note` is the text in brackets of `name`, or else the setting's hyperparameters.
        `colour` is that of the setting in all figures.
        `seeds` is the number of seeds. `verdict` says whether the latent space has collapsed (None: undefined), and
        `ending` how the trainings ended; `converged` is whether all of them converged. `commit` names the commits at
        which the models were trained and evaluated. `picture` is the HTML id from `pictures`; None: no picture.
        `values` gives, for each number, the mean and the standard deviation over seeds. `curves` has one dictionary per
        seed: the epochs and the columns of `CURVES`.
    """
    over, styles = over_seeds(results), line_styles(results)
    entries = []
    for setting, name in setting_names(results).items():
        models = [result for result in results if result.job.setting == setting]
        numbers = {str(key): (over.value(setting, str(key)), over.spread(setting, str(key))) for key in over.mean}
        numbers["gap"] = gap_over_seeds((gaps or {}).get(setting, []))[:2]
        entries.append(
            {
                "id": f"{models[0].job.dataset}/{setting}",
                "name": name,
                "system": names.label(models[0].system),
                "note": name.partition(" (")[2].rstrip(")") or models[0].hyperparameters,
                "colour": styles[setting][0],
                "seeds": over.count(setting),
                "verdict": verdict.of_setting([result.metrics for result in models]),
                "converged": not convergence.mark(models),
                "ending": convergence.over_seeds([result.ending for result in models]),
                "commit": word_list(list(dict.fromkeys(result.commit for result in models if result.commit))),
                "picture": (pictures or {}).get(setting),
                "values": {key: [_rounded(mean), _rounded(spread)] for key, (mean, spread) in numbers.items()},
                "curves": [_curves(result) for result in models],
            }
        )

    return entries


def pairs(compared: Comparison) -> dict[str, dict[str, list[float | int]]]:
    """Computes the paired difference of the NLL for any two settings of one data set.

    Args:
        compared: The NLL of the single test examples.

    Returns:
        By the ids of the first and the second setting, of which the first comes earlier in `compared`: the second's NLL
        minus the first's in nats, half the width of the 95 % interval, the number of seeds of both, the sign (-1, 0 or
        1; 0: the two cannot be distinguished), and the share of the examples for which the second's NLL is lower.
    """
    settings = list(compared.nll)
    found: dict[str, dict[str, list[float | int]]] = {}
    for place, first in enumerate(settings):
        for second in settings[place + 1 :]:
            between, pair = compared.between(second, first), compared.pair(second, first)
            half = None if between is None else _rounded(between.high - between.difference)
            if between is not None and pair is not None and half is not None:
                won = round(pair.won, 4)
                values = [float(f"{between.difference:.6g}"), half, between.seeds, between.sign, won]
                found.setdefault(first, {})[second] = values

    return found


def _curves(result: Result) -> dict[str, list[Any]]:
    count = len(result.history)
    kept = np.unique(np.linspace(0, count - 1, min(count, POINTS)).round().astype(int))
    history = result.history.iloc[kept]

    return {
        "epoch": [int(epoch) for epoch in history["epoch"]],
        **{column: [_rounded(value, DIGITS) for value in history[column]] for column, _ in CURVES},
    }


def _rounded(value: float, digits: int = 6) -> float | None:
    """Rounds a number to some significant digits; returns None if the number is not finite."""
    value = float(value)

    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
