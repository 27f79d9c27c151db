"""What a prepared data set must be like, checked by Great Expectations over frames with a row a document."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from duvae.config import SyntheticDataset, SyntheticSource, TextDataset
from duvae.data.store import END, SPECIALS, START, UNKNOWN, Array, Prepared
from duvae.data.text import keys
from duvae.errors import UserError

WHOLE = "splits"
"""The name of the frame with a row a split."""


@dataclass(frozen=True)
class Expectation:
    """One thing that is expected of one frame.

    Attributes:
        name: As errors and pages call it.
        about: The sentence that pages show.
        kind: The class of Great Expectations that checks it.
        arguments: Its column and bounds.
    """

    name: str
    about: str
    kind: str
    arguments: Mapping[str, Any]

    @property
    def column(self) -> str | None:
        return self.arguments.get("column")


@dataclass(frozen=True)
class Outcome:
    """What came of an expectation.

    Attributes:
        split: The frame's name.
        expectation: What was expected.
        success: Whether it is so.
        observed: Its value, or the lowest and highest of its column.
        unexpected: Rows that break it.
        example: One of them in words; None where it has no rows, or none breaks it.
    """

    split: str
    expectation: Expectation
    success: bool
    observed: Any
    unexpected: int
    example: str | None

    @property
    def found(self) -> str:
        """What was observed, in words."""
        if not isinstance(self.observed, list):
            return str(self.observed)
        span = " to ".join(dict.fromkeys(str(value) for value in self.observed))

        return f"{self.expectation.column} {span}" if span else "nothing"


def validate(prepared: Prepared, dataset: SyntheticDataset | TextDataset, docs: Path, name: str) -> list[Outcome]:
    """Checks a prepared data set and writes Data Docs, whatever the outcome.

    Args:
        prepared: The data set.
        dataset: What params.yaml says of it.
        docs: The folder of the pages; replaced.
        name: The data set's name.

    Returns:
        The outcome of each expectation, in order.
    """
    from duvae.data import data_docs  # which knows of outcomes itself

    order = sorted(
        prepared.splits, key=lambda split: (*(split != first for first in ("train", "valid", "test")), split)
    )
    tables = {split: frame(split, prepared) for split in order}
    frames = {WHOLE: overview(prepared, tables), **tables}
    suites = {WHOLE: overview_expectations(dataset)}
    suites |= {split: split_expectations(split, prepared, dataset) for split in order}
    docs.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{docs.name}.", dir=docs.parent) as temporary:
        site = Path(temporary, "site")
        outcomes = _run(frames, suites, site, name)
        data_docs.finish(site, name, outcomes)
        shutil.rmtree(docs, ignore_errors=True)
        site.replace(docs)

    return outcomes


def complain(outcomes: list[Outcome], name: str, docs: Path) -> None:
    """Stops where an expectation was not met.

    Raises:
        UserError: Naming each such expectation, what it expects, what was found and an example row.
    """
    broken = [outcome for outcome in outcomes if not outcome.success]
    if not broken:
        return
    listed = "\n".join(f"  {_sentence(outcome)}" for outcome in broken)
    raise UserError(
        f"data/prepared/{name}: {len(broken)} of {len(outcomes)} expectations are not met:\n{listed}\n"
        f"All of them: {docs / 'index.html'}. Correct the files or the parameters (datasets.{name}), then run"
        f" 'duvae prepare --dataset {name}' and 'duvae validate --dataset {name}' again."
    )


def summary(outcomes: list[Outcome], prepared: Prepared, name: str) -> dict[str, Any]:
    """The outcomes as plain values, the same for the same data."""
    return {
        "dataset": name,
        "documents": {split: len(documents) for split, documents in prepared.splits.items()},
        "expectations": [
            {
                "split": outcome.split,
                "name": outcome.expectation.name,
                "about": outcome.expectation.about,
                "type": outcome.expectation.kind,
                "expected": dict(outcome.expectation.arguments),
                "observed": outcome.observed,
                "success": outcome.success,
            }
            for outcome in outcomes
        ],
    }


def frame(split: str, prepared: Prepared) -> pd.DataFrame:
    """A row a document: its length, first, last, lowest and highest id, marks inside, unknown words, label, words.

    Raises:
        UserError: Where offsets run backwards, so that there are no documents to look at.
    """
    documents = prepared.split(split)
    lengths, tokens = np.asarray(documents.lengths), np.asarray(documents.tokens)
    if np.any(lengths < 0):
        raise UserError(
            f"split '{split}', document {int(np.argmax(lengths < 0))}: expected offsets that rise; they run backwards."
            " Prepare the data set again."
        )
    filled = lengths > 0
    starts = documents.offsets[:-1][filled]

    def each(values: Array, how: np.ufunc) -> Array:
        column = np.zeros(len(lengths), np.int64)
        if len(starts):
            column[filled] = how.reduceat(values, starts)
        return column

    names = np.array([*prepared.vocabulary, "?"], object)
    words = names[np.where((tokens >= 0) & (tokens < len(names)), tokens, -1)]
    ends = np.zeros((2, len(lengths)), np.int64)
    ends[:, filled] = tokens[starts], tokens[documents.offsets[1:][filled] - 1]
    train = set(keys(prepared.splits["train"])) if "train" in prepared.splits else set()

    return pd.DataFrame(
        {
            "document": np.arange(len(lengths)),
            "length": lengths,
            "words": lengths - 2,
            "first": ends[0],
            "last": ends[1],
            "lowest": each(tokens, np.minimum),
            "highest": each(tokens, np.maximum),
            "marks": each(tokens < UNKNOWN, np.add),
            "unknown": each(tokens == UNKNOWN, np.add),
            "label": np.asarray(documents.labels),
            "in_training": np.array([key in train for key in keys(documents)], np.int64),
            "sentence": [" ".join(words[start:end]) for start, end in pairwise(documents.offsets.tolist())],
        }
    )


def overview(prepared: Prepared, frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A row a split: its size, the rate of unknown words and, for test, that of documents shared with training."""
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
    """What is expected of the documents of one split."""
    source, size = dataset.source, len(prepared.vocabulary)
    if isinstance(source, SyntheticSource):
        documents = {"train": source.train, "valid": source.valid, "test": source.test}.get(split)
        shortest = longest = source.length + 2
    else:
        documents = source.sample.size if source.sample is not None and split == "train" else None
        shortest, longest = 3, source.max_words + 2
    about_size = "one document or more" if documents is None else f"{documents} documents, as params.yaml says"

    return [
        _rows("size", about_size, 1 if documents is None else documents, documents),
        _between("no_empty_documents", "a word or more in each document", "words", 1, None),
        _between(
            "lengths_within_bounds",
            f"{shortest} to {longest} ids a document, {SPECIALS[START]} and {SPECIALS[END]} counted",
            "length",
            shortest,
            longest,
        ),
        _within("starts_with_mark", f"the first id is {SPECIALS[START]}", "first", [START]),
        _within("ends_with_mark", f"the last id is {SPECIALS[END]}", "last", [END]),
        _within("marks_only_around", "nothing but words and <unk> between the marks", "marks", [2]),
        _between("lowest_id_within_vocabulary", "no id below the vocabulary's, and no padding", "lowest", START, None),
        _between(
            "highest_id_within_vocabulary", f"no id above {size - 1}, the vocabulary's last", "highest", None, size - 1
        ),
        *_label_expectations(split, prepared, dataset),
    ]


