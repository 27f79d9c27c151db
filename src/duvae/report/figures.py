"""The figures: Figure 1 redrawn, training curves, probes. Nothing here knows of files or models."""

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from duvae.config import SyntheticSource
from duvae.registry import RECORDS
from duvae.report.per_example import Space
from duvae.report.results import Array, Result, label_counts, labels, labels_are

P = ParamSpec("P")
Line = Literal["-", "--", ":", "-."] | tuple[int, tuple[float, ...]]

WIDTH = 7.16
"""Of a figure over the whole page, in inches."""

LEGEND: dict[str, Any] = {"handlelength": 1.8, "columnspacing": 1.4}

HALFWIDTH = 3.0
"""Figure 1 shows [-3, 3] x [-3, 3]."""

COMPONENTS = ("#0072b2", "#e69f00", "#cc79a7", "#009e73", "#d55e00", "#56b4e9", "#999999")
"""Okabe and Ito's colours, told apart by everybody; the centre component is blue, as in the paper."""

LINES: tuple[Line, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
"""Further settings of one system differ in their lines."""

CURVES = (
    ("valid_loss", "Negative ELBO (nats)"),
    ("valid_kl", "KL (nats)"),
    ("valid_mi", "Mutual information (nats)"),
    ("valid_au", "Active units"),
    ("valid_mpd", "MPD (nats)"),
    ("valid_ce", "Conditional entropy (nats)"),
)
"""What is drawn over the epochs, measured on validation."""

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
    """Draws in the style of all figures."""

    @functools.wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return inside


# ---------------------------------------------------------------------------------- Figure 1


def aggregate(means: Array, variances: Array, x: Array, y: Array) -> Array:
    r"""The aggregated posterior on a lattice.

    $$ q(z) = \frac{1}{N} \sum_n N(x; \mu_{n1}, \delta^2_{n1}) N(y; \mu_{n2}, \delta^2_{n2}) $$

    Each posterior is a product over the two dimensions, so the sum is one product of matrices.

    Args:
        means: With shape (N, 2).
        variances: With shape (N, 2).
        x: With shape (columns,).
        y: With shape (rows,).

    Returns:
        The density, with shape (rows, columns).
    """
    across, up = (_normal(at, means[:, d], variances[:, d]) for d, at in enumerate((x, y)))

    return up.T @ across / len(means)


def mixture(source: SyntheticSource) -> tuple[Array, Array]:
    """Means and variances of the generator's components, with shape (components, 2) each."""
    means = np.asarray(source.means, np.float64)

    return means, np.full_like(means, source.variance)


def outside(points: Array) -> float:
    """The share of points that lie outside of the frame."""
    return float(np.mean(np.abs(points).max(axis=1) > HALFWIDTH)) if len(points) else 0.0


@styled
def figure1(source: SyntheticSource, true_z: Space | None, spaces: Sequence[Space], lattice: int = 241) -> Figure:
    """Figure 1: above, contours of the aggregated posteriors; below, the means coloured by component.

    The true latent space comes first. All panels show [-3, 3] x [-3, 3]; all contours share one scale.

    Args:
        source: The generator, whose mixture is the true latent space.
        true_z: The z that the test sentences were written from, as `means`; None leaves that panel out.
        spaces: A system each.
        lattice: Points a side for the contours.
    """
    at = np.linspace(-HALFWIDTH, HALFWIDTH, lattice)
    true = aggregate(*mixture(source), at, at)
    learned = [None if s.variances is None else aggregate(s.means, s.variances, at, at) for s in spaces]
    top = max(float(density.max()) for density in (true, *learned) if density is not None)
    # Even steps in the square root: the flat true density and a sharp peak are both seen on one scale.
    levels = top * np.linspace(0, 1, 15) ** 2
    columns = 1 + len(spaces)
    width, left, right, gap = 7.16, 0.34, 0.50, 0.06  # inches; a page of two columns
    side = (width - left - right - gap * (columns - 1)) / columns
    height = 2 * side + gap + 0.26 + 0.22
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(2, columns, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=0.22 / height,
        top=1 - 0.26 / height,
        wspace=gap / side,
        hspace=gap / side,
    )
    centre = middle(source)
    shown = _contours(axes[0, 0], at, true, levels)
    for ax, density in zip(axes[0, 1:], learned, strict=True):
        if density is not None:
            _contours(ax, at, density, levels)
        else:
            ax.set_facecolor("#f4f4f4")
            _remark(ax, "point masses:\nno density")
    for ax, points in zip(axes[1], [true_z, *spaces], strict=True):
        if points is None:
            _remark(ax, "not kept")
        else:
            _scatter(ax, points, centre)
    for ax, name in zip(axes[0], ["True", *(space.name for space in spaces)], strict=True):
        ax.set_title(name, pad=4)
    for ax in axes.flat:
        ax.set(xlim=(-HALFWIDTH, HALFWIDTH), ylim=(-HALFWIDTH, HALFWIDTH), aspect="equal")
        ax.set(xticks=(-2, 0, 2), yticks=(-2, 0, 2))
        ax.spines[:].set_visible(True)
        ax.tick_params(length=2, pad=2)
        ax.tick_params(left=ax in axes[:, 0], bottom=ax in axes[1])
    axes[0, 0].set_ylabel("density", labelpad=1)
    axes[1, 0].set_ylabel("means", labelpad=1)
    box = axes[0, -1].get_position()
    bar = figure.add_axes((box.x1 + 0.08 / width, box.y0, 0.08 / width, box.height))
    colours = figure.colorbar(shown, cax=bar, ticks=levels[[0, 5, 8, 11, 14]], format="%.2f")
    colours.outline.set_linewidth(0.4)
    bar.tick_params(length=1.5, pad=1.5, labelsize=6)

    return figure


@styled
def latent(space: Space, centre: int = 0, reach: float | None = None) -> Figure:
    """One latent space: contours of the aggregated posterior and the means.

    Args:
        space: What to draw.
        centre: The component that is blue.
        reach: The frame, from - to + this; None: as far as the means reach.
    """
    reach = reach or max(HALFWIDTH, float(np.quantile(np.abs(space.means), 0.999)) * 1.1)
    figure = Figure(figsize=(3.4, 3.4))
    ax = figure.subplots()
    if space.variances is not None:
        at = np.linspace(-reach, reach, 241)
        ax.contourf(at, at, aggregate(space.means, space.variances, at, at), 12, cmap="Greys", alpha=0.6)
    _scatter(ax, space, centre, size=5)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=space.name)
    figure.tight_layout()

    return figure


