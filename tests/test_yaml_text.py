"""params.yaml is read strictly. What readers of YAML disagree about is an error, and no text takes much memory."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML, YAMLError

from duvae import cli, config
from duvae.config import yaml_text
from duvae.errors import UserError

NUMBER = re.compile(r"[-+.]?[0-9]")
"""Beginning of texts that PyYAML may write without quotes, though other readers take them for numbers."""

names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True).map(lambda name: f"k{name}")
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: float(f"{x:.6f}") if abs(x) < 1e6 else 0.5)
    | st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=20).filter(lambda x: not NUMBER.match(x))
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))


@given(st.dictionaries(names, values, max_size=5))
def test_what_is_written_is_read(content: dict[str, Any]) -> None:
    text = yaml.safe_dump(content, allow_unicode=True)

    assert yaml_text.read(text)[0] == content


def test_the_projects_own_parameters_are_read_as_before() -> None:
    text = (Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8")
    content, lines = yaml_text.read(text)

    assert content == yaml.safe_load(text)
    assert text.splitlines()[lines["threads",] - 1].startswith("threads:")


def multiplied(first: str, form: str, times: int, lines: int) -> str:
    """Lines of which each one names the line before by aliases, so that the values multiply or nest.

    Args:
        first: The value of the first line.
        form: The value of each other line, with `{}` in place of the aliases.
        times: Number of aliases in a line.
        lines: Number of lines after the first one.
    """
    text = [f"a0: &a0 {first}"]
    text += [f"a{n}: &a{n} " + form.format(", ".join([f"*a{n - 1}"] * times)) for n in range(1, lines)]

    return "\n".join(text)


WRONG = {
    "aliases that multiply": (multiplied("[x, x, x, x]", "[{}]", 10, 12), "line 6", "at most 200,000 values"),
    "merges that multiply": (multiplied("{x: 1}", "{{<<: [{}]}}", 10, 12), "line ", "at most 200,000 values"),
    "aliases that nest": (multiplied("[x]", "[{}]", 1, 600), "line 32", "at most 32 mappings and lists inside each"),
    "a circle": ("a: &a [1, *a]", "line 1", "lies inside the value that it stands for"),
    "a circle of mappings": ("a: &a\n  b: *a", "line 2", "lies inside the value that it stands for"),
    "deep lists": ("a: " + "[" * 100_000, "line 1", "at most 32 mappings and lists inside each other"),
    "deep mappings": ("\n".join(" " * n + "a:" for n in range(100)), "line 33", "at most 32"),
    "deep dashes": ("- " * 50_000, "line 1", "at most 32"),
    "a long text": ("a: " + "x" * 1_000_001, "", "at most 1,000,000 characters"),
    "a list as key": ("? [a, b]\n: 1", "line 1", "expected a name as the key"),
    "a number as key": ("1: 2", "line 1", "expected a name as the key; found '1'"),
    "a truth value as key": ("yes: 2", "line 1", "expected a name as the key; found 'yes'"),
    "no key": ("? \n: 1", "line 1", "expected a name as the key"),
    "a key twice": ("a: 1\nb:\n  c: 1\n  c: 2", "line 4", "the key 'c' occurs twice"),
    "octal": ("a: 1\nb: 010", "line 2", "found 010"),
    "octal by YAML 1.2": ("a: [0o10, 0777]", "line 1", "found 0o10"),
    "hexadecimal": ("a: 0x1F", "line 1", "found 0x1F"),
    "binary": ("a: 0b11", "line 1", "found 0b11"),
    "minutes": ("a: 1:30", "line 1", "found 1:30"),
    "minutes with a fraction": ("a: 1:30.5", "line 1", "found 1:30.5"),
    "underscores": ("a: 1_000", "line 1", "found 1_000"),
    "underscores in a fraction": ("a: 1_000.5", "line 1", "found 1_000.5"),
    "many digits": ("a: " + "9" * 5000, "line 1", "at most 18 decimal digits"),
    "no": ("a: no", "line 1", "expected true or false; found no"),
    "on": ("a: [on, off]", "line 1", "expected true or false; found on"),
    "an escape beyond Unicode": ('a: "\\U00110000"', "line 1", "an escape that stands for a character"),
    "an escape beyond all numbers": ('a: "\\UFFFFFFFF"', "line 1", "an escape that stands for a character"),
    "two merges": ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a", "line 4", "the key '<<' occurs twice"),
    "a tag": ("a: !!set {x}", "line 1", "expected a value without a tag"),
    "an object": ("a: !!python/object:os.system x", "line 1", "expected a value without a tag"),
    "an unknown alias": ("a: *b", "line 1", "undefined alias"),
    "a wrong merge": ("a: {<<: 1}", "line 1", "expected a mapping"),
    "two documents": ("a: 1\n---\nb: 2", "line", "expected a single document"),
    "a control character": ("a: \0", "", "special characters are not allowed"),
    "open brackets": ("a: [1", "line", "expected ',' or ']'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_readers_disagree_about_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    text, line, message = WRONG[name]
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")

    with pytest.raises(UserError) as error:
        config.load(tmp_path / "params.yaml")
    assert line in str(error.value)
    assert "not valid YAML" in str(error.value)
    assert message in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("name", WRONG)
def test_the_command_line_ends_with_one_line_and_exit_status_2(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, line, message = WRONG[name]
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["duvae", "graph", "--check", "--params", str(path)])

    with pytest.raises(SystemExit) as ended:
        cli.main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith(f"error: {path}")
    assert (line in error, message in error, error.count("\n")) == (True, True, 1)


@pytest.mark.parametrize("date", ["2001-01-01", "2001-99-99", "2001-12-14t21:59:43.10-05:00"])
def test_dates_are_texts(date: str) -> None:
    assert yaml_text.read(f"a: {date}")[0] == {"a": date}


FORMS = ["1e3", "1.e3", "0o10", "+.5", "08", "1_000e3", "1E5", "5_0.", "-0o7"]


@pytest.mark.parametrize("number", FORMS)
def test_texts_that_dvc_reads_as_numbers_are_refused_unless_they_are_quoted(number: str) -> None:
    assert isinstance(YAML(typ="safe").load(number), (int, float))
    for text in (f"a: {number}", f"{number}: a", f"- [{number}]"):
        with pytest.raises(yaml.YAMLError):
            yaml_text.read(text)
    assert yaml_text.read(f"a: '{number}'")[0] == {"a": number}


@given(st.from_regex(r"[-+]?[0-9_.oexb+-]{1,7}", fullmatch=True))
def test_numbers_are_the_same_to_both_readers_or_refused(text: str) -> None:
    try:
        value = yaml_text.read(f"a: {text}")[0]["a"]
    except (yaml.YAMLError, TypeError):  # TypeError: the text begins a list
        return
    try:
        other = YAML(typ="safe").load(f"a: {text}")["a"]
    except (YAMLError, ValueError):  # ValueError: ruamel.yaml takes signs and underscores for a number
        return

    assert other == value or str(other) == value  # a date is a text here


def test_long_names_are_cut_and_control_characters_are_escaped(tmp_path: Path) -> None:
    for text in ("a: !" + "x" * 10_000 + " 1", "? " + "x" * 10_000 + "\n: 1", '"\\e[31m": 1'):
        (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(UserError) as error:
            config.load(tmp_path / "params.yaml")
        assert max(map(len, str(error.value).splitlines())) < 1000
        assert "\x1b" not in str(error.value)


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(UserError, match=r"zero: expected parameters of at most 4,000,000 bytes; found more"):
        config.load(Path("/dev/zero"))