def overview_expectations(dataset: SyntheticDataset | TextDataset) -> list[Expectation]:
    """What is expected of the splits as wholes."""
    unknown, shared = dataset.expect.max_unknown_rate, dataset.expect.max_shared_rate
    source = dataset.source
    words = source.words + len(SPECIALS) if isinstance(source, SyntheticSource) else None

    return [
        _between(
            "vocabulary_size",
            "words beside the specials" if words is None else f"{words} words, specials counted",
            "vocabulary",
            len(SPECIALS) + 1 if words is None else words,
            words,
        ),
        _between(
            "unknown_word_rate",
            f"at most {unknown:.2%} of a split's words are unknown (expect.max_unknown_rate)",
            "unknown_rate",
            0.0,
            unknown,
        ),
        _between(
            "shared_with_training",
            f"at most {shared:.2%} of the test documents also stand in training (expect.max_shared_rate)",
            "test_in_training",
            0.0,
            shared,
        ),
    ]


def _label_expectations(split: str, prepared: Prepared, dataset: SyntheticDataset | TextDataset) -> list[Expectation]:
    labels = np.asarray(prepared.splits[split].labels)
    train = prepared.splits["train"].labels if "train" in prepared.splits else labels
    if isinstance(dataset.source, SyntheticSource):
        classes = len(dataset.source.means)
        known = _within("known_labels", "the label is a component's", "label", list(range(classes)))
        least = classes if split == "train" else 1
        return [known, _classes("label_classes", f"{classes} components; each occurs in training", least, classes)]
    wanted = split in dataset.probe.subsets or (bool(dataset.probe.labels) and split == "train")
    if not wanted and not np.any(labels >= 0):
        return [_within("known_labels", "no document has a label", "label", [-1])]
    if np.any(train >= 0):
        among = [int(label) for label in np.unique(train) if label >= 0]
        known = _within("known_labels", "the label is one of training's", "label", among)
    else:
        known = _between("known_labels", "the label is 0 or more", "label", 0, None)

    return [known, _classes("label_classes", "two labels or more occur", 2, None)]


def _rows(name: str, about: str, least: int, most: int | None) -> Expectation:
    return Expectation(name, about, "ExpectTableRowCountToBeBetween", {"min_value": least, "max_value": most})


