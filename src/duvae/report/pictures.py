"""Images as one picture: a grid, all on the same scale."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

ENLARGED = 3
"""Pixels of the picture a pixel of an image."""


def grid(images: Array, columns: int, enlarged: int = ENLARGED) -> Array:
    """Images side by side, a grey line of one image's pixel between them.

    Args:
        images: Ink from 0 to 1, with shape (images, height, width), row by row.
        columns: Images a row.
        enlarged: Pixels of the result a pixel of an image.

    Returns:
        Ink from 0 to 1, with shape (height, width).
    """
    rows = -(-len(images) // columns)
    height, width = images.shape[1:]
    found = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1), 0.25)
    for n, image in enumerate(images):
        top, left = n // columns * (height + 1) + 1, n % columns * (width + 1) + 1
        found[top : top + height, left : left + width] = image

    return found.repeat(enlarged, 0).repeat(enlarged, 1)


def beside(grids: Sequence[Array], apart: int) -> Array:
    """Pictures of one height side by side, so many pixels of paper between them."""
    paper = np.zeros((len(grids[0]), apart))

    return np.concatenate([part for grid in grids for part in (paper, grid)][1:], 1)


def png(ink: Array) -> bytes:
    """A picture as PNG, ink of 0 white and of 1 black whatever else it holds."""
    import matplotlib.image

    file = io.BytesIO()
    matplotlib.image.imsave(file, ink, cmap="gray_r", vmin=0, vmax=1, format="png")

    return file.getvalue()
