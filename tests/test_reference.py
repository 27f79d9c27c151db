"""The page docs/parameters.md lists every key of params.yaml.

For each key, the page has the meaning and the allowed values from the code, and the present value.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from duvae import cli, config
from duvae.errors import UserError
from duvae.registry import HYPERPARAMETERS
from duvae.report import reference

ROOT = Path(__file__).parents[1]
PARAMS = config.load(ROOT / "params.yaml")
PAGE = (ROOT / reference.PAGE).read_text(encoding="utf-8")


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields every class of parameters (pydantic model) in a type, also inside the fields of these classes."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    for inner in get_args(annotation):
        yield from models(inner)


def keys(annotation: Any, path: str = "") -> Iterator[str]:
    """Yields every key that a value of a type may have; `*` stands for any name or any position in a list."""
    outer, inner = get_origin(annotation), get_args(annotation)
    if outer is Annotated:
        yield from keys(inner[0], path)
    elif outer in (Union, UnionType):
        for one in inner:
            yield from keys(one, path)
    elif outer in (dict, list):
        yield from keys(inner[-1], f"{path}.*")
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            below = list(keys(field.annotation, f"{path}.{name}"))
            yield from below or [f"{path}.{name}"]


def rows(page: str) -> list[list[str]]:
    return [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in page.splitlines() if line.startswith("| `")]


def test_the_page_is_up_to_date() -> None:
    """If this test fails, run `duvae parameters`: params.yaml or a description has changed."""
    assert reference.render(PARAMS) == PAGE


def test_the_page_has_every_key() -> None:
    known = {key.removeprefix(".") for key in keys(config.Params)}
    listed = {row[0].strip("`") for row in rows(PAGE)}

    assert known - listed == set()
    assert {
        key for key in listed if key not in known and not any(name.startswith(f"{key}.") for name in known)
    } == set()


def test_every_key_has_a_description() -> None:
    for model in {*models(config.Params), *HYPERPARAMETERS.values()}:
        for name, field in model.model_fields.items():
            assert len((field.description or "").split()) >= 2, f"{model.__name__}.{name}"


@pytest.mark.parametrize(
    ("key", "cells"),
    [
        (
            "datasets.*.networks.width",
            ["whole number ≥ 2, ≤ 16384, a multiple of 2", "64 (omniglot); 24 (omniglot_small)"],
        ),
        ("datasets.*.source.train_drawers", ["whole number ≥ 1, ≤ 10000000", "15"]),
        ("evaluation.importance_samples", ["whole number ≥ 1, ≤ 1000000", "500"]),
        ("settings.*.parts.variance_floor", ["`alpha`, `none` = none"]),
        ("settings.*.columns.*.p", ["number ≥ 1e-06, ≤ 1"]),
        ("datasets.*.optimisation.decay.factor", ["number ≥ 1e-09, < 1", "0.5"]),
        ("datasets.*.nll_examples", ["whole number ≥ 1, ≤ 10000000 or null"]),
    ],
)
def test_a_row_has_bounds_and_present_values(key: str, cells: list[str]) -> None:
    found = next(row for row in rows(PAGE) if row[0] == f"`{key}`")

    assert found[2 : 2 + len(cells)] == cells


def test_a_changed_value_makes_the_page_out_of_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["datasets"]["omniglot_small"]["networks"]["width"] = 26
    changed = config.parse(raw)
    page = tmp_path / "parameters.md"

    assert reference.write(PARAMS, page)
    assert not reference.write(PARAMS, page)
    reference.check(PARAMS, page)
    with pytest.raises(UserError, match="Run 'duvae parameters'"):
        reference.check(changed, page)
    assert reference.write(changed, page)
    assert "64 (omniglot); 26 (omniglot_small)" in page.read_text(encoding="utf-8")


def test_the_command_writes_and_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["duvae", "parameters", "--params", str(ROOT / "params.yaml"), *arguments])
        with pytest.raises(SystemExit) as leaving:
            cli.main()

        return int(leaving.value.code or 0)

    assert call("--check") == 2
    assert "error: docs/parameters.md: expected" in capsys.readouterr().err
    assert call() == 0
    assert (tmp_path / reference.PAGE).read_text(encoding="utf-8") == PAGE
    assert call("--check") == 0