def _between(name: str, about: str, column: str, least: float | None, most: float | None) -> Expectation:
    arguments = {"column": column, "min_value": least, "max_value": most}

    return Expectation(name, about, "ExpectColumnValuesToBeBetween", arguments)


def _within(name: str, about: str, column: str, values: list[int]) -> Expectation:
    return Expectation(name, about, "ExpectColumnValuesToBeInSet", {"column": column, "value_set": values})


def _classes(name: str, about: str, least: int, most: int | None) -> Expectation:
    arguments = {"column": "label", "min_value": least, "max_value": most}

    return Expectation(name, about, "ExpectColumnUniqueValueCountToBeBetween", arguments)


def _run(
    frames: Mapping[str, pd.DataFrame], suites: Mapping[str, list[Expectation]], site: Path, name: str
) -> list[Outcome]:
    """Great Expectations over each frame, its pages written below `site`."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    import great_expectations as gx
    from great_expectations.checkpoint.actions import UpdateDataDocsAction
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    context.add_data_docs_site(
        site_name=name,
        site_config={
            "class_name": "SiteBuilder",
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site)},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        },
    )
    data = context.data_sources.add_pandas(name)
    outcomes: list[Outcome] = []
    for split, expectations in suites.items():
        suite = context.suites.add(
            gx.ExpectationSuite(
                name=split,
                expectations=[
                    getattr(gx.expectations, expectation.kind)(
                        **expectation.arguments,
                        description=f"{expectation.name}: {expectation.about}",
                        meta={"order": order},
                    )
                    for order, expectation in enumerate(expectations)
                ],
            )
        )
        batch = data.add_dataframe_asset(split).add_batch_definition_whole_dataframe("all")
        checked = context.validation_definitions.add(gx.ValidationDefinition(name=split, data=batch, suite=suite))
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name=split,
                validation_definitions=[checked],
                result_format={"result_format": "SUMMARY"},
                actions=[UpdateDataDocsAction(name="pages", site_names=[name])],
            )
        )
        run = checkpoint.run(batch_parameters={"dataframe": frames[split]}, run_id=gx.RunIdentifier(run_name=name))
        results = {_order(result): result for each in run.run_results.values() for result in each.results}
        outcomes += [
            _outcome(split, expectation, results[order], frames) for order, expectation in enumerate(expectations)
        ]

    return outcomes


def _order(result: Any) -> int:
    return int(result.expectation_config.meta["order"])


def _outcome(split: str, expectation: Expectation, result: Any, frames: Mapping[str, pd.DataFrame]) -> Outcome:
    if result.exception_info.get("raised_exception"):
        raise RuntimeError(f"{expectation.name} on {split}: {result.exception_info.get('exception_message')}")
    observed, column = result.result.get("observed_value"), expectation.column
    if observed is None and column is not None:
        values = frames[split][column].dropna()
        observed = [_plain(values.min()), _plain(values.max())] if len(values) else []
    unexpected = int(result.result.get("unexpected_count", 0))
    example = _example(split, expectation, frames) if unexpected else None

    return Outcome(split, expectation, bool(result.success), _plain(observed), unexpected, example)


def _example(split: str, expectation: Expectation, frames: Mapping[str, pd.DataFrame]) -> str:
    """A document that breaks an expectation; for a rate, the one that adds most to it."""
    arguments, column = expectation.arguments, str(expectation.column)
    values = frames[split][column]
    if "value_set" in arguments:
        bad = ~values.isin(arguments["value_set"])
    else:
        least, most = arguments["min_value"], arguments["max_value"]
        bad = (values < (-np.inf if least is None else least)) | (values > (np.inf if most is None else most))
    row = int(np.argmax(bad.to_numpy()))
    if split == WHOLE:
        split = str(frames[WHOLE]["split"].iloc[row])
        column = {"unknown_rate": "unknown", "test_in_training": "in_training"}.get(column, "length")
        row = int(frames[split][column].argmax())
    sentence = str(frames[split]["sentence"].iloc[row])
    shown = sentence if len(sentence) <= 200 else f"{sentence[:200]}…"

    return f"{split}, document {row}, {column} {frames[split][column].iloc[row]}: {shown!r}"


def _plain(value: Any) -> Any:
    return round(value.item(), 6) if isinstance(value, np.number) else value


def _sentence(outcome: Outcome) -> str:
    """An unmet expectation in words."""
    expectation, found = outcome.expectation, outcome.found
    if outcome.unexpected and outcome.split != WHOLE:
        found = f"{outcome.unexpected} that break{'s' if outcome.unexpected == 1 else ''} it ({found})"
    example = f". Example: {outcome.example}" if outcome.example else ""

    return f"{expectation.name} ({outcome.split}): expected {expectation.about}; found {found}{example}"
