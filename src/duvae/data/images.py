"""Images: from drawings of any size to grey values, and from those to bits.

A grey value is the share of a pixel that is ink, and the probability that its bit is 1.
"""

import io
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from duvae.config import ImageSource, path_in_folder
from duvae.data.store import PIXELS, Array, Images, Prepared, shared
from duvae.errors import UserError

SPLITS = ("train", "valid", "test")
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""How the names of pictures end."""


@dataclass(frozen=True)
class Drawings:
    """Images with their labels.

    Attributes:
        grey: Shares of ink in [0, 1], with shape (images, size, size).
        labels: Indices into `characters`, or -1, with shape (images,).
        groups: Indices into `alphabets`, or -1, with shape (images,).
        characters: The labels' names.
        alphabets: The groups' names.
    """

    grey: Array
    labels: Array
    groups: Array
    characters: Sequence[str] = ()
    alphabets: Sequence[str] = ()

    def only(self, indices: Array) -> "Drawings":
        """Those at `indices`."""
        return Drawings(self.grey[indices], self.labels[indices], self.groups[indices], self.characters, self.alphabets)


def area_average(images: Array, size: int) -> Array:
    r"""Averages over the area of each new pixel, which may cover parts of old ones.

    $$y_{ij} = \frac1{n^2} \sum_{kl} W_{ik} x_{kl} W_{jl}, \quad
      W_{ik} = |[in, (i + 1) n] \cap [km, (k + 1) m]|$$

    for n old pixels and m new ones a side: W has whole numbers, so that 0 and 1 come out exact.

    Args:
        images: x, with shape (images, n, n).
        size: m.

    Returns:
        y, with shape (images, size, size).
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


def binarize(prepared: Prepared, seed: int) -> Prepared:
    """Draws the bits of validation and test once; training stays grey, for bits to be drawn at each use.

    Args:
        prepared: Splits of grey values.
        seed: Of the bits.
    """
    splits = {name: prepared.images(name) for name in prepared.splits}
    ink = {name: {"grey": _mean(split.pixels)} for name, split in splits.items()}
    for number, name in enumerate(sorted(splits)):
        if name != "train":
            splits[name] = draw(splits[name], np.random.default_rng([seed, number]))
            empty = ~splits[name].pixels.any((1, 2))
            ink[name] |= {"bits": _mean(splits[name].pixels), "without_ink": int(empty.sum())}

    return Prepared(prepared.vocabulary, splits, {**prepared.summary, "binarized": {"seed": seed, "ink": ink}})


def draw(split: Images, generator: np.random.Generator) -> Images:
    """Images of bits, each 1 with its grey value as probability."""
    bits = np.concatenate([generator.random(part.shape) < part for part in _blocks(split.pixels)])

    return Images(bits.astype(np.uint8), split.labels, split.groups, split.keys)


def summarize(kind: str, drawings: Mapping[str, Drawings], files: Sequence[Path], more: Mapping[str, Any]) -> Prepared:
    """Splits of grey images, with what was counted.

    Args:
        kind: The data set's.
        drawings: Each split.
        files: What they were read from.
        more: What else the summary says.
    """
    splits = {name: Images.of(part.grey, part.labels, part.groups) for name, part in drawings.items()}
    first = next(iter(drawings.values()))
    summary: dict[str, Any] = {
        "kind": kind,
        "size": int(first.grey.shape[-1]),
        "splits": {name: _describe(split) for name, split in splits.items()},
        **more,
        "shared": {
            name: {other: shared(split, splits[other]) for other in splits if other != name}
            for name, split in splits.items()
        },
        "alphabets": list(first.alphabets),
        "characters": list(first.characters),
        "files": {path.name: sha256(path.read_bytes()).hexdigest() for path in files},
    }

    return Prepared(list(PIXELS), splits, summary)


def hold_out(count: int, sizes: Sequence[int], seed: int) -> list[Array]:
    """Cuts `count` indices into one part of each size, drawn without repetition, and the rest; each in order."""
    order = np.random.default_rng(seed).permutation(count)

    return [np.sort(part) for part in np.split(order, np.cumsum(sizes))]


