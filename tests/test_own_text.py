"""Files of text of the user: what would silently mean something else is an error or a warning."""

import os
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import tiny
from command_line import call
from duvae.data.corpus import read_documents
from duvae.data.split_names import misplaced
from duvae.errors import UserError
from duvae.fields import LARGEST_LABEL
from duvae.project.own_files import digest


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\ufeff", r"U\+FEFF \(zero width no-break space\)"),
        ("\0", r"U\+0000 \(a control character\)"),
        ("\u200b", r"U\+200B \(zero width space\)"),
        ("\u200d", r"U\+200D \(zero width joiner\)"),
        ("\xad", r"U\+00AD \(soft hyphen\)"),
    ],
)
def test_characters_that_nobody_sees_are_named(tmp_path: Path, character: str, name: str) -> None:
    path = tmp_path / "reviews.txt"
    path.write_text(f"the food\n1 the{character} food\nthe food\n{character}the food\n", encoding="utf-8")
    (warning,) = read_documents(path).warnings

    assert warning.startswith(f"{path}, line 2: found the invisible character")
    assert re.search(name, warning)
    assert "2 lines have such characters" in warning


@given(st.lists(st.text(st.characters(categories=["L", "N", "P", "S", "M"]), min_size=1), min_size=1, max_size=5))
def test_visible_characters_give_no_warning(words: list[str]) -> None:
    line = " ".join(words)

    assert read_documents(Path("reviews.txt"), raw=f"0\t{line}\n1\t{line}\r\n".encode()).warnings == []


def test_a_byte_order_mark_at_the_beginning_is_no_part_of_the_text() -> None:
    corpus = read_documents(Path("reviews.txt"), raw=b"\xef\xbb\xbfthe food\n")

    assert (corpus.documents, corpus.warnings) == (["the food"], [])


@pytest.mark.parametrize("label", [str(10**20), "1000000", "2000000000", "9" * 5000, "-1", "1.0", "\u0661"])
def test_labels_that_are_no_numbers_of_classes_are_named(label: str) -> None:
    with pytest.raises(UserError, match=rf"line 2: expected a label .* from 0 to {LARGEST_LABEL}") as raised:
        read_documents(Path("reviews.txt"), raw=f"0\tgood\n{label}\tbad\n".encode())
    assert len(str(raised.value)) < 300


def test_the_largest_label_is_read() -> None:
    corpus = read_documents(Path("reviews.txt"), raw=b"0\tgood\n000999999\tbad\n")

    assert corpus.labels == [0, LARGEST_LABEL]


def test_prepare_prints_the_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tiny.small()
    tiny.own(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    (tmp_path / "train.txt").write_bytes((tmp_path / "train.txt").read_bytes() + "1\tword1 \ufeffgood\n".encode())
    monkeypatch.chdir(tmp_path)
    for command in ("fetch", "prepare"):
        assert call(f"{command} --dataset own", monkeypatch) == 0

    assert "warning: own: data/raw/own/train.txt, line 21: found the invisible character" in capsys.readouterr().out


@pytest.mark.parametrize(
    "word",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0915\u094d\u200d\u0937",
        "\U0001f468\u200d\U0001f469",
        "\u2764\ufe0f\u200d\U0001f525",
    ],
)
def test_joiners_that_belong_to_a_word_give_no_warning(word: str) -> None:
    """The words are Persian, Hindi, and two emoji of several parts."""
    assert read_documents(Path("reviews.txt"), raw=f"a {word} b\n".encode()).warnings == []


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\r", "\x1d", "\x85", "\u2028", "\u2029"])
def test_other_ends_of_lines_inside_a_line_are_named(separator: str) -> None:
    corpus = read_documents(Path("reviews.txt"), raw=f"one\ntwo{separator}three\n".encode())
    (warning,) = corpus.warnings

    assert corpus.documents == ["one", "two three"]
    assert f"line 2: found U+{ord(separator):04X}, which ends a line in some programs" in warning


def test_further_columns_are_named() -> None:
    (warning,) = read_documents(Path("reviews.txt"), raw=b"0\tgood\n1\tbad\tfood\n").warnings

    assert warning.startswith("reviews.txt, line 2: found a second tab; one line has more than one.")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\xef\xbb\xbf", "the file is empty"),
        ("\ufeff\u2028\n".encode(), "the file is empty"),
        ("good food\nbad food\n".encode("utf-16-le"), "looks like UTF-16"),
        (b"good food\rbad food\r", "found only carriage returns"),
    ],
)
def test_files_that_hold_no_lines_of_utf8_are_refused(raw: bytes, message: str) -> None:
    with pytest.raises(UserError, match=rf"reviews\.txt: expected .*{message}"):
        read_documents(Path("reviews.txt"), raw=raw)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_not_read(tmp_path: Path, kind: str) -> None:
    """Reading the pipe would wait for ever, and the device would never end."""
    path = tmp_path / "reviews.txt"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")

    with pytest.raises(UserError, match=r"reviews\.txt: expected a file; found a pipe, a socket or a device"):
        digest(["reviews.txt"], tmp_path)


def prepared(folder: Path, monkeypatch: pytest.MonkeyPatch, **source: object) -> int:
    """Runs `duvae fetch` and `duvae prepare` with other files of the data set. Returns the last exit status."""
    raw = tiny.small()
    tiny.own(folder)
    raw["datasets"]["own"]["source"].update(source)
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    monkeypatch.chdir(folder)

    return call("fetch --dataset own", monkeypatch) or call("prepare --dataset own", monkeypatch)


@pytest.mark.parametrize("path", ["test.txt", "./test.txt"])
def test_a_file_of_two_splits_is_refused(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise test examples would be trained on."""
    assert prepared(tmp_path, monkeypatch, train=[{"path": "train.txt"}, {"path": path}]) == 2

    error = capsys.readouterr().err
    assert "datasets.own.source.test.0.path" in error
    assert "expected a file that no other split names; 'test.txt' is also a file of train" in error


def test_a_folder_in_place_of_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reviews").mkdir()
    (tmp_path / "reviews/a.txt").write_text("0\tgood\n", encoding="utf-8")

    assert prepared(tmp_path, monkeypatch, train=[{"path": "reviews"}]) == 2
    assert "reviews: expected a file with one document per line; found a folder" in capsys.readouterr().err


def test_a_file_whose_name_says_another_split_gives_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepared(tmp_path, monkeypatch, train=[{"path": "test.txt"}], test=[{"path": "train.txt"}]) == 0

    output = capsys.readouterr().out
    assert "warning: own: params.yaml names test.txt under train, but the name says test." in output
    assert "warning: own: params.yaml names train.txt under test, but the name says train." in output
    assert "valid.txt" not in output.partition("words in the vocabulary")[2]


@pytest.mark.parametrize("path", ["reviews.txt", "train_test.txt", "a/test/b.txt", "testimonials.txt", "Train.TXT"])
def test_names_that_fit_give_no_warning(path: str) -> None:
    assert misplaced({"train": [path]}) == []
