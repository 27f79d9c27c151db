"""Prepared data sets on disk: written once, memory-mapped ever after.

`<folder>/vocabulary.txt` holds what the values of x mean, a name a line, its line being its value. Each
split is some arrays, `<split>.<array>.npy`, which `Documents` and `Images` describe. `summary.json` holds
what was counted.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from duvae.errors import UserError
from duvae.project.files import as_json, read_json, whole_folder

SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
PAD, START, END, UNKNOWN = range(4)

PIXELS = ("paper", "ink")
"""What the values of a pixel mean."""

Array = npt.NDArray[Any]


S = TypeVar("S", bound="Split")


class Split(ABC):
    """Examples of x with their labels: all that training and metrics know of a data set.

    Attributes:
        parts: The arrays that it is made of and kept as; the first is memory-mapped, the second names the splits.
        kind: Of the numbers that the networks take.
        labels: -1 where there is none, with shape (examples,).
    """

    parts: ClassVar[tuple[str, ...]]
    kind: ClassVar[type[np.generic]]
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def drawn(self) -> bool:
        """Whether `batch` gives probabilities, from which bits are drawn each time an example is used."""
        return False

    @property
    @abstractmethod
    def lengths(self) -> Array:
        """The size of each example, with shape (examples,): only those of one size make a batch."""

    @property
    @abstractmethod
    def predicted(self) -> Array:
        """How many words or pixels of each the decoder predicts, with shape (examples,)."""

    @property
    @abstractmethod
    def values(self) -> Array:
        """The elements of all examples one behind the other: where `batch` need not do, as on a GPU."""

    @property
    @abstractmethod
    def starts(self) -> Array:
        """Where among `values` each example begins, with shape (examples,)."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one example as the networks take it; -1 stands for its length."""

    @abstractmethod
    def batch(self, indices: Array) -> Array:
        """The examples at `indices`, all of one size, as what the networks take."""

    @abstractmethod
    def only(self, indices: Array) -> "Split":
        """A split of the examples at `indices`."""

    @abstractmethod
    def contents(self) -> list[bytes]:
        """What each is made of: two examples are the same where these are."""

    @abstractmethod
    def fault(self, name: str, values: int | None) -> str:
        """What is wrong with its arrays, in words; nothing where they are sound.

        Args:
            name: What the split is called.
            values: How many values a word or a bit may have; None: that is not looked at.
        """


