"""Counts the centres of a density that is known on a lattice of points."""

import numpy as np

from duvae.data.splits import Array

PROMINENCE = 0.05
"""Smallest height of a centre above the highest pass to a higher centre, as a share of the largest density."""

THRESHOLDS = (0.01, 0.02, PROMINENCE, 0.1)
"""Values of this smallest height for which the centres are counted, since the number can depend on it."""


def centres(density: Array, prominence: float = PROMINENCE) -> list[tuple[int, int]]:
    """Finds the maxima of a density that stand out.

    Imagine the density as a landscape, and water that sinks from the highest point. Each maximum appears as an island.
    At a pass, two islands become one, and the lower maximum ends there. Its height above this pass is its prominence.
    The highest maximum of all has its whole height as prominence.

    Args:
        density: The density on a lattice, shape (rows, columns).
        prominence: Smallest prominence of a centre, as a share of the largest density.

    Returns:
        Row and column of each centre, the highest one first.

    Raises:
        ValueError: If the density has no points, or if it is not finite everywhere.
    """
    values = np.asarray(density, np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError("expected a finite density on a lattice of points in two dimensions")
    rows, columns = values.shape
    flat = values.ravel()
    order = np.argsort(-flat, kind="stable")
    parent = np.full(flat.size, -1)  # -1: still under water
    least = prominence * float(flat.max())
    ended = np.zeros(flat.size, bool)

    def island(point: int) -> int:
        while parent[point] != point:
            parent[point] = parent[parent[point]]
            point = int(parent[point])
        return point

    peaks = []
    for point in map(int, order):
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
            peaks.append(point)
            continue
        first, *others = sorted(around, key=lambda each: (-flat[each], each))
        parent[point] = first
        for other in others:
            parent[other] = first
            ended[other] = flat[other] - flat[point] < least

    return [divmod(peak, columns) for peak in peaks if not ended[peak] and flat[peak] >= least]


def counts(density: Array) -> dict[float, int]:
    """Counts the centres of a density at each of `THRESHOLDS`.

    Args:
        density: The density on a lattice, shape (rows, columns).

    Returns:
        The number of centres, by threshold.

    Raises:
        ValueError: If the density has no points, or if it is not finite everywhere.
    """
    return {threshold: len(centres(density, threshold)) for threshold in THRESHOLDS}
