"""Puts images together into one picture: a grid in which all images have the same scale of greys."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

SCALE = 3
"""Default side, in pixels of the picture, of the square that shows one pixel of an image."""


def grid(images: Array, columns: int, scale: int = SCALE) -> Array:
    """Arranges images in rows. Grey lines separate the images; a line is as wide as one pixel of an image.

    Args:
        images: Images as ink from 0 (white) to 1 (black), shape (images, height, width). The images fill the first row
            of the picture from left to right, then the second row, and so on.
        columns: Number of images in each row.
        scale: Side, in pixels of the picture, of the square that shows one pixel of an image.

    Returns:
        The picture as ink from 0 to 1, shape (height, width).
    """
    rows = -(-len(images) // columns)
    height, width = images.shape[1:]
    picture = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1), 0.25)
    for n, image in enumerate(images):
        top, left = n // columns * (height + 1) + 1, n % columns * (width + 1) + 1
        picture[top : top + height, left : left + width] = image

    return picture.repeat(scale, 0).repeat(scale, 1)


def side_by_side(grids: Sequence[Array], gap: int) -> Array:
    """Joins pictures of the same height in one row.

    Args:
        grids: The pictures as ink from 0 to 1, from left to right, each of shape (height, width).
        gap: Width of the white space between two pictures, in pixels.

    Returns:
        The joined picture as ink from 0 to 1, shape (height, total width).
    """
    space = np.zeros((len(grids[0]), gap))

    return np.concatenate([part for grid in grids for part in (space, grid)][1:], 1)


def png(ink: Array) -> bytes:
    """Encodes a picture as PNG. Ink 0 is white and ink 1 is black, whichever values of ink the picture has."""
    import matplotlib.image

    file = io.BytesIO()
    matplotlib.image.imsave(file, ink, cmap="gray_r", vmin=0, vmax=1, format="png")

    return file.getvalue()
