"""Draws two-dimensional latent spaces: those of the paper's Figure 1, and the latent space of a single model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from duvae.config import SyntheticSource
from duvae.report.figures import COLUMN, COMPONENT_COLOURS, WIDTH, styled
from duvae.report.per_example import Space
from duvae.report.results import Array

HALFWIDTH = 3.0
"""Half the side of a panel: the panels show [-HALFWIDTH, HALFWIDTH] in both dimensions, as in the paper's Figure 1."""


def aggregate(means: Array, variances: Array, x: Array, y: Array) -> Array:
    r"""Computes the density of the aggregated posterior on a lattice of points z = (x, y).

    $$ q(z) = \frac{1}{N} \sum_n N(x; \mu_{n1}, \delta^2_{n1}) N(y; \mu_{n2}, \delta^2_{n2}) $$

    The density of each posterior is a product of one density per dimension. So one product of two matrices gives the
    sum at all points of the lattice.

    Args:
        means: Posterior means, shape (N, 2).
        variances: Posterior variances, shape (N, 2).
        x: Coordinates of the columns, shape (columns,).
        y: Coordinates of the rows, shape (rows,).

    Returns:
        The density, shape (rows, columns).
    """
    in_x, in_y = (_normal(points, means[:, d], variances[:, d]) for d, points in enumerate((x, y)))

    return in_y.T @ in_x / len(means)


def mixture(source: SyntheticSource) -> tuple[Array, Array]:
    """Reads the Gaussian components of the mixture from which the generator of the synthetic data draws z.

    Returns:
        The means and the variances of the components, each of shape (components, 2).
    """
    means = np.asarray(source.means, np.float64)

    return means, np.full_like(means, source.variance)


def share_outside(points: Array) -> float:
    """The fraction of points, from 0 to 1, that lie outside the panels of Figure 1.

    Args:
        points: Coordinates, shape (points, 2).
    """
    return float(np.mean(np.abs(points).max(axis=1) > HALFWIDTH)) if len(points) else 0.0


@styled
def figure1(
    source: SyntheticSource,
    true_z: Space | None,
    spaces: Sequence[Space],
    lattice: int = 241,
    width: float = WIDTH,
) -> Figure:
    """Draws Figure 1: contours of the aggregated posteriors above, and the posterior means below.

    The colour of a mean tells from which component of the mixture the sentence's z was drawn. The first column shows
    the true latent space. All panels show [-3, 3] x [-3, 3], and all contours share one scale.

    Args:
        source: Parameters of the generator, whose mixture of Gaussians is the true latent space.
        true_z: A space that holds the true z of the test sentences as `means`; None: the lower panel of the true latent
            space says `not kept`.
        spaces: The latent spaces, one per system.
        lattice: Number of points in each dimension at which the density is computed for the contours.
        width: Width of the figure in inches. In a narrow figure there is one row per system, with the density on the
            left and the means on the right.
    """
    grid = np.linspace(-HALFWIDTH, HALFWIDTH, lattice)
    true = aggregate(*mixture(source), grid, grid)
    learned = [None if s.variances is None else aggregate(s.means, s.variances, grid, grid) for s in spaces]
    top = max(float(density.max()) for density in (true, *learned) if density is not None)
    # The levels have even steps in the square root of the density. So they show both the flat true density and a sharp
    # peak of a learned density.
    levels = top * np.linspace(0, 1, 15) ** 2
    names = ["True", *(space.name for space in spaces)]
    figure, axes, bar = _panels(len(names), width)
    centre = central_component(source)
    contours = _contours(axes[0, 0], grid, true, levels)
    for ax, density in zip(axes[0, 1:], learned, strict=True):
        if density is not None:
            _contours(ax, grid, density, levels)
        else:
            ax.set_facecolor("#f4f4f4")
            _remark(ax, "point masses:\nno density")
    for ax, points in zip(axes[1], [true_z, *spaces], strict=True):
        if points is None:
            _remark(ax, "not kept")
        else:
            _scatter(ax, points, centre)
    narrow = width <= COLUMN
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_ylabel(name, labelpad=1) if narrow else ax.set_title(name, pad=4)
    for ax, name in zip(axes[:, 0], ["density", "means"], strict=True):
        ax.set_title(name, pad=4) if narrow else ax.set_ylabel(name, labelpad=1)
    bottom, left = (axes[:, -1], axes[0]) if narrow else (axes[1], axes[:, 0])
    for ax in axes.flat:
        ax.set(xlim=(-HALFWIDTH, HALFWIDTH), ylim=(-HALFWIDTH, HALFWIDTH), aspect="equal")
        ax.set(xticks=(-2, 0, 2), yticks=(-2, 0, 2))
        ax.spines[:].set_visible(True)
        ax.tick_params(length=2, pad=2)
        ax.tick_params(left=ax in left, bottom=ax in bottom)
    colours = figure.colorbar(contours, cax=bar, ticks=levels[[0, 5, 8, 11, 14]], format="%.2f")
    colours.outline.set_linewidth(0.4)
    bar.tick_params(length=1.5, pad=1.5, labelsize=6)

    return figure


