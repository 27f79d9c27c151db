"""Reads files of documents into memory.

A file has one document per line, with white space between the words. If the documents have labels in the file, a line
is `label<TAB>document`.
"""

import codecs
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from duvae.config import TextFile, path_in_folder
from duvae.errors import UserError
from duvae.fields import LARGEST_LABEL
from duvae.paths import require_no_device

INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\u2800\u3164\ufeff\uffa0\ufff9-\ufffb]"
    "|(?<![^\x00-\u024f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\u024f])"
)
"""Control characters and characters without width, except white space.

The joiners U+200C and U+200D belong to the spelling of Persian and Indian words and of emoji. So they count as
invisible only beside a Latin letter, a sign of ASCII, or the end of a line.
"""

SEPARATORS = re.compile("[\x0b-\x0d\x1c-\x1e\x85\u2028\u2029]")
"""Characters that some programs read as the end of a line. In a document they count as spaces."""

OTHER_FORMATS = (".csv", ".htm", ".html", ".json", ".jsonl", ".md", ".ndjson", ".xml")
"""File name extensions of files that are usually no plain text with one document per line."""

_LABEL = re.compile("0{0,20}[0-9]{1,6}")
"""A label of at most `LARGEST_LABEL`. Python refuses to convert thousands of digits, even if they are zeros."""


