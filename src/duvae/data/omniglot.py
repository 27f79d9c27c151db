"""Reads OMNIGLOT, a data set of handwritten characters of 50 alphabets, in one of two published forms.

- Lake's drawings (Lake et al. 2015): 20 people drew each of 1,623 characters, in 105 x 105 pixels, black on white.
- Burda's file (Burda et al. 2016): 24,345 such drawings for training and 8,070 for test, in 28 x 28 pixels.
"""

import re
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from duvae.config import OmniglotSource, path_in_folder
from duvae.data.image_files import read_npz, read_picture
from duvae.data.images import Drawings, area_average, hold_out, with_summary
from duvae.data.splits import Array
from duvae.data.store import Prepared
from duvae.errors import UserError
from duvae.messages import unknown

MEMBER = re.compile(r"[^/]+/([^/]+)/(character\d+)/\d+_(\d+)\.png")
"""Path of a picture in Lake's archives. The three groups of the regular expression are the alphabet, the character and
the number of the drawer."""

LARGEST = 2**20
"""Largest allowed size of an unpacked picture in bytes; Lake's pictures have a few hundred bytes."""

BURDA_SIDE = 28
"""Width and height of an image in Burda's file, in pixels."""


class Character(NamedTuple):
    """One character with its drawings.

    Attributes:
        alphabet: Name of the alphabet.
        name: Name of the character in the alphabet.
        ink: Drawings as bits, shape (drawers, height, width); True is ink.
    """

    alphabet: str
    name: str
    ink: Array


def prepared_omniglot(source: OmniglotSource, folder: Path) -> Prepared:
    """Reads the files of the data set, and splits the drawings into grey images for training, validation and test.

    Args:
        source: The data set's `source` in params.yaml.
        folder: Folder into which `duvae fetch` copied the files.

    Raises:
        UserError: If a file cannot be used; the message names the file and what is wrong with it.
    """
    files = [folder / path_in_folder(path) for path in source.paths]
    if source.drawings == "burda":
        training, test = read_burda(files[0])
        training, test = (_chosen(part, source.alphabets, files[0]) for part in (training, test))
        training, test = (_resized(part, source.size) for part in (training, test))
    else:
        read = read_arrays if source.drawings == "lake" else read_pictures
        training, test = split_by_drawer(read(files, source.alphabets), source)
    if source.valid >= len(training.grey):
        raise UserError(
            f"params.yaml: source.valid: expected less than {len(training.grey)}, the number of training images of"
            f" {', '.join(file.name for file in files)}; found {source.valid}. Lower it."
        )
    valid, train = hold_out(len(training.grey), [source.valid], source.seed)
    drawings = {"train": training.only(train), "valid": training.only(valid), "test": test}
    named = {file.name: file for file in files}

    return with_summary("omniglot", drawings, named, {"drawings": source.drawings, "held_out_by": source.seed})


def split_by_drawer(characters: Sequence[Character], source: OmniglotSource) -> tuple[Drawings, Drawings]:
    """Splits the drawings of each character by drawer. The first drawers are for training, and the last ones for test.

    Args:
        characters: All characters.
        source: The data set's `source` in params.yaml. It holds the numbers of drawers for training and for test, and
            the side in pixels to which the drawings are averaged.

    Returns:
        The training images, which also include the later validation images, and the test images.

    Raises:
        UserError: If a character has too few drawings.
    """
    needed = source.train_drawers + source.test_drawers
    alphabets = list(dict.fromkeys(character.alphabet for character in characters))
    names = [f"{character.alphabet}/{character.name}" for character in characters]
    grey: dict[str, list[Array]] = {"train": [], "test": []}
    for name, character in zip(names, characters, strict=True):
        if len(character.ink) < needed:
            raise UserError(
                f"params.yaml: source.train_drawers and source.test_drawers: expected at most {len(character.ink)}"
                f" together, the number of drawings of {name}; found {needed}. Lower one of them."
            )
        averaged = area_average(character.ink, source.size)
        grey["train"].append(averaged[: source.train_drawers])
        grey["test"].append(averaged[-source.test_drawers :])
    groups = np.array([alphabets.index(character.alphabet) for character in characters])
    labels = np.arange(len(characters))
    training, test = (
        Drawings(np.concatenate(grey[split]), np.repeat(labels, each), np.repeat(groups, each), names, alphabets)
        for split, each in (("train", source.train_drawers), ("test", source.test_drawers))
    )

    return training, test


