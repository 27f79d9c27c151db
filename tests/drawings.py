"""Drawings made for tests: of Lake's form, of Burda's, and as pictures in folders."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from duvae.data.store import Array, Images


def letter(seed: int, side: int = 105) -> Array:
    """Ink of one drawing, lopsided: a bar at the left, a shorter one at the top, a dot by the seed."""
    random = np.random.default_rng(seed)
    ink = np.zeros((side, side), bool)
    ink[side // 8 : side // 2, side // 8 : side // 5] = True
    ink[side // 8 : side // 5, side // 8 : 3 * side // 4] = True
    row, column = random.integers(side // 2, side - side // 8, 2)
    ink[row : row + side // 10, column : column + side // 12] = True

    return ink


def letters(characters: int, drawers: int, side: int = 105, seed: int = 0) -> Array:
    """Ink of shape (characters, drawers, side, side), every drawing another."""
    drawn = [letter(1000 * seed + n, side) for n in range(characters * drawers)]

    return np.stack(drawn).reshape(characters, drawers, side, side)


def mat(path: Path, train: tuple[Array, Array, Array], test: tuple[Array, Array, Array], alphabets: int = 50) -> None:
    """Burda's variables from images (n, 28, 28), alphabets (n,) and characters (n,) from 1."""
    from scipy.io import savemat

    variables: dict[str, Any] = {}
    for before, (images, groups, numbers) in (("", train), ("test", test)):
        variables[f"{before}data"] = np.stack([image.ravel(order="F") for image in images], 1)
        variables[f"{before}target"] = (np.arange(alphabets)[:, None] == groups).astype(float)
        variables[f"{before}targetchar"] = numbers[None].astype(float)
    savemat(path, variables)


def png(ink: Array) -> bytes:
    """A picture of one bit, black on white."""
    file = io.BytesIO()
    Image.fromarray(~ink).save(file, "PNG")

    return file.getvalue()


def archive(path: Path, members: Mapping[str, bytes]) -> None:
    """A zip of these members."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)


def folder(path: Path, pictures: Mapping[str, Array]) -> None:
    """Pictures in folders, by their paths."""
    for name, ink in pictures.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(png(ink))


def grey(count: int, size: int = 6, characters: int = 4, alphabets: int = 2, seed: int = 1) -> Images:
    """Grey images with labels and groups, all different."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % characters

    return Images.of(random.random((count, size, size)), labels, labels % alphabets)


def same(one: Sequence[Array], other: Sequence[Array]) -> bool:
    """Whether two rows of arrays are equal."""
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
