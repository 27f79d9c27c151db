"""Defines the splits of a data set, such as its training examples: documents or images, with their labels."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
"""Special words for padding, for the start and the end of a document, and for words outside the vocabulary."""
PAD, START, END, UNKNOWN = range(4)
"""Word ids of the special words."""

PIXELS = ("paper", "ink")
"""Meanings of the pixel values 0 and 1."""

Array = npt.NDArray[Any]


class Split(ABC):
    """One part of a data set, such as the training examples: examples of x and their labels.

    Training and metrics use data sets only through this interface.

    Attributes:
        parts: Names of the arrays of a split. The order matters to the function `read` of `duvae.data.store`. It
            memory-maps the first array. To find the splits in a folder, it looks for the files of the second array,
            such as `train.offsets.npy`.
        dtype: Type of the numbers that the networks read.
        labels: Label of each example, shape (examples,); -1: no label.
    """

    parts: ClassVar[tuple[str, ...]]
    dtype: ClassVar[type[np.generic]]
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_grey(self) -> bool:
        """Whether the values of examples are probabilities, from which bits are drawn each time an example is used."""
        return False

    @property
    @abstractmethod
    def lengths(self) -> Array:
        """Number of values of each example, shape (examples,). A batch holds only examples of the same length."""

    @property
    @abstractmethod
    def predicted(self) -> Array:
        """Number of words or pixels that the decoder predicts for each example, shape (examples,)."""

    @property
    @abstractmethod
    def values(self) -> Array:
        """Values of all examples, concatenated, shape (values,).

        If the GPU has enough memory, it holds a copy of this array, and batches are taken from the copy.
        """

    @property
    @abstractmethod
    def starts(self) -> Array:
        """Index in `values` at which each example begins, shape (examples,)."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one example as the networks read it; -1 stands for the length of a document."""

    @abstractmethod
    def batch(self, indices: Array) -> Array:
        """The examples at `indices`, in the shape that the networks read. All examples must have the same length."""

    @abstractmethod
    def only(self, indices: Array) -> "Split":
        """A new split that holds the examples at `indices`."""

    @abstractmethod
    def contents(self) -> list[bytes]:
        """Bytes that identify each example, without its label. Two examples count as equal if their bytes are equal."""

    @abstractmethod
    def fault(self, name: str, values: int | None) -> str:
        """Checks the arrays, and describes the first error in one sentence. The result is empty if there is no error.

        Args:
            name: Name of the split.
            values: Size of the vocabulary; None: the range of the word ids or pixels is not checked.
        """


