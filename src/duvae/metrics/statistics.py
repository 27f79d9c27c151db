"""Statistics of values that are computed for each example."""

import math

import numpy as np

from duvae.data.splits import Array


def standard_error(values: Array) -> float:
    """Standard error of the mean over examples, in the unit of the values; 0 for a single example."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