def columns(figure: Figure) -> list[list[Artist]]:
    """The panels of each latent space in a wide Figure 1, the density and the means, and then the scale of colours."""
    *panels, bar = figure.axes
    spaces = len(panels) // 2

    groups: list[list[Artist]] = [[panels[space], panels[spaces + space]] for space in range(spaces)]

    return [*groups, [bar]]


def _panels(systems: int, width: float) -> tuple[Figure, npt.NDArray[Any], Axes]:
    """Lays out the square panels of Figure 1.

    Args:
        systems: Number of latent spaces.
        width: Width of the figure in inches.

    Returns:
        The figure; the panels, shape (2, systems), with the densities in the first row; and the place of the scale of
        colours.
    """
    narrow = width <= COLUMN
    rows, columns = (systems, 2) if narrow else (2, systems)
    left, right, gap, above, below = 0.34, 0.50, 0.06, 0.26, 0.22  # inches
    side = (width - left - right - gap * (columns - 1)) / columns
    height = rows * side + (rows - 1) * gap + above + below
    figure = Figure(figsize=(width, height))
    axes = np.asarray(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False))
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=below / height,
        top=1 - above / height,
        wspace=gap / side,
        hspace=gap / side,
    )
    box = axes[0, -1].get_position()
    bar = figure.add_axes((box.x1 + 0.08 / width, box.y0, 0.08 / width, box.height))

    return figure, axes.T if narrow else axes, bar


def highest(spaces: Sequence[Space], reach: float = HALFWIDTH, lattice: int = 241) -> float:
    """The highest density of some aggregated posteriors; 0 if none has a density.

    Args:
        spaces: The latent spaces.
        reach: Half the side of the square around 0 in which the density is computed.
        lattice: Number of points in each dimension at which the density is computed.
    """
    grid = np.linspace(-reach, reach, lattice)
    tops = [float(aggregate(s.means, s.variances, grid, grid).max()) for s in spaces if s.variances is not None]

    return max(tops, default=0.0)


@styled
def latent(space: Space, centre: int = 0, reach: float | None = None, top: float | None = None) -> Figure:
    """Draws one latent space: contours of the aggregated posterior, and the posterior means over these contours.

    The greys have even steps in the square root of the density, as in Figure 1.

    Args:
        space: The latent space.
        centre: Label of the means that are drawn in blue; for synthetic data, the index of the central component.
        reach: Half the side of the panel, which shows [-reach, reach] in both dimensions. None: 1.1 times the 99.9 %
            quantile of the means' absolute coordinates, but at least `HALFWIDTH`.
        top: The density that is black. Pictures that stand beside each other have the same. None: the highest density
            of this space.
    """
    reach = reach or max(HALFWIDTH, float(np.quantile(np.abs(space.means), 0.999)) * 1.1)
    figure = Figure(figsize=(3.4, 3.4))
    ax = figure.subplots()
    if space.variances is not None:
        grid = np.linspace(-reach, reach, 241)
        density = aggregate(space.means, space.variances, grid, grid)
        levels = (top or float(density.max())) * np.linspace(0, 1, 13) ** 2
        ax.contourf(grid, grid, density, levels, cmap="Greys", norm=PowerNorm(0.5, 0, levels[-1]), extend="max")
    _scatter(ax, space, centre, size=5)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=space.name)
    # As `tight_layout` would do it, which takes a third of the time of a picture.
    figure.subplots_adjust(left=0.107, right=0.947, bottom=0.083, top=0.923)

    return figure


def _normal(points: Array, mean: Array, variance: Array) -> Array:
    """The densities N(points; mean, variance), shape (N, points)."""
    variance = variance[:, None]

    return np.asarray(np.exp(-((points - mean[:, None]) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance))


def _contours(ax: Axes, grid: Array, density: Array, levels: Array) -> QuadContourSet:
    filled = ax.contourf(grid, grid, density, levels, cmap="viridis", norm=PowerNorm(0.5, 0, levels[-1]))
    ax.contour(grid, grid, density, levels[1:-1], colors="white", linewidths=0.25, alpha=0.45)

    return filled


def _remark(ax: Axes, text: str) -> None:
    ax.text(0, 0, text, ha="center", va="center", color="#666666", fontsize=6.5)


def central_component(source: SyntheticSource) -> int:
    """Index of the component whose mean is nearest to the average of all components' means. Figures draw it in blue."""
    means = np.asarray(source.means)

    return int(np.argmin(((means - means.mean(axis=0)) ** 2).sum(axis=1)))


def _scatter(ax: Axes, space: Space, centre: int, size: float = 1.6) -> None:
    """Draws the means of a space, coloured by label. The colour of the label `centre` is blue.

    The means are drawn in random order, so that the points of one label do not cover all points of another label.
    """
    others = [label for label in np.unique(space.labels) if label != centre]
    rank = {centre: 0, **{label: 1 + i for i, label in enumerate(others)}}
    colours = np.array([COMPONENT_COLOURS[rank.get(label, 0) % len(COMPONENT_COLOURS)] for label in space.labels])
    order = np.random.default_rng(0).permutation(len(colours))
    x, y = space.means[order].T
    ax.scatter(x, y, size, colours[order].tolist(), alpha=0.75, linewidths=0, rasterized=True)
