import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duvae.commands import fetch, prepare, validate
from duvae.config import BuiltVocabulary, Sample, TextFile, TextSource, TextSplit, load, parse
from duvae.data import corpus, text
from duvae.data.splits import END, START, UNKNOWN, Documents
from duvae.data.store import read, write
from duvae.errors import UserError
from duvae.metrics.likelihood import importance_weighted_nll, perplexity
from family import CPU, build
from tiny import small

ROOT = Path(__file__).parents[1]
VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", "the", "food", "is", "good", "bad", "."]


def source(**changed: Any) -> TextSource:
    files: dict[str, Any] = {split: [TextFile(path=f"{split}.txt")] for split in ("train", "valid", "test")}
    return TextSource(**{**files, "vocabulary": "vocab.txt", "max_words": 5, **changed})


def lay(folder: Path, **files: str) -> Path:
    contents = {
        "train": "1\tthe food is good .\n0\tthe food is bad .\n0\tthe soup\n",
        "valid": "1\tgood food\n0\tbad food\n",
        "test": "1\tthe food is good .\n0\tbad\n",
        "vocab": "\n".join(VOCABULARY) + "\n",
        **files,
    }
    for name, content in contents.items():
        (folder / f"{name}.txt").write_bytes(content.encode())
    return folder


def prepared_words(documents: Documents) -> list[list[str]]:
    return [[VOCABULARY[token] for token in documents[i]] for i in range(len(documents))]


def test_words_become_ids(tmp_path: Path) -> None:
    prepared = text.prepared_text(source(), lay(tmp_path))

    assert prepared.vocabulary == VOCABULARY
    assert prepared_words(prepared.split("train")) == [
        ["<s>", "the", "food", "is", "good", ".", "</s>"],
        ["<s>", "the", "food", "is", "bad", ".", "</s>"],
        ["<s>", "the", "<unk>", "</s>"],
    ]
    assert prepared.split("train").labels.tolist() == [1, 0, 0]
    assert prepared.summary["sample"] is None
    assert prepared.summary["splits"]["train"] == {
        "documents": 3,
        "distinct": 3,
        "words": 12,
        "words_min": 2,
        "words_mean": 4.0,
        "words_max": 5,
        "unknown": 1,
        "unknown_rate": 0.083333,
        "labels": {"0": 2, "1": 1},
    }
    assert prepared.summary["shared"]["train"]["test"] == {"documents": 1, "distinct": 1}
    assert prepared.summary["shared"]["test"]["train"] == {"documents": 1, "distinct": 1}
    assert prepared.summary["shared"]["train"]["valid"] == {"documents": 0, "distinct": 0}
    assert set(prepared.summary["files"]) == {"train.txt", "valid.txt", "test.txt", "vocab.txt"}


def test_a_document_shared_with_two_splits_counts_once(tmp_path: Path) -> None:
    lay(tmp_path, valid="bad\ngood food\n", test="bad\n", few="bad\nbad\ngood food\nthe\n", train="the\n")
    shared = text.prepared_text(source(subsets={"few": [TextFile(path="few.txt")]}), tmp_path).summary["shared"]["few"]

    assert shared["valid"] == {"documents": 3, "distinct": 2}
    assert shared["test"] == {"documents": 2, "distinct": 1}
    assert shared["valid or test"] == {"documents": 3, "distinct": 2}


def test_labels_of_whole_files_and_of_none(tmp_path: Path) -> None:
    lay(tmp_path, neg="bad food\n", pos="good food\ngood\n", test="bad\n")
    files = [TextFile(path="neg.txt", label=0), TextFile(path="pos.txt", label=4)]
    prepared = text.prepared_text(source(train=files), tmp_path)

    assert prepared.split("train").labels.tolist() == [0, 4, 4]
    assert prepared.split("test").labels.tolist() == [-1]
    assert prepared.summary["splits"]["test"]["labels"] == {}


