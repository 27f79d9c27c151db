"""Draws training curves and the accuracies of probes, and defines the style and the file formats of all figures."""

import functools
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from duvae.registry import RECORDS
from duvae.report import direct_labels
from duvae.report.results import Array, Result, label_counts, label_unit, setting_names

P = ParamSpec("P")
Line = Literal["-", "--", ":", "-."] | tuple[int, tuple[float, ...]]

WIDTH = 174 / 25.4
"""Width in inches of a figure that spans both columns of a page: 174 mm."""

COLUMN = 84 / 25.4
"""Width in inches of a figure that spans one of two columns of a page: 84 mm."""

PALETTE = 128
"""Number of colours of a picture on a page."""

MANY = 6
"""Number of settings from which on lines have their names at their ends, and no legend."""

INSIDE = 12
"""Largest number of settings whose legend stands inside the panel; a longer legend stands below it."""

LARGEST_CLASS = "largest class"
"""Label of the line in the figure of the probes that shows the share of the largest class."""

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

LONG_NUMBER = re.compile(r"([0-9]+\.[0-9]{2})[0-9]+")
"""A number with more than two decimal places."""

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
def bias(results: Sequence[Result], width: float = COLUMN) -> Figure:
    """Draws how far the importance-weighted NLL lies above the exact NLL, over the number K of samples.

    There is one line per setting, from the first seed that was measured for several K. Bars are standard errors over
    sentences.

    Args:
        results: Results of all models of one data set.
        width: Width of the figure in inches.
    """
    styles, names, drawn = line_styles(results), setting_names(results), set()
    measured = [names[result.job.setting] for result in results if (result.metrics.get("exact") or {}).get("curve")]
    columns, below = _legend_size(list(dict.fromkeys(measured)), width) if len(set(measured)) > INSIDE else (2, 0.0)
    figure = Figure(figsize=(width, 2.6 + below))
    ax = figure.subplots()
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
    # Exponents would be smaller than the type around them.
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("number K of samples")
    ax.set_ylabel("NLL minus exact NLL (nats)")
    ax.grid(axis="y", color="#000000", alpha=0.08, linewidth=0.5)
    where: dict[str, Any] = {"fontsize": 6, "ncols": columns, **LEGEND}
    if below:
        figure.legend(loc="lower center", **where)
    else:
        ax.legend(**where)
    figure.tight_layout(rect=(0, below / (2.6 + below), 1, 1))

    return figure


# ---------------------------------------------------------------------------------- curves


