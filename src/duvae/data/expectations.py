"""Lists the expectations of a prepared text data set, and builds the pandas frames that they check.

An expectation is one check of Great Expectations, such as a bound on the values of a column. A frame has one row per
document of a split, or one row per split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from duvae.config import SyntheticDataset, SyntheticSource, TextDataset
from duvae.data.splits import END, SPECIALS, START, UNKNOWN, Array
from duvae.data.store import Prepared
from duvae.errors import UserError

WHOLE = "splits"
"""Name of the frame with one row per split."""


@dataclass(frozen=True)
class Expectation:
    """One expectation of the values in a frame.

    Attributes:
        name: Name of the expectation in error messages and on the HTML pages of results.
        sentence: Description of the expected values, for error messages and for the HTML pages.
        kind: Name of the class of Great Expectations that checks the values.
        arguments: Arguments of that class, such as the column and its bounds.
        counted_column: For a rate in the frame `WHOLE`: the column of a split's own frame from which the rate is
            computed. None: the checked value is not a rate.
    """

    name: str
    sentence: str
    kind: str
    arguments: Mapping[str, Any]
    counted_column: str | None = None

    @property
    def column(self) -> str | None:
        return self.arguments.get("column")


@dataclass(frozen=True)
class ExpectationResult:
    """The result of one expectation.

    Attributes:
        split: Name of the checked frame: the name of a split, or `WHOLE`.
        expectation: The expectation that was checked.
        success: Whether the expectation is met.
        observed: The value that Great Expectations observed. If it gives no value, a list of the smallest and the
            largest value of the checked column; empty if the column has no values.
        unexpected: Number of rows of the frame that break the expectation.
        example: One row that breaks the expectation, in words; None: no single row breaks the expectation.
        rows: The first rows that break the expectation, by the first column of the frame, such as the index of the
            document; at most as many as Great Expectations lists.
    """

    split: str
    expectation: Expectation
    success: bool
    observed: Any
    unexpected: int
    example: str | None
    rows: Sequence[int | str] = ()

    @property
    def observed_text(self) -> str:
        """The observed value in words."""
        if not isinstance(self.observed, list):
            return str(self.observed)
        span = " to ".join(dict.fromkeys(str(value) for value in self.observed))

        return f"{self.expectation.column} {span}" if span else "nothing"


def frames_and_suites(
    prepared: Prepared, dataset: SyntheticDataset | TextDataset, order: list[str]
) -> tuple[dict[str, pd.DataFrame], dict[str, list[Expectation]]]:
    """Builds the frames of a data set, and lists the expectations of each frame.

    Args:
        prepared: The prepared data set.
        dataset: Parameters of the data set in params.yaml.
        order: Names of the splits, in the order in which the pages of results show them.

    Returns:
        Frames by name, and expectations by the name of the frame that they check.
    """
    tables = {split: frame(split, prepared) for split in order}
    suites = {WHOLE: overview_expectations(dataset)}
    suites |= {split: split_expectations(split, prepared, dataset) for split in order}

    return {WHOLE: overview(prepared, tables), **tables}, suites


def frame(split: str, prepared: Prepared) -> pd.DataFrame:
    """Builds the frame of one split, with one row per document.

    The columns hold these values of each document:

    - its index, its length in word ids, and its number of words;
    - its first, last, lowest and highest word id;
    - its number of marks (`<pad>`, `<s>`, `</s>`) and its number of unknown words;
    - its label and its text;
    - whether the training split has the same document.

    Raises:
        UserError: If the offsets, the positions at which documents begin, are not in ascending order. Such a split
            cannot be divided into documents.
    """
    documents = prepared.documents(split)
    lengths, tokens = np.asarray(documents.lengths), np.asarray(documents.tokens)
    if np.any(lengths < 0):
        raise UserError(
            f"split '{split}', document {int(np.argmax(lengths < 0))}: expected offsets that rise; they run backwards."
            " Prepare the data set again."
        )
    filled = lengths > 0
    starts = documents.offsets[:-1][filled]

    def reduced(values: Array, operation: np.ufunc) -> Array:
        column = np.zeros(len(lengths), np.int64)
        if len(starts):
            column[filled] = operation.reduceat(values, starts)
        return column

    names = np.array([*prepared.vocabulary, "?"], object)
    words = names[np.where((tokens >= 0) & (tokens < len(names)), tokens, -1)]
    ends = np.zeros((2, len(lengths)), np.int64)
    ends[:, filled] = tokens[starts], tokens[documents.offsets[1:][filled] - 1]
    train = set(prepared.splits["train"].contents()) if "train" in prepared.splits else set()

    return pd.DataFrame(
        {
            "document": np.arange(len(lengths)),
            "length": lengths,
            "words": lengths - 2,
            "first": ends[0],
            "last": ends[1],
            "lowest": reduced(tokens, np.minimum),
            "highest": reduced(tokens, np.maximum),
            "marks": reduced(tokens < UNKNOWN, np.add),
            "unknown": reduced(tokens == UNKNOWN, np.add),
            "label": np.asarray(documents.labels),
            "in_training": np.array([key in train for key in documents.contents()], np.int64),
            "shown": [" ".join(words[start:end]) for start, end in pairwise(documents.offsets.tolist())],
        }
    )


def overview(prepared: Prepared, frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Builds the frame with one row per split.

    The columns hold the number of documents, the size of the vocabulary and the rate of unknown words. The row of the
    split `test` also has the share of test documents that occur in the training split.
    """
    return pd.DataFrame(
        {
            "split": list(frames),
            "documents": [len(table) for table in frames.values()],
            "vocabulary": len(prepared.vocabulary),
            "unknown_rate": [table["unknown"].sum() / max(1, table["words"].sum()) for table in frames.values()],
            "test_in_training": [
                table["in_training"].mean() if split == "test" and len(table) else None
                for split, table in frames.items()
            ],
        }
    )


