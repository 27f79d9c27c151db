"""Prepared data sets on disk: written once, memory-mapped ever after.

`<folder>/vocabulary.txt` holds a word a line, its line being its id. Each split is three arrays:
`<split>.tokens.npy` (all documents joined, `<s>` ... `</s>` each), `<split>.offsets.npy` (where each
begins, and the end) and `<split>.labels.npy` (-1: no label). `summary.json` holds what was counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duvae.errors import UserError
from duvae.files import as_json, read_json, whole_folder

SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
PAD, START, END, UNKNOWN = range(4)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Documents:
    """One split of a text data set.

    Attributes:
        tokens: Word ids of all documents joined, with shape (tokens,).
        offsets: Document i is `tokens[offsets[i]:offsets[i + 1]]`, `<s>` and `</s>` included; shape (documents + 1,).
        labels: -1 where there is none, with shape (documents,).
    """

    tokens: Array
    offsets: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Array:
        """The word ids of one document, with shape (length,)."""
        return np.asarray(self.tokens[self.offsets[index] : self.offsets[index + 1]])

    @property
    def lengths(self) -> Array:
        """Ids a document, `<s>` and `</s>` counted, with shape (documents,)."""
        return np.diff(self.offsets)

    def batch(self, indices: Array) -> Array:
        """The documents at `indices`, all of one length, with shape (batch, length)."""
        length = self.offsets[indices[0] + 1] - self.offsets[indices[0]]

        return np.asarray(self.tokens[self.offsets[indices][:, None] + np.arange(length)])

    def contents(self) -> list[bytes]:
        """The ids of each document as bytes: two documents are the same where these are."""
        tokens, ends = np.ascontiguousarray(self.tokens, np.int32).tobytes(), (self.offsets * 4).tolist()

        return [tokens[start:end] for start, end in pairwise(ends)]

    @classmethod
    def of(cls, documents: Sequence[Sequence[int] | Array], labels: Sequence[int] | Array) -> "Documents":
        """Joins documents that already hold `<s>` and `</s>`."""
        offsets = np.zeros(len(documents) + 1, np.int64)
        np.cumsum([len(document) for document in documents], out=offsets[1:])
        tokens = np.concatenate([np.asarray(d, np.int32) for d in documents]) if documents else np.zeros(0, np.int32)

        return cls(tokens, offsets, np.asarray(labels, np.int64))


@dataclass(frozen=True)
class Prepared:
    """A prepared data set: its vocabulary, its splits (train, valid, test, labelled subsets) and what was counted."""

    vocabulary: list[str]
    splits: Mapping[str, Documents]
    summary: Mapping[str, Any]

    def split(self, name: str) -> Documents:
        if name not in self.splits:
            raise UserError(
                f"data/prepared: no split '{name}' among the prepared {', '.join(self.splits)}."
                " Run 'duvae prepare' again."
            )

        return self.splits[name]

    def words(self, document: Array) -> list[str]:
        """A document in words, without `<s>` and `</s>`."""
        return [self.vocabulary[token] for token in document if token not in (PAD, START, END)]


def write(folder: Path, prepared: Prepared, arrays: Mapping[str, Array] | None = None) -> None:
    """Writes a prepared data set into `folder`, whole or not at all.

    Args:
        folder: Replaced if it exists.
        prepared: What is written.
        arrays: Further arrays to keep beside it, by file name without `.npy`.
    """
    with whole_folder(folder) as temporary:
        (temporary / "vocabulary.txt").write_text("".join(f"{w}\n" for w in prepared.vocabulary), encoding="utf-8")
        for name, split in prepared.splits.items():
            np.save(temporary / f"{name}.tokens.npy", split.tokens.astype(np.int32))
            np.save(temporary / f"{name}.offsets.npy", split.offsets.astype(np.int64))
            np.save(temporary / f"{name}.labels.npy", split.labels.astype(np.int64))
        for name, array in (arrays or {}).items():
            np.save(temporary / f"{name}.npy", array)
        (temporary / "summary.json").write_text(as_json(dict(prepared.summary)), encoding="utf-8")


def read(folder: Path, ids: bool = True) -> Prepared:
    """Opens a prepared data set, its arrays memory-mapped.

    Args:
        folder: Where it lies.
        ids: Whether to refuse ids that the vocabulary has no word for.

    Raises:
        UserError: Where a file is missing, cut short or does not fit the others.
    """
    again = f"Run 'duvae prepare --dataset {folder.name}' again."
    if not (folder / "summary.json").exists():
        raise UserError(f"{folder}: no prepared data set is there. {again}")
    try:
        vocabulary = (folder / "vocabulary.txt").read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / 'vocabulary.txt'}: cannot be read ({error}). {again}") from error
    splits: dict[str, Documents] = {}
    for path in sorted(folder.glob("*.offsets.npy")):
        name = path.name.removesuffix(".offsets.npy")
        try:
            tokens = np.load(folder / f"{name}.tokens.npy", mmap_mode="r", allow_pickle=False)
            offsets, labels = (
                np.load(folder / f"{name}.{part}.npy", allow_pickle=False) for part in ("offsets", "labels")
            )
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{folder}: split '{name}' cannot be read ({error}). {again}") from error
        if any(part.ndim != 1 or part.dtype.kind != "i" for part in (tokens, offsets, labels)):
            raise UserError(f"{folder}: expected rows of whole numbers in the arrays of split '{name}'. {again}")
        if len(offsets) != len(labels) + 1 or offsets[0] != 0 or offsets[-1] != len(tokens):
            raise UserError(f"{folder}: the arrays of split '{name}' do not fit each other. {again}")
        if ids and len(tokens) and not 0 <= tokens.min() <= tokens.max() < len(vocabulary):
            raise UserError(
                f"{folder}: expected ids from 0 to {len(vocabulary) - 1} in split '{name}', the lines of"
                f" vocabulary.txt; found {tokens.min()} to {tokens.max()}. {again}"
            )
        splits[name] = Documents(tokens, offsets, labels)

    return Prepared(vocabulary, splits, read_json(folder / "summary.json", f"duvae prepare --dataset {folder.name}"))


def array(folder: Path, name: str) -> Array:
    """A further array of a prepared data set, as `write` kept it."""
    try:
        return np.asarray(np.load(folder / f"{name}.npy", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{folder / name}.npy: cannot be read ({error}). Run 'duvae prepare --dataset {folder.name}' again."
        ) from error