def test_white_space_and_other_line_ends(tmp_path: Path) -> None:
    content = "\ufeff1\t  the   food\tis good \r\n0\tbad\x85food\u2028good"
    (tmp_path / "x.txt").write_bytes(content.encode())

    assert corpus.read_documents(tmp_path / "x.txt").documents == ["the food is good", "bad food good"]


def test_unknown_spellings(tmp_path: Path) -> None:
    rows = ["<pad>\t0", "<bos>\t1", "<eos>\t2", "_UNK\t3", "the\t4", "food\t5"]
    lay(tmp_path, vocab="\n".join(rows), train="the _UNK <unk> soup\n", valid="the\n", test="food\n")
    prepared = text.prepared_text(source(), tmp_path)

    assert prepared.vocabulary == ["<pad>", "<s>", "</s>", "<unk>", "the", "food"]
    assert prepared.split("train")[0].tolist() == [START, 4, UNKNOWN, UNKNOWN, UNKNOWN, END]
    assert prepared.summary["splits"]["train"]["unknown"] == 3


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train": ""}, r"train.txt: expected at least one line; the file is empty"),
        (
            {"train": "1\tgood\n" * 16 + "good\n"},
            r"train.txt, line 17: expected label<TAB>document.*no label in 'good'",
        ),
        ({"train": "1\tgood\nyes\tgood\n"}, r"train.txt, line 2: expected a label that is a whole number.*'yes'"),
        ({"train": "1\tgood\n-1\tgood\n"}, r"train.txt, line 2: .*'-1'"),
        ({"train": "1\tgood\n1.0\tgood\n"}, r"train.txt, line 2: .*'1.0'"),
        ({"train": "good\n1\tgood\n"}, r"train.txt, line 2: expected a document without a label"),
        ({"train": "1\tgood\n1\t \n"}, r"train.txt, line 2: expected a document; found an empty line"),
        ({"train": "good\n\nbad\n"}, r"train.txt, line 2: expected a document; found an empty line"),
        (
            {"valid": "1\tgood good good good good good\n"},
            r"valid.txt, line 1: expected at most 5 words.*found 6\..*max_words",
        ),
        ({"test": "1\tgood\n1\tgood </s> bad\n"}, r"test.txt, line 2: .*<pad>, <s>, </s>.*'good </s> bad'"),
        ({"vocab": "the\nfood\n"}, r"vocab.txt, line 1: expected <pad> .*found 'the'"),
        ({"vocab": "<pad>\n<s>\n</s>\n<unk>\n"}, r"vocab.txt: expected words after the special words"),
        ({"vocab": "<pad>\n<s>\n</s>\n<unk>\nthe\nfood\nthe\n"}, r"vocab.txt, line 7: .*'the', which is on line 5"),
        ({"vocab": "<pad>\n<s>\n</s>\n<unk>\nthe\n_UNK\n"}, r"vocab.txt, line 6: .*'_UNK', which is on line 4"),
        ({"vocab": "<pad>\n<s>\n</s>\n<unk>\nthe food\n"}, r"vocab.txt, line 5: expected one word"),
        ({"vocab": "<pad>\n<s>\n</s>\n<unk>\nthe\t812\n"}, r"vocab.txt, line 5: expected the id 4.*'812'"),
    ],
)
def test_mistakes_in_files(files: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        text.prepared_text(source(), lay(tmp_path, **files))


def test_a_tab_in_a_file_with_a_label_of_its_own(tmp_path: Path) -> None:
    lay(tmp_path, train="good\n1\tgood\n")

    with pytest.raises(UserError, match=r"line 2: expected a document without a tab.*the label 1"):
        text.prepared_text(source(train=[TextFile(path="train.txt", label=1)]), tmp_path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    lay(tmp_path)
    (tmp_path / "train.txt").write_bytes(b"1\tgood\n1\tgood\n1\tcaf\xe9\n")

    with pytest.raises(UserError, match=r"train.txt, line 3: expected UTF-8; found the byte 0xe9"):
        text.prepared_text(source(), tmp_path)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    lay(tmp_path)
    (tmp_path / "test.txt").unlink()

    with pytest.raises(UserError, match=r"test.txt: cannot be read .*duvae fetch"):
        text.prepared_text(source(), tmp_path)


# ------------------------------------------------- a user's own text: seeded splits, built vocabularies


def many(count: int, copies: int = 1) -> str:
    return "".join(f"{n % 2}\tthe w{n % 7} x{n // 7}\n" for n in range(count)) * copies


def without(*splits: str, **changed: Any) -> TextSource:
    return source(**{name: [] for name in splits}, **changed)


def test_shares_are_split_off_and_copies_stay_together(tmp_path: Path) -> None:
    lay(tmp_path, train=many(50, copies=3), test="the food\n")
    chosen = without("valid", split=TextSplit(valid=0.2, seed=1), vocabulary=None, build=BuiltVocabulary(most=100))
    one, again = (text.prepared_text(chosen, tmp_path) for _ in range(2))
    other = text.prepared_text(chosen.model_copy(update={"split": TextSplit(valid=0.2, seed=2)}), tmp_path)

    assert list(one.splits) == ["train", "valid", "test"]
    assert {name: len(split) for name, split in one.splits.items()} == {"train": 120, "valid": 30, "test": 1}
    assert one.summary["shared"]["valid"]["train"] == {"documents": 0, "distinct": 0}
    assert one.summary["splits"]["valid"]["distinct"] == 10
    assert np.array_equal(one.documents("valid").tokens, again.documents("valid").tokens)
    assert one.splits["valid"].contents() != other.splits["valid"].contents()


@given(st.integers(5, 60), st.floats(0.05, 0.45), st.floats(0.05, 0.45), st.integers(0, 99))
def test_a_split_loses_nothing(count: int, valid: float, test: float, seed: int) -> None:
    documents = [f"w{n % (count - 1)}" for n in range(count)]  # the first document occurs twice
    lines = corpus.Corpus(documents, list(range(count)), [(Path("x"), n) for n in range(count)])
    sizes = [round(share * (count - 1)) for share in (valid, test)]
    if 0 in sizes or sum(sizes) >= count - 1:
        with pytest.raises(UserError, match="expected shares that give each split at least one document"):
            text.split_by_shares(lines, TextSplit(valid=valid, test=test, seed=seed))
        return
    parts = text.split_by_shares(lines, TextSplit(valid=valid, test=test, seed=seed))

    assert sorted(label for part in parts.values() for label in part.labels) == list(range(count))
    assert [len(set(parts[name].documents)) for name in ("valid", "test")] == sizes
    assert not set(parts["valid"].documents) & (set(parts["train"].documents) | set(parts["test"].documents))
    assert all(part.labels == sorted(part.labels) for part in parts.values())


def test_a_vocabulary_of_the_most_frequent_training_words(tmp_path: Path) -> None:
    lay(tmp_path, train="b a b c\nb a d d _UNK\n<unk> a d c e\n", valid="e e e\n", test="b zebra a\n")
    chosen = source(vocabulary=None, build=BuiltVocabulary(most=3, at_least=2))
    prepared = text.prepared_text(chosen, tmp_path)

    assert prepared.vocabulary == [*VOCABULARY[:4], "a", "b", "d"]  # 3 times each, in alphabetical order; c: twice
    assert prepared.summary["built"] == {"distinct": 5, "frequent": 4, "kept": 3}
    assert prepared.words(prepared.documents("test")[0]) == ["b", "<unk>", "a"]
    assert "vocab.txt" not in prepared.summary["files"]
    assert text.prepared_text(source(vocabulary=None, build=BuiltVocabulary(most=9)), tmp_path).vocabulary[4:] == list(
        "abdce"
    )
    with pytest.raises(UserError, match=r"expected a word that occurs 9 times .*most frequent one occurs 3 times"):
        text.prepared_text(source(vocabulary=None, build=BuiltVocabulary(most=3, at_least=9)), tmp_path)


def test_what_was_prepared_otherwise_than_written_is_told(tmp_path: Path) -> None:
    long = "good " * 20_000
    lay(tmp_path, train=f"1\tgood\n1\t{long}\n0\tbad\n", test="1\tthe zebra\n")
    with pytest.raises(
        UserError, match=r"train.txt, line 2: expected at most 5 words .*found 20000.*longer: leave_out"
    ):
        text.prepared_text(source(), tmp_path)
    prepared = text.prepared_text(source(longer="leave_out"), tmp_path)

    assert prepared.split("train").labels.tolist() == [1, 0]
    assert prepared.summary["left_out"] == {"train": 1, "valid": 0, "test": 0}
    assert text.warnings(prepared.summary) == [
        "1 document of train left out: more than max_words words",
        "1 of the 2 words of test (50.00%) are not in the vocabulary and become <unk>",
    ]
    lay(tmp_path, test=f"1\t{long}\n")
    with pytest.raises(UserError, match=r"test.txt: expected a document of at most 5 words .* in test; found none"):
        text.prepared_text(source(longer="leave_out"), tmp_path)


def test_validation_can_be_sampled_too(tmp_path: Path) -> None:
    lay(tmp_path, train=many(30), valid="".join(f"1\tv{n}\n" for n in range(20)), test="1\tt\n")
    chosen = source(sample=Sample(size=10, seed=1, valid=5), vocabulary=None, build=BuiltVocabulary(most=99))
    prepared = text.prepared_text(chosen, tmp_path)

    assert {name: len(split) for name, split in prepared.splits.items()} == {"train": 10, "valid": 5, "test": 1}
    with pytest.raises(
        UserError, match=r"sample.valid: expected at most 20, the number of validation documents; found 21"
    ):
        text.prepared_text(chosen.model_copy(update={"sample": Sample(size=10, seed=1, valid=21)}), tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"valid": []}, "valid: expected files here, or a share in split.valid; found neither"),
        ({"split": {"test": 0.5, "seed": 1}}, "test: expected files here, or a share in split.test; found both"),
        ({"vocabulary": None}, "vocabulary: expected a file here, or 'build' with a number of words; found neither"),
        ({"build": {"most": 5}}, "vocabulary: .*found both"),
        (
            {"valid": [], "test": [], "split": {"valid": 0.5, "test": 0.5, "seed": 1}},
            "split: expected shares that leave",
        ),
        (
            {"valid": [], "split": {"valid": 0.5, "seed": 1}, "sample": {"size": 2, "seed": 1}},
            "sample: expected it only where validation and test are files",
        ),
        ({"longer": "cut"}, "longer.*: expected 'refuse' or 'leave_out'; found 'cut'"),
    ],
)
def test_a_source_that_contradicts_itself(changed: dict[str, Any], said: str) -> None:
    raw = small()
    raw["datasets"]["own"]["source"].update(changed)
    with pytest.raises(UserError, match=rf"params.yaml: datasets\.own\.source\.{said}"):
        parse(raw)


