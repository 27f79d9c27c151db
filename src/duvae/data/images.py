"""Converts images of any size to grey values, and grey values to bits.

A grey value is the share of a pixel that is ink. The networks read bits, which are drawn at random: the grey value of a
pixel is the probability that its bit is 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from duvae.config import ImageSource, path_in_folder
from duvae.data.image_files import pictures, read_bytes, read_npz, read_picture
from duvae.data.splits import PIXELS, Array, Images, count_shared
from duvae.data.store import Prepared
from duvae.errors import UserError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Drawings:
    """Grey images with their labels and groups. A group is a set of labels, such as an alphabet of characters.

    Attributes:
        grey: Grey values, the shares of ink in [0, 1], shape (images, size, size).
        labels: Indices into `characters`, shape (images,); -1: no label.
        groups: Indices into `alphabets`, shape (images,); -1: no group.
        characters: Names of the labels.
        alphabets: Names of the groups.
    """

    grey: Array
    labels: Array
    groups: Array
    characters: Sequence[str] = ()
    alphabets: Sequence[str] = ()

    def only(self, indices: Array) -> "Drawings":
        """The images at `indices`, with the names of all labels and groups."""
        return Drawings(self.grey[indices], self.labels[indices], self.groups[indices], self.characters, self.alphabets)


def area_average(images: Array, size: int) -> Array:
    r"""Scales images down. A new pixel is the mean over its area, which may cover only a part of an old pixel.

    $$y_{ij} = \frac1{n^2} \sum_{kl} W_{ik} x_{kl} W_{jl}, \quad
      W_{ik} = |[in, (i + 1) n] \cap [km, (k + 1) m]|$$

    for n old and m new pixels per side. W holds whole numbers, so that the mean of pixels that are all 0 or all 1 is
    exact. Pillow's box filter is not used, because it does not divide an old pixel between two new pixels.

    Args:
        images: The images x as shares of ink in [0, 1], shape (images, n, n).
        size: New side m in pixels.

    Returns:
        The averages y, shape (images, m, m).
    """
    side = images.shape[-1]
    if side == size:
        return images.astype(np.float32)
    new, old = np.arange(size)[:, None], np.arange(side)
    overlap = np.minimum((new + 1) * side, (old + 1) * size) - np.maximum(new * side, old * size)
    weights = np.maximum(overlap, 0).astype(np.float64)

    return np.concatenate([weights @ part.astype(np.float64) @ weights.T / side**2 for part in _blocks(images)]).astype(
        np.float32
    )


def binarized(prepared: Prepared, seed: int) -> Prepared:
    """Draws the bits of validation and test images once.

    Training images keep their grey values, because their bits are drawn anew each time an image is used.

    Args:
        prepared: A data set of grey images.
        seed: Seed of the bits.

    Returns:
        The data set with bits in place of grey values in all splits except `train`. Its summary also holds the seed,
        the mean share of ink of each split, and for each split of bits the number of images without ink.
    """
    splits = {name: prepared.images(name) for name in prepared.splits}
    ink = {name: {"grey": _mean(split.pixels)} for name, split in splits.items()}
    for number, name in enumerate(sorted(splits)):
        if name != "train":
            splits[name] = drawn_bits(splits[name], np.random.default_rng([seed, number]))
            empty = ~splits[name].pixels.any((1, 2))
            ink[name] |= {"bits": _mean(splits[name].pixels), "without_ink": int(empty.sum())}

    return Prepared(prepared.vocabulary, splits, {**prepared.summary, "binarized": {"seed": seed, "ink": ink}})


def drawn_bits(split: Images, generator: np.random.Generator) -> Images:
    """Draws one bit per pixel. The pixel's grey value is the probability that the bit is 1."""
    bits = np.concatenate([generator.random(part.shape) < part for part in _blocks(split.pixels)])

    return Images(bits.astype(np.uint8), split.labels, split.groups, split.keys)


def with_summary(
    kind: str, drawings: Mapping[str, Drawings], files: Sequence[Path], more: Mapping[str, Any]
) -> Prepared:
    """Builds a data set of grey images, with its summary (the content of `summary.json`).

    Args:
        kind: Kind of the data set: `omniglot` or `images`.
        drawings: Images of each split.
        files: Files from which the images were read. The summary holds the SHA-256 digest of each file.
        more: Additional values of the summary, by key.
    """
    splits = {name: Images.of(part.grey, part.labels, part.groups) for name, part in drawings.items()}
    first = next(iter(drawings.values()))
    summary: dict[str, Any] = {
        "kind": kind,
        "size": int(first.grey.shape[-1]),
        "splits": {name: _describe(split) for name, split in splits.items()},
        **more,
        "shared": {
            name: {other: count_shared(split, splits[other]) for other in splits if other != name}
            for name, split in splits.items()
        },
        "alphabets": list(first.alphabets),
        "characters": list(first.characters),
        "files": {path.name: sha256(path.read_bytes()).hexdigest() for path in files},
    }

    return Prepared(list(PIXELS), splits, summary)


