"""What the parameters alone can tell is an error of `duvae graph`, not of a stage after hours of training."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import family
import tiny
from duvae import cli, config
from duvae.config import Truth
from duvae.data.synthetic import Generator, true_nll, weights
from duvae.errors import UserError
from duvae.registry import RECORDS


def graph(
    raw: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Runs `duvae graph` on parameters. Returns the exit status and the text on standard error."""
    (folder / "pipelines").mkdir()
    (folder / "params.yaml").write_text(yaml.dump(raw, Dumper=Plain), encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["duvae", "graph"])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0), capsys.readouterr().err

    return 0, ""


class Plain(yaml.SafeDumper):
    """Writes parts that occur twice in full, and all texts in quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


Plain.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


@pytest.mark.parametrize("name", ["1e3", "08", "0o10", "123", "1_0", "0x1f", "null", "true", "no"])
@pytest.mark.parametrize("key", ["datasets", "studies"])
def test_names_that_yaml_reads_as_something_else(
    key: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tiny.small()
    raw[key][name] = next(iter(raw[key].values()))
    code, error = graph(raw, tmp_path, monkeypatch, capsys)

    assert code == 2
    assert f"{key}.{name}" in error
    assert "expected a name that is no number, truth value or null in YAML" in error


def against_itself(raw: dict[str, Any]) -> None:
    raw["studies"]["synthetic_grid"]["against"] = "synthetic_grid"


def in_a_circle(raw: dict[str, Any]) -> None:
    raw["studies"]["second"] = {**raw["studies"]["synthetic_grid"], "against": "synthetic_grid"}
    raw["studies"]["synthetic_grid"]["against"] = "second"


def of_an_autoencoder(raw: dict[str, Any]) -> None:
    raw["studies"]["synthetic_grid"].update(setting="ae", values={})


def mutual_information_of_a_flow(raw: dict[str, Any]) -> None:
    raw["studies"]["omniglot_grid"].update(setting="iaf_fb", values={"free_bits": [0.1, 0.2]}, min_mi=0.1)


def another_table(raw: dict[str, Any]) -> None:
    raw["datasets"]["synthetic"]["paper"] = {"tables": ["table1"]}
    tiny.block(raw)["datasets"] = ["synthetic"]


def figure_of_other_data(raw: dict[str, Any]) -> None:
    raw["datasets"]["synthetic"] = {**raw["datasets"]["own"], "column": "synthetic"}


def few_points(raw: dict[str, Any]) -> None:
    raw["datasets"]["synthetic"]["truth"]["spacing"] = 0.26


def few_points_of_the_exact_nll(raw: dict[str, Any]) -> None:
    raw["exact"]["spacing"] = 0.26


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (few_points, "expected less than 0.25, so that the lattice has enough points; found 0.26"),
        (few_points_of_the_exact_nll, "expected less than 0.214, so that the lattice has enough points; found 0.26"),
        (against_itself, "studies.synthetic_grid.against"),
        (in_a_circle, "found a circle of comparisons"),
        (of_an_autoencoder, "expected a system with a likelihood"),
        (mutual_information_of_a_flow, "the mutual information of iaf_fb is unknown"),
        (another_table, "Table 1: likelihood has no rows for the column 'synthetic'"),
        (figure_of_other_data, "expected a synthetic data set, which Figure 1 needs"),
    ],
)
def test_mistakes_that_later_stages_would_find(
    change: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tiny.small()
    change(raw)
    code, error = graph(raw, tmp_path, monkeypatch, capsys)

    assert code == 2
    assert message in error
    assert "Traceback" not in error


def test_the_same_parameters_without_a_mistake_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert graph(tiny.small(), tmp_path, monkeypatch, capsys) == (0, "")


@pytest.mark.parametrize("system", RECORDS)
def test_records_know_the_measures_of_their_systems(system: str) -> None:
    posterior = family.build(system)[0].eval().posterior(family.batch())

    assert RECORDS[system].likelihood == posterior.density
    assert RECORDS[system].mutual_information == ("mi" in posterior.measured)


@pytest.mark.parametrize("spacing", [0.21, 0.25, 0.2501, 0.26, 0.4])
def test_the_lattice_has_one_bound(spacing: float) -> None:
    """`duvae graph` refuses exactly the lattices that the stage `truth` would refuse."""
    raw = tiny.small()
    source = config.parse(raw).dataset("synthetic").source
    raw["datasets"]["synthetic"]["truth"].update(spacing=spacing, halfwidth=8.0)
    truth = Truth(sentences=1, spacing=spacing, halfwidth=8.0)
    arrays = weights(source, np.random.default_rng(1))

    def refused(call: Callable[[], object]) -> bool:
        try:
            call()
        except UserError:
            return True
        return False

    early = refused(lambda: config.parse(raw))
    late = refused(
        lambda: true_nll(Generator.of(arrays), source, np.zeros((0, 3), int), np.zeros((0, 2)), truth),
    )
    assert early == late == (spacing >= 8 / 4 / 7)