def test_likelihood_and_perplexity_of_a_corpus_by_hand(tmp_path: Path) -> None:
    """NLL and perplexity equal values computed by hand, for a decoder with a fixed probability of each word.

    The decoder ignores z. One word of the three test sentences is unknown.
    """
    train = "the food\nfood\nthe the food .\n"
    lay(tmp_path, train=train, valid="food\n", test="the food\nsoup\nthe the food .\n")
    prepared = text.prepared_text(source(vocabulary=None, build=BuiltVocabulary(most=9)), tmp_path)
    assert prepared.vocabulary == ["<pad>", "<s>", "</s>", "<unk>", "food", "the", "."]
    shares = {"<pad>": 0.01, "<s>": 0.04, "</s>": 0.25, "<unk>": 0.1, "food": 0.2, "the": 0.3, ".": 0.1}
    model, _ = build("vae", words=7)
    decoder = model.decoder
    with torch.no_grad():
        model.head.linear.weight.zero_()  # q(z|x) = p(z)
        for parameter in decoder.parameters():
            parameter.zero_()
        i, f, g, o = decoder.lstm.bias_ih_l0.view(4, -1)
        for gate, value in ((i, 50.0), (f, -50.0), (g, 50.0), (o, 50.0)):  # every output is tanh(1)
            gate.fill_(value)
        logits = torch.tensor([shares[word] for word in prepared.vocabulary]).log()
        decoder.output.weight[:, 0] = logits / math.tanh(1)
    nll = importance_weighted_nll(model, prepared.split("test"), 20, CPU, 1)

    # The end mark </s> counts as a word, and the start mark <s> does not. The unknown word counts as <unk>.
    by_hand = [-math.log(0.3 * 0.2 * 0.25), -math.log(0.1 * 0.25), -math.log(0.3 * 0.3 * 0.2 * 0.1 * 0.25)]
    np.testing.assert_allclose(nll, by_hand, rtol=1e-5)
    assert perplexity(nll, prepared.split("test")) == pytest.approx(math.exp(sum(by_hand) / (3 + 2 + 5)), rel=1e-5)


