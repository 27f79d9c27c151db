"""The page of a study: Figure 2 for any data set, its trials, how the search went and what it cost."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from duvae.project.files import read_json
from duvae.project.provenance import unwrapped
from duvae.registry import RECORDS
from duvae.report import figures, names
from duvae.report.origin import described
from duvae.report.page import drawing, percent, render
from duvae.report.results import commit, csv
from duvae.report.tables import Cell, Head, Row, Table, listed, number

MAP = "viridis"
"""Dark is good: the least NLL."""


def letter(summary: Mapping[str, Any], hyperparameter: str) -> str:
    """A hyperparameter of a study's system as the paper writes it."""
    return names.letter(summary["system"], hyperparameter)


def optimum(summary: Mapping[str, Any]) -> Mapping[str, float] | None:
    """What the paper chose for the study's system and data set; None where it does not say."""
    record = RECORDS.get(summary["system"])
    known = record.chosen.get(summary["column"]) if record else None

    return known if known and set(known) == set(summary["space"]) else None


# ---------------------------------------------------------------------------------- figures


@figures.styled
def heat_map(summary: Mapping[str, Any], trials: pd.DataFrame) -> Figure:
    """Figure 2: validation NLL over two hyperparameters; of one a line.

    A grid is drawn as cells with their NLL, any other study as its trials where they lie. The winner has a frame, what
    the paper chose a ring; where MI is asked for, cells without it are struck through. Ended early: crosses.
    """
    keys = list(summary["space"])
    if len(keys) == 1:
        return _line(summary, trials, keys[0])
    figure = Figure(figsize=(4.0, 3.1))
    ax = figure.subplots()
    complete = trials[trials["state"] == "complete"]
    norm = Normalize(*(complete["nll"].agg(["min", "max"]) if len(complete) else (0, 1)))
    draw = _cells if summary["sampler"] == "grid" and len(keys) == 2 else _points
    draw(ax, summary, trials, norm)
    ax.set(xlabel=letter(summary, keys[0]), ylabel=letter(summary, keys[1]))
    figure.tight_layout()

    return figure


def _cells(ax: Axes, summary: Mapping[str, Any], trials: pd.DataFrame, norm: Normalize) -> None:
    (x, across), (y, up) = summary["space"].items()
    table = trials[trials["state"] == "complete"].pivot_table(index=y, columns=x, values="nll")
    values = table.reindex(index=up, columns=across).to_numpy(float)
    ax.imshow(values, cmap=MAP, norm=norm, origin="lower", aspect="auto")
    able = {(row[x], row[y]): bool(row["feasible"]) for _, row in trials.iterrows() if row["state"] == "complete"}
    for row, column in itertools.product(range(len(up)), range(len(across))):
        if np.isnan(values[row, column]):
            continue
        dark = norm(values[row, column]) < 0.5
        ink = "white" if dark else "black"
        ax.text(column, row, f"{values[row, column]:.2f}", ha="center", va="center", color=ink)
        if not able[across[column], up[row]]:
            ax.plot([column - 0.45, column + 0.45], [row - 0.45, row + 0.45], color=ink, linewidth=0.6, alpha=0.7)
    ax.set_xticks(range(len(across)), [f"{value:g}" for value in across])
    ax.set_yticks(range(len(up)), [f"{value:g}" for value in up])
    best, paper = summary["best"], optimum(summary)
    if best:
        at = (across.index(best["hyperparameters"][x]) - 0.5, up.index(best["hyperparameters"][y]) - 0.5)
        ax.add_patch(Rectangle(at, 1, 1, fill=False, edgecolor="#d55e00", linewidth=1.8, clip_on=False, zorder=3))
    if paper and paper[x] in across and paper[y] in up:
        ax.plot(across.index(paper[x]) + 0.38, up.index(paper[y]) + 0.36, **_ring(5))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def _points(ax: Axes, summary: Mapping[str, Any], trials: pd.DataFrame, norm: Normalize) -> None:
    x, y = list(summary["space"])[:2]
    of = {state: trials[trials["state"] == state] for state in ("complete", "pruned", "failed")}
    for _, row in of["pruned"].iterrows():
        ax.plot(row[x], row[y], "x", color="#888888", markersize=4.5)
    ax.plot(of["failed"][x], of["failed"][y], "1", color="#d55e00", markersize=6)
    complete = of["complete"]
    able = complete["feasible"].astype(bool)
    for part, marker in ((complete[able], "o"), (complete[~able], "s")):
        drawn = ax.scatter(part[x], part[y], c=part["nll"], cmap=MAP, norm=norm, marker=marker, s=34, zorder=3)
    if len(complete):
        ax.figure.colorbar(drawn, ax=ax, label="NLL (nats)")
    best, paper = summary["best"], optimum(summary)
    if best:
        at = best["hyperparameters"]
        ax.plot(at[x], at[y], "s", markersize=9.5, markerfacecolor="none", markeredgecolor="#d55e00", zorder=4)
    if paper:
        ax.plot(paper[x], paper[y], **_ring(9))
    for axis, values in ((ax.set_xlim, summary["space"][x]), (ax.set_ylim, summary["space"][y])):
        room = 0.06 * (max(values) - min(values))
        axis(min(values) - room, max(values) + room)
    ax.spines[:].set_visible(True)