def hold_out(count: int, sizes: Sequence[int], seed: int) -> list[Array]:
    """Draws sets of indices from 0 to `count` - 1 that have no index in common.

    Returns:
        One set for each size in `sizes`, and then the set of all other indices. Each set is a sorted array.
    """
    order = np.random.default_rng(seed).permutation(count)

    return [np.sort(part) for part in np.split(order, np.cumsum(sizes))]


# ---------------------------------------------------------------------------------- reading images of the user


def prepared_images(source: ImageSource, folder: Path) -> Prepared:
    """Reads a folder of pictures or an npz file, and splits the images into training, validation and test images.

    If the folder or the file already has the splits `train`, `valid` and `test`, these splits are kept.

    Args:
        source: The data set's `source` in params.yaml.
        folder: Folder into which `duvae fetch` copied the files.

    Raises:
        UserError: If a file cannot be used; the message names the file and what is wrong with it.
    """
    path = folder / path_in_folder(source.path)
    if path.is_dir():
        files = pictures(path)
        drawings = _folder(path, files, source)
    else:
        files = [path]
        drawings = _arrays(path, source)
    if set(drawings) == {""}:
        count = len(drawings[""].grey)
        sizes = [round(source.valid * count), round(source.test * count)]
        if min(sizes) < 1 or count - sum(sizes) < 2:
            raise UserError(
                f"{path}: expected enough images for two in training, one in validation and one in test;"
                f" found {count}, of which source.valid and source.test take {sizes[0]} and {sizes[1]}."
                " Add images or change the shares."
            )
        parts = hold_out(count, sizes, source.seed)
        drawings = {name: drawings[""].only(part) for name, part in zip(("valid", "test", "train"), parts, strict=True)}

    return with_summary("images", {name: drawings[name] for name in SPLITS}, files, {})


def read_images(path: Path, size: int, ink: Literal["dark", "light"]) -> tuple[Drawings, list[str]]:
    """Reads all pictures in a folder, or all images in the array `images` of an npz file.

    Args:
        path: The folder or the file.
        size: Side of the returned images in pixels. Larger images are averaged to this size.
        ink: Shade of the ink: `dark` on light, or `light` on dark.

    Returns:
        The images, and the name of each image: its path below the folder, or its index in the array.

    Raises:
        UserError: If a file cannot be used; the message names the file and what is wrong with it.
    """
    source = ImageSource.model_construct(path=str(path), ink=ink, size=size)
    if not path.is_dir():
        drawings = _arrays(path, source)
        if set(drawings) != {""}:
            raise UserError(f"{path}: expected an array named images; found {', '.join(drawings)}. Rename the array.")
        return drawings[""], [str(number) for number in range(len(drawings[""].grey))]
    files = pictures(path)
    grey = np.stack([_grey(file, source) for file in files])
    unlabelled = np.full(len(grey), -1)

    return Drawings(grey, unlabelled, unlabelled), [file.relative_to(path).as_posix() for file in files]


def _folder(path: Path, files: Sequence[Path], source: ImageSource) -> dict[str, Drawings]:
    """Reads the images of each split from a folder.

    A folder below `path` that holds pictures is a class, unless it is the folder of a split: `train`, `valid` or
    `test`. A folder that holds classes is a group. If there are no folders of splits, the result holds all images under
    one key, the empty string.
    """
    parts = [file.relative_to(path).parts[:-1] for file in files]
    split = {part[0] if part else "" for part in parts} == set(SPLITS)
    classes = ["/".join(part[1:] if split else part) for part in parts]
    if "" in classes and set(classes) != {""}:
        bare = files[classes.index("")]
        raise UserError(
            f"{bare}: expected the picture in the folder of its class, like the other pictures; it is in none. Move it."
        )
    characters = sorted({name for name in classes if name})
    alphabets = sorted({name.rpartition("/")[0] for name in characters} - {""})
    labels = [characters.index(name) if name else -1 for name in classes]
    groups = [alphabets.index(group) if (group := name.rpartition("/")[0]) else -1 for name in classes]
    grey = np.stack([_grey(file, source) for file in files])
    drawings = Drawings(grey, np.array(labels), np.array(groups), characters, alphabets)
    if not split:
        return {"": drawings}

    return {name: drawings.only(np.array([part[0] == name for part in parts]).nonzero()[0]) for name in SPLITS}


