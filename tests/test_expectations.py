import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duvae.commands import validate
from duvae.config import Params
from duvae.data import expectations, store
from duvae.data.splits import Documents
from duvae.data.store import Prepared
from duvae.errors import UserError

WORDS = ["good", "food", "bad", "soup", "fine", "place"]
VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", *WORDS]


def changed(params: Params, name: str, **parts: Any) -> Params:
    """The parameters with parts of one data set's `source`, `expect` or `probe` replaced."""
    dataset = params.datasets[name]
    update = {part: getattr(dataset, part).model_copy(update=values) for part, values in parts.items()}

    return params.model_copy(update={"datasets": {**params.datasets, name: dataset.model_copy(update=update)}})


@pytest.fixture
def text_params(tiny: Params) -> Params:
    return changed(
        tiny,
        "short_yelp",
        source={"max_words": 4},
        expect={"max_unknown_rate": 0.1, "max_shared_rate": 0.1},
    )


def split(seed: int, size: int = 40) -> Documents:
    generator = np.random.default_rng(seed)
    documents = [[1, *generator.integers(4, 10, 1 + i % 4).tolist(), 2] for i in range(size)]

    return Documents.of(documents, [i % 2 for i in range(size)])


def apart(documents: Documents, others: Documents) -> Documents:
    """The documents that do not occur among the others."""
    there = {others[i].tobytes() for i in range(len(others))}
    kept = [i for i in range(len(documents)) if documents[i].tobytes() not in there]

    return Documents.of([documents[i] for i in kept], documents.labels[kept])


def good() -> Prepared:
    train = split(1, 60)
    held_out = {name: apart(split(seed), train) for name, seed in (("valid", 2), ("test", 3))}

    return Prepared(VOCABULARY, {"train": train, **held_out, "labelled_100": split(4, 20)}, {"kind": "text"})


def with_token(prepared: Prepared, name: str, index: int, place: int, token: int) -> Prepared:
    documents = prepared.split(name)
    tokens = np.array(documents.tokens)
    tokens[documents.offsets[index if place >= 0 else index + 1] + place] = token

    return replace(prepared, splits={**prepared.splits, name: replace(documents, tokens=tokens)})


def run(params: Params, prepared: Prepared, root: Path, name: str = "short_yelp") -> dict[str, Any]:
    store.write(root / "data" / "prepared" / name, prepared)

    return validate.run(params, name, root)


def test_good_data_passes_and_says_the_same_each_time(text_params: Params, tmp_path: Path) -> None:
    said = run(text_params, good(), tmp_path)
    written = tmp_path / "data" / "validated" / "short_yelp.json"
    first = written.read_bytes()

    assert json.loads(first) == said
    assert said["documents"]["train"] == 60
    assert all(expectation["success"] for expectation in said["expectations"])
    names = {(expectation["split"], expectation["name"]) for expectation in said["expectations"]}
    assert {("splits", "shared_with_training"), ("train", "no_empty_documents"), ("test", "known_labels")} <= names

    validate.run(text_params, "short_yelp", tmp_path)
    assert written.read_bytes() == first