def _line(summary: Mapping[str, Any], trials: pd.DataFrame, name: str) -> Figure:
    figure = Figure(figsize=(4.0, 2.6))
    ax = figure.subplots()
    complete = trials[trials["state"] == "complete"].sort_values(name)
    ax.errorbar(complete[name], complete["nll"], complete["nll_stderr"], color="#0072b2", marker="o", markersize=3)
    unable = complete[~complete["feasible"].astype(bool)]
    ax.plot(unable[name], unable["nll"], "o", color="white", markeredgecolor="#0072b2", markersize=4, zorder=3)
    pruned = trials[trials["state"] == "pruned"]
    ax.plot(pruned[name], pruned["loss"].fillna(complete["nll"].max()), "x", color="#888888", markersize=4.5)
    best, paper = summary["best"], optimum(summary)
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
def progress(summary: Mapping[str, Any], trials: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """How the search went: the best NLL so far over the epochs trained, and every trial's validation loss."""
    figure = Figure(figsize=(figures.WIDTH, 2.7))
    left, right = figure.subplots(1, 2)
    spent = trials["trained"].cumsum()
    complete = trials["state"] == "complete"
    able = complete & (trials["feasible"] == True)  # noqa: E712 (an object column with gaps)
    for part, face, label in (
        (able, "#0072b2", "complete"),
        (complete & ~able, "white", f"MI at most {summary['min_mi']}"),
    ):
        if part.any():
            style = {"markerfacecolor": face, "markeredgecolor": "#0072b2", "markersize": 4, "label": label}
            left.plot(spent[part], trials.loc[part, "nll"].astype(float), "o", **style)
    if able.any():
        so_far = trials.loc[able, "nll"].astype(float).cummin()
        end = max(float(spent.iloc[-1]), float(spent[able].iloc[-1]))
        left.step([*spent[able], end], [*so_far, so_far.iloc[-1]], where="post", color="#0072b2", label="best so far")
    against = summary["against"]
    if against and against["best"]:
        theirs, error = against["best"]["nll"], against["best"]["nll_stderr"]
        left.axhline(theirs, color="#d55e00", linestyle="--", linewidth=0.8, label="the grid's best")
        left.axhspan(theirs - error, theirs + error, color="#d55e00", alpha=0.1, linewidth=0)
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
    shown = []
    for trial, of in curves.groupby("trial"):
        width = 1.6 if trial == best else 0.8
        ax.plot(of["epoch"], of["valid_loss"], color=colours[states[trial]], linewidth=width, alpha=0.85)
        if states[trial] == "pruned":
            ax.plot(of["epoch"].iloc[-1], of["valid_loss"].iloc[-1], "x", color="#555555", markersize=4)
        shown.append(of.loc[of["epoch"] > summary["warmup"] / 2, "valid_loss"])
    values = pd.concat(shown) if shown else pd.Series(dtype=float)
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


# ---------------------------------------------------------------------------------- tables


def figure2(summary: Mapping[str, Any], trials: pd.DataFrame) -> Table | None:
    """The grid's NLL as a table: a row a value of the second hyperparameter, a column a value of the first."""
    if summary["sampler"] != "grid" or len(summary["space"]) != 2:
        return None
    (x, across), (y, up) = summary["space"].items()
    complete = trials[trials["state"] == "complete"]
    known = {(row[x], row[y]): row for _, row in complete.iterrows()}
    best, paper = summary["best"], optimum(summary)

    def cell(column: float, row: float) -> Cell:
        of = known.get((column, row))
        if of is None:
            return Cell(None)
        here = {x: column, y: row}
        chosen = paper is not None and dict(paper) == here

        return Cell(
            number(of["nll"], 2),
            error=number(of["mi"], 2),
            strong=bool(best and best["hyperparameters"] == here),
            mark="p" if chosen else "",
        )

    return Table(
        id="figure2",
        caption="NLL on validation in nats; in brackets the MI. Bold: the study's choice; p: the paper's.",
        corner=f"{letter(summary, y)} \\ {letter(summary, x)}",
        heads=[Head(f"{letter(summary, x)} {value:g}") for value in across],
        rows=[
            Row(f"{letter(summary, y)} {value:g}", [cell(column, value) for column in across]) for value in reversed(up)
        ],
    )


def each(summary: Mapping[str, Any], trials: pd.DataFrame) -> Table:
    """Every trial, a row."""
    keys = list(summary["space"])
    best = summary["best"]["trial"] if summary["best"] else None
    rows = [
        Row(
            f"{int(row['trial'])}",
            [
                *(Cell(number(row[key], 3)) for key in keys),
                Cell(number(row["nll"], 2), error=number(row["nll_stderr"], 2), strong=row["trial"] == best),
                *(Cell(number(row[name], 2)) for name in ("kl", "mi")),
                Cell(str(int(row["epochs"]))),
                Cell(str(row["state"])),
            ],
            note="" if pd.isna(row["why"]) else str(row["why"]),
        )
        for _, row in trials.iterrows()
    ]
    heads = [*(Head(letter(summary, key)) for key in keys), *(Head(name, "nats") for name in ("NLL", "KL", "MI"))]

    return Table(
        id="trials",
        caption="On validation; in brackets the standard error over the examples.",
        corner="trial",
        heads=[*heads, Head("Epochs"), Head("State")],
        rows=rows,
    )


# ---------------------------------------------------------------------------------- the page


def page(folder: Path) -> tuple[bytes, str]:
    """The map of a study as PNG, and its page.

    Args:
        folder: With what `duvae search` wrote: study.json, trials.csv, curves.csv; and who made them
            (search.run.json), which old results lack.
    """
    again = f"duvae search --study {folder.name}"
    summary = read_json(folder / "study.json", again)
    trials, curves = csv(folder / "trials.csv", again), csv(folder / "curves.csv", again)
    made = folder / "search.run.json"
    record: Mapping[str, Any] = unwrapped(read_json(made, again)) if made.exists() else {}

    drawn = heat_map(summary, trials)
    html = render(
        "study.html",
        study=summary,
        system=names.label(summary["system"]),
        ranges=listed([f"{letter(summary, n)} {min(v):g} to {max(v):g}" for n, v in summary["space"].items()]),
        told=told(summary),
        map=drawing(figures.svg(drawn)),
        progress=drawing(figures.svg(progress(summary, trials, curves))),
        figure2=figure2(summary, trials),
        each=each(summary, trials),
        commit=commit(record) if record else None,
        versions=", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()),
        machine=described(record["machine"]) if record.get("machine") else None,
        cpu=number(record.get("cpu_seconds"), 0),
    )

    return figures.png(drawn), html


def told(summary: Mapping[str, Any]) -> list[str]:
    """What a study has come to, a sentence each."""
    asked = f" with MI above {summary['min_mi']:g} nats" if summary["min_mi"] else ""
    lines = [f"Best{asked}: {winner(summary, summary['best'])}."]
    if asked:
        lines.append(f"Best of all, whatever its MI: {winner(summary, summary['best_of_all'])}.")
    paper = optimum(summary)
    if paper:
        lines.append(f"The paper's choice: {_values(summary, paper)}.")
    cost = summary["cost"]
    takes = f"the grid of {cost['grid']} takes {cost['grid_epochs']:,} at most"
    lines.append(
        f"{cost['epochs']:,} epochs were trained; {takes}: {percent(cost['share'])} of it,"
        f" {max(0, cost['saved']):,} epochs saved."
    )
    against = summary["against"]
    if against and against["gap"] is not None:
        within = "no more than" if against["within_one_standard_error"] else "more than"
        side = "above" if against["gap"] >= 0 else "below"
        lines.append(
            f"Its NLL is {number(abs(against['gap']), 2)} nats {side} that of {against['study']}'s best"
            f" ({winner(summary, against['best'])}), {within} one standard error over the examples above it, for"
            f" {cost['epochs']:,} epochs in place of {against['epochs']:,} ({percent(against['share'])})."
        )

    return lines


def winner(summary: Mapping[str, Any], best: Mapping[str, Any] | None) -> str:
    """A winner in words; `summary` is that of a study of the winner's system."""
    if best is None:
        return "none"
    mi = "" if best["mi"] is None else f", MI {best['mi']:.2f}"

    return f"{_values(summary, best['hyperparameters'])}, NLL {best['nll']:.2f} ± {best['nll_stderr']:.2f}{mi}"


def _values(summary: Mapping[str, Any], values: Mapping[str, float]) -> str:
    return ", ".join(f"{letter(summary, name)} {value:.3g}" for name, value in values.items())
