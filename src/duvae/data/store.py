"""Writes prepared data sets to disk, and opens them as memory-mapped arrays.

| file | content |
|---|---|
| `vocabulary.txt` | meaning of each word id or pixel value, one per line: line n, counted from 0, explains value n |
| `<split>.<array>.npy` | one array of one split; the classes `Documents` and `Images` describe the arrays |
| `summary.json` | facts about the data set, such as the number of examples in each split |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from duvae.data.splits import END, PAD, PIXELS, START, Array, Documents, Images, Split
from duvae.errors import UserError
from duvae.project.files import as_json, read_json, whole_folder

S = TypeVar("S", bound="Split")


@dataclass(frozen=True)
class Prepared:
    """A prepared data set, ready for training.

    Attributes:
        vocabulary: Meaning of each word id or pixel value: the words of a text data set, or `paper` and `ink`.
        splits: Splits by name: `train`, `valid`, `test`, and labelled subsets for the linear probes, which are linear
            classifiers of latent codes.
        summary: Content of `summary.json`: facts about the data set, such as the counts of each split.
    """

    vocabulary: list[str]
    splits: Mapping[str, Split]
    summary: Mapping[str, Any]

    def split(self, name: str) -> Split:
        if name not in self.splits:
            raise UserError(
                f"data/prepared: expected a split '{name}'; found {', '.join(self.splits) or 'none'}."
                " Run 'duvae prepare' again."
            )

        return self.splits[name]

    def documents(self, name: str) -> Documents:
        """The split `name` of a text data set. Raises a `UserError` if the split is missing or holds images."""
        return _checked_kind(Documents, self.split(name), name)

    def images(self, name: str) -> Images:
        """The split `name` of an image data set. Raises a `UserError` if the split is missing or holds documents."""
        return _checked_kind(Images, self.split(name), name)

    def words(self, document: Array) -> list[str]:
        """Converts the word ids of a document to words, and leaves out the marks `<pad>`, `<s>` and `</s>`."""
        return [self.vocabulary[token] for token in document if token not in (PAD, START, END)]


def _checked_kind(kind: type[S], split: Split, name: str) -> S:
    if not isinstance(split, kind):
        raise UserError(
            f"data/prepared: expected {kind.__name__.lower()} in split '{name}', as params.yaml says;"
            f" found {type(split).__name__.lower()}. Run 'duvae prepare' again."
        )

    return split


def write(folder: Path, prepared: Prepared, arrays: Mapping[str, Array] | None = None) -> None:
    """Writes a prepared data set. A failure leaves the existing folder unchanged.

    Args:
        folder: Folder of the data set; an existing folder is replaced.
        prepared: The data set to write.
        arrays: Additional arrays to write. The key of an array is its file name without `.npy`. None: no additional
            arrays.
    """
    with whole_folder(folder) as temporary:
        (temporary / "vocabulary.txt").write_text("".join(f"{w}\n" for w in prepared.vocabulary), encoding="utf-8")
        for name, split in prepared.splits.items():
            for part in split.parts:
                np.save(temporary / f"{name}.{part}.npy", getattr(split, part))
        for name, array in (arrays or {}).items():
            np.save(temporary / f"{name}.npy", array)
        (temporary / "summary.json").write_text(as_json(dict(prepared.summary)), encoding="utf-8")


def prepare_command(folder: Path) -> str:
    """The command that writes the prepared data set in `folder`.

    If `folder` is `data/prepared/<data set>` and the folder `data/grey/<data set>` exists, the data set has grey
    images. Then the command is `duvae binarize`, which draws bits from grey values. Otherwise it is `duvae prepare`.
    """
    grey = folder.parent.parent / "grey" / folder.name
    stage = "binarize" if folder.parent.name == "prepared" and grey.is_dir() else "prepare"

    return f"duvae {stage} --dataset {folder.name}"


def read(folder: Path, ids: bool = True) -> Prepared:
    """Opens a prepared data set. The word ids or pixels of each split are memory-mapped.

    Args:
        folder: Folder of the data set.
        ids: Whether to raise an error if word ids or pixels are out of range. This check reads all of them.

    Raises:
        UserError: If a file is missing, is cut short or contradicts another file.
    """
    command = prepare_command(folder)
    again = f"Run '{command}' again."
    if not (folder / "summary.json").exists():
        raise UserError(f"{folder}: expected a prepared data set; there is none. {again}")
    try:
        vocabulary = (folder / "vocabulary.txt").read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / 'vocabulary.txt'}: cannot be read ({error}). {again}") from error
    kind: type[Split] = Images if vocabulary == list(PIXELS) else Documents
    splits = {}
    for path in sorted(folder.glob(f"*.{kind.parts[1]}.npy")):
        name = path.name.removesuffix(f".{kind.parts[1]}.npy")
        try:
            split = kind(
                *(
                    np.load(folder / f"{name}.{part}.npy", mmap_mode="r" if n == 0 else None, allow_pickle=False)
                    for n, part in enumerate(kind.parts)
                )
            )
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{folder}: split '{name}' cannot be read ({error}). {again}") from error
        if why := split.fault(name, len(vocabulary) if ids else None):
            raise UserError(f"{folder}: {why}. {again}")
        splits[name] = split

    return Prepared(vocabulary, splits, read_json(folder / "summary.json", command))


def read_array(folder: Path, name: str) -> Array:
    """Reads an additional array of a prepared data set from `<name>.npy`.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        return np.asarray(np.load(folder / f"{name}.npy", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{folder / name}.npy: cannot be read ({error}). Run '{prepare_command(folder)}' again."
        ) from error