class _Page(HTMLParser):
    def __init__(self, content: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.words = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        elif tag in ("script", "img", "link"):
            self.loads.append(str(values.get("src") or values.get("href")))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_data_docs_hold_the_results_and_need_nothing_from_elsewhere(text_params: Params, tmp_path: Path) -> None:
    said = run(text_params, good(), tmp_path)
    docs = tmp_path / "reports" / "data_docs" / "short_yelp"
    start = _Page((docs / "index.html").read_text(encoding="utf-8"))

    assert f"{len(said['expectations'])} of {len(said['expectations'])} expectations are met" in start.words
    assert len(start.links) == 5
    for link in start.links:
        page = _Page((docs / link).read_text(encoding="utf-8"))
        assert "met" in (docs / link).read_text(encoding="utf-8")
        assert "Successful Expectations" in page.words
        assert page.loads == []
        for other in page.links:
            assert other.startswith("#") or ((docs / link).parent / other).resolve().is_file()
    train = _Page((docs / next(link for link in start.links if "/train/" in link)).read_text(encoding="utf-8"))
    assert "no_empty_documents: a word or more in each document" in train.words
    for page in docs.rglob("*.html"):
        assert not re.search(r"https?://", page.read_text(encoding="utf-8"))
    assert [path.name for path in docs.parent.iterdir()] == ["short_yelp"]


def test_data_docs_of_the_same_data_are_the_same_files(text_params: Params, tmp_path: Path) -> None:
    """The files are equal whenever they are written, because DVC compares their hashes."""
    found = []
    for place in (tmp_path / "one", tmp_path / "two"):
        run(text_params, good(), place)
        pages = place / "reports" / "data_docs"
        found.append({str(path.relative_to(pages)): path.read_bytes() for path in pages.rglob("*") if path.is_file()})
        time.sleep(1.1)  # Great Expectations writes times in whole seconds

    assert len(found[0]) > 5
    assert found[0] == found[1]


def _empty_document(prepared: Prepared) -> Prepared:
    train = prepared.split("train")
    documents = [train[i] for i in range(len(train))]
    documents[7] = np.array([1, 2])

    return replace(prepared, splits={**prepared.splits, "train": Documents.of(documents, train.labels)})


def _shared(prepared: Prepared) -> Prepared:
    train, test = prepared.split("train"), prepared.split("test")
    documents = [train[i] for i in range(12)] + [test[i] for i in range(len(test))]
    labels = np.concatenate([train.labels[:12], test.labels])

    return replace(prepared, splits={**prepared.splits, "test": Documents.of(documents, labels)})


def _labels(prepared: Prepared, name: str, index: int | slice, label: int) -> Prepared:
    labels = np.array(prepared.split(name).labels)
    labels[index] = label

    return replace(prepared, splits={**prepared.splits, name: replace(prepared.split(name), labels=labels)})


def _unknown(prepared: Prepared) -> Prepared:
    tokens = np.array(prepared.split("valid").tokens)
    tokens[np.flatnonzero(tokens > 3)[::5]] = 3

    return replace(prepared, splits={**prepared.splits, "valid": replace(prepared.split("valid"), tokens=tokens)})


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (_empty_document, r"no_empty_documents \(train\): .*1 that breaks this rule.*document 7, words 0: '<s> </s>'"),
        (
            lambda p: with_token(p, "test", 3, 1, 10),
            r"highest_id_within_vocabulary \(test\): .* found 1 that .*document 3, highest 10: '<s> \?",
        ),
        (lambda p: with_token(p, "train", 5, 1, 0), r"lowest_id_within_vocabulary \(train\): .*document 5, lowest 0"),
        (lambda p: with_token(p, "train", 5, 1, -3), r"lowest_id_within_vocabulary \(train\): .*document 5, lowest -3"),
        (lambda p: with_token(p, "valid", 2, 0, 5), r"starts_with_mark \(valid\): .*document 2, first 5: 'food "),
        (lambda p: with_token(p, "valid", 0, -1, 5), r"ends_with_mark \(valid\): .*document 0, last 5"),
        (lambda p: with_token(p, "valid", 3, 1, 2), r"marks_only_around \(valid\): .*document 3, marks 3: '<s> </s>"),
        (lambda p: _labels(p, "test", 4, 2), r"known_labels \(test\): .*one of training's.*document 4, label 2"),
        (lambda p: _labels(p, "train", 4, -1), r"known_labels \(train\): .*document 4, label -1"),
        (lambda p: _labels(p, "test", slice(None), 1), r"label_classes \(test\): expected two labels or more"),
        (lambda p: _labels(p, "labelled_100", slice(None), -1), r"known_labels \(labelled_100\)"),
        (
            _unknown,
            r"unknown_word_rate \(splits\): expected at most 10.00%.*Example: valid, document \d+, unknown [1-9]",
        ),
        (
            _shared,
            r"shared_with_training \(splits\): expected at most 10.00% .*Example: test, document \d+, in_training 1",
        ),
    ],
    ids=lambda value: value.split(" ")[0].strip("\\") if isinstance(value, str) else "",
)
def test_broken_data_stops_the_pipeline(breaks: Any, said: str, text_params: Params, tmp_path: Path) -> None:
    stale = tmp_path / "data" / "validated" / "short_yelp.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")

    with pytest.raises(UserError, match=said) as error:
        run(text_params, breaks(good()), tmp_path)

    assert str(error.value).startswith("data/prepared/short_yelp: ")
    assert not stale.exists()
    docs = tmp_path / "reports" / "data_docs" / "short_yelp" / "index.html"
    assert str(docs) in str(error.value)
    assert "not met" in docs.read_text(encoding="utf-8")