@dataclass(frozen=True)
class Documents(Split):
    """One split of a text data set.

    Attributes:
        tokens: Word ids of all documents joined, with shape (tokens,).
        offsets: Document i is `tokens[offsets[i]:offsets[i + 1]]`, `<s>` and `</s>` included; shape (documents + 1,).
        labels: -1 where there is none, with shape (documents,).
    """

    parts = ("tokens", "offsets", "labels")
    kind = np.int64
    tokens: Array
    offsets: Array
    labels: Array

    def __getitem__(self, index: int) -> Array:
        """The word ids of one document, with shape (length,)."""
        return np.asarray(self.tokens[self.offsets[index] : self.offsets[index + 1]])

    @property
    def lengths(self) -> Array:
        """Ids a document, `<s>` and `</s>` counted, with shape (documents,)."""
        return np.diff(self.offsets)

    @property
    def predicted(self) -> Array:
        """Words a document that are predicted: all but `<s>`, `</s>` included."""
        return self.lengths - 1

    @property
    def values(self) -> Array:
        """The word ids."""
        return self.tokens

    @property
    def starts(self) -> Array:
        """The offsets but for the end of the last."""
        return self.offsets[:-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """A row of ids."""
        return (-1,)

    def batch(self, indices: Array) -> Array:
        """The documents at `indices`, all of one length, with shape (batch, length)."""
        length = self.offsets[indices[0] + 1] - self.offsets[indices[0]]

        return np.asarray(self.tokens[self.offsets[indices][:, None] + np.arange(length)], np.int64)

    def only(self, indices: Array) -> "Documents":
        """A split of the documents at `indices`."""
        return Documents.of([self[index] for index in indices.tolist()], self.labels[indices])

    def fault(self, name: str, values: int | None) -> str:
        """Whether they are rows that fit each other, and the ids within the vocabulary."""
        tokens, offsets = self.tokens, self.offsets
        if any(part.ndim != 1 or part.dtype.kind != "i" for part in (tokens, offsets, self.labels)):
            return f"expected rows of whole numbers in the arrays of split '{name}'"
        if len(offsets) != len(self) + 1 or offsets[0] != 0 or offsets[-1] != len(tokens):
            return f"the arrays of split '{name}' do not fit each other"
        if values is not None and len(tokens) and not 0 <= tokens.min() <= tokens.max() < values:
            return (
                f"expected ids from 0 to {values - 1} in split '{name}', the lines of vocabulary.txt;"
                f" found {tokens.min()} to {tokens.max()}"
            )

        return ""

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
class Images(Split):
    """One split of an image data set.

    Attributes:
        pixels: Bits (uint8, 1 is ink), or grey values: the probability of ink (float32); shape (images, height, width).
        labels: Of each image's character or class; -1 where there is none, with shape (images,).
        groups: Of its alphabet; -1 where there is none, with shape (images,).
        keys: The first 8 bytes of the hash of its grey values: the same image has the same; with shape (images,).
    """

    parts = ("pixels", "labels", "groups", "keys")
    kind = np.float32
    pixels: Array
    labels: Array
    groups: Array
    keys: Array

    @property
    def drawn(self) -> bool:
        """Whether the pixels are grey."""
        return self.pixels.dtype.kind == "f"

    @property
    def lengths(self) -> Array:
        """Pixels an image, the same for all, with shape (images,)."""
        return np.full(len(self), math.prod(self.pixels.shape[1:]), np.int64)

    @property
    def predicted(self) -> Array:
        """Pixels an image."""
        return self.lengths

    @property
    def values(self) -> Array:
        """The pixels."""
        return self.pixels.reshape(-1)

    @property
    def starts(self) -> Array:
        """The first pixel of each."""
        return np.arange(len(self)) * math.prod(self.pixels.shape[1:])

    @property
    def shape(self) -> tuple[int, ...]:
        """One channel."""
        return 1, *self.pixels.shape[1:]

    def batch(self, indices: Array) -> Array:
        """The images at `indices`, with shape (batch, 1, height, width)."""
        return np.asarray(self.pixels[indices], np.float32)[:, None]

    def only(self, indices: Array) -> "Images":
        """A split of the images at `indices`."""
        return Images(*(part[indices] for part in (self.pixels, self.labels, self.groups, self.keys)))

    def contents(self) -> list[bytes]:
        """The key of each image."""
        return [key.tobytes() for key in self.keys]

    def fault(self, name: str, values: int | None) -> str:
        """Whether they are square images with a label, a group and a key each, and pixels within [0, 1]."""
        whole = (self.labels, self.groups, self.keys)
        if self.pixels.ndim != 3 or self.pixels.dtype not in (np.uint8, np.float32):
            return f"expected images of bits or grey values in split '{name}'"
        if any(part.shape != (len(self.pixels),) or part.dtype.kind != "i" for part in whole):
            return f"the arrays of split '{name}' do not fit each other"
        if values is not None and len(self) and not 0 <= self.pixels.min() <= self.pixels.max() <= 1:
            return f"expected pixels from 0 to 1 in split '{name}'; found {self.pixels.min()} to {self.pixels.max()}"

        return ""

    @classmethod
    def of(cls, grey: Array, labels: Array, groups: Array) -> "Images":
        """From grey values in [0, 1], with shape (images, height, width)."""
        pixels = np.ascontiguousarray(grey, np.float32)
        keys = [
            int.from_bytes(blake2b(image.tobytes(), digest_size=8).digest(), "little", signed=True) for image in pixels
        ]

        return cls(pixels, np.asarray(labels, np.int64), np.asarray(groups, np.int64), np.array(keys, np.int64))


@dataclass(frozen=True)
class Prepared:
    """A prepared data set.

    Attributes:
        vocabulary: What the values of x mean: words, or paper and ink.
        splits: train, valid, test and labelled subsets.
        summary: What was counted.
    """

    vocabulary: list[str]
    splits: Mapping[str, Split]
    summary: Mapping[str, Any]

    def split(self, name: str) -> Split:
        if name not in self.splits:
            raise UserError(
                f"data/prepared: no split '{name}' among the prepared {', '.join(self.splits)}."
                " Run 'duvae prepare' again."
            )

        return self.splits[name]

    def documents(self, name: str) -> Documents:
        """The split, where it is one of documents."""
        return _of(Documents, self.split(name), name)

    def images(self, name: str) -> Images:
        """The split, where it is one of images."""
        return _of(Images, self.split(name), name)

    def words(self, document: Array) -> list[str]:
        """A document in words, without `<s>` and `</s>`."""
        return [self.vocabulary[token] for token in document if token not in (PAD, START, END)]


def _of(kind: type[S], split: Split, name: str) -> S:
    if not isinstance(split, kind):
        raise UserError(
            f"data/prepared: expected {kind.__name__.lower()} in split '{name}', as params.yaml says;"
            f" found {type(split).__name__.lower()}. Run 'duvae prepare' again."
        )

    return split


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
            for part in split.parts:
                np.save(temporary / f"{name}.{part}.npy", getattr(split, part))
        for name, array in (arrays or {}).items():
            np.save(temporary / f"{name}.npy", array)
        (temporary / "summary.json").write_text(as_json(dict(prepared.summary)), encoding="utf-8")


def maker(folder: Path) -> str:
    """The command that makes a prepared data set; images become bits of what lies in data/grey."""
    grey = folder.parent.parent / "grey" / folder.name
    stage = "binarize" if folder.parent.name == "prepared" and grey.is_dir() else "prepare"

    return f"duvae {stage} --dataset {folder.name}"


def read(folder: Path, ids: bool = True) -> Prepared:
    """Opens a prepared data set, its arrays memory-mapped.

    Args:
        folder: Where it lies.
        ids: Whether to refuse ids that the vocabulary has no word for.

    Raises:
        UserError: Where a file is missing, cut short or does not fit the others.
    """
    command = maker(folder)
    again = f"Run '{command}' again."
    if not (folder / "summary.json").exists():
        raise UserError(f"{folder}: no prepared data set is there. {again}")
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


def shared(these: Split, *others: Split) -> Mapping[str, int]:
    """How many examples of `these` also stand among `others`, and how many distinct ones that is."""
    there = {key for split in others for key in split.contents()}
    found = [key for key in these.contents() if key in there]

    return {"documents": len(found), "distinct": len(set(found))}


def array(folder: Path, name: str) -> Array:
    """A further array of a prepared data set, as `write` kept it."""
    try:
        return np.asarray(np.load(folder / f"{name}.npy", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{folder / name}.npy: cannot be read ({error}). Run '{maker(folder)}' again.") from error