# ---------------------------------------------------------------------------------- one's own


def prepare(source: ImageSource, folder: Path) -> Prepared:
    """Reads a folder of pictures or an npz.

    Args:
        source: What params.yaml says of it.
        folder: Where it lies, by its path.

    Raises:
        UserError: Naming the file that cannot be used, and what is wrong with it.
    """
    path = folder / path_in_folder(source.path)
    if path.is_dir():
        files = pictures(path)
        found = _folder(path, files, source)
    else:
        files = [path]
        found = _arrays(path, source)
    if set(found) == {""}:
        count = len(found[""].grey)
        sizes = [round(source.valid * count), round(source.test * count)]
        if min(sizes) < 1 or count - sum(sizes) < 2:
            raise UserError(
                f"{path}: expected images enough for two of training, one of validation and one of test;"
                f" found {count}, of which source.valid and source.test take {sizes[0]} and {sizes[1]}."
                " Add images or change the shares."
            )
        parts = hold_out(count, sizes, source.seed)
        found = {name: found[""].only(part) for name, part in zip(("valid", "test", "train"), parts, strict=True)}

    return summarize("images", {name: found[name] for name in SPLITS}, files, {})


def read(path: Path, size: int, ink: Literal["dark", "light"]) -> tuple[Drawings, list[str]]:
    """All images of a folder of pictures, or of the array `images` of an npz, and what each is called.

    Args:
        path: The folder or the file.
        size: Pixels a side that they are averaged to.
        ink: Whether what is drawn is dark on light or light on dark.

    Raises:
        UserError: Naming the file that cannot be used, and what is wrong with it.
    """
    source = ImageSource.model_construct(path=str(path), ink=ink, size=size)
    if not path.is_dir():
        drawings = _arrays(path, source)
        if set(drawings) != {""}:
            raise UserError(f"{path}: expected the array images; found {', '.join(drawings)}.")
        return drawings[""], [str(number) for number in range(len(drawings[""].grey))]
    files = pictures(path)
    grey = np.stack([_grey(file, source) for file in files])
    unlabelled = np.full(len(grey), -1)

    return Drawings(grey, unlabelled, unlabelled), [file.relative_to(path).as_posix() for file in files]


def pictures(path: Path) -> list[Path]:
    """The pictures of a folder and of those below it, hidden files left out.

    Raises:
        UserError: Where there are none, or a file is no picture by its name.
    """
    files = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not files:
        raise UserError(f"{path}: expected pictures in this folder or in folders below it; found none.")
    for file in files:
        if file.suffix.lower() not in PICTURES:
            raise UserError(f"{file}: expected a picture ({', '.join(PICTURES)}). Convert it or move it elsewhere.")

    return files


def read_picture(content: bytes, where: str) -> Array:
    """A picture's lightness in [0, 1], with shape (height, width); what is transparent is light.

    Args:
        content: The file.
        where: What errors call it.

    Raises:
        UserError: Where it cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as picture:
                picture.load()
                if picture.mode.startswith("I;16"):
                    return np.asarray(picture, np.float64) / 65535
                if picture.mode in {"I", "F"}:
                    raise UserError(f"{where}: expected a picture of 8 or 16 bits; found 32. Convert it.")
                coloured = picture.convert("RGBA")
                on_paper = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
                return np.asarray(on_paper.convert("L"), np.float64) / 255
    except UnidentifiedImageError as error:
        raise UserError(f"{where}: expected a picture, but its format is not known. Convert or remove it.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"{where}: expected a picture of a usual size ({error}).") from error
    except (OSError, ValueError, SyntaxError, EOFError, zipfile.BadZipFile) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{where}: expected a picture, but it cannot be read ({why}). Convert or remove it.") from error


def _folder(path: Path, files: Sequence[Path], source: ImageSource) -> dict[str, Drawings]:
    """Each split of a folder, or all under the empty name; folders in a split are classes, and they may have groups."""
    parts = [file.relative_to(path).parts[:-1] for file in files]
    split = {part[0] if part else "" for part in parts} == set(SPLITS)
    classes = ["/".join(part[1:] if split else part) for part in parts]
    if "" in classes and set(classes) != {""}:
        bare = files[classes.index("")]
        raise UserError(f"{bare}: expected it in the folder of its class, as the other pictures are; it is in none.")
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
    """One picture's shares of ink, with shape (size, size)."""
    return _fitted(read_picture(_bytes(file), str(file))[None], source, str(file), range(1))[0]


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}).") from error