def test_the_pages_name_the_rows_that_break_an_expectation(text_params: Params, tmp_path: Path) -> None:
    prepared = good()
    for index in (3, 7):
        prepared = with_token(prepared, "valid", index, 0, 5)
    with pytest.raises(UserError):
        run(text_params, prepared, tmp_path)
    docs = (tmp_path / "reports/data_docs/short_yelp/index.html").read_text(encoding="utf-8")
    assert re.search(r"starts_with_mark.*<td class='number'>3, 7 \(2 in all\)</tr>", docs)

    with pytest.raises(UserError):
        run(text_params, _labels(good(), "labelled_100", slice(None), 5), tmp_path)
    docs = (tmp_path / "reports/data_docs/short_yelp/index.html").read_text(encoding="utf-8")
    assert re.search(r"known_labels.*>0, 1, 2, .*, 19 \(20 in all\)</tr>", docs)


def test_documents_that_are_too_long(text_params: Params, tmp_path: Path) -> None:
    params = changed(text_params, "short_yelp", source={"max_words": 3})

    with pytest.raises(
        UserError, match=r"lengths_within_bounds \(train\): expected 3 to 5 ids .*found 15 that break this rule"
    ):
        run(params, good(), tmp_path)


def test_offsets_that_run_backwards(text_params: Params, tmp_path: Path) -> None:
    prepared = good()
    offsets = np.array(prepared.split("train").offsets)
    offsets[3] = offsets[5]
    broken = replace(prepared.split("train"), offsets=offsets)

    with pytest.raises(UserError, match="split 'train', document 3: expected offsets that rise"):
        run(text_params, replace(prepared, splits={**prepared.splits, "train": broken}), tmp_path)


def test_an_empty_split(text_params: Params, tmp_path: Path) -> None:
    prepared = good()
    none = Documents.of([], [])

    with pytest.raises(UserError, match=r"size \(valid\): expected one document or more; found 0"):
        run(text_params, replace(prepared, splits={**prepared.splits, "valid": none}), tmp_path)


def test_documents_without_labels_are_fine_where_none_are_wanted(text_params: Params, tmp_path: Path) -> None:
    params = changed(text_params, "short_yelp", probe={"subsets": []})
    prepared = good()
    for name in prepared.splits:
        prepared = _labels(prepared, name, slice(None), -1)

    said = run(params, prepared, tmp_path)
    assert {"no document has a label"} == {e["about"] for e in said["expectations"] if e["name"] == "known_labels"}


def _synthetic(tiny: Params) -> tuple[Params, Prepared]:
    source = tiny.datasets["synthetic"].source
    params = changed(tiny, "synthetic", source={"train": 20, "valid": 10, "test": 10, "words": len(WORDS), "length": 3})
    generator = np.random.default_rng(1)
    splits = {
        name: Documents.of(
            [[1, *generator.integers(4, 10, 3).tolist(), 2] for _ in range(size)],
            [i % len(source.means) for i in range(size)],
        )
        for name, size in (("train", 20), ("valid", 10), ("test", 10))
    }

    return params, Prepared(VOCABULARY, splits, {"kind": "synthetic"})


def test_synthetic_data(tiny: Params, tmp_path: Path) -> None:
    params, prepared = _synthetic(tiny)
    params = changed(params, "synthetic", probe={"labels": [10]})
    said = run(params, prepared, tmp_path, "synthetic")

    sizes = {e["split"]: e["expected"] for e in said["expectations"] if e["name"] == "size"}
    assert sizes["train"] == {"min_value": 20, "max_value": 20}
    for broken, words in [
        (_labels(prepared, "test", 2, 5), r"known_labels \(test\)"),
        (_labels(prepared, "train", slice(None), 1), r"label_classes \(train\): expected 5 components"),
        (replace(prepared, vocabulary=[*VOCABULARY, "more"]), r"vocabulary_size \(splits\): expected 10 words"),
    ]:
        with pytest.raises(UserError, match=words):
            run(params, broken, tmp_path, "synthetic")
    other = changed(params, "synthetic", source={"length": 4, "train": 21})
    with pytest.raises(UserError) as error:
        run(other, prepared, tmp_path, "synthetic")
    assert "size (train): expected 21 documents" in str(error.value)
    assert "lengths_within_bounds (valid): expected 6 to 6 ids" in str(error.value)


def test_results_in_words() -> None:
    expectation = expectations.Expectation("size", "about", "kind", {"column": "length"})
    result = expectations.ExpectationResult("train", expectation, False, [3, 3], 1, None)

    assert result.observed_text == "length 3"
    assert replace(result, observed=[]).observed_text == "nothing"
    assert replace(result, observed=7).observed_text == "7"
