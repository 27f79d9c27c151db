"""Means and what is known of their errors."""

import math

import numpy as np

from duvae.data.store import Array


def standard_error(values: Array) -> float:
    """The standard error of the mean over documents; 0 for a single one."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