def _grey(file: Path, source: ImageSource) -> Array:
    """Shares of ink of one picture, shape (size, size)."""
    return _fitted(read_picture(read_bytes(file), str(file))[None], source, str(file))[0]


def _arrays(path: Path, source: ImageSource) -> dict[str, Drawings]:
    """Reads the images of each split from an npz file.

    The arrays `train`, `valid` and `test` are the splits. If they are missing, the result holds the images of the array
    `images` under one key, the empty string.
    """
    arrays = read_npz(path)
    if set(SPLITS) <= arrays.keys():
        names = {name: (name, f"{name}_labels") for name in SPLITS}
    elif "images" in arrays:
        names = {"": ("images", "labels")}
    else:
        raise UserError(
            f"{path}: expected an array named images, or arrays named train, valid and test;"
            f" found {', '.join(arrays) or 'none'}. Rename the arrays."
        )
    labelled = {split: _labels(path, label, arrays, len(arrays[name])) for split, (name, label) in names.items()}
    known = np.unique(np.concatenate(list(labelled.values())))
    known = known[known >= 0]
    drawings = {}
    for split, (name, _) in names.items():
        where = f"{path}, array {name}"
        images = arrays[name]
        if images.ndim != 3 or not len(images):
            raise UserError(
                f"{where}: expected the shape (images, height, width); found {images.shape}. Reshape the array."
            )
        grey = _fitted(images, source, where)
        labels = np.where(labelled[split] < 0, -1, np.searchsorted(known, labelled[split]))
        drawings[split] = Drawings(grey, labels, np.full(len(grey), -1), [str(label) for label in known])

    return drawings


def _labels(path: Path, name: str, arrays: Mapping[str, Array], count: int) -> Array:
    if name not in arrays:
        return np.full(count, -1)
    labels = arrays[name]
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or (count and labels.min() < 0):
        raise UserError(
            f"{path}, array {name}: expected {count} whole numbers of at least 0, one per image;"
            f" found {labels.dtype} of the shape {labels.shape}. Correct the labels."
        )

    return labels.astype(np.int64)


def _fitted(images: Array, source: ImageSource, where: str) -> Array:
    """Checks images, and averages them to shares of ink, shape (images, source.size, source.size).

    Args:
        images: Images of one size, shape (images, height, width).
        source: The data set's `source` in params.yaml, with the new side in pixels and the shade of the ink.
        where: Name of the images in error messages.
    """
    high, wide = images.shape[1:]
    if high != wide or high < source.size:
        raise UserError(
            f"{where}: expected square images of at least {source.size} pixels a side (source.size);"
            f" found {high} x {wide}. Cut or scale them."
        )
    light = _unit(images, where)

    return area_average(1 - light if source.ink == "dark" else light, source.size)


def _unit(images: Array, where: str) -> Array:
    if images.dtype == np.uint8:
        return images / 255
    if images.dtype.kind == "b":
        return images.astype(np.float64)
    odd = ~((images >= 0) & (images <= 1)) if images.dtype.kind == "f" else np.ones(images.shape, bool)
    if odd.any():
        number, row, column = (int(index) for index in np.argwhere(odd)[0])
        raise UserError(
            f"{where}: expected pixels of 0 to 255 as uint8, of 0 to 1 as floating-point numbers, or bits;"
            f" found {images[number, row, column]} ({images.dtype}) in image {number},"
            f" row {row}, column {column}. Scale or convert the pixels."
        )

    return images.astype(np.float64)


def _describe(split: Images) -> dict[str, Any]:
    ink = split.pixels.mean((1, 2), dtype=np.float64)

    return {
        "documents": len(split),
        "distinct": len(set(split.contents())),
        "characters": len(np.unique(split.labels[split.labels >= 0])),
        "alphabets": len(np.unique(split.groups[split.groups >= 0])),
        "ink_min": round(float(ink.min()), 6),
        "ink_mean": round(float(ink.mean()), 6),
        "ink_max": round(float(ink.max()), 6),
    }


def _mean(pixels: Array) -> float:
    return round(float(np.mean(pixels, dtype=np.float64)), 6)


def _blocks(images: Array, at_once: int = 256) -> Iterator[Array]:
    """Cuts images into blocks. Computing block by block avoids large temporary arrays."""
    for first in range(0, max(1, len(images)), at_once):
        yield images[first : first + at_once]
