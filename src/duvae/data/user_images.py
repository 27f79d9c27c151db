"""Reads the user's own images: a folder of pictures, or an npz file."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from duvae.config import ImageSource, path_in_folder
from duvae.data.image_files import pictures, read_bytes, read_npz, read_picture
from duvae.data.images import BLOCK, Drawings, area_average, area_weights, blocks, hold_out, with_summary
from duvae.data.split_names import SPLITS, looks_like_split, named_splits, refuse_splits_inside, split_of
from duvae.data.splits import Array
from duvae.data.store import Prepared
from duvae.errors import UserError
from duvae.fields import LARGEST_LABEL
from duvae.messages import show_name

LARGEST_BLOCK = 2**24
"""Largest number of pixels that are converted at once. Their conversion needs 32 times as many bytes, or 512 MiB."""

DARK = 0.5
"""If no pixel is lighter than this share of the possible range, a warning says so."""


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
        files = {file.relative_to(path).as_posix(): file for file in pictures(path)}
        drawings = _folder(path, list(files.values()), source)
    else:
        files = {path.name: path}
        drawings = _arrays(path, source)
    if all(part.grey.min() == part.grey.max() for part in drawings.values()):
        raise UserError(f"{path}: expected drawings; all pixels of all images are equal. Give other images.")
    warnings = list(dict.fromkeys(warning for part in drawings.values() for warning in part.warnings))
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

    return with_summary("images", {name: drawings[name] for name in SPLITS}, files, {"warnings": warnings})


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
            raise UserError(
                f"{path}: expected an array named images; found {_listed(list(drawings))}. Rename the array."
            )
        return drawings[""], [str(number) for number in range(len(drawings[""].grey))]
    files = pictures(path)
    grey, warnings = _read_pictures(path, files, source)
    unlabelled = np.full(len(grey), -1)

    return Drawings(grey, unlabelled, unlabelled, warnings=warnings), [
        file.relative_to(path).as_posix() for file in files
    ]


def _folder(path: Path, files: Sequence[Path], source: ImageSource) -> dict[str, Drawings]:
    """Reads the images of each split from a folder.

    A folder below `path` that holds pictures is a class, unless it is the folder of a split: `train`, `valid` or
    `test`. A folder that holds classes is a group. If there are no folders of splits, the result holds all images under
    one key, the empty string.
    """
    parts = [file.relative_to(path).parts[:-1] for file in files]
    folders = named_splits((part[0] if part else "" for part in parts), str(path), "folders")
    inside = [part[1:] if folders else part for part in parts]
    refuse_splits_inside({PurePosixPath(*part) for part in inside}, str(path))
    classes = ["/".join(part) for part in inside]
    if "" in classes and set(classes) != {""}:
        bare = files[classes.index("")]
        raise UserError(
            f"{bare}: expected the picture in the folder of its class, like the other pictures; it is in none. Move it."
        )
    characters = sorted({name for name in classes if name})
    alphabets = sorted({name.rpartition("/")[0] for name in characters} - {""})
    labels = [characters.index(name) if name else -1 for name in classes]
    groups = [alphabets.index(group) if (group := name.rpartition("/")[0]) else -1 for name in classes]
    grey, warnings = _read_pictures(path, files, source)
    drawings = Drawings(grey, np.array(labels), np.array(groups), characters, alphabets, warnings)
    if not folders:
        return {"": drawings}

    return {
        split: drawings.only(np.array([part[0] == name for part in parts]).nonzero()[0])
        for split, name in folders.items()
    }


def _read_pictures(path: Path, files: Sequence[Path], source: ImageSource) -> tuple[Array, list[str]]:
    """Reads pictures.

    Args:
        path: The folder of the pictures, for errors and warnings.
        files: The files of the pictures.
        source: The data set's `source` in params.yaml, with the new side in pixels and the shade of the ink.

    Returns:
        Shares of ink, shape (pictures, size, size), and warnings about the pictures.

    Raises:
        UserError: If a picture cannot be used, or if the pictures together are nearly black.
    """
    grey, lightest, animated = [], 0.0, []
    for file in files:
        picture = read_picture(read_bytes(file), str(file))
        grey.append(_fitted(picture.pixels[None], source, str(file), picture.white)[0])
        lightest = max(lightest, int(picture.pixels.max()) / picture.white)
        if picture.frames > 1:
            animated.append((file.relative_to(path).as_posix(), picture.frames - 1))
    warnings = _range_warnings(lightest, str(path))
    if animated:
        name, frames = animated[0]
        ignored = sum(count for _, count in animated)
        warnings.append(
            f"{path}: {ignored} frame{'s' * (ignored > 1)} of {len(animated)} picture{'s' * (len(animated) > 1)} left"
            f" out, since only the first frame of a picture is read (such as {name}, {frames} left out)"
        )

    return np.stack(grey), warnings


def _range_warnings(lightest: float, where: str) -> list[str]:
    """Checks how much of the possible range of lightness the images use.

    Args:
        lightest: The largest lightness of all pixels, as a share of the largest possible value.
        where: Name of the images in errors and warnings.

    Returns:
        A warning if the images use less than the share `DARK` of the range.

    Raises:
        UserError: If the images look like bits, or like numbers that were divided by 255 twice.
    """
    if 0 < lightest <= 1 / 255:
        raise UserError(
            f"{where}: expected pixels that use the range from 0 (black) to 255 (white), or from 0 to 1 as"
            f" floating-point numbers; the largest is {lightest * 255:g} of 255. If they are bits, convert them to the"
            " type bool, or multiply them by 255. If they were divided by 255 twice, multiply them by 255."
        )
    if 0 < lightest < DARK:
        return [f"{where}: no pixel is lighter than {lightest * 255:.0f} of 255. If the range is another, scale it"]

    return []


def _arrays(path: Path, source: ImageSource) -> dict[str, Drawings]:
    """Reads the images of each split from an npz file.

    The arrays `train`, `valid` and `test` are the splits. Without them, the result holds the images of the array
    `images` under the empty name. Labels are in the array `labels`, or in `train_labels` and so on.
    """
    arrays = read_npz(path)
    names = _array_names(path, list(arrays))
    for name, _ in names.values():
        if arrays[name].ndim != 3 or not arrays[name].size:
            raise UserError(
                f"{path}, array {name}: expected the shape (images, height, width), with no length of 0; found"
                f" {arrays[name].shape}. Reshape or fill the array."
            )
    labelled = {split: _labels(path, label, arrays, len(arrays[name])) for split, (name, label) in names.items()}
    known = np.unique(np.concatenate(list(labelled.values())))
    known = known[known >= 0]
    drawings = {}
    for split, (name, _) in names.items():
        where = f"{path}, array {name}"
        images = arrays[name]
        grey = _fitted(images, source, where)
        highest = float(images.max()) / (255 if images.dtype == np.uint8 else 1)
        labels = np.where(labelled[split] < 0, -1, np.searchsorted(known, labelled[split]))
        unlabelled = np.full(len(grey), -1)
        drawings[split] = Drawings(
            grey, labels, unlabelled, [str(label) for label in known], warnings=_range_warnings(highest, where)
        )

    return drawings


def _array_names(path: Path, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Finds the arrays of the images and of the labels of each split in an npz file.

    Args:
        path: The file, for errors.
        names: Names of all arrays in the file.

    Returns:
        For each split, the name of the array of its images and the name of the array of its labels, which is empty if
        there are no labels. The key is empty if the file has no splits.

    Raises:
        UserError: If the arrays of images are missing, if only some splits have labels, or if another array is left.
    """
    labels = {split: name for name in names if name.endswith("_labels") and (split := split_of(name[:-7]))}
    images = [name for name in names if name not in labels.values()]
    if "images" in images and not any(looks_like_split(name) for name in names):
        used = {"": ("images", "labels" if "labels" in names else "")}
    else:
        bare = {name.removesuffix("_images"): name for name in images}
        splits = named_splits(bare, str(path), "arrays")
        if splits is None:
            raise UserError(
                f"{path}: expected an array named images, or arrays named train, valid and test;"
                f" found {_listed(names) or 'none'}. Rename the arrays."
            )
        used = {split: (bare[name], labels.get(split, "")) for split, name in splits.items()}
    if other := sorted(set(names) - {name for pair in used.values() for name in pair}):
        raise UserError(
            f"{path}: expected only arrays of images and of labels (labels, or train_labels, valid_labels and"
            f" test_labels); found {_listed(other)} too. Rename or remove the arrays."
        )
    if missing := [split for split, (_, label) in used.items() if not label and labels]:
        raise UserError(
            f"{path}: expected labels for all splits, or for none; {', '.join(missing)} has none. Add the array"
            f" {missing[0]}_labels, or remove the others."
        )

    return used


