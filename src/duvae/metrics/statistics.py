"""Statistics of measures that have one value per example of a data set."""

import math

import numpy as np

from duvae.data.splits import Array


def standard_error(values: Array) -> float | None:
    """Computes the standard error of the mean of `values`, in the unit of the values.

    Args:
        values: One value per example, shape (examples,).

    Returns:
        The standard error; None for a single value, whose error is unknown.
    """
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def with_error(value: float, error: float | None, decimals: int) -> str:
    """Writes a mean with its standard error, such as `30.12 [0.05]`; without the error if it is None or NaN."""
    known = error is not None and math.isfinite(error)

    return f"{value:.{decimals}f} [{error:.{decimals}f}]" if known else f"{value:.{decimals}f} (error unknown)"