def read_alphabets() -> list[tuple[str, int]]:
    """Lists Lake's alphabets in the order in which the two npz files of his drawings hold them.

    Returns:
        The name and the number of characters of each alphabet.
    """
    rows = [line.split("\t") for line in (Path(__file__).parent / "alphabets.tsv").read_text("utf-8").splitlines()]

    return [(name, int(last) - int(first) + 1) for first, last, name, _ in rows]


def read_arrays(files: Sequence[Path], alphabets: Sequence[str]) -> list[Character]:
    """Reads Lake's drawings from the two npz files.

    Args:
        files: Both files, `images_background.npz` first. The array `images` of each file holds bits, with the shape
            (characters, drawers, height, width); True is paper.
        alphabets: Names of the alphabets to read; empty: all alphabets.

    Raises:
        UserError: If an array does not have this type and shape, if the arrays do not hold all characters, or if a name
            in `alphabets` is unknown.
    """
    table = read_alphabets()
    known = [name for name, _ in table]
    _check(alphabets, known, files[0])
    places = [(name, f"character{n + 1:02d}") for name, count in table for n in range(count)]
    wanted = set(alphabets or known)
    characters: list[Character] = []
    first = 0
    for file in files:
        images = read_npz(file).get("images", np.zeros(0))
        if images.ndim != 4 or images.dtype != np.bool_ or images.shape[2] != images.shape[3]:
            raise UserError(
                f"{file}, array images: expected bits of the shape (characters, drawers, side, side);"
                f" found {images.dtype} of the shape {images.shape}. Fetch the file again."
            )
        here = places[first : first + len(images)]
        characters += [Character(*at, ~ink) for at, ink in zip(here, images, strict=False) if at[0] in wanted]
        first += len(images)
    if first != len(places):
        raise UserError(
            f"{', '.join(map(str, files))}: expected {len(places):,} characters together; found {first:,}."
            " Fetch the files again."
        )

    return characters


def read_pictures(files: Sequence[Path], alphabets: Sequence[str]) -> list[Character]:
    """Reads Lake's drawings from his two zip archives of PNG files. The archives are not unpacked onto the disk.

    Args:
        files: Both archives.
        alphabets: Names of the alphabets to read; empty: all alphabets.

    Raises:
        UserError: If an archive or a picture cannot be used, or if a name in `alphabets` is unknown.
    """
    by_character: dict[tuple[str, str], dict[int, Array]] = {}
    seen: set[str] = set()
    for file in files:
        for (alphabet, name, drawer), picture in _members(file, alphabets, seen):
            by_character.setdefault((alphabet, name), {})[drawer] = picture
    order = {name: number for number, (name, _) in enumerate(read_alphabets())}
    _check(alphabets, sorted(seen, key=lambda name: (order.get(name, len(order)), name)), files[0])
    characters = []
    for (alphabet, name), by_drawer in sorted(
        by_character.items(), key=lambda i: (order.get(i[0][0], len(order)), i[0])
    ):
        pictures = [by_drawer[drawer] for drawer in sorted(by_drawer)]
        if sorted(by_drawer) != list(range(1, len(by_drawer) + 1)) or len({picture.shape for picture in pictures}) > 1:
            raise UserError(
                f"{', '.join(map(str, files))}: expected drawings of one size, numbered from 1, of {alphabet}/{name};"
                f" found numbers {', '.join(map(str, sorted(by_drawer)))}. Fetch the archives again."
            )
        characters.append(Character(alphabet, name, np.stack(pictures)))

    return characters


