"""Files of text of the user: what would silently mean something else is an error or a warning."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import tiny
from duvae import cli
from duvae.data.corpus import read_documents
from duvae.errors import UserError
from duvae.fields import LARGEST_LABEL


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
        monkeypatch.setattr(sys, "argv", ["duvae", command, "--dataset", "own"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0

    assert "warning: own: data/raw/own/train.txt, line 21: found the invisible character" in capsys.readouterr().out
