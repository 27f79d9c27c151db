"""Drawings for tests: in Lake's form, in Burda's form, and as pictures in folders."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from duvae.data.splits import Array, Images


def letter(seed: int, side: int = 105) -> Array:
    """An asymmetric drawing: a bar at the left, a shorter bar at the top, and a dot whose place depends on the seed."""
    random = np.random.default_rng(seed)
    ink = np.zeros((side, side), bool)
    ink[side // 8 : side // 2, side // 8 : side // 5] = True
    ink[side // 8 : side // 5, side // 8 : 3 * side // 4] = True
    row, column = random.integers(side // 2, side - side // 8, 2)
    ink[row : row + side // 10, column : column + side // 12] = True

    return ink


def letters(characters: int, drawers: int, side: int = 105, seed: int = 0) -> Array:
    """Different drawings, shape (characters, drawers, side, side); True is ink."""
    drawn = [letter(1000 * seed + n, side) for n in range(characters * drawers)]

    return np.stack(drawn).reshape(characters, drawers, side, side)


def mat(path: Path, train: tuple[Array, Array, Array], test: tuple[Array, Array, Array], alphabets: int = 50) -> None:
    """Writes a file in Burda's form.

    Args:
        path: Path of the MATLAB file.
        train: Images (n, 28, 28), alphabets (n,) and characters (n,), which count from 1, of the training part.
        test: The same arrays of the test part.
        alphabets: Number of alphabets.
    """
    from scipy.io import savemat

    variables: dict[str, Any] = {}
    for before, (images, groups, numbers) in (("", train), ("test", test)):
        variables[f"{before}data"] = np.stack([image.ravel(order="F") for image in images], 1)
        variables[f"{before}target"] = (np.arange(alphabets)[:, None] == groups).astype(float)
        variables[f"{before}targetchar"] = numbers[None].astype(float)
    savemat(path, variables)


def png(ink: Array) -> bytes:
    """The content of a PNG file with one bit per pixel: black ink on white paper."""
    file = io.BytesIO()
    Image.fromarray(~ink).save(file, "PNG")

    return file.getvalue()


def archive(path: Path, members: Mapping[str, bytes]) -> None:
    """Writes a zip file with these members."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)


def folder(path: Path, pictures: Mapping[str, Array]) -> None:
    """Writes pictures into a folder, each under its path."""
    for name, ink in pictures.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(png(ink))


def grey(count: int, size: int = 6, characters: int = 4, alphabets: int = 2, seed: int = 1) -> Images:
    """Random grey images with labels and groups. No two images are equal."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % characters

    return Images.of(random.random((count, size, size)), labels, labels % alphabets)


def same(one: Sequence[Array], other: Sequence[Array]) -> bool:
    """Whether two sequences of arrays are equal."""
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
