"""Reads files of documents into memory.

A file has one document per line, with white space between the words. If the documents have labels in the file, a line
is `label<TAB>document`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from duvae.config import TextFile, path_in_folder
from duvae.errors import UserError


@dataclass(frozen=True)
class Corpus:
    """The documents of one or more files, and the label of each document.

    Attributes:
        documents: Words of each document, joined by single spaces.
        labels: Label of each document, a whole number; -1: the document has no label.
        origins: File and line of each document; lines count from 1.
    """

    documents: list[str]
    labels: list[int]
    origins: list[tuple[Path, int]]

    def __len__(self) -> int:
        return len(self.documents)

    def only(self, indices: Sequence[int]) -> "Corpus":
        """A corpus of only the documents at `indices`, with their labels and origins."""
        return Corpus(*([column[i] for i in indices] for column in (self.documents, self.labels, self.origins)))  # type: ignore[arg-type]


def read_corpus(files: Sequence[TextFile], folder: Path) -> Corpus:
    """Reads the documents of several files into one corpus, in the order of the files.

    Args:
        files: Files of one split, as params.yaml lists them.
        folder: Folder into which `duvae fetch` copied the files.

    Raises:
        UserError: If a file cannot be read or has a mistake that `read_documents` finds.
    """
    corpus = Corpus([], [], [])
    for file in files:
        part = read_documents(folder / path_in_folder(file.path), file.label)
        corpus.documents.extend(part.documents)
        corpus.labels.extend(part.labels)
        corpus.origins.extend(part.origins)

    return corpus


def read_documents(path: Path, label: int | None = None, raw: bytes | None = None) -> Corpus:
    """Reads one file of documents.

    Args:
        path: The file, in UTF-8.
        label: Label of all documents. None: the first line shows whether each line has its own label or no line has
            one.
        raw: Bytes to read instead of the file, for example from standard input. Error messages then use `path` as the
            name of the source. None: the function reads the file.

    Raises:
        UserError: If the file cannot be read, is empty or is not UTF-8. Also if a line is empty, or if a label is
            missing, unexpected or not a whole number.
    """
    rows = file_lines(path, raw)
    labelled = label is None and "\t" in rows[0]
    corpus = Corpus([], [], [])
    for number, row in enumerate(rows, 1):
        prefix, tab, document = row.partition("\t")
        if bool(tab) != labelled:
            raise line_error(path, number, *_label_mismatch(label, labelled, row))
        if not labelled:
            document = prefix
        elif not re.fullmatch(r"[0-9]+", prefix.strip()):
            raise line_error(
                path,
                number,
                "a label that is a whole number of at least 0, before the tab",
                repr(prefix),
                "Correct the label.",
            )
        words = document.split()
        if not words:
            raise line_error(path, number, "a document", "an empty line", "Delete the line.")
        corpus.documents.append(" ".join(words))
        corpus.labels.append(int(prefix) if labelled else -1 if label is None else label)
        corpus.origins.append((path, number))

    return corpus


def file_lines(path: Path, raw: bytes | None = None) -> list[str]:
    """Reads the lines of a UTF-8 file.

    Only a line feed ends a line. Python's `splitlines` is not used, because it also splits at form feeds and at
    Unicode's separators.

    Args:
        path: The file.
        raw: Bytes of the file, if they have already been read; None: the function reads the file.

    Raises:
        UserError: If the file is missing, cannot be read, is empty or is not UTF-8.
    """
    try:
        raw = path.read_bytes() if raw is None else raw
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Run 'duvae fetch' to get the file.") from error
    if not raw.strip():
        raise UserError(f"{path}: expected at least one line; the file is empty. Fill it, or fetch it again.")
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        raise line_error(path, number, "UTF-8", f"the byte 0x{raw[error.start]:02x}", "Convert the file.") from error
    rows = content.split("\n")
    if not rows[-1]:
        rows.pop()

    return [row.removesuffix("\r") for row in rows]


def line_error(path: Path, line: int, expected: str, value: str, remedy: str) -> UserError:
    """Creates the error that describes a mistake in one line of a file.

    Args:
        path: The file.
        line: Number of the line, counted from 1.
        expected: Expected content of the line, in words.
        value: Found content of the line, in words.
        remedy: Advice to the user, as a sentence.
    """
    return UserError(f"{path}, line {line}: expected {expected}; found {value}. {remedy}")


def _label_mismatch(label: int | None, labelled: bool, row: str) -> tuple[str, str, str]:
    """Forms arguments of `line_error` for a line that has an unexpected label, or that lacks its label.

    Args:
        label: Label that params.yaml gives to all lines of the file; None: no such label.
        labelled: Whether the first line has a label of its own.
        row: Content of the line.

    Returns:
        The arguments `expected`, `value` and `remedy` of `line_error`.
    """
    shown = repr(row if len(row) <= 60 else row[:60] + "…")
    if label is not None:
        expected = f"a document without a tab, because params.yaml gives all lines the label {label}"
        return expected, shown, "Remove the tab, or remove 'label' from params.yaml."
    if labelled:
        return "label<TAB>document, as on line 1", f"no label in {shown}", "Add the label."

    return "a document without a label, as on line 1", f"a tab in {shown}", "Remove the tab, or label all lines."
