"""Draws training curves and the accuracies of probes, and defines the style and the file formats of all figures."""

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from duvae.registry import RECORDS
from duvae.report.results import Array, Result, label_counts, label_unit, setting_names

P = ParamSpec("P")
Line = Literal["-", "--", ":", "-."] | tuple[int, tuple[float, ...]]

WIDTH = 7.16
"""Width in inches of a figure that spans both columns of a page."""

LEGEND: dict[str, Any] = {"handlelength": 1.8, "columnspacing": 1.4}

COMPONENT_COLOURS = ("#0072b2", "#e69f00", "#cc79a7", "#009e73", "#d55e00", "#56b4e9", "#999999")
"""Colours for the components of the Gaussian mixture from which the z of the synthetic data are drawn.

The colours are those of Okabe and Ito, which colour-blind readers can distinguish. The first colour is blue, as in the
paper.
"""

LINE_STYLES: tuple[Line, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
"""Line styles that distinguish the settings of one system, because these settings share a colour."""

CURVES = (
    ("valid_loss", "Negative ELBO (nats)"),
    ("valid_kl", "KL (nats)"),
    ("valid_mi", "Mutual information (nats)"),
    ("valid_au", "Active units"),
    ("valid_mpd", "MPD (nats)"),
    ("valid_ce", "Conditional entropy (nats)"),
)
"""The panels of the training curves: for each panel, the column of history.csv and the title.

All values are from the validation data.
"""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "figure.facecolor": "white",
    "svg.hashsalt": "duvae",
    "svg.fonttype": "path",
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorates a function so that it draws in `STYLE`, the style of all figures."""

    @functools.wraps(draw)
    def draw_styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return draw_styled


@styled
def bias(results: Sequence[Result]) -> Figure:
    """Draws how far the importance-weighted NLL lies above the exact NLL, over the number K of samples.

    There is one line per setting, from the first seed that was measured for several K. Bars are standard errors over
    sentences.
    """
    figure = Figure(figsize=(WIDTH / 2, 2.6))
    ax = figure.subplots()
    styles, names, drawn = line_styles(results), setting_names(results), set()
    for result in results:
        curve = (result.metrics.get("exact") or {}).get("curve")
        setting = result.job.setting
        if curve and setting not in drawn:
            drawn.add(setting)
            points = sorted(curve, key=lambda point: point["samples"])
            colour, dashes = styles[setting]
            errors = [point["bias_stderr"] or 0.0 for point in points]
            x, y = [point["samples"] for point in points], [point["bias"] for point in points]
            ax.errorbar(
                x, y, errors, color=colour, linestyle=dashes, linewidth=1.1, elinewidth=0.6, label=names[setting]
            )
    ax.axhline(0, color="#888888", linewidth=0.6)
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=0.1)
    ax.set_xlabel("number K of samples")
    ax.set_ylabel("NLL minus exact NLL (nats)")
    ax.grid(axis="y", color="#000000", alpha=0.08, linewidth=0.5)
    ax.legend(fontsize=6, ncols=2, **LEGEND)
    figure.tight_layout()

    return figure


# ---------------------------------------------------------------------------------- curves


@styled
def curves(results: Sequence[Result], warmup: int) -> Figure:
    """Draws the quantities of `CURVES` over the epochs, with one line per model and one colour per system.

    A dot marks the epoch whose weights were kept.

    Args:
        results: Results of all models of one data set.
        warmup: Number of epochs over which the KL weight rises; the figure shades these epochs.
    """
    columns, legend = _legend_size(list(setting_names(results).values()), WIDTH)
    height = 3.35 + legend
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots(2, 3, sharex=True)
    styles = line_styles(results)
    longest = max(int(result.history["epoch"].max()) for result in results)
    for ax, (column, title) in zip(axes.flat, CURVES, strict=True):
        if warmup:
            ax.axvspan(0, min(warmup, longest), color="#000000", alpha=0.06, linewidth=0)
        lines: list[Array] = []
        for result in results:
            values = result.history[column].astype(float)
            if values.notna().any():
                colour, dashes = styles[result.job.setting]
                ax.plot(result.history["epoch"], values, color=colour, linestyle=dashes, alpha=0.9)
                best = result.history.loc[result.history["best"] == 1, "epoch"]
                if len(best):
                    ax.plot(best.iloc[-1], values[best.index[-1]], "o", color=colour, markersize=2.6)
                lines.append(np.asarray(values, np.float64))
        _limits(ax, lines, column)
        ax.set_title(title, loc="left")
        if column == "valid_au":
            ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        ax.grid(axis="y", color="#000000", alpha=0.08, linewidth=0.5)
        ax.set_xlim(0, longest + max(0.25, longest / 40))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    for ax in axes[1]:
        ax.set_xlabel("epoch")
    figure.legend(handles=_handles(results), loc="upper center", ncols=columns, **LEGEND)
    figure.tight_layout(rect=(0, 0, 1, 1 - legend / height), h_pad=1.2, w_pad=1.0)

    return figure


@styled
def probes(results: Sequence[Result]) -> Figure:
    """Draws the accuracies of linear probes over the number of labels, as means over seeds.

    A linear probe is a linear classifier of latent codes that is trained on a labelled subset of the training data.
    Error bars show the standard deviation over such subsets. A dotted line shows the share of the largest class, which
    is the accuracy of a classifier that always predicts this class.
    """
    lines = len(setting_names(results)) + 1
    columns = -(-lines // 16)
    figure = Figure(figsize=(WIDTH, max(2.5, 0.165 * min(lines, 16) + 0.2)))
    ax, legend = figure.subplots(1, 2, width_ratios=(4.4 - columns, columns))
    legend.set_axis_off()
    styles = line_styles(results)
    counts = label_counts(results)
    x = np.arange(len(counts))
    settings = list(dict.fromkeys(result.job.setting for result in results))
    for index, setting in enumerate(settings):
        probes = [result.probe["by_labels"] for result in results if result.job.setting == setting and result.probe]
        if not probes:
            continue
        by_count = [[probe[count] for probe in probes if count in probe] for count in counts]
        accuracy = [np.mean([entry["accuracy"] for entry in entries]) if entries else np.nan for entries in by_count]
        known = [[entry["spread"] for entry in entries if entry["spread"] is not None] for entries in by_count]
        spread = [np.mean(spreads) if spreads else np.nan for spreads in known]  # no bar for a single labelled subset
        colour, dashes = styles[setting]
        # Without the shift, error bars of different settings would hide each other.
        shift = min(0.05, 0.5 / len(settings)) * (index - (len(settings) - 1) / 2)
        ax.errorbar(x + shift, accuracy, spread, color=colour, ls=dashes, marker="o", markersize=2.6, elinewidth=0.7)
    largest = [float(result.probe["largest_class"]) for result in results if result.probe and result.probe["by_labels"]]
    if largest:
        ax.axhline(largest[0], label="largest class", color="#888888", linewidth=0.7, linestyle=":")
    ax.set_xticks(x, [f"{int(count):,}" if count.isdigit() else count for count in counts])
    ax.set_xlim(-0.35, len(counts) - 0.65)
    ax.margins(y=0.12)
    ax.set(xlabel=label_unit(results), ylabel="accuracy on test (%)")
    ax.grid(axis="y", color="#000000", alpha=0.08, linewidth=0.5)
    handles = _handles(results) + [line for line in ax.lines if line.get_label() == "largest class"]
    legend.legend(handles=handles, loc="upper left", ncols=columns, borderaxespad=0, **LEGEND)
    figure.tight_layout()

    return figure


def line_styles(results: Sequence[Result]) -> dict[str, tuple[str, Line]]:
    """Chooses the colour and the line style of each setting. A setting is a system with hyperparameters.

    Returns:
        Pairs of a colour and a line style, by setting.
    """
    styles: dict[str, tuple[str, Line]] = {}
    used: dict[str, int] = {}
    for result in results:
        if result.job.setting in styles:
            continue
        record = RECORDS.get(result.system)
        colour = record.colour if record else COMPONENT_COLOURS[len(styles) % len(COMPONENT_COLOURS)]
        nth = used[colour] = used.get(colour, -1) + 1
        styles[result.job.setting] = (colour, LINE_STYLES[nth % len(LINE_STYLES)])

    return styles


def _limits(ax: Axes, lines: Sequence[Array], column: str) -> None:
    """Limits the y axis, so that a large loss of the first epochs or a very large MPD does not hide the other values.

    Args:
        ax: The panel.
        lines: The values of each line in the panel.
        column: The column of history.csv.
    """
    values = np.concatenate(lines) if lines else np.zeros(1)
    values = values[np.isfinite(values)]
    if column == "valid_loss" and len(values) > 20:
        low, high = float(values.min()), float(max(np.nanquantile(line[len(line) // 10 :], 0.98) for line in lines))
        ax.set_ylim(low - 0.05 * (high - low), high + 0.08 * (high - low))
    elif column == "valid_mpd" and len(values) and values.max() > 20:
        ax.set_yscale("symlog", linthresh=1)
        ax.set_ylim(bottom=-0.06)
        ax.yaxis.set_major_formatter("{x:g}")
    elif column in ("valid_kl", "valid_mi", "valid_au", "valid_mpd"):
        most = float(values.max(initial=0))
        ax.set_ylim(bottom=min(-0.02, -0.03 * most), top=1.05 * most if column == "valid_au" and most else None)


def _handles(results: Sequence[Result]) -> list[Line2D]:
    styles, names = line_styles(results), setting_names(results)

    return [
        Line2D([], [], color=colour, linestyle=dashes, label=names[setting])
        for setting, (colour, dashes) in styles.items()
    ]


def _legend_size(names: Sequence[str], width: float) -> tuple[int, float]:
    """Computes how many columns of a legend fit into `width` inches, and the legend's height in inches."""
    for columns in range(min(8, len(names)), 0, -1):
        rows = -(-len(names) // columns)
        longest = [max(map(len, names[start : start + rows])) for start in range(0, len(names), rows)]
        if sum(0.42 + 0.06 * length for length in longest) <= width:
            break

    return columns, 0.1 + 0.165 * rows


# ---------------------------------------------------------------------------------- files


def png(figure: Figure, dpi: int = 200) -> bytes:
    """Encodes a figure as PNG. The same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})

    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """Encodes a figure as an HTML element `<svg>`, without the XML header. The same figure gives the same text."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()

    return text[text.index("<svg") :]