def _arrays(path: Path, source: ImageSource) -> dict[str, Drawings]:
    """Each split of an npz, or all under the empty name."""
    arrays = read_npz(path)
    if set(SPLITS) <= arrays.keys():
        names = {name: (name, f"{name}_labels") for name in SPLITS}
    elif "images" in arrays:
        names = {"": ("images", "labels")}
    else:
        raise UserError(
            f"{path}: expected the array images, or train, valid and test; found {', '.join(arrays) or 'none'}."
        )
    labelled = {split: _labels(path, label, arrays, len(arrays[name])) for split, (name, label) in names.items()}
    known = np.unique(np.concatenate(list(labelled.values())))
    known = known[known >= 0]
    found = {}
    for split, (name, _) in names.items():
        where = f"{path}, array {name}"
        images = arrays[name]
        if images.ndim != 3 or not len(images):
            raise UserError(f"{where}: expected images, heights and widths; found the shape {images.shape}.")
        grey = _fitted(images, source, where, range(len(images)))
        labels = np.where(labelled[split] < 0, -1, np.searchsorted(known, labelled[split]))
        found[split] = Drawings(grey, labels, np.full(len(grey), -1), [str(label) for label in known])

    return found


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an npz; one with Python objects in it is refused.

    Raises:
        UserError: Where it cannot be read.
    """
    try:
        # Opened here, since numpy leaves a broken one open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. 'duvae fetch' brings it there.") from error
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: expected an npz of plain arrays, but it cannot be read ({why}).") from error


def _labels(path: Path, name: str, arrays: Mapping[str, Array], count: int) -> Array:
    if name not in arrays:
        return np.full(count, -1)
    labels = arrays[name]
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or (count and labels.min() < 0):
        raise UserError(
            f"{path}, array {name}: expected {count} whole numbers from 0, one an image;"
            f" found {labels.dtype} of the shape {labels.shape}."
        )

    return labels.astype(np.int64)


def _fitted(images: Array, source: ImageSource, where: str, numbers: Sequence[int]) -> Array:
    """Shares of ink at the size asked for, once the images are seen to be usable."""
    high, wide = images.shape[1:]
    if high != wide or high < source.size:
        raise UserError(
            f"{where}: expected square images of at least {source.size} pixels a side (source.size);"
            f" found {high} x {wide}. Cut or scale them."
        )
    light = _unit(images, where, numbers)

    return area_average(1 - light if source.ink == "dark" else light, source.size)


def _unit(images: Array, where: str, numbers: Sequence[int]) -> Array:
    if images.dtype == np.uint8:
        return images / 255
    if images.dtype.kind == "b":
        return images.astype(np.float64)
    odd = ~((images >= 0) & (images <= 1)) if images.dtype.kind == "f" else np.ones(images.shape, bool)
    if odd.any():
        number, row, column = (int(index) for index in np.argwhere(odd)[0])
        raise UserError(
            f"{where}: expected pixels of 0 to 255 as uint8, of 0 to 1 as floating-point numbers, or bits;"
            f" found {images[number, row, column]} ({images.dtype}) in image {numbers[number]},"
            f" row {row}, column {column}."
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
    """Some images at a time, so that nothing large is held twice."""
    for first in range(0, max(1, len(images)), at_once):
        yield images[first : first + at_once]