@dataclass(frozen=True)
class Corpus:
    """The documents of one or more files, and the label of each document.

    Attributes:
        documents: Words of each document, joined by single spaces.
        labels: Label of each document, a whole number; -1: the document has no label.
        origins: File and line of each document; lines count from 1.
        warnings: What the user should know about the files, one sentence each.
    """

    documents: list[str]
    labels: list[int]
    origins: list[tuple[Path, int]]
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.documents)

    def only(self, indices: Sequence[int]) -> "Corpus":
        """The documents at `indices`."""
        return Corpus(
            [self.documents[index] for index in indices],
            [self.labels[index] for index in indices],
            [self.origins[index] for index in indices],
            self.warnings,
        )


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
        corpus.warnings.extend(part.warnings)

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
            missing, unexpected or not a whole number from 0 to `LARGEST_LABEL`.
    """
    rows = file_lines(path, raw)
    labelled = label is None and "\t" in rows[0]
    warnings = [*invisible_characters(path, rows), *inner_separators(path, rows), *other_format(path, rows)]
    corpus = Corpus([], [], [], warnings)
    for number, row in enumerate(rows, 1):
        prefix, tab, document = row.partition("\t")
        if bool(tab) != labelled:
            raise line_error(path, number, *_label_mismatch(label, labelled, row))
        if not labelled:
            document = prefix
        elif not _LABEL.fullmatch(prefix.strip()):
            raise line_error(
                path,
                number,
                f"a label that is a whole number from 0 to {LARGEST_LABEL}, before the tab",
                shortened(prefix),
                "Correct the label.",
            )
        words = document.split()
        if not words:
            raise line_error(path, number, "a document", "an empty line", "Delete the line.")
        corpus.documents.append(" ".join(words))
        corpus.labels.append(int(prefix.strip()) if labelled else -1 if label is None else label)
        corpus.origins.append((path, number))

    return corpus


def invisible_characters(path: Path, rows: Sequence[str]) -> list[str]:
    """Writes a warning if lines have characters that nobody sees, such as a byte-order mark or NUL.

    To the program, a word with such a character is another word than the same word without it.

    Args:
        path: Path of the text file.
        rows: The lines of the file.

    Returns:
        One warning, with the first line and the first character; empty if there is none.
    """
    lines = [number for number, row in enumerate(rows, 1) if not row.isprintable() and INVISIBLE.search(row)]
    if not lines:
        return []
    first = INVISIBLE.search(rows[lines[0] - 1])
    assert first is not None
    name = unicodedata.name(first[0], "a control character").lower()
    count = f"{len(lines):,} lines have" if len(lines) > 1 else "one line has"
    message = (
        f"{path}, line {lines[0]}: found the invisible character U+{ord(first[0]):04X} ({name}); {count} such"
        " characters. A word with one of them is another word. Remove them"
    )

    return [message]


def inner_separators(path: Path, rows: Sequence[str]) -> list[str]:
    """Writes a warning if lines have other ends of lines or second tabs inside them, which count as spaces.

    Args:
        path: Path of the text file.
        rows: The lines of the file.

    Returns:
        Up to two warnings, each with the first line; empty if there is none.
    """
    warnings = []
    broken = [number for number, row in enumerate(rows, 1) if not row.isprintable() and SEPARATORS.search(row)]
    if broken:
        first = SEPARATORS.search(rows[broken[0] - 1])
        assert first is not None
        count = f"{len(broken):,} lines have" if len(broken) > 1 else "one line has"
        warnings.append(
            f"{path}, line {broken[0]}: found U+{ord(first[0]):04X}, which ends a line in some programs, inside the"
            f" line; {count} such characters. They count as spaces. Begin a new line there if another document begins"
        )
    tabs = [number for number, row in enumerate(rows, 1) if row.rstrip().count("\t") > 1]
    if tabs:
        count = f"{len(tabs):,} lines have" if len(tabs) > 1 else "one line has"
        warnings.append(
            f"{path}, line {tabs[0]}: found a second tab; {count} more than one. All text after the first tab is the"
            " document. Remove further columns"
        )

    return warnings


def other_format(path: Path, rows: Sequence[str]) -> list[str]:
    """Writes a warning if a file looks like a table or like JSON, whose signs and headings would count as words.

    Args:
        path: Path of the text file.
        rows: The lines of the file.

    Returns:
        One warning; empty if the file looks like plain text.
    """
    objects = all(row.strip().startswith("{") and row.strip().endswith("}") for row in rows)
    if not objects and path.suffix.lower() not in OTHER_FORMATS:
        return []

    name = "JSON" if objects else path.suffix.lower()
    message = (
        f"{path}: looks like {name}, but each line is read as plain text, with all headings, quotes and brackets:"
        f" line 1 is {shortened(rows[0])}. If that is not meant, save the documents as text with one document per line,"
        " or as label<TAB>document"
    )

    return [message]


def shortened(text: str) -> str:
    """A part of a file as a message shows it: in quotes, with a long text cut."""
    return repr(text if len(text) <= 60 else text[:60] + "…")


def file_lines(path: Path, raw: bytes | None = None) -> list[str]:
    """Reads the lines of a UTF-8 file.

    Only a line feed ends a line. Python's `splitlines` is not used, because it also splits at form feeds and at
    Unicode's separators.

    Args:
        path: Path of the text file.
        raw: Bytes of the file, if they have already been read; None: the function reads the file.

    Raises:
        UserError: If the file is missing, cannot be read, is empty or is not UTF-8.
    """
    try:
        if raw is None:
            require_no_device(path)
            raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Run 'duvae fetch' to get the file.") from error
    if not raw.removeprefix(codecs.BOM_UTF8).strip():
        raise UserError(f"{path}: expected at least one line; the file is empty. Fill it, or fetch it again.")
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        raise line_error(path, number, "UTF-8", f"the byte 0x{raw[error.start]:02x}", "Convert the file.") from error
    if not content.strip():
        raise UserError(f"{path}: expected at least one line; the file is empty. Fill it, or fetch it again.")
    if raw.count(0) > len(raw) / 4:
        raise UserError(f"{path}: expected UTF-8; found text that looks like UTF-16 or UTF-32. Convert the file.")
    if "\n" not in content and "\r" in content.rstrip("\r"):
        raise UserError(
            f"{path}: expected lines that end with a line feed; found only carriage returns (U+000D). Convert the ends"
            " of the lines."
        )
    rows = content.split("\n")
    if not rows[-1]:
        rows.pop()

    return [row.removesuffix("\r") for row in rows]


def line_error(path: Path, line: int, expected: str, value: str, remedy: str) -> UserError:
    """Creates the error that describes a mistake in one line of a file.

    Args:
        path: Path of the text file.
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
    shown = shortened(row)
    if label is not None:
        expected = f"a document without a tab, because params.yaml gives all lines the label {label}"
        return expected, shown, "Remove the tab, or remove 'label' from params.yaml."
    if labelled:
        return "label<TAB>document, as on line 1", f"no label in {shown}", "Add the label."

    return "a document without a label, as on line 1", f"a tab in {shown}", "Remove the tab, or label all lines."
