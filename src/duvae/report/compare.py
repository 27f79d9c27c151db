"""What the page needs to show any two settings side by side: their numbers and curves, as data for its script."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from duvae.report import names
from duvae.report.figures import CURVES
from duvae.report.per_example import Floor
from duvae.report.results import LAST, Result, label_counts, labels, labels_are, over_seeds
from duvae.report.tables import METRICS, Gaps, listed, shown

POINTS = 200
"""So many epochs of a curve are shown at most; of a longer one every second, third, ..."""

BETTER = {"nll": -1, "gap": -1, "perplexity": -1}
"""Of which figures less is better; of accuracies more is; of the others neither."""


def measures(results: Sequence[Result], floor: Floor | None = None, item: str = "sentence") -> list[dict[str, Any]]:
    """The rows of the comparison on one data set: key, label, unit, digits, and whether more or less is better."""
    rows = [
        {"key": m.key, "label": m.label, "unit": m.unit, "decimals": m.decimals, "better": BETTER.get(m.key, 0)}
        | {"last": m.key in LAST}
        for m in METRICS
        if m.key in shown(results, floor, item)
    ]
    rows += [
        {"key": f"probe_{n}", "label": f"Accuracy, {int(n):,} {labels_are(results)}" if n.isdigit() else n, "unit": "%"}
        | {"decimals": 1, "better": 1}
        for n in label_counts(results)
    ]
    more = (("epochs", "Epochs", ""), ("best_epoch", "Best epoch", ""), ("train_cpu", "Training", "CPU s"))
    rows += [
        {"key": key, "label": label, "unit": unit, "decimals": 0, "better": 0}
        for key, label, unit in (*more, ("evaluate_cpu", "Evaluation", "CPU s"))
    ]

    return rows


def settings(
    results: Sequence[Result], gaps: Gaps | None = None, pictures: Mapping[str, str] | None = None
) -> list[Any]:
    """Each setting of one data set: what it is called, its numbers over seeds, and its curves.

    Args:
        results: Models of one data set.
        gaps: How far each setting lies above the floor.
        pictures: By setting, the id of the picture of its latent space on the page.
    """
    over = over_seeds(results)
    told = []
    for setting, name in labels(results).items():
        of = [result for result in results if result.job.setting == setting]
        gap = pd.Series([value for value, _ in (gaps or {}).get(setting, [])], dtype=float)
        numbers = {str(key): (over.value(setting, str(key)), over.spread(setting, str(key))) for key in over.mean}
        numbers["gap"] = float(gap.mean()), float(gap.std(ddof=1))
        told.append(
            {
                "id": f"{of[0].job.dataset}/{setting}",
                "name": name,
                "system": names.label(of[0].system),
                "note": name.partition(" (")[2].rstrip(")") or of[0].hyperparameters,
                "seeds": over.count(setting),
                "commit": listed(list(dict.fromkeys(result.commit for result in of if result.commit))),
                "picture": (pictures or {}).get(setting),
                "values": {key: [_held(mean), _held(spread)] for key, (mean, spread) in numbers.items()},
                "curves": [_curves(result) for result in of],
            }
        )

    return told


def _curves(result: Result) -> dict[str, list[float | None]]:
    history = result.history.iloc[:: -(-len(result.history) // POINTS)]

    return {column: [_held(value) for value in history[column]] for column in ("epoch", *(name for name, _ in CURVES))}


def _held(value: float) -> float | None:
    """A number with six digits; None where there is none."""
    value = float(value)

    return float(f"{value:.6g}") if math.isfinite(value) else None
