"""Shows the choice that a study leaves, a lower NLL or more use of z, and which hyperparameters matter."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from duvae.report import figures
from duvae.report.cells import word_list
from duvae.report.page import percent
from duvae.report.study_figures import letter


def measured(trials: pd.DataFrame) -> pd.DataFrame:
    """The complete trials whose use of z was measured; earlier versions did not measure it.

    Args:
        trials: Content of trials.csv, one row per trial.
    """
    if "use" not in trials:
        return trials.iloc[:0].assign(use=[])

    return trials[(trials["state"] == "complete") & trials["use"].notna()]


def front(trials: pd.DataFrame) -> list[int]:
    """Finds the trials on the front: no other trial has both a lower NLL and more use of z.

    A trial that another one equals in one measure and beats in the other is not on the front, either. The comparison is
    one of estimates, without their errors.

    Args:
        trials: Content of trials.csv, one row per trial.

    Returns:
        Numbers of the trials, in ascending order of the NLL.
    """
    found: list[int] = []
    most = float("-inf")
    for _, row in measured(trials).sort_values(["nll", "use"], ascending=[True, False]).iterrows():
        if float(row["use"]) > most:
            most = float(row["use"])
            found.append(int(row["trial"]))

    return found


@figures.styled
def front_figure(summary: Mapping[str, Any], trials: pd.DataFrame, width: float = 4.0) -> Figure:
    """Draws the NLL of each complete trial over its use of z, and joins the trials of the front by a line.

    Args:
        summary: Content of study.json, which a finished study writes.
        trials: Content of trials.csv, one row per trial.
        width: Width of the figure in inches.
    """
    figure = Figure(figsize=(width, 2.8))
    ax = figure.subplots()
    shown = measured(trials)
    feasible = shown["feasible"].astype(bool)
    for part, face in ((shown[feasible], "#0072b2"), (shown[~feasible], "white")):
        ax.errorbar(
            part["use"],
            part["nll"],
            part["nll_stderr"],
            fmt="o",
            color="#0072b2",
            markerfacecolor=face,
            markersize=4,
            elinewidth=0.6,
            zorder=3,
        )
    line = shown.set_index("trial").loc[front(trials)]
    ax.plot(line["use"], line["nll"], color="#0072b2", linewidth=0.8, alpha=0.6)
    best = summary["best"]
    if best and best["trial"] in set(shown["trial"]):
        row = shown.set_index("trial").loc[best["trial"]]
        ax.plot(row["use"], row["nll"], "s", markersize=9.5, mfc="none", mec="#d55e00", zorder=4)
    ax.set(xlabel="use of z on validation (nats)", ylabel="NLL on validation (nats)")
    ax.grid(color="#000000", alpha=0.08, linewidth=0.5)
    figure.tight_layout()

    return figure


def importance_line(summary: Mapping[str, Any]) -> str | None:
    """Says how much of the differences in NLL each hyperparameter explains; None where that is not known.

    Args:
        summary: Content of study.json, which a finished study writes.
    """
    shares = summary.get("importance")
    if not shares:
        return None
    ordered = sorted(shares.items(), key=lambda share: -share[1])
    parts = [f"{letter(summary, name)} {percent(share)}" for name, share in ordered]

    return (
        f"Importance for the NLL, by fANOVA: {word_list(parts)} of what single hyperparameters explain over the"
        f" {summary['trials']['complete']} complete trials. Few trials make a rough estimate."
    )
