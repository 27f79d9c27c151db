"""Statistics of measures that have one value per example of a data set."""

import math

import numpy as np

from duvae.data.splits import Array


def standard_error(values: Array) -> float:
    """Computes the standard error of the mean of `values`, in the unit of the values; 0 for a single value.

    Args:
        values: One value per example, shape (examples,).
    """
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
