"""The option `--set KEY=VALUE`: it changes one value for one command, and nothing else."""

import copy
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from hypothesis import given
from hypothesis import strategies as st

import tiny
from command_line import call
from duvae import cli, config
from duvae.config import changes
from duvae.errors import UserError

RAW = tiny.small()
LEAVES = [
    ("threads",),
    ("evaluation", "seed"),
    ("datasets", "synthetic", "optimisation", "epochs"),
    ("datasets", "synthetic", "networks", "hidden"),
    ("datasets", "own", "optimisation", "decay", "patience"),
]


def value(content: Any, key: tuple[str, ...]) -> Any:
    for part in key:
        content = content[part]

    return content


@given(st.sampled_from(LEAVES), st.integers(1, 99))
def test_only_the_named_value_changes(key: tuple[str, ...], number: int) -> None:
    shared = {"optimisation": RAW["datasets"]["synthetic"]["optimisation"]}
    content = {**RAW, "datasets": {name: {**each, **shared} for name, each in RAW["datasets"].items()}}
    before = copy.deepcopy(content)
    changed, _ = changes.applied(content, [f"{'.'.join(key)}={number}"])
    assert value(changed, key) == number
    assert content == before  # a YAML anchor gives several data sets the same object
    expected = json.loads(json.dumps(before))  # shares nothing
    value(expected, key[:-1])[key[-1]] = number
    assert changed == expected


def test_a_key_may_begin_below_the_data_set_of_the_command() -> None:
    changed, _ = changes.applied(RAW, ["optimisation.epochs=9"], "own")
    assert value(changed, ("datasets", "own", "optimisation", "epochs")) == 9
    assert changed["datasets"]["synthetic"] == RAW["datasets"]["synthetic"]
    with pytest.raises(UserError, match="unknown key 'optimisation'"):
        changes.applied(RAW, ["optimisation.epochs=9"])


def test_lists_and_texts_and_null_can_be_given() -> None:
    asked = ["datasets.own.probe={labels: [3, 4]}", "datasets.own.nll_examples=null", "exact.seeds.0=5"]
    changed, _ = changes.applied(RAW, asked)
    assert changed["datasets"]["own"]["probe"] == {"labels": [3, 4]}
    assert changed["datasets"]["own"]["nll_examples"] is None
    assert changed["exact"]["seeds"] == [5, *RAW["exact"]["seeds"][1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("threads", "expected a key, '=' and a value"),
        ("=3", "expected a key, '=' and a value"),
        ("a..b=3", "expected a key, '=' and a value"),
        ("thread=3", r"unknown key 'thread' \(did you mean 'threads'\?\)"),
        ("threads.more=3", "which has no keys"),
        ("exact.seeds.7=3", "expected a number from 0 to"),
        ("exact.seeds.x=3", "expected a number from 0 to"),
        ("datasets.owm.kind=text", "unknown key 'owm'"),
        ("threads=[", "expected a value in YAML"),
        ("threads=1e3", "expected a value in YAML"),
    ],
)
def test_a_change_that_cannot_be_made_says_why(change: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^--set {change.partition('=')[0].replace('.', '[.]')}.*{message}"):
        changes.applied(RAW, [change])


def test_a_wrong_value_is_blamed_on_the_option_and_not_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(RAW, sort_keys=False), encoding="utf-8")
    with pytest.raises(UserError) as raised:
        config.load(path, ["optimisation.epochs=many", "datasets.own.networks.wide=3"], "synthetic")
    lines = str(raised.value).splitlines()
    assert any(line.startswith("--set datasets.own.networks.wide=3: unknown key 'wide'") for line in lines)
    assert "--set optimisation.epochs=many: expected a whole number; found 'many'" in lines


def test_every_command_that_reads_parameters_has_the_option() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert ("--set" in options) == ("--params" in options), name
    assert sum("--set" in option.opts for command in commands.values() for option in command.params) > 20


def test_a_change_ends_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(RAW, sort_keys=False), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert call("fetch --dataset synthetic --set source.words=5000", monkeypatch) == 0
    assert call("fetch --dataset synthetic --set source.words=1", monkeypatch) == 2
    assert "--set source.words=1: expected a number of at least 2; found 1" in capsys.readouterr().err
    assert call("fetch --dataset synthetic", monkeypatch) == 0


def test_the_functions_of_commands_stay_callable_without_the_option() -> None:
    assert "changes" not in inspect.signature(cli.training.train).parameters