def _normal(at: Array, mean: Array, variance: Array) -> Array:
    """N(at; mean, variance), with shape (N, points)."""
    variance = variance[:, None]

    return np.asarray(np.exp(-((at - mean[:, None]) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance))


def _contours(ax: Axes, at: Array, density: Array, levels: Array) -> QuadContourSet:
    filled = ax.contourf(at, at, density, levels, cmap="viridis", norm=PowerNorm(0.5, 0, levels[-1]))
    ax.contour(at, at, density, levels[1:-1], colors="white", linewidths=0.25, alpha=0.45)

    return filled


def _remark(ax: Axes, text: str) -> None:
    ax.text(0, 0, text, ha="center", va="center", color="#666666", fontsize=6.5)


def middle(source: SyntheticSource) -> int:
    """The component nearest to the middle of all."""
    means = np.asarray(source.means)

    return int(np.argmin(((means - means.mean(axis=0)) ** 2).sum(axis=1)))


def _scatter(ax: Axes, space: Space, centre: int, size: float = 1.6) -> None:
    """Points coloured by component, in an order that lets none lie on top of the others."""
    others = [label for label in np.unique(space.labels) if label != centre]
    rank = {centre: 0, **{label: 1 + i for i, label in enumerate(others)}}
    colours = np.array([COMPONENTS[rank.get(label, 0) % len(COMPONENTS)] for label in space.labels])
    order = np.random.default_rng(0).permutation(len(colours))
    x, y = space.means[order].T
    ax.scatter(x, y, size, colours[order].tolist(), alpha=0.75, linewidths=0, rasterized=True)


# ---------------------------------------------------------------------------------- curves


@styled
def curves(results: Sequence[Result], warmup: int) -> Figure:
    """Loss, KL, MI, AU, MPD and CE on validation over the epochs; a line a seed, a colour a system.

    Args:
        results: Models of one data set.
        warmup: Epochs over which the KL weight rises, shaded.
    """
    columns, legend = _room(list(labels(results).values()), WIDTH)
    height = 3.35 + legend
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots(2, 3, sharex=True)
    styles = line_styles(results)
    longest = max(int(result.history["epoch"].max()) for result in results)
    for ax, (column, title) in zip(axes.flat, CURVES, strict=True):
        if warmup:
            ax.axvspan(0, min(warmup, longest), color="#000000", alpha=0.06, linewidth=0)
        drawn: list[Array] = []
        for result in results:
            values = result.history[column].astype(float)
            if values.notna().any():
                colour, dashes = styles[result.job.setting]
                ax.plot(result.history["epoch"], values, color=colour, linestyle=dashes, alpha=0.9)
                best = result.history.loc[result.history["best"] == 1, "epoch"]
                if len(best):
                    ax.plot(best.iloc[-1], values[best.index[-1]], "o", color=colour, markersize=2.6)
                drawn.append(np.asarray(values, np.float64))
        _limits(ax, drawn, column)
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
    """Accuracy of the linear probe by number of labels, with the spread over the labelled subsets."""
    entries = len(labels(results)) + 1
    columns = -(-entries // 16)
    figure = Figure(figsize=(WIDTH, max(2.5, 0.165 * min(entries, 16) + 0.2)))
    ax, beside = figure.subplots(1, 2, width_ratios=(4.4 - columns, columns))
    beside.set_axis_off()
    styles = line_styles(results)
    counts = label_counts(results)
    at = np.arange(len(counts))
    several = sorted({result.job.setting for result in results}, key=[r.job.setting for r in results].index)
    for index, setting in enumerate(several):
        of = [result for result in results if result.job.setting == setting and result.probe]
        if not of:
            continue
        found = [[r.probe["by_labels"].get(count) for r in of if r.probe] for count in counts]
        accuracy = [np.mean([f["accuracy"] for f in fs if f]) if any(fs) else np.nan for fs in found]
        spread = [np.mean([f["spread"] or 0.0 for f in fs if f]) if any(fs) else 0.0 for fs in found]
        colour, dashes = styles[setting]
        shift = min(0.05, 0.5 / len(several)) * (index - (len(several) - 1) / 2)  # so that bars do not hide each other
        ax.errorbar(at + shift, accuracy, spread, color=colour, ls=dashes, marker="o", markersize=2.6, elinewidth=0.7)
    largest = [float(result.probe["largest_class"]) for result in results if result.probe and result.probe["by_labels"]]
    if largest:
        ax.axhline(largest[0], label="largest class", color="#888888", linewidth=0.7, linestyle=":")
    ax.set_xticks(at, [f"{int(count):,}" if count.isdigit() else count for count in counts])
    ax.set_xlim(-0.35, len(counts) - 0.65)
    ax.margins(y=0.12)
    ax.set(xlabel=labels_are(results), ylabel="accuracy on test (%)")
    ax.grid(axis="y", color="#000000", alpha=0.08, linewidth=0.5)
    handles = _handles(results) + [line for line in ax.lines if line.get_label() == "largest class"]
    beside.legend(handles=handles, loc="upper left", ncols=columns, borderaxespad=0, **LEGEND)
    figure.tight_layout()

    return figure


def line_styles(results: Sequence[Result]) -> dict[str, tuple[str, Line]]:
    """A colour and a line for each setting."""
    styles: dict[str, tuple[str, Line]] = {}
    used: dict[str, int] = {}
    for result in results:
        if result.job.setting in styles:
            continue
        record = RECORDS.get(result.system)
        colour = record.colour if record else COMPONENTS[len(styles) % len(COMPONENTS)]
        nth = used[colour] = used.get(colour, -1) + 1
        styles[result.job.setting] = (colour, LINES[nth % len(LINES)])

    return styles


def _limits(ax: Axes, drawn: Sequence[Array], column: str) -> None:
    """Room for what matters: not for the loss of the first epochs, nor for a divergence that dwarfs the others."""
    values = np.concatenate(drawn) if drawn else np.zeros(1)
    values = values[np.isfinite(values)]
    if column == "valid_loss" and len(values) > 20:
        low, high = float(values.min()), float(max(np.nanquantile(line[len(line) // 10 :], 0.98) for line in drawn))
        ax.set_ylim(low - 0.05 * (high - low), high + 0.08 * (high - low))
    elif column == "valid_mpd" and len(values) and values.max() > 20:
        ax.set_yscale("symlog", linthresh=1)
        ax.set_ylim(bottom=-0.06)
        ax.yaxis.set_major_formatter("{x:g}")
    elif column in ("valid_kl", "valid_mi", "valid_au", "valid_mpd"):
        most = float(values.max(initial=0))
        ax.set_ylim(bottom=min(-0.02, -0.03 * most), top=1.05 * most if column == "valid_au" and most else None)


def _handles(results: Sequence[Result]) -> list[Line2D]:
    styles, names = line_styles(results), labels(results)

    return [
        Line2D([], [], color=colour, linestyle=dashes, label=names[setting])
        for setting, (colour, dashes) in styles.items()
    ]


def _room(names: Sequence[str], width: float) -> tuple[int, float]:
    """How many columns of a legend fit into `width` inches, and how high it is then, in inches."""
    for columns in range(min(8, len(names)), 0, -1):
        rows = -(-len(names) // columns)
        longest = [max(map(len, names[start : start + rows])) for start in range(0, len(names), rows)]
        if sum(0.42 + 0.06 * length for length in longest) <= width:
            break

    return columns, 0.1 + 0.165 * rows


# ---------------------------------------------------------------------------------- files


def png(figure: Figure, dpi: int = 200) -> bytes:
    """The figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})

    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """The figure as an element for a page, without the XML head; the same figure gives the same text."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()

    return text[text.index("<svg") :]
