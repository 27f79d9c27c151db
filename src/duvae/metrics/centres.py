"""Counts the centres of a density that is known on a lattice of points."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duvae.data.splits import Array

PROMINENCE = 0.05
"""Smallest height of a centre above the highest pass to a higher centre, as a share of the largest density."""

THRESHOLDS = (0.01, 0.02, PROMINENCE, 0.1)
"""Values of this smallest height for which the centres are counted, since the number can depend on it."""


@dataclass(frozen=True)
class Peak:
    """A maximum of a density on a lattice.

    Attributes:
        row: Row of the maximum.
        column: Column of the maximum.
        height: The density there.
        prominence: Its height above the highest pass to a higher maximum; of the highest maximum, its whole height.
    """

    row: int
    column: int
    height: float
    prominence: float


def peaks(density: Array) -> list[Peak]:
    """Finds all maxima of a density, each with its prominence.

    Imagine the density as a landscape, and water that sinks from the highest point. Each maximum appears as an island.
    At a pass, two islands become one, and the lower maximum ends there. Its height above this pass is its prominence.
    The highest maximum of all has its whole height as prominence.

    Args:
        density: The density on a lattice, shape (rows, columns).

    Returns:
        The maxima, the highest one first.

    Raises:
        ValueError: If the density has no points, or if it is not finite everywhere.
    """
    values = np.asarray(density, np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError("expected a finite density on a lattice of points in two dimensions")
    rows, columns = values.shape
    order: list[int] = np.argsort(-values.ravel(), kind="stable").tolist()
    heights: list[float] = values.ravel().tolist()
    parent = [-1] * len(heights)  # -1: still under water

    def island(point: int) -> int:
        while parent[point] != point:
            parent[point] = parent[parent[point]]
            point = parent[point]
        return point

    prominences: dict[int, float] = {}
    for point in order:
        parent[point] = point
        row, column = divmod(point, columns)
        # The eight neighbours that are above the water already; the highest maximum of an island stands for the island.
        around = {
            island(r * columns + c)
            for r in range(max(row - 1, 0), min(row + 2, rows))
            for c in range(max(column - 1, 0), min(column + 2, columns))
            if (r, c) != (row, column) and parent[r * columns + c] >= 0
        }
        if not around:
            prominences[point] = heights[point]
            continue
        first, *others = sorted(around, key=lambda each: (-heights[each], each))
        parent[point] = first
        for other in others:
            parent[other] = first
            prominences[other] = heights[other] - heights[point]

    return [
        Peak(point // columns, point % columns, heights[point], prominence) for point, prominence in prominences.items()
    ]


def centres(density: Array, prominence: float = PROMINENCE) -> list[tuple[int, int]]:
    """Finds the maxima of a density that stand out.

    Args:
        density: The density on a lattice, shape (rows, columns).
        prominence: Smallest prominence of a centre (see `peaks`), as a share of the largest density.

    Returns:
        Row and column of each centre, the highest one first.

    Raises:
        ValueError: If the density has no points, or if it is not finite everywhere.
    """
    return [(peak.row, peak.column) for peak in _standing_out(peaks(density), prominence)]


def counts(density: Array) -> dict[float, int]:
    """Counts the centres of a density at each of `THRESHOLDS`.

    Args:
        density: The density on a lattice, shape (rows, columns).

    Returns:
        The number of centres, by threshold.

    Raises:
        ValueError: If the density has no points, or if it is not finite everywhere.
    """
    found = peaks(density)

    return {threshold: len(_standing_out(found, threshold)) for threshold in THRESHOLDS}


def _standing_out(found: Sequence[Peak], prominence: float) -> list[Peak]:
    """The peaks whose height and prominence are at least a share of the largest density."""
    least = prominence * found[0].height

    return [peak for peak in found if peak.prominence >= least and peak.height >= least]
