import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duvae.data import store
from duvae.data.batches import batches
from duvae.data.splits import Documents
from duvae.data.store import Prepared
from duvae.errors import UserError
from spoiling import resign

DOCUMENTS = [[1, 4, 5, 2], [1, 3, 2], [1, 5, 4, 4, 2]]
VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", "good", "food"]


def made() -> Prepared:
    split = Documents.of(DOCUMENTS, [1, 0, -1])
    return Prepared(VOCABULARY, {"train": split, "test": split}, {"lines": 3})


def test_documents_come_back(tmp_path: Path) -> None:
    store.write(tmp_path / "d", made(), {"weights": np.arange(6.0).reshape(2, 3)})
    prepared = store.read(tmp_path / "d")

    assert prepared.vocabulary == VOCABULARY
    assert prepared.summary == {"lines": 3}
    assert set(prepared.splits) == {"train", "test"}
    train = prepared.split("train")
    assert [train[i].tolist() for i in range(len(train))] == DOCUMENTS
    assert train.labels.tolist() == [1, 0, -1]
    assert train.lengths.tolist() == [4, 3, 5]
    assert isinstance(train.tokens, np.memmap)
    assert prepared.words(train[2]) == ["food", "good", "good"]
    assert prepared.words(train[1]) == ["<unk>"]
    assert store.read_array(tmp_path / "d", "weights").tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_writing_again_replaces_everything(tmp_path: Path) -> None:
    store.write(tmp_path / "d", made(), {"weights": np.zeros(2)})
    store.write(tmp_path / "d", made())

    assert not (tmp_path / "d" / "weights.npy").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        store.write(tmp_path / name, made())
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    store.write(tmp_path / "d", made())
    broken = Prepared(VOCABULARY, {}, {"lines": float("nan")})

    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write(tmp_path / "d", broken)
    assert len(store.read(tmp_path / "d").split("train")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_what_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    with pytest.raises(
        UserError, match=r"expected a prepared data set; there is none\. Run 'duvae prepare --dataset d'"
    ):
        store.read(folder)
    store.write(folder, made())
    with pytest.raises(UserError, match="expected a split 'valid'; found"):
        store.read(folder).split("valid")
    with pytest.raises(UserError, match=r"weights.npy: cannot be read"):
        store.read_array(folder, "weights")

    tokens = folder / "train.tokens.npy"
    whole = tokens.read_bytes()
    np.save(tokens, np.zeros(3, np.int32))
    resign(folder)
    with pytest.raises(UserError, match="the arrays of split 'train' do not fit"):
        store.read(folder)
    tokens.write_bytes(whole[:-8])
    resign(folder)
    with pytest.raises(UserError, match="split 'train' cannot be read"):
        store.read(folder)
    tokens.write_bytes(whole)
    (folder / "vocabulary.txt").write_bytes(b"\xff\n")
    resign(folder)
    with pytest.raises(UserError, match=r"vocabulary.txt: cannot be read"):
        store.read(folder)
    store.write(folder, made())
    (folder / "summary.json").write_text(json.dumps({"lines": 3})[:-2])
    with pytest.raises(UserError, match=r"summary.json: expected JSON.*duvae prepare --dataset d"):
        store.read(folder)


FILES = ("vocabulary.txt", "train.tokens.npy", "train.offsets.npy", "train.labels.npy", "summary.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["train", "validate", "evaluate"])
def test_a_file_that_is_gone_is_named(tmp_path: Path, name: str, command: str) -> None:
    """`store.read` names a missing file, for every command that reads a data set.

    The command `validate` reads with `ids=False`, since it checks word ids and pixels itself.
    """
    store.write(tmp_path / "d", made())
    (tmp_path / "d" / name).unlink()

    with pytest.raises(UserError, match=rf"{name}: not there|there is none"):
        store.read(tmp_path / "d", ids=command != "validate")


@given(st.sampled_from(FILES), st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_is_noticed(name: str, place: int, bit: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "d"
        store.write(folder, made())
        content = bytearray((folder / name).read_bytes())
        content[place % len(content)] ^= 1 << bit
        (folder / name).write_bytes(content)
        try:
            same = store.read(folder)
        except UserError as error:
            assert name in str(error)  # noqa: PT017 (a flipped bit in the white space of JSON changes nothing)
        else:
            assert name == "summary.json"
            assert same.summary == store.read(folder).summary


def test_files_that_the_summary_does_not_list_are_not_read(tmp_path: Path) -> None:
    store.write(tmp_path / "d", made())
    assert set(store.read(tmp_path / "d").splits) == {"train", "test"}
    for part in ("tokens", "offsets", "labels"):
        shutil.copy(tmp_path / f"d/train.{part}.npy", tmp_path / f"d/valid.{part}.npy")

    assert set(store.read(tmp_path / "d").splits) == {"train", "test"}


def test_a_data_set_without_digests_is_prepared_again(tmp_path: Path) -> None:
    store.write(tmp_path / "d", made())
    (tmp_path / "d/summary.json").write_text('{"kind": "text"}')

    with pytest.raises(UserError, match=r"expected the digests .* Run 'duvae prepare --dataset d' again"):
        store.read(tmp_path / "d")


def test_a_batch_has_one_length() -> None:
    documents = Documents.of([[1, 4, 2], [1, 3, 5, 2], [1, 5, 2]], [0, 0, 0])

    assert documents.batch(np.array([2, 0])).tolist() == [[1, 5, 2], [1, 4, 2]]
    assert documents.batch(np.array([1])).tolist() == [[1, 3, 5, 2]]


def test_no_documents() -> None:
    assert len(Documents.of([], [])) == 0
    assert batches(np.zeros(0, np.int64), 4) == []


some_lengths = st.lists(st.integers(3, 7), max_size=60).map(lambda lengths: np.array(lengths, np.int64))
seeds = st.one_of(st.none(), st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=3))


@given(some_lengths, st.integers(2, 9), seeds)
def test_every_document_is_in_one_batch_of_its_length(lengths: Any, size: int, seed: list[int] | None) -> None:
    cut = batches(lengths, size, seed)

    assert sorted(np.concatenate(cut).tolist() if cut else []) == list(range(len(lengths)))
    for batch in cut:
        length = lengths[batch[0]]
        assert set(lengths[batch]) == {length}
        assert 1 <= len(batch) <= size + 1
        if len(batch) == 1:
            assert np.count_nonzero(lengths == length) == 1


@given(some_lengths, st.integers(2, 9), st.lists(st.integers(0, 2**31 - 1), min_size=2, max_size=2))
def test_the_order_is_a_function_of_the_seed(lengths: Any, size: int, seed: list[int]) -> None:
    one, again = batches(lengths, size, seed), batches(lengths, size, seed)

    assert [batch.tolist() for batch in one] == [batch.tolist() for batch in again]


def test_another_epoch_has_another_order() -> None:
    lengths = np.array([5] * 100)
    first, second, unshuffled = (batches(lengths, 10, seed) for seed in ((1, 1), (1, 2), None))

    assert [b.tolist() for b in first] != [b.tolist() for b in second]
    assert np.concatenate(unshuffled).tolist() == list(range(100))


def test_a_lone_last_document_joins_the_batch_before_it() -> None:
    assert [len(batch) for batch in batches(np.array([4] * 9), 4)] == [4, 5]
    assert [len(batch) for batch in batches(np.array([4] * 10), 4)] == [4, 4, 2]
    assert [len(batch) for batch in batches(np.array([4]), 4)] == [1]
    assert [len(batch) for batch in batches(np.array([4] * 5 + [6]), 4)] == [5, 1]
