"""Makes drawings for tests, as arrays and in three forms of files.

The forms are zip archives of PNG files, as Lake published OMNIGLOT; a MATLAB file, as Burda et al. published it; and
folders of PNG files.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from duvae.data.splits import Array, Images


def letter(seed: int, side: int = 105) -> Array:
    """Makes a drawing: a bar at the left, a bar at the top, and a dot whose place depends on the seed.

    The drawing has no symmetry, so that a test notices if a picture is turned or mirrored.
    """
    random = np.random.default_rng(seed)
    ink = np.zeros((side, side), bool)
    ink[side // 8 : side // 2, side // 8 : side // 5] = True
    ink[side // 8 : side // 5, side // 8 : 3 * side // 4] = True
    row, column = random.integers(side // 2, side - side // 8, 2)
    ink[row : row + side // 10, column : column + side // 12] = True

    return ink


def letters(characters: int, drawers: int, side: int = 105, seed: int = 0) -> Array:
    """Makes a drawing of each character by each drawer, shape (characters, drawers, side, side). True is ink."""
    drawn = [letter(1000 * seed + n, side) for n in range(characters * drawers)]

    return np.stack(drawn).reshape(characters, drawers, side, side)


def mat(path: Path, train: tuple[Array, Array, Array], test: tuple[Array, Array, Array], alphabets: int = 50) -> None:
    """Writes a MATLAB file in the form in which Burda et al. (2016) published OMNIGLOT.

    Args:
        path: Path of the MATLAB file.
        train: Three arrays of the training part: images, shape (n, 28, 28), the index of each image's alphabet, and
            the number of each image's character, counted from 1.
        test: The same three arrays of the test part.
        alphabets: Number of alphabets in the file.
    """
    from scipy.io import savemat

    variables: dict[str, Any] = {}
    for before, (images, groups, numbers) in (("", train), ("test", test)):
        variables[f"{before}data"] = np.stack([image.ravel(order="F") for image in images], 1)
        variables[f"{before}target"] = (np.arange(alphabets)[:, None] == groups).astype(float)
        variables[f"{before}targetchar"] = numbers[None].astype(float)
    savemat(path, variables)


def png(ink: Array) -> bytes:
    """Returns the content of a PNG file with one bit per pixel. Ink is black, and paper is white."""
    file = io.BytesIO()
    Image.fromarray(~ink).save(file, "PNG")

    return file.getvalue()


def archive(path: Path, members: Mapping[str, bytes]) -> None:
    """Writes a zip file. `members` maps the name of each member to its content."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)


def folder(path: Path, pictures: Mapping[str, Array]) -> None:
    """Writes PNG files into a folder. `pictures` maps the path of each file below the folder to its drawing."""
    for name, ink in pictures.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(png(ink))


def grey(count: int, size: int = 6, characters: int = 4, alphabets: int = 2, seed: int = 1) -> Images:
    """Makes random grey images. Each label is a character's number, and each group is an alphabet's number.

    No two images are equal.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(count) % characters

    return Images.of(random.random((count, size, size)), labels, labels % alphabets)


def same(one: Sequence[Array], other: Sequence[Array]) -> bool:
    """Returns whether two sequences of arrays are equal."""
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