LINES = corpus.Corpus(
    ["good", "good", "bad", "the food", "the food", "the soup", "the circus", "food"],
    [1, 1, 0, 1, 0, 1, 0, 1],
    [(Path("x"), i) for i in range(8)],
)


def test_resampling_counts_what_it_leaves_out() -> None:
    drawn, counted = text.training_sample(LINES, ["bad", "the <unk>"], VOCABULARY, Sample(size=2, seed=1))

    assert counted == {
        "lines": 8,
        "duplicates": 2,
        "under_two_labels": 1,
        "in_valid_or_test": 1,
        "in_valid_or_test_with_unknown_words": 2,
        "left": 2,
        "drawn": 2,
        "seed": 1,
    }
    assert drawn.documents == ["good", "food"]
    assert drawn.labels == [1, 1]
    assert drawn.origins == [(Path("x"), 0), (Path("x"), 7)]


def test_resampling_depends_on_its_seed_alone() -> None:
    lines = corpus.Corpus([f"w{i}" for i in range(200)], [0] * 200, [(Path("x"), i) for i in range(200)])
    one, again, other = (
        text.training_sample(lines, [], VOCABULARY + lines.documents, Sample(size=50, seed=seed))[0].documents
        for seed in (1, 1, 2)
    )

    assert one == again
    assert one != other
    assert len(set(one)) == 50


