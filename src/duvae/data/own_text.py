"""Looks at a file of texts of the user: a text file, a table or JSON lines, with or without labels."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from duvae.data.corpus import Corpus, file_lines, shortened
from duvae.errors import UserError
from duvae.messages import unknown

TABLES = {".csv": ",", ".tsv": "\t"}
"""File name extensions of tables, with the sign between two columns."""
JSON_LINES = (".jsonl", ".ndjson")
"""File name extensions of files with one JSON object per line."""

LABEL_NAMES = ("label", "labels", "class", "category", "sentiment", "stars", "rating", "target", "topic", "y")
"""Names of columns that hold labels, if the user names no column."""
MOST_CLASSES = 100
"""Largest number of different values of a column that counts as a column of labels."""

SEED = 1
"""Seed of the split on which the share of unknown words is estimated."""
HELD_OUT = 0.2
"""Share of the documents that the estimate of unknown words holds out, as the default splits do together."""


@dataclass(frozen=True)
class Texts:
    """Documents of the user, with their labels as written in the file.

    Attributes:
        documents: Words of each document, joined by single spaces.
        labels: Label of each document; None: the documents have no labels.
        columns: Columns of the text and of the label, if the file is a table; empty: the file is none.
        left_out: Number of rows without a word, which are left out.
        is_plain: Whether `duvae prepare` reads the file in the same way, so that no other file is needed.
    """

    documents: list[str]
    labels: list[str] | None
    columns: tuple[str, ...] = ()
    left_out: int = 0
    is_plain: bool = False

    @property
    def classes(self) -> list[str]:
        """The different labels: numbers in the order of their size, other labels in alphabetical order."""
        names = set(self.labels or ())
        numbers = all(name.isascii() and name.isdecimal() and len(name) < 7 for name in names)

        return sorted(names, key=int) if numbers else sorted(names)

    def lines(self) -> str:
        """The content of a file that `duvae prepare` reads: `label<TAB>document`, or a document, on each line."""
        if self.labels is None:
            return "".join(f"{document}\n" for document in self.documents)
        number = {name: index for index, name in enumerate(self.classes)}

        return "".join(
            f"{number[label]}\t{document}\n" for label, document in zip(self.labels, self.documents, strict=True)
        )


def read_texts(path: Path, text: str | None = None, label: str | None = None) -> Texts:
    """Reads a file of texts.

    Args:
        path: A table (`.csv` or `.tsv`, with a row of names), a file with one JSON object per line (`.jsonl` or
            `.ndjson`), or else a text file with `document` or `label<TAB>document` on each line. In UTF-8.
        text: Column of the texts; None: the column with the longest texts.
        label: Column of the labels; "none": no labels; None: a column whose name says so (see `LABEL_NAMES`).

    Raises:
        UserError: If the file cannot be read, has no texts, or lacks a column.
    """
    ending = path.suffix.lower()
    if ending in TABLES or ending in JSON_LINES:
        table = _table(path, TABLES[ending]) if ending in TABLES else _json_lines(path)
        return _from_table(path, table, text, label)
    if text is not None or label not in {None, "none"}:
        raise UserError(
            f"{path}: expected a table or JSON lines ({', '.join([*TABLES, *JSON_LINES])}), since a column is given;"
            " found a text file. Leave out --text and --label."
        )

    return _from_lines(path, file_lines(path))


def _from_lines(path: Path, rows: Sequence[str]) -> Texts:
    """Reads the lines of a text file. A line may begin with a label, which is a number or a word, and a tab."""
    labelled = "\t" in rows[0]
    parts = [row.partition("\t") for row in rows]
    for number, (prefix, tab, _) in enumerate(parts, 1):
        if bool(tab) != labelled or (labelled and not prefix.strip()):
            expected = "label<TAB>document" if labelled else "a document without a tab"
            raise UserError(
                f"{path}, line {number}: expected {expected}, as on line 1; found {shortened(rows[number - 1])}."
                " Correct the line."
            )
    documents = [rest if labelled else prefix for prefix, _, rest in parts]
    labels = [prefix.strip() for prefix, _, _ in parts] if labelled else None
    texts = _with_words(path, documents, labels)
    plain = not texts.left_out and (labels is None or all(name.isascii() and name.isdecimal() for name in set(labels)))

    return replace(texts, is_plain=plain and texts.classes == [str(number) for number in range(len(texts.classes))])


def _table(path: Path, separator: str) -> pd.DataFrame:
    """Reads a table in which every value is a text."""
    file_lines(path)  # finds files that are missing, empty or not UTF-8, with the messages of all other text files
    try:
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, ValueError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{path}: expected a table with a row of names, and as many values on each row ({why}). Correct the file."
        ) from error


def _json_lines(path: Path) -> pd.DataFrame:
    """Reads a file with one JSON object per line. Numbers and truth values become texts."""
    rows = []
    for number, line in enumerate(file_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: expected a JSON object ({error}). Correct the line.") from error
        if not isinstance(row, dict):
            raise UserError(
                f"{path}, line {number}: expected a JSON object; found {shortened(line)}. Correct the line."
            )
        rows.append({key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()})
    names = list(dict.fromkeys(name for row in rows for name in row))

    return pd.DataFrame([[row.get(name, "") for name in names] for row in rows], columns=names, dtype=object)


def _from_table(path: Path, table: pd.DataFrame, text: str | None, label: str | None) -> Texts:
    """Takes the texts and the labels from a table of texts."""
    names = [str(name) for name in table.columns]
    table.columns = pd.Index(names)
    for option, name in (("--text", text), ("--label", label)):
        if name is not None and name not in names and not (option == "--label" and name == "none"):
            raise UserError(f"{path}: {option}: {unknown('column', name, names)}. Choose one of them.")
    if not len(table) or not names:
        raise UserError(f"{path}: expected at least one row with a text; found none. Fill the file.")
    if text is None:
        candidates = [name for name in names if name != label]
        text = max(candidates, key=lambda name: int(table[name].str.len().sum()), default=names[0])
    if label is None:
        named = [name for name in names if name.lower() in LABEL_NAMES and name != text]
        label = next((name for name in named if 2 <= table[name].nunique() <= MOST_CLASSES), "none")
    if label == text:
        raise UserError(f"{path}: expected different columns for --text and --label; found '{text}' for both.")
    labels = None if label == "none" else [" ".join(value.split()) for value in table[label]]
    if labels is not None and not all(labels):
        row = labels.index("") + 1
        raise UserError(
            f"{path}, row {row} after the names: expected a label in '{label}'; found none. Correct the row."
        )
    texts = _with_words(path, list(table[text]), labels)

    return replace(texts, columns=(text,) if labels is None else (text, label))


def _with_words(path: Path, documents: Sequence[str], labels: Sequence[str] | None) -> Texts:
    """Joins the words of each document by single spaces, and leaves out documents without a word."""
    joined = [" ".join(document.split()) for document in documents]
    kept = [index for index, document in enumerate(joined) if document]
    if not kept:
        raise UserError(f"{path}: expected at least one text with a word; found none. Fill the file.")
    chosen = None if labels is None else [labels[index] for index in kept]

    return Texts([joined[index] for index in kept], chosen, (), len(joined) - len(kept))


def converted(texts: Texts, tokenise: bool, lower_case: bool) -> Texts:
    """Separates punctuation from words, and writes words in lower case.

    The tokeniser is `TweetTokenizer` of the library NLTK, whose rules do not need the bounds of sentences.

    Args:
        texts: Documents of the user.
        tokenise: Whether to separate punctuation from words.
        lower_case: Whether to write all words in lower case.
    """
    documents = texts.documents
    if tokenise:
        from nltk.tokenize import TweetTokenizer  # imported here, since the import takes a second

        split = TweetTokenizer().tokenize
        documents = [" ".join(" ".join(split(document)).split()) for document in documents]
    if lower_case:
        documents = [document.lower() for document in documents]

    return replace(texts, documents=documents, is_plain=texts.is_plain and not (tokenise or lower_case))


def unknown_share(documents: Sequence[str], most: int, at_least: int) -> float:
    """Estimates the share of words in new documents that a vocabulary lacks.

    The vocabulary has the most frequent words of a random part of the documents; the others are the new documents.

    Args:
        documents: Words of each document, joined by single spaces.
        most: Largest number of words of the vocabulary.
        at_least: Smallest number of occurrences of a word of the vocabulary.

    Returns:
        The share, between 0 and 1; 0 if there are fewer than two documents.
    """
    order = np.random.default_rng(SEED).permutation(len(documents))
    cut = max(1, round(HELD_OUT * len(documents))) if len(documents) > 1 else 0
    counts = Counter(word for index in order[cut:] for word in documents[index].split(" "))
    words = {word for word, count in counts.most_common(most) if count >= at_least}
    new = [word for index in order[:cut] for word in documents[index].split(" ")]

    return sum(word not in words for word in new) / len(new) if new else 0.0


def as_corpus(texts: Texts, path: Path) -> Corpus:
    """The documents as a corpus without labels, in the order of the file."""
    count = len(texts.documents)

    return Corpus(texts.documents, [-1] * count, [(path, number) for number in range(1, count + 1)])
