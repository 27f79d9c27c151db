"""Scales images to grey values of one size, and draws bits from grey values.

A grey value is the share of a pixel that is ink. The networks read bits, which are drawn at random: the grey value of a
pixel is the probability that its bit is 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from duvae.data.splits import PIXELS, Array, Images, count_shared
from duvae.data.store import Prepared

BLOCK = 256
"""Number of images that are converted at once."""


@dataclass(frozen=True)
class Drawings:
    """Grey images with their labels and groups. A group is a set of labels, such as an alphabet of characters.

    Attributes:
        grey: Grey values, the shares of ink in [0, 1], shape (images, size, size).
        labels: Indices into `characters`, shape (images,); -1: no label.
        groups: Indices into `alphabets`, shape (images,); -1: no group.
        characters: Names of the labels.
        alphabets: Names of the groups.
        warnings: What the user should know about the files, one sentence each.
    """

    grey: Array
    labels: Array
    groups: Array
    characters: Sequence[str] = ()
    alphabets: Sequence[str] = ()
    warnings: Sequence[str] = ()

    def only(self, indices: Array) -> "Drawings":
        """The images at `indices`, with the names of all labels and groups."""
        parts = (self.grey[indices], self.labels[indices], self.groups[indices])

        return Drawings(*parts, self.characters, self.alphabets, self.warnings)


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
    weights = area_weights(side, size)

    return np.concatenate([weights @ part.astype(np.float64) @ weights.T / side**2 for part in blocks(images)]).astype(
        np.float32
    )


def area_weights(side: int, size: int) -> Array:
    """The matrix W of `area_average`, shape (size, side), for `side` old and `size` new pixels per side."""
    new, old = np.arange(size)[:, None], np.arange(side)
    overlap = np.minimum((new + 1) * side, (old + 1) * size) - np.maximum(new * side, old * size)

    return np.maximum(overlap, 0).astype(np.float64)


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
    bits = np.concatenate([generator.random(part.shape) < part for part in blocks(split.pixels)])

    return Images(bits.astype(np.uint8), split.labels, split.groups, split.keys)


def with_summary(
    kind: str, drawings: Mapping[str, Drawings], files: Mapping[str, Path], more: Mapping[str, Any]
) -> Prepared:
    """Builds a data set of grey images, with its summary (the content of `summary.json`).

    Args:
        kind: Kind of the data set: `omniglot` or `images`.
        drawings: Images of each split.
        files: Files from which the images were read, by a name that no other file has. The summary holds the SHA-256
            digest of each file under this name.
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
        "files": {name: sha256(path.read_bytes()).hexdigest() for name, path in files.items()},
    }

    return Prepared(list(PIXELS), splits, summary)


def hold_out(count: int, sizes: Sequence[int], seed: int) -> list[Array]:
    """Draws sets of indices from 0 to `count` - 1 that have no index in common.

    Returns:
        One set for each size in `sizes`, and then the set of all other indices. Each set is a sorted array.
    """
    order = np.random.default_rng(seed).permutation(count)

    return [np.sort(part) for part in np.split(order, np.cumsum(sizes))]


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


def blocks(images: Array, at_once: int = BLOCK) -> Iterator[Array]:
    """Cuts images into blocks. Computing block by block avoids large temporary arrays."""
    for first in range(0, max(1, len(images)), at_once):
        yield images[first : first + at_once]