def test_more_drawn_than_there_are() -> None:
    with pytest.raises(UserError, match=r"sample.size: expected at most 4, .*8 lines \(duplicates 2.*found 5"):
        text.training_sample(LINES, ["bad"], VOCABULARY, Sample(size=5, seed=1))


words = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=6).filter(
    lambda word: word.split() == [word] and not word.startswith(("<", "_UNK"))
)


@given(documents=st.lists(st.lists(words, min_size=1, max_size=8), min_size=1, max_size=20), data=st.data())
def test_documents_come_back_from_file_and_store(
    documents: list[list[str]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("round")
    labels = data.draw(st.lists(st.integers(0, 9), min_size=len(documents), max_size=len(documents)))
    vocabulary = list(dict.fromkeys(word for document in documents for word in document))
    content = "".join(f"{label}\t{' '.join(document)}\n" for label, document in zip(labels, documents, strict=True))
    lay(folder, train=content, vocab="\n".join(VOCABULARY[:4] + vocabulary), valid="a\n", test="b\n")

    write(folder / "prepared", text.prepared_text(source(max_words=8), folder))
    prepared = read(folder / "prepared")

    train = prepared.split("train")
    assert [prepared.words(train[i]) for i in range(len(train))] == documents
    assert train.labels.tolist() == labels
    assert train.lengths.tolist() == [len(document) + 2 for document in documents]


@pytest.mark.mirror
def test_the_real_short_yelp(tmp_path: Path, mirror: Path) -> None:
    params = load(ROOT / "params.yaml")
    fetch.run(params, "short_yelp_resampled", str(mirror), tmp_path)
    prepared = prepare.run(params, "short_yelp_resampled", tmp_path)
    summary: Mapping[str, Any] = prepared.summary

    assert {name: len(split) for name, split in prepared.splits.items()} == {
        "train": 100_000,
        "valid": 10_000,
        "test": 10_000,
        **{f"labelled_{n}": n for n in (100, 500, 1000, 2000, 10_000)},
    }
    assert len(prepared.vocabulary) == 8411
    assert summary["sample"] == {
        "lines": 190_153,
        "duplicates": 21_668,
        "under_two_labels": 25,
        "in_valid_or_test": 1517,
        "in_valid_or_test_with_unknown_words": 24,
        "left": 166_919,
        "drawn": 100_000,
        "seed": 1,
    }
    assert summary["shared"]["train"]["valid or test"] == {"documents": 0, "distinct": 0}
    assert summary["shared"]["labelled_10000"]["valid or test"] == {"documents": 799, "distinct": 414}
    assert summary["shared"]["valid"]["test"] == {"documents": 619, "distinct": 291}
    assert {name: split["labels"] for name, split in summary["splits"].items() if name in ("valid", "test")} == {
        "valid": {"0": 3982, "1": 6018},
        "test": {"0": 3954, "1": 6046},
    }
    assert summary["splits"]["train"]["unknown_rate"] < 0.006

    # A check without the package's code: the drawn sentences differ from each other, each has one label, and none is
    # in the validation or test files.
    raw = tmp_path / "data" / "raw" / "short_yelp_resampled"
    held_out = {
        re.split("\t", line)[1]
        for split in ("valid", "test")
        for line in (raw / f"short_yelp/short_yelp.{split}.txt").read_text().splitlines()
    }
    chosen = params.datasets["short_yelp_resampled"]
    lines = corpus.read_corpus(chosen.source.train, raw)
    drawn, _ = text.training_sample(lines, sorted(held_out), prepared.vocabulary, chosen.source.sample)
    assert len(set(drawn.documents)) == 100_000
    assert not held_out & set(drawn.documents)
    assert np.array_equal(drawn.labels, prepared.split("train").labels)
    assert len([1 for document in set(lines.documents) if document in held_out]) == 1526


@pytest.mark.mirror
def test_the_real_yahoo_halves(tmp_path: Path, mirror: Path) -> None:
    params = load(ROOT / "params.yaml")
    fetch.run(params, "yahoo_halves", str(mirror), tmp_path)
    prepared = prepare.run(params, "yahoo_halves", tmp_path)
    validate.run(params, "yahoo_halves", tmp_path)

    assert {name: len(split) for name, split in prepared.splits.items()} == {
        "train": 9000,
        "valid": 1000,
        "test": 10_000,
    }
    assert len(prepared.vocabulary) == 20_000
    assert prepared.summary["splits"]["test"]["words_max"] == 200
    assert round(prepared.summary["splits"]["test"]["unknown_rate"], 3) == 0.042
    assert prepared.summary["splits"]["test"]["labels"] == {}
    assert prepared.summary["shared"]["valid"]["train"] == {"documents": 0, "distinct": 0}


@pytest.mark.mirror
def test_the_real_short_yelp_at_a_small_size(tmp_path: Path, mirror: Path) -> None:
    params = load(ROOT / "params.yaml")
    fetch.run(params, "short_yelp_small", str(mirror), tmp_path)
    prepared = prepare.run(params, "short_yelp_small", tmp_path)
    validate.run(params, "short_yelp_small", tmp_path)
    sizes = {name: len(split) for name, split in prepared.splits.items()}

    assert [sizes[name] for name in ("train", "valid", "test")] == [8000, 1000, 10_000]
    assert len(prepared.vocabulary) <= 3004
    assert prepared.summary["shared"]["train"]["valid or test"]["distinct"] < 20  # equal through <unk> alone