@dataclass(frozen=True)
class Documents(Split):
    """One split of a text data set.

    Attributes:
        tokens: Word ids of all documents, concatenated, shape (tokens,).
        offsets: Bounds of the documents in `tokens`, shape (documents + 1,). Document i is
            `tokens[offsets[i]:offsets[i + 1]]`, `<s>` and `</s>` included.
        labels: Label of each document, shape (documents,); -1: no label.
    """

    parts = ("tokens", "offsets", "labels")
    dtype = np.int64
    tokens: Array
    offsets: Array
    labels: Array

    def __getitem__(self, index: int) -> Array:
        """Word ids of one document, shape (length,)."""
        return np.asarray(self.tokens[self.offsets[index] : self.offsets[index + 1]])

    @property
    def lengths(self) -> Array:
        """Number of word ids of each document, including `<s>` and `</s>`, shape (documents,)."""
        return np.diff(self.offsets)

    @property
    def predicted(self) -> Array:
        """Number of predicted words of each document, shape (documents,). `</s>` is predicted, but `<s>` is not."""
        return self.lengths - 1

    @property
    def values(self) -> Array:
        """The word ids of all documents, concatenated, shape (tokens,)."""
        return self.tokens

    @property
    def starts(self) -> Array:
        """Index of the first word id of each document, shape (documents,)."""
        return self.offsets[:-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one document; -1 stands for its length, which differs between documents."""
        return (-1,)

    def batch(self, indices: Array) -> Array:
        """Word ids of the documents at `indices`, shape (batch, length). All documents must have the same length."""
        length = self.offsets[indices[0] + 1] - self.offsets[indices[0]]

        return np.asarray(self.tokens[self.offsets[indices][:, None] + np.arange(length)], np.int64)

    def only(self, indices: Array) -> "Documents":
        """A new split that holds the documents at `indices`."""
        return Documents.of([self[index] for index in indices.tolist()], self.labels[indices])

    def fault(self, name: str, values: int | None) -> str:
        """Checks the types and lengths of the arrays. If `values` is not None, also checks the range of the ids."""
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
        """Word ids of each document as bytes."""
        tokens, ends = np.ascontiguousarray(self.tokens, np.int32).tobytes(), (self.offsets * 4).tolist()

        return [tokens[start:end] for start, end in pairwise(ends)]

    @classmethod
    def of(cls, documents: Sequence[Sequence[int] | Array], labels: Sequence[int] | Array) -> "Documents":
        """Builds a split of documents.

        Args:
            documents: Word ids of each document, including `<s>` and `</s>`.
            labels: Label of each document, shape (documents,); -1: no label.
        """
        offsets = np.zeros(len(documents) + 1, np.int64)
        np.cumsum([len(document) for document in documents], out=offsets[1:])
        tokens = np.concatenate([np.asarray(d, np.int32) for d in documents]) if documents else np.zeros(0, np.int32)

        return cls(tokens, offsets, np.asarray(labels, np.int64))


@dataclass(frozen=True)
class Images(Split):
    """One split of an image data set.

    Attributes:
        pixels: Bits (uint8, 1 is ink) or grey values (float32, probabilities of ink), shape (images, height, width).
        labels: Character or class of each image, shape (images,); -1: no label.
        groups: Alphabet or group of classes of each image, shape (images,); -1: no group.
        keys: 8-byte hash of the grey values of each image, shape (images,); equal images have equal keys.
    """

    parts = ("pixels", "labels", "groups", "keys")
    dtype = np.float32
    pixels: Array
    labels: Array
    groups: Array
    keys: Array

    @property
    def is_grey(self) -> bool:
        """Whether the pixels are grey values, not bits."""
        return self.pixels.dtype.kind == "f"

    @property
    def lengths(self) -> Array:
        """Number of pixels of each image, shape (images,); all images have the same number."""
        return np.full(len(self), math.prod(self.pixels.shape[1:]), np.int64)

    @property
    def predicted(self) -> Array:
        """Number of pixels that the decoder predicts for each image, shape (images,). It predicts all pixels."""
        return self.lengths

    @property
    def values(self) -> Array:
        """Pixels of all images, concatenated, shape (pixels,)."""
        return self.pixels.reshape(-1)

    @property
    def starts(self) -> Array:
        """Index of the first pixel of each image, shape (images,)."""
        return np.arange(len(self)) * math.prod(self.pixels.shape[1:])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image: one channel, height and width."""
        return 1, *self.pixels.shape[1:]

    def batch(self, indices: Array) -> Array:
        """The images at `indices`, shape (batch, 1, height, width)."""
        return np.asarray(self.pixels[indices], np.float32)[:, None]

    def only(self, indices: Array) -> "Images":
        """A new split that holds the images at `indices`."""
        return Images(*(part[indices] for part in (self.pixels, self.labels, self.groups, self.keys)))

    def contents(self) -> list[bytes]:
        """The key of each image, as bytes."""
        return [key.tobytes() for key in self.keys]

    def fault(self, name: str, values: int | None) -> str:
        """Checks the types and shapes of the arrays. If `values` is not None, also checks the range of the pixels."""
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
        """Builds a split of grey images.

        Args:
            grey: Probabilities of ink in [0, 1], shape (images, height, width).
            labels: Label of each image, shape (images,); -1: no label.
            groups: Group of each image, shape (images,); -1: no group.
        """
        pixels = np.ascontiguousarray(grey, np.float32)
        keys = [
            int.from_bytes(blake2b(image.tobytes(), digest_size=8).digest(), "little", signed=True) for image in pixels
        ]

        return cls(pixels, np.asarray(labels, np.int64), np.asarray(groups, np.int64), np.array(keys, np.int64))


def unseen(these: Split, training: Split) -> Array:
    """Finds the examples of the split `these` that do not stand in the training set.

    Two documents are equal if all their word ids are equal. Two images are equal if their grey values are, of which
    the bits may be different draws.

    Returns:
        Whether the training set lacks the example, for each example of `these`, shape (examples,).
    """
    known = set(training.contents())

    return np.array([key not in known for key in these.contents()], dtype=bool)


def count_shared(these: Split, *others: Split) -> Mapping[str, int]:
    """Counts the examples of the split `these` that at least one of the splits `others` also has.

    Returns:
        Two counts. `documents` counts a repeated example each time, and `distinct` counts it only once.
    """
    known = {key for split in others for key in split.contents()}
    common = [key for key in these.contents() if key in known]

    return {"documents": len(common), "distinct": len(set(common))}
