"""Tables of single dimensions and of the exact NLL."""

from typing import Any

import numpy as np
import pandas as pd

from duvae.config import Job
from duvae.report import more_tables, results
from duvae.report.cells import Table
from duvae.report.results import Result


def model(setting: str, seed: int = 1, **metrics: Any) -> Result:
    history = pd.DataFrame(dict.fromkeys(results.HISTORY, 0.0), index=range(2))
    known = {"system": setting, "hyperparameters": {}, "importance_samples": 500, **metrics}

    return Result(Job("made_up", setting, seed, "yelp"), known, history, None, {})


def texts(table: Table | None, row: int) -> list[str | None]:
    assert table is not None

    return [cell.text for cell in table.rows[row].cells]


COLOURS = {"vae": "#000000", "fb": "#000000", "iaf_fb": "#000000"}


def test_dimensions_are_sorted_before_seeds_are_averaged() -> None:
    """Dimension 1 of one seed and dimension 2 of the other are the informative ones."""
    table = more_tables.dimensions(
        [
            model("vae", 1, kl_by_dimension=[2.0, 0.0], mean_variances=[0.9, 0.002]),
            model("vae", 2, kl_by_dimension=[0.0, 4.0], mean_variances=[0.05, 0.95]),
            model("iaf_fb", kl_by_dimension=[1.0, 0.5], mean_variances=None),
        ],
        COLOURS,
    )
    # Two dimensions lie above 0.001 in both seeds; above 0.01 it is one in the first seed and two in the second.
    assert texts(table, 0) == ["3.00", "0.00", "2", "1.5", "1.5", "1.5", "1", "1"]
    assert texts(table, 1) == ["1.00", "0.50", *[None] * len(more_tables.THRESHOLDS)]


def test_many_dimensions_are_told_by_quantiles() -> None:
    kl = np.random.default_rng(1).permutation(np.arange(33.0)).tolist()
    table = more_tables.dimensions([model("vae", kl_by_dimension=kl, mean_variances=[1.0] * 33)], COLOURS)

    assert texts(table, 0) == ["32.00", "24.00", "16.00", "8.00", "0.00", *["33"] * len(more_tables.THRESHOLDS)]
    assert more_tables.dimensions([model("vae")], COLOURS) is None


def test_the_bias_stands_beside_the_exact_nll() -> None:
    def exact(nll: float, bias: float, curve: bool) -> dict[str, Any]:
        points = [{"samples": k, "nll": nll + 1 / k, "bias": 1 / k, "bias_stderr": 0.01} for k in (10, 1)]
        return {"sentences": 200, "nll": nll, "nll_stderr": 0.5, "bias": bias, "bias_stderr": 0.02} | (
            {"curve": points} if curve else {}
        )

    table = more_tables.exact(
        [
            model("vae", 1, exact=exact(30.0, 0.02, True)),
            model("vae", 2, exact=exact(31.0, 0.04, False)),
            model("fb", 1, exact=exact(29.0, 0.01, False)),
            model("iaf_fb", 1, exact=None),
        ],
        COLOURS,
    )
    assert texts(table, 0) == ["30.50", "0.030", "1.000", "0.100"]
    assert texts(table, 1) == ["29.00", "0.010", None, None]
    assert table is not None
    assert table.rows[0].cells[1].spread == "0.014"
    assert "± is the standard deviation over seeds" in table.caption
    assert [row.name for row in table.rows] == ["VAE", "FB"]
    assert more_tables.exact([model("vae")], COLOURS) is None