def _listed(names: Sequence[str]) -> str:
    """Names of a file as a message shows them: at most 20, each of them cut and printable."""
    return ", ".join(show_name(name) for name in names[:20]) + ", …" * (len(names) > 20)


def _labels(path: Path, name: str, arrays: Mapping[str, Array], count: int) -> Array:
    if not name:
        return np.full(count, -1)
    labels = arrays[name]
    if (
        labels.shape != (count,)
        or labels.dtype.kind not in "iu"
        or (count and not 0 <= labels.min() <= labels.max() <= LARGEST_LABEL)
    ):
        bounds = f", from {labels.min()} to {labels.max()}" if labels.dtype.kind in "iu" and labels.size else ""
        raise UserError(
            f"{path}, array {name}: expected {count} whole numbers from 0 to {LARGEST_LABEL}, one per image;"
            f" found {labels.dtype} of the shape {labels.shape}{bounds}. Correct the labels."
        )

    return labels.astype(np.int64)


def _fitted(images: Array, source: ImageSource, where: str, white: int | None = None) -> Array:
    """Checks images, and averages them to shares of ink, shape (images, source.size, source.size).

    Args:
        images: Images of one size, shape (images, height, width).
        source: The data set's `source` in params.yaml, with the new side in pixels and the shade of the ink.
        where: Name of the images in error messages.
        white: The value of a white pixel, if the images are a picture; None: their type decides.
    """

    def ink(pixels: Array, number: int, column: int = 0) -> Array:
        light = pixels / white if white else _unit(pixels, where, number, column)
        return 1 - light if source.ink == "dark" else light

    high, wide = images.shape[1:]
    if high != wide or high < source.size:
        raise UserError(
            f"{where}: expected square images of at least {source.size} pixels a side (source.size);"
            f" found {high} x {wide}. Cut or scale them."
        )
    if high * wide > LARGEST_BLOCK:  # one image is too large for one conversion
        weights, columns = area_weights(high, source.size), max(1, LARGEST_BLOCK // high)
        parts = [
            [weights @ ink(image[None, :, left : left + columns], number, left)[0] for left in range(0, wide, columns)]
            for number, image in enumerate(images)
        ]
        return np.stack([np.concatenate(part, axis=-1) @ weights.T / high**2 for part in parts]).astype(np.float32)
    at_once = min(BLOCK, LARGEST_BLOCK // (high * wide))
    fitted = [
        area_average(ink(block, number * at_once), source.size) for number, block in enumerate(blocks(images, at_once))
    ]

    return np.concatenate(fitted)


def _unit(images: Array, where: str, first: int, left: int) -> Array:
    """Lightness of images, from 0 to 1. `first` and `left` are the first image and the first column, for errors."""
    if images.dtype == np.uint8:
        return images / 255
    if images.dtype.kind == "b":
        return images.astype(np.float64)
    odd = ~((images >= 0) & (images <= 1)) if images.dtype.kind == "f" else np.ones(images.shape, bool)
    if odd.any():
        number, row, column = (int(index) for index in np.argwhere(odd)[0])
        raise UserError(
            f"{where}: expected pixels of 0 to 255 as uint8, of 0 to 1 as floating-point numbers, or bits;"
            f" found {images[number, row, column]} ({images.dtype}) in image {number + first},"
            f" row {row}, column {column + left}. Scale or convert the pixels."
        )

    return images.astype(np.float64)