def _members(file: Path, alphabets: Sequence[str], seen: set[str]) -> Iterator[tuple[tuple[str, str, int], Array]]:
    """Reads the pictures of an archive as bits; True is ink.

    Args:
        file: The archive.
        alphabets: Names of the alphabets to read; empty: all alphabets.
        seen: Set to which the function adds the names of all alphabets in the archive, including those that it does
            not read.

    Yields:
        The alphabet, the character and the number of the drawer of each picture, and the bits of the picture.
    """
    count = 0
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                parts = PurePosixPath(member.filename).parts
                if (
                    ".." in parts
                    or PurePosixPath(member.filename).is_absolute()
                    or stat.S_ISLNK(member.external_attr >> 16)
                ):
                    raise UserError(
                        f"{file}: its member {member.filename!r} is not a plain file inside the archive (an absolute"
                        " path, '..' or a link). The member was not read. Fetch the archive again."
                    )
                match = MEMBER.fullmatch(member.filename)
                if match is None:
                    continue
                count += 1
                where = f"{member.filename} of {file}"
                if member.file_size > LARGEST:
                    raise UserError(f"{where}: expected at most {LARGEST} bytes; found {member.file_size}. Remove it.")
                alphabet, name, drawer = match.groups()
                seen.add(alphabet)
                if alphabets and alphabet not in alphabets:
                    continue
                light = read_picture(archive.read(member), where).lightness
                if light.shape[0] != light.shape[1]:
                    raise UserError(
                        f"{where}: expected a square picture; found {light.shape[0]} x {light.shape[1]}."
                        " Fetch the archive again."
                    )
                yield (alphabet, name, int(drawer)), light < 0.5
    except FileNotFoundError as error:
        raise UserError(f"{file}: not there. Run 'duvae fetch' to get the file.") from error
    except UserError:
        raise
    except Exception as error:  # zipfile raises many kinds of errors for damaged archives, such as UnicodeDecodeError
        why = str(error) or type(error).__name__
        raise UserError(
            f"{file}: expected a zip archive of pictures, but it cannot be read ({why}). Fetch it again."
        ) from error
    if not count:
        raise UserError(
            f"{file}: expected pictures <folder>/<alphabet>/character<n>/<n>_<drawer>.png; found none."
            " Fetch the archive again."
        )


def read_burda(file: Path) -> tuple[Drawings, Drawings]:
    """Reads the training images and the test images from Burda's file, `chardata.mat`.

    The file has these variables for the training images:

    | variable | shape | content |
    |---|---|---|
    | `data` | (784, images) | pixels of each image in Fortran order (column by column); 1 is ink |
    | `target` | (alphabets, images) | 1 in the row of the image's alphabet, otherwise 0 |
    | `targetchar` | (1, images) | number of the character in its alphabet |

    The variables `testdata`, `testtarget` and `testtargetchar` describe the test images in the same way.

    Raises:
        UserError: If a variable is missing, or if its shape or its values contradict the table.
    """
    arrays = _mat(file)
    sides = {}
    for split, before in (("train", ""), ("test", "test")):
        pixels, target, number = (arrays[f"{before}{name}"] for name in ("data", "target", "targetchar"))
        count = pixels.shape[-1]
        if pixels.ndim != 2 or len(pixels) != BURDA_SIDE**2 or not count:
            raise UserError(
                f"{file}, variable {before}data: expected {BURDA_SIDE**2} rows, and one column per image;"
                f" found the shape {pixels.shape}. Fetch the file again."
            )
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise UserError(
                f"{file}, variable {before}data: expected pixels from 0 to 1; found {pixels.min()} to {pixels.max()}."
                " Fetch the file again."
            )
        one = target.ndim == 2 and target.shape[1] == count and ((target == 0) | (target == 1)).all()
        if not one or not (target.sum(0) == 1).all():
            raise UserError(
                f"{file}, variable {before}target: expected one 1 in each of {count} columns, in the row of its"
                f" alphabet; found the shape {target.shape}, columns with {_span(target)}. Fetch the file again."
            )
        if number.size != count or not (number == np.round(number)).all() or number.min() < 0:
            raise UserError(
                f"{file}, variable {before}targetchar: expected {count} whole numbers of at least 0; found the shape"
                f" {number.shape}. Fetch the file again."
            )
        grey = np.ascontiguousarray(pixels.T.reshape(count, BURDA_SIDE, BURDA_SIDE).transpose(0, 2, 1), np.float32)
        sides[split] = grey, target.argmax(0).astype(np.int64), number.ravel().astype(np.int64)
    rows = max(len(arrays["target"]), len(arrays["testtarget"]))
    keys = sorted(
        {(int(a), int(c)) for _, groups, number in sides.values() for a, c in zip(groups, number, strict=True)}
    )
    index = {key: label for label, key in enumerate(keys)}
    alphabets = [f"alphabet{a + 1:02d}" for a in range(rows)]
    names = [f"{alphabets[a]}/character{c:02d}" for a, c in keys]
    train, test = (
        Drawings(
            grey,
            np.array([index[int(a), int(c)] for a, c in zip(groups, number, strict=True)]),
            groups,
            names,
            alphabets,
        )
        for grey, groups, number in sides.values()
    )

    return train, test