@styled
def curves(results: Sequence[Result], warmup: int, width: float = WIDTH) -> Figure:
    """Draws the quantities of `CURVES` over the epochs, with one line per model and one colour per system.

    A dot marks the epoch whose weights were kept. With `MANY` settings or more, their names stand at the ends of the
    lines; with fewer, there is a legend.

    Args:
        results: Results of all models of one data set.
        warmup: Number of epochs over which the KL weight rises; the figure shades these epochs.
        width: Width of the figure in inches.
    """
    names, styles = setting_names(results), line_styles(results)
    many = len(names) >= MANY
    beside = direct_labels.width(list(names.values())) if many else 0.0
    columns = (2 if many else 3) if width > COLUMN else (1 if many else 2)
    rows = -(-len(CURVES) // columns)
    legend_columns, legend = (1, 0.0) if many else _legend_size(list(names.values()), width)
    panel = max(1.3, direct_labels.height(len(names) + 1)) if many else 1.3
    height = rows * (panel + 0.38) + legend
    figure = Figure(figsize=(width, height))
    axes = np.asarray(figure.subplots(rows, columns, sharex=True, squeeze=False))
    longest = max(int(result.history["epoch"].max()) for result in results)
    ends: list[list[direct_labels.End]] = []
    # Arrays, since hundreds of single reads of pandas' tables would take more time than drawing.
    models = [
        (
            result.job.setting,
            result.history["epoch"].to_numpy(np.float64),
            np.flatnonzero(result.history["best"].to_numpy() == 1),
            {column: result.history[column].to_numpy(np.float64) for column, _ in CURVES},
        )
        for result in results
    ]
    for ax, (column, title) in zip(axes.flat, CURVES, strict=True):
        if warmup:
            ax.axvspan(0, min(warmup, longest), color="#000000", alpha=0.06, linewidth=0)
        lines: list[Array] = []
        last: dict[str, direct_labels.End] = {}
        for setting, epochs, best, curves_of in models:
            values = curves_of[column]
            seen = np.flatnonzero(~np.isnan(values))
            if len(seen):
                colour, dashes = styles[setting]
                ax.plot(epochs, values, color=colour, linestyle=dashes, alpha=0.9)
                if len(best):
                    ax.plot(epochs[best[-1]], values[best[-1]], "o", color=colour, markersize=2.6)
                lines.append(values)
                name = names[setting]
                end = direct_labels.End(name, float(epochs[seen[-1]]), float(values[seen[-1]]), colour)
                last.setdefault(name, end)
        for line in ax.lines:
            line.set_in_layout(False)  # the panel cuts it off; without this, hundreds of lines take most of the time
        _limits(ax, lines, column)
        ax.set_title(title, loc="left")
        if column == "valid_au":
            ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        ax.grid(axis="y", color="#000000", alpha=0.08, linewidth=0.5)
        ax.set_xlim(0, longest + (0 if many else max(0.25, longest / 40)))
        ax.tick_params(labelbottom=True)  # on a narrow screen, each panel stands alone
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        ends.append(list(last.values()))
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    if not many:
        figure.legend(handles=_handles(results), loc="upper center", ncols=legend_columns, **LEGEND)
    between = 1.0 + 72 * beside / STYLE["font.size"]  # paddings are multiples of the size of the type
    figure.tight_layout(rect=(0, 0, 1 - beside / width, 1 - legend / height), h_pad=1.2, w_pad=between)
    for ax, own in zip(axes.flat, ends if many else [], strict=False):
        direct_labels.write(ax, own)

    return figure


@styled
def probes(results: Sequence[Result], width: float = WIDTH) -> Figure:
    """Draws the accuracies of linear probes over the number of labels, as means over seeds.

    A linear probe is a linear classifier of latent codes that is trained on a labelled subset of the training data.
    Error bars show the standard deviation over such subsets. A dotted line shows the share of the largest class, which
    is the accuracy of a classifier that always predicts this class. The names stand at the ends of the lines.

    Args:
        results: Results of all models of one data set.
        width: Width of the figure in inches.
    """
    names, styles = setting_names(results), line_styles(results)
    counts = label_counts(results)
    beside = direct_labels.width([*names.values(), LARGEST_CLASS])
    figure = Figure(figsize=(width, max(2.3, direct_labels.height(len(names) + 2)) + 0.5))
    ax = figure.subplots()
    x = np.arange(len(counts))
    settings = list(dict.fromkeys(result.job.setting for result in results))
    ends = []
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
        seen = [(place, float(value)) for place, value in zip(x + shift, accuracy, strict=True) if np.isfinite(value)]
        ends += [direct_labels.End(names[setting], *seen[-1], colour)] if seen else []
    largest = [float(result.probe["largest_class"]) for result in results if result.probe and result.probe["by_labels"]]
    if largest:
        ax.axhline(largest[0], color="#777777", linewidth=0.7, linestyle=":")
        ends.append(direct_labels.End(LARGEST_CLASS, len(counts) - 0.65, largest[0], "#777777"))
    ax.set_xticks(x, [f"{int(count):,}" if count.isdigit() else count for count in counts])
    ax.set_xlim(-0.35, len(counts) - 0.65)
    ax.margins(y=0.12)
    ax.set(xlabel=label_unit(results), ylabel="accuracy on test (%)")
    ax.grid(axis="y", color="#000000", alpha=0.08, linewidth=0.5)
    figure.tight_layout(rect=(0, 0, 1 - beside / width, 1))
    direct_labels.write(ax, ends)

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


def small_png(figure: Figure, dpi: int = 200) -> bytes:
    """Encodes a figure as PNG with `PALETTE` colours, which takes a third of the bytes of `png`.

    A page can hold hundreds of figures. The same figure gives the same bytes.
    """
    pixels, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(pixels, format="rgba", dpi=dpi)
    width, height = (int(side * dpi) for side in figure.get_size_inches())
    rgba = np.frombuffer(pixels.getbuffer(), np.uint8).reshape(height, width, 4)
    picture = Image.fromarray(rgba).convert("RGB")
    picture.quantize(PALETTE, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)

    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """Encodes a figure as an HTML element `<svg>`, without the XML header. The same figure gives the same text.

    Coordinates have two decimal places, which are hundredths of a point. That halves the size of long lines.
    """
    text = svg_file(figure)
    text = text[text.index("<svg") :]

    return re.sub(r' (?:d|x|y)="[^"]*"', lambda match: LONG_NUMBER.sub(r"\1", match[0]), text)


def svg_file(figure: Figure) -> str:
    """Encodes a figure as the text of an SVG file. The same figure gives the same text."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})

    return buffer.getvalue()


def pdf(figure: Figure) -> bytes:
    """Encodes a figure as PDF, with the letters as type. The same figure gives the same bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context({**STYLE, "pdf.fonttype": 42}):
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})

    return buffer.getvalue()
