"""Draws the figures of a study: the NLL over the hyperparameters, and the course of the search."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from duvae.registry import RECORDS
from duvae.report import figures, names

COLOUR_MAP = "viridis"
"""Name of the colour map of the NLL; the darkest colour marks the lowest NLL."""


def letter(summary: Mapping[str, Any], hyperparameter: str) -> str:
    """Returns the paper's letter for a hyperparameter of the study's system.

    If the paper has no letter for the hyperparameter, the result is the hyperparameter's key.

    Args:
        summary: Content of study.json, which a finished study writes.
        hyperparameter: Key of the hyperparameter.
    """
    return names.letter(summary["system"], hyperparameter)


def paper_choice(summary: Mapping[str, Any]) -> Mapping[str, float] | None:
    """Returns the hyperparameters that the paper chose for the study's system and data set.

    The result is None if the paper gives no hyperparameters for this system and data set, or if the study searches
    other hyperparameters than the paper. It is also None for data of the user (`own_data`), which read the column of
    one of the paper's data sets.

    Args:
        summary: Content of study.json, which a finished study writes.
    """
    if summary.get("own_data"):
        return None
    record = RECORDS.get(summary["system"])
    chosen = record.chosen.get(summary["column"]) if record else None

    return chosen if chosen and set(chosen) == set(summary["space"]) else None


@figures.styled
def heat_map(summary: Mapping[str, Any], trials: pd.DataFrame, width: float = 4.0) -> Figure:
    """Draws the validation NLL over the study's hyperparameters, as the paper's Figure 2 does.

    The function draws one of three kinds of figure:

    - Line, for a study of one hyperparameter: the NLL with error bars.
    - Cells, for a grid search over two hyperparameters: one cell per trial, with the trial's NLL.
    - Points, for any other study: one point per trial. The axes are the first two hyperparameters.

    These marks are added:

    - A square frame marks the best trial, whose hyperparameters the study chooses.
    - A ring marks the paper's choice. In the line figure, a dotted vertical line marks it instead.
    - A study may require that a trial's mutual information (MI) lies above a bound. A trial that misses the bound is a
      hollow point of the line, a cell that is struck out, or a square point.
    - A cross marks a trial that ended early. In the figure of cells, the cell of such a trial is empty.

    Args:
        summary: Content of study.json, which a finished study writes.
        trials: Content of trials.csv, one row per trial.
        width: Width of the figure in inches.
    """
    keys = list(summary["space"])
    if len(keys) == 1:
        return _line(summary, trials, keys[0], width)
    figure = Figure(figsize=(width, 3.1))
    ax = figure.subplots()
    complete = trials[trials["state"] == "complete"]
    norm = Normalize(*(complete["nll"].agg(["min", "max"]) if len(complete) else (0, 1)))
    draw = _cells if summary["sampler"] == "grid" and len(keys) == 2 else _points
    draw(ax, summary, trials, norm)
    ax.set(xlabel=letter(summary, keys[0]), ylabel=letter(summary, keys[1]))
    figure.tight_layout()

    return figure


def _cells(ax: Axes, summary: Mapping[str, Any], trials: pd.DataFrame, norm: Normalize) -> None:
    (x, x_values), (y, y_values) = summary["space"].items()
    table = trials[trials["state"] == "complete"].pivot_table(index=y, columns=x, values="nll")
    values = table.reindex(index=y_values, columns=x_values).to_numpy(float)
    ax.imshow(values, cmap=COLOUR_MAP, norm=norm, origin="lower", aspect="auto")
    feasible = {(row[x], row[y]): bool(row["feasible"]) for _, row in trials.iterrows() if row["state"] == "complete"}
    for row, column in itertools.product(range(len(y_values)), range(len(x_values))):
        if np.isnan(values[row, column]):
            continue
        dark = norm(values[row, column]) < 0.5
        ink = "white" if dark else "black"
        ax.text(column, row, f"{values[row, column]:.2f}", ha="center", va="center", color=ink)
        if not feasible[x_values[column], y_values[row]]:
            ax.plot([column - 0.45, column + 0.45], [row - 0.45, row + 0.45], color=ink, linewidth=0.6, alpha=0.7)
    ax.set_xticks(range(len(x_values)), [f"{value:g}" for value in x_values])
    ax.set_yticks(range(len(y_values)), [f"{value:g}" for value in y_values])
    best, paper = summary["best"], paper_choice(summary)
    if best:
        corner = (x_values.index(best["hyperparameters"][x]) - 0.5, y_values.index(best["hyperparameters"][y]) - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#d55e00", linewidth=1.8, clip_on=False, zorder=3))
    if paper and paper[x] in x_values and paper[y] in y_values:
        ax.plot(x_values.index(paper[x]) + 0.38, y_values.index(paper[y]) + 0.36, **_ring(5))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def _points(ax: Axes, summary: Mapping[str, Any], trials: pd.DataFrame, norm: Normalize) -> None:
    x, y = list(summary["space"])[:2]
    by_state = {state: trials[trials["state"] == state] for state in ("complete", "pruned", "failed")}
    for _, row in by_state["pruned"].iterrows():
        ax.plot(row[x], row[y], "x", color="#888888", markersize=4.5)
    ax.plot(by_state["failed"][x], by_state["failed"][y], "1", color="#d55e00", markersize=6)
    complete = by_state["complete"]
    feasible = complete["feasible"].astype(bool)
    for part, marker in ((complete[feasible], "o"), (complete[~feasible], "s")):
        points = ax.scatter(part[x], part[y], c=part["nll"], cmap=COLOUR_MAP, norm=norm, marker=marker, s=34, zorder=3)
    if len(complete):
        ax.figure.colorbar(points, ax=ax, label="NLL (nats)")
    best, paper = summary["best"], paper_choice(summary)
    if best:
        chosen = best["hyperparameters"]
        ax.plot(chosen[x], chosen[y], "s", markersize=9.5, markerfacecolor="none", markeredgecolor="#d55e00", zorder=4)
    if paper:
        ax.plot(paper[x], paper[y], **_ring(9))
    for set_limits, values in ((ax.set_xlim, summary["space"][x]), (ax.set_ylim, summary["space"][y])):
        margin = 0.06 * (max(values) - min(values))
        set_limits(min(values) - margin, max(values) + margin)
    ax.spines[:].set_visible(True)


def _line(summary: Mapping[str, Any], trials: pd.DataFrame, name: str, width: float) -> Figure:
    figure = Figure(figsize=(width, 2.6))
    ax = figure.subplots()
    complete = trials[trials["state"] == "complete"].sort_values(name)
    ax.errorbar(complete[name], complete["nll"], complete["nll_stderr"], color="#0072b2", marker="o", markersize=3)
    infeasible = complete[~complete["feasible"].astype(bool)]
    ax.plot(infeasible[name], infeasible["nll"], "o", color="white", markeredgecolor="#0072b2", markersize=4, zorder=3)
    pruned = trials[trials["state"] == "pruned"]
    ax.plot(pruned[name], pruned["loss"].fillna(complete["nll"].max()), "x", color="#888888", markersize=4.5)
    best, paper = summary["best"], paper_choice(summary)
    if best:
        ax.plot(best["hyperparameters"][name], best["nll"], "s", ms=9, mfc="none", mec="#d55e00")
    if paper:
        ax.axvline(paper[name], color="#d55e00", linewidth=0.7, linestyle=":")
    ax.set(xlabel=letter(summary, name), ylabel="NLL on validation (nats)")
    figure.tight_layout()

    return figure


def _ring(size: float) -> dict[str, Any]:
    return {
        "marker": "o",
        "markersize": size,
        "markerfacecolor": "none",
        "markeredgecolor": "#d55e00",
        "linestyle": "none",
        "zorder": 5,
    }


@figures.styled
def progress(
    summary: Mapping[str, Any], trials: pd.DataFrame, curves: pd.DataFrame, width: float = figures.WIDTH
) -> Figure:
    """Draws the course of the search.

    The horizontal axis of the left panel is the number of epochs that all trials together have trained so far. The
    panel shows the NLL of each complete trial, and the lowest NLL so far. If the study is compared with a grid study, a
    dashed line shows the lowest NLL of the grid study. The right panel shows the validation loss of each training over
    its own epochs, one training per trial and seed.

    Args:
        summary: Content of study.json, which a finished study writes.
        trials: Content of trials.csv, one row per trial.
        curves: Content of curves.csv, one row per trial and epoch.
        width: Width of the figure in inches. In a narrow figure the panels stand one above the other.
    """
    beside = width > figures.COLUMN
    figure = Figure(figsize=(width, 2.7 if beside else 5.0))
    left, right = figure.subplots(*((1, 2) if beside else (2, 1)))
    spent = trials["trained"].cumsum()
    complete = trials["state"] == "complete"
    feasible = complete & (trials["feasible"] == True)  # noqa: E712 (the column has missing values)
    for part, face, label in (
        (feasible, "#0072b2", "complete"),
        (complete & ~feasible, "white", f"MI at most {summary['min_mi']}"),
    ):
        if part.any():
            style = {"markerfacecolor": face, "markeredgecolor": "#0072b2", "markersize": 4, "label": label}
            left.plot(spent[part], trials.loc[part, "nll"].astype(float), "o", **style)
    if feasible.any():
        lowest = trials.loc[feasible, "nll"].astype(float).cummin()
        end = max(float(spent.iloc[-1]), float(spent[feasible].iloc[-1]))
        left.step(
            [*spent[feasible], end], [*lowest, lowest.iloc[-1]], where="post", color="#0072b2", label="lowest so far"
        )
    against = summary["against"]
    if against and against["best"]:
        nll = against["best"]["nll"]
        left.axhline(nll, color="#d55e00", linestyle="--", linewidth=0.8, label="lowest of the grid")
    left.set(xlabel="epochs trained", ylabel="NLL on validation (nats)")
    left.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    left.legend()
    _losses(right, summary, trials, curves)
    figure.tight_layout()

    return figure


def _losses(ax: Axes, summary: Mapping[str, Any], trials: pd.DataFrame, curves: pd.DataFrame) -> None:
    colours = {"complete": "#0072b2", "pruned": "#999999", "failed": "#d55e00"}
    states = dict(zip(trials["trial"], trials["state"], strict=True))
    best = summary["best"]["trial"] if summary["best"] else None
    visible = []
    seeds = curves["seed"] if "seed" in curves else pd.Series(0, index=curves.index)  # an earlier version had one seed
    last = dict(seeds.groupby(curves["trial"]).last())
    for (trial, seed), curve in curves.groupby([curves["trial"], seeds], sort=False):
        width = 1.6 if trial == best else 0.8
        ax.plot(curve["epoch"], curve["valid_loss"], color=colours[states[trial]], linewidth=width, alpha=0.85)
        if states[trial] == "pruned" and seed == last[trial]:
            ax.plot(curve["epoch"].iloc[-1], curve["valid_loss"].iloc[-1], "x", color="#555555", markersize=4)
        visible.append(curve.loc[curve["epoch"] > summary["warmup"] / 2, "valid_loss"])
    values = pd.concat(visible) if visible else pd.Series(dtype=float)
    if len(values):
        low, high = float(values.min()), float(values.quantile(0.98))
        ax.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))
    if summary["warmup"]:
        ax.axvspan(0, summary["warmup"], color="#000000", alpha=0.06, linewidth=0)
    ax.set_xlim(0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ax.set(xlabel="epoch", ylabel="Negative ELBO (nats)")
    used = [state for state in colours if state in states.values()]
    ax.legend(handles=[Line2D([], [], color=colours[state], label=state) for state in used])
