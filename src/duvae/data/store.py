"""Writes prepared data sets to disk, and opens them as memory-mapped arrays.

| file | content |
|---|---|
| `vocabulary.txt` | meaning of each word id or pixel value, one per line: line n, counted from 0, explains value n |
| `<split>.<array>.npy` | one array of one split; the classes `Documents` and `Images` describe the arrays |
| `summary.json` | facts about the data set, such as the number of examples in each split; digests of all files |
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from duvae.data.splits import END, PAD, PIXELS, START, Array, Documents, Images, Split
from duvae.errors import UserError
from duvae.project.files import as_json, file_digest, read_json, whole_folder

SUMMARY = "summary.json"
DIGESTS = "digests"
"""The key of the summary that holds the digest of each file of the data set, by the name of the file."""

DATA = "data"
"""The key of data/validated/<data set>.json that holds the digest of the data that were checked."""

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
        summary = {**prepared.summary, DIGESTS: {path.name: file_digest(path) for path in sorted(temporary.iterdir())}}
        (temporary / SUMMARY).write_text(as_json(signed(summary)), encoding="utf-8")


def signed(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the digest of a summary to the summary itself, under the key `DIGESTS` and the name `SUMMARY`."""
    digests = {name: digest for name, digest in summary[DIGESTS].items() if name != SUMMARY}
    own = hashlib.blake2b(as_json({**summary, DIGESTS: digests}).encode(), digest_size=16).hexdigest()

    return {**summary, DIGESTS: {**digests, SUMMARY: own}}


def _checked_summary(folder: Path) -> dict[str, Any]:
    """Reads `summary.json`, and checks that all files of the data set are there and have not changed.

    The check reads all files once, which is fast compared with a training. Without the check, a changed bit on the
    disk would change the results without a word.

    Raises:
        UserError: If a file is missing, or differs from the file that was written.
    """
    command = prepare_command(folder)
    summary = read_json(folder / SUMMARY, command)
    try:
        digests = dict(summary[DIGESTS])
        sound = signed(summary)[DIGESTS] == digests
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / SUMMARY}: expected the digests of all files of the data set; found none. An earlier version"
            f" may have written it. Run '{command}' again."
        ) from error
    if not sound:
        raise UserError(
            f"{folder / SUMMARY}: has changed since it was written (its digest is another). Run '{command}' again."
        )
    for name, digest in digests.items():
        path = folder / name
        if name == SUMMARY:
            continue
        if not path.is_file():
            raise UserError(f"{path}: not there, though {SUMMARY} lists it. Run '{command}' again.")
        try:
            found = file_digest(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}). Run '{command}' again.") from error
        if found != digest:
            raise UserError(f"{path}: has changed since it was written (its digest is another). Run '{command}' again.")

    return dict(summary)


def digest(folder: Path) -> str:
    """Computes a digest of a prepared data set: that of its summary, which holds the digests of all other files."""
    return file_digest(folder / SUMMARY)


def require_validated(root: Path, dataset: str) -> None:
    """Checks that `duvae validate` has checked the present data of a data set.

    Args:
        root: Folder of the project.
        dataset: Name of the data set.

    Raises:
        UserError: If the data set was not validated, or was prepared again with another result since then.
    """
    path, folder = root / "data/validated" / f"{dataset}.json", root / "data/prepared" / dataset
    again = f"Run 'duvae validate --dataset {dataset}'"
    if not path.exists():
        raise UserError(f"{path}: not there. {again} first.")
    content = read_json(path, f"duvae validate --dataset {dataset}")
    checked = content.get(DATA) if isinstance(content, dict) else ""
    # Earlier versions wrote no digest of the data. A missing data set is reported where it is read.
    if checked is not None and (folder / SUMMARY).exists() and checked != digest(folder):
        raise UserError(f"{path}: is about other data than those in {folder}. {again} again.")


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
        UserError: If a file is missing, has changed since it was written, or contradicts another file.
    """
    command = prepare_command(folder)
    again = f"Run '{command}' again."
    if not (folder / SUMMARY).exists():
        raise UserError(f"{folder}: expected a prepared data set; there is none. {again}")
    summary = _checked_summary(folder)
    try:
        vocabulary = (folder / "vocabulary.txt").read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / 'vocabulary.txt'}: cannot be read ({error}). {again}") from error
    kind: type[Split] = Images if vocabulary == list(PIXELS) else Documents
    splits = {}
    end = f".{kind.parts[1]}.npy"
    for name in sorted(file.removesuffix(end) for file in summary[DIGESTS] if file.endswith(end)):
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

    return Prepared(vocabulary, splits, {key: value for key, value in summary.items() if key != DIGESTS})


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
