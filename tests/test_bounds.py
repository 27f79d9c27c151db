"""Every number of params.yaml has a lower and an upper bound, and paths have a largest length."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from duvae import config
from duvae.config import Params, SyntheticDataset
from duvae.errors import UserError
from duvae.paths import LONGEST_PART, LONGEST_PATH
from duvae.project import memory
from duvae.registry import HYPERPARAMETERS

PARAMS = Path(__file__).parents[1] / "params.yaml"


def numbers(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All parts of a JSON schema that allow a number, with their paths."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield path, schema
        for key, value in schema.items():
            yield from numbers(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from numbers(value, f"{path}/{index}")


@pytest.mark.parametrize("model", [Params, *HYPERPARAMETERS.values()], ids=lambda model: model.__name__)
def test_every_number_has_two_bounds(model: Any) -> None:
    """Numbers of a fixed choice, such as the sides of kernels, need no bounds."""
    unbounded = [
        path
        for path, schema in numbers(TypeAdapter(model).json_schema())
        if "enum" not in schema
        and "const" not in schema
        and not ({"minimum", "exclusiveMinimum"} & schema.keys() and {"maximum", "exclusiveMaximum"} & schema.keys())
    ]

    assert unbounded == []


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """All numbers and texts of params.yaml, with their paths."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from leaves(part, (*path, index))
    else:
        yield path, value


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = list(content) if isinstance(content, list) else dict(content)
    copy[path[0]] = changed(copy[path[0]], path[1:], value)

    return copy


CONTENT = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
NUMBERS = [path for path, value in leaves(CONTENT) if type(value) in (int, float)]


EXTREMES = [10**30, -(10**30), 1e300, -1e300, float("inf"), float("nan")]


@pytest.mark.parametrize("first", range(len(EXTREMES)))
def test_extreme_numbers_are_refused_with_their_key(first: int) -> None:
    """Only some numbers are tried, since a whole file is checked each time."""
    for path in NUMBERS[first :: 3 * len(EXTREMES)]:
        with pytest.raises(UserError) as error:
            config.parse(changed(CONTENT, path, EXTREMES[first]))
        assert str(path[-2 if isinstance(path[-1], int) else -1]) in str(error.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("x" * 5000, "at most 1,000 bytes"),
        ("corpora/" + "x" * (LONGEST_PART + 1), f"names of at most {LONGEST_PART} bytes"),
        ("/".join(["x" * 100] * 11), f"at most {LONGEST_PATH:,} bytes"),
        ("ä" * 101, f"names of at most {LONGEST_PART} bytes"),
        ("", "which names none"),
        ("/", "which names none"),
        (".", "which names none"),
        ("../..", "which names none"),
        ("a\nb", "without control characters"),
        ("a\0b", "without control characters"),
    ],
)
def test_paths_that_name_no_file_are_refused(path: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        config.parse(changed(CONTENT, ("datasets", "yahoo", "source", "train", 0, "path"), path))
    assert "datasets.yahoo.source.train.0.path" in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing": 0.001}, "expected a lattice of at most 4,000,000 points"),
        ({"spacing": 100}, "expected at most the halfwidth"),
    ],
)
def test_the_lattice_of_a_likelihood_is_small(change: dict[str, Any], message: str) -> None:
    truth = {**CONTENT["datasets"]["synthetic"]["truth"], **change}

    with pytest.raises(UserError, match=message):
        config.parse(changed(CONTENT, ("datasets", "synthetic", "truth"), truth))
    with pytest.raises(UserError, match=message):
        config.parse({**CONTENT, "exact": {**CONTENT["exact"], **change}})


def test_the_synthetic_text_fits_into_memory() -> None:
    source = {**CONTENT["datasets"]["synthetic"]["source"], "train": 1_000_000, "length": 1_000}

    with pytest.raises(UserError, match=r"source\.train.*at most 100,000,000 words in all sentences; found 1,0"):
        config.parse(changed(CONTENT, ("datasets", "synthetic", "source"), source))


def test_further_sentences_count_as_training_sentences() -> None:
    def parsed(further: int, labels: int = 100) -> SyntheticDataset:
        dataset = CONTENT["datasets"]["synthetic"]
        source = {**dataset["source"], "further": further}
        changes = {**dataset, "source": source, "probe": {"labels": [labels]}}
        found = config.parse(changed(CONTENT, ("datasets", "synthetic"), changes)).dataset("synthetic")
        assert isinstance(found, SyntheticDataset)

        return found

    assert parsed(48_000, labels=64_000).source.training == 64_000
    with pytest.raises(UserError, match="at most 64,000, the number of training sentences; found 64,001"):
        parsed(48_000, labels=64_001)
    with pytest.raises(UserError, match=r"source\.further.*at most 100,000,000 words in all sentences; found 100,2"):
        parsed(10_000_000)
    needs = memory.synthetic_needs(parsed(48_000).source)
    assert any("48,000 sentences" in name for name in needs)


def test_a_long_name_is_refused() -> None:
    """The names of files join up to three names, and a file name has at most 255 bytes."""
    longest = "x" * 60
    of = CONTENT["datasets"]["synthetic"]
    config.parse({**CONTENT, "datasets": {**CONTENT["datasets"], longest: of}})

    with pytest.raises(UserError, match="at most 60"):
        config.parse({**CONTENT, "datasets": {**CONTENT["datasets"], longest + "x": of}})


def test_every_list_in_the_block_to_run_has_a_largest_length() -> None:
    block = {"datasets": ["synthetic"], "settings": ["vae"]}
    config.parse({**CONTENT, "run": {**block, "seeds": list(range(1_000))}})

    with pytest.raises(UserError, match=r"run\.seeds.*a length of at most 1000"):
        config.parse({**CONTENT, "run": {**block, "seeds": list(range(1_001))}})


def test_a_grid_is_small() -> None:
    name, grid = next(iter(CONTENT["setting_grids"].items()))
    values = {key: [0.5 + n / 1000 for n in range(40)] for key in grid["values"]}

    with pytest.raises(UserError, match="expected at most 1,000 combinations"):
        config.parse(changed(CONTENT, ("setting_grids", name, "values"), values))