def _mat(file: Path) -> Mapping[str, Array]:
    """Reads the six variables of Burda's file, and checks that each variable is an array of numbers."""
    from scipy.io import loadmat

    names = [f"{before}{name}" for before in ("", "test") for name in ("data", "target", "targetchar")]
    try:
        with file.open("rb") as opened:
            variables = loadmat(opened, variable_names=names)
    except FileNotFoundError as error:
        raise UserError(f"{file}: not there. Run 'duvae fetch' to get the file.") from error
    except (
        Exception
    ) as error:  # scipy raises many kinds of errors for damaged files, and for version 7.3, which is HDF5
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{file}: expected a MATLAB file (version 7 or before), but it cannot be read ({why}). Fetch it again."
        ) from error
    for name in names:
        if name not in variables or variables[name].dtype.kind not in "fiub":
            raise UserError(f"{file}: expected the variable {name}, of numbers; it is not there. Fetch the file again.")

    return {name: np.asarray(variables[name]) for name in names}


def _chosen(drawings: Drawings, alphabets: Sequence[str], file: Path) -> Drawings:
    """Selects the images of the given alphabets, and renumbers their labels and groups from 0.

    If `alphabets` is empty, the result holds all images, and their labels and groups do not change.
    """
    _check(alphabets, drawings.alphabets, file)
    if not alphabets:
        return drawings
    numbers = [number for number, name in enumerate(drawings.alphabets) if name in alphabets]
    names = [name for name in drawings.characters if name.rpartition("/")[0] in alphabets]
    part = drawings.only(np.isin(drawings.groups, numbers).nonzero()[0])
    labels = np.array([names.index(drawings.characters[label]) for label in part.labels], np.int64)

    return Drawings(
        part.grey,
        labels,
        np.searchsorted(numbers, part.groups),
        names,
        [drawings.alphabets[number] for number in numbers],
    )


def _resized(drawings: Drawings, size: int) -> Drawings:
    return Drawings(
        area_average(drawings.grey, size), drawings.labels, drawings.groups, drawings.characters, drawings.alphabets
    )


def _check(alphabets: Sequence[str], known: Sequence[str], file: Path) -> None:
    for name in alphabets:
        if name not in known:
            raise UserError(f"params.yaml: source.alphabets, of {file.name}: {unknown('alphabet', name, known)}")


def _span(target: Array) -> str:
    sums = target.sum(0) if target.ndim == 2 else np.zeros(1)

    return f"{sums.min():g} to {sums.max():g}"