def split_expectations(split: str, prepared: Prepared, dataset: SyntheticDataset | TextDataset) -> list[Expectation]:
    """Lists the expectations of the documents of one split."""
    source, size = dataset.source, len(prepared.vocabulary)
    if isinstance(source, SyntheticSource):
        documents = {"train": source.training, "valid": source.valid, "test": source.test}.get(split)
        shortest = longest = source.length + 2
    else:
        sampled = {"train": source.sample.size, "valid": source.sample.valid} if source.sample is not None else {}
        documents = dataset.expect.documents.get(split, sampled.get(split))
        shortest, longest = 3, source.max_words + 2
    size_sentence, least = f"{documents} documents, as params.yaml says", documents
    if documents is None:
        least = max([1, *dataset.probe.labels]) if split == "train" else 1
        size_sentence = (
            "one document or more" if least == 1 else f"{least} documents or more, as the probe wants to draw"
        )

    return [
        rows("size", size_sentence, least or 1, documents),
        between("no_empty_documents", "a word or more in each document", "words", 1, None),
        between(
            "lengths_within_bounds",
            f"{shortest} to {longest} ids a document, {SPECIALS[START]} and {SPECIALS[END]} counted",
            "length",
            shortest,
            longest,
        ),
        within("starts_with_mark", f"the first id is {SPECIALS[START]}", "first", [START]),
        within("ends_with_mark", f"the last id is {SPECIALS[END]}", "last", [END]),
        within("marks_only_around", "nothing but words and <unk> between the marks", "marks", [2]),
        between("lowest_id_within_vocabulary", "no id below the vocabulary's, and no padding", "lowest", START, None),
        between(
            "highest_id_within_vocabulary", f"no id above {size - 1}, the vocabulary's last", "highest", None, size - 1
        ),
        *_label_expectations(split, prepared, dataset),
    ]


def overview_expectations(dataset: SyntheticDataset | TextDataset) -> list[Expectation]:
    """Lists the expectations of the frame with one row per split."""
    unknown, shared = dataset.expect.max_unknown_rate, dataset.expect.max_shared_rate
    source = dataset.source
    words = source.words + len(SPECIALS) if isinstance(source, SyntheticSource) else None

    return [
        between(
            "vocabulary_size",
            "words beside the specials" if words is None else f"{words} words, specials counted",
            "vocabulary",
            len(SPECIALS) + 1 if words is None else words,
            words,
        ),
        between(
            "unknown_word_rate",
            f"at most {unknown:.2%} of a split's words are unknown (expect.max_unknown_rate)",
            "unknown_rate",
            0.0,
            unknown,
            "unknown",
        ),
        between(
            "shared_with_training",
            f"at most {shared:.2%} of the test documents also stand in training (expect.max_shared_rate)",
            "test_in_training",
            0.0,
            shared,
            "in_training",
        ),
    ]


def _label_expectations(split: str, prepared: Prepared, dataset: SyntheticDataset | TextDataset) -> list[Expectation]:
    labels = np.asarray(prepared.splits[split].labels)
    train = prepared.splits["train"].labels if "train" in prepared.splits else labels
    if isinstance(dataset.source, SyntheticSource):
        components = len(dataset.source.means)
        known = within("known_labels", "the label is a component's", "label", list(range(components)))
        least = components if split == "train" else 1
        return [
            known,
            classes("label_classes", f"{components} components; each occurs in training", "label", least, components),
        ]
    probe = dataset.probe
    is_labelled = (
        split in probe.subsets or (split == "train" and bool(probe.labels)) or (split == "test" and probe.enabled)
    )
    if not is_labelled and not np.any(labels >= 0):
        return [within("known_labels", "no document has a label", "label", [-1])]
    if np.any(train >= 0):
        among = [int(label) for label in np.unique(train) if label >= 0]
        known = within("known_labels", "the label is one of training's", "label", among)
    else:
        known = between("known_labels", "the label is 0 or more", "label", 0, None)

    if not is_labelled:
        return [known]

    return [known, classes("label_classes", "two labels or more occur", "label", 2, None)]


def rows(name: str, sentence: str, least: int, most: int | None) -> Expectation:
    """Expects that the number of rows is from `least` to `most`. If `most` is None, there is no upper bound."""
    return Expectation(name, sentence, "ExpectTableRowCountToBeBetween", {"min_value": least, "max_value": most})


def between(
    name: str,
    sentence: str,
    column: str,
    least: int | float | None,
    most: int | float | None,
    counted_column: str | None = None,
) -> Expectation:
    """Expects that all values of a column are from `least` to `most`. A bound of None does not limit the values.

    If the values are rates, `counted_column` names the column from which they are computed (see `Expectation`). None:
    the values are not rates.
    """
    arguments = {"column": column, "min_value": least, "max_value": most}

    return Expectation(name, sentence, "ExpectColumnValuesToBeBetween", arguments, counted_column)


def within(name: str, sentence: str, column: str, values: list[int]) -> Expectation:
    """Expects that all values of a column are among `values`."""
    return Expectation(name, sentence, "ExpectColumnValuesToBeInSet", {"column": column, "value_set": values})


def classes(name: str, sentence: str, column: str, least: int, most: int | None) -> Expectation:
    """Expects that the number of distinct values of a column is from `least` to `most`.

    If `most` is None, there is no upper bound.
    """
    arguments = {"column": column, "min_value": least, "max_value": most}

    return Expectation(name, sentence, "ExpectColumnUniqueValueCountToBeBetween", arguments)
