"""Values that need more memory than there is, each allowed by itself, are refused before memory is taken."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from duvae import cli, config
from duvae.networks import build
from duvae.project import memory
from test_known_early import Plain

ROOT = Path(__file__).parents[1]
GIB = 2**30


def call(
    raw: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> str:
    """Runs a command of `duvae` that must be refused. Returns the text on standard error."""
    (folder / "params.yaml").write_text(yaml.dump(raw, Dumper=Plain), encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(memory, "host_memory", lambda: 16 * GIB)
    monkeypatch.setattr(memory, "training_memory", lambda: 16 * GIB)
    monkeypatch.setattr(sys, "argv", ["duvae", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    error = capsys.readouterr().err

    assert ended.value.code == 2, error
    assert "Traceback" not in error

    return error


@pytest.mark.parametrize(
    ("values", "messages"),
    [
        ({"words": 1_000_000, "hidden": 16_384}, ["words 1,000,000, hidden 16,384", "GiB for the generator's weights"]),
        ({"train": 9_000_000, "words": 1_000}, ["134.1 GiB for the probabilities", "9,000,000 sentences, words 1,000"]),
    ],
)
def test_sentences_that_do_not_fit_are_not_drawn(
    values: dict[str, int],
    messages: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw = tiny.small()
    raw["datasets"]["synthetic"]["source"].update(values)
    error = call(raw, tmp_path, monkeypatch, capsys, "prepare", "--dataset", "synthetic")

    assert "datasets.synthetic.source: expected values with which the drawing of sentences fits into 16.0 GiB" in error
    assert all(message in error for message in messages)
    assert not (tmp_path / "data/prepared").exists()


@pytest.mark.parametrize(
    ("dataset", "values", "message"),
    [
        ("synthetic", {"hidden": 16_384, "embedding": 16_384}, "hidden 16,384, embedding 16,384"),
        ("omniglot", {"width": 16_384, "kernels": [3] * 13}, "size 28, width 16,384, 13 kernels"),
    ],
)
def test_trainings_that_do_not_fit_do_not_start(
    dataset: str,
    values: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw = tiny.small()
    raw["datasets"][dataset]["networks"].update(values)
    prepared = tmp_path / "data/prepared" / dataset
    prepared.mkdir(parents=True)
    (prepared / "vocabulary.txt").write_text("word\n" * 1_000, encoding="utf-8")
    (prepared / "summary.json").write_text(json.dumps({"splits": {"train": {"documents": 1_000}}}), encoding="utf-8")
    error = call(raw, tmp_path, monkeypatch, capsys, "train", "--dataset", dataset, "--setting", "vae", "--seed", "1")

    assert f"datasets.{dataset}: expected values with which a training of vae fits into 16.0 GiB" in error
    assert message in error
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("dataset", ["synthetic", "short_yelp", "yahoo", "omniglot"])
def test_twice_the_sizes_of_the_paper_fit_into_small_machines(dataset: str) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    networks = raw["datasets"][dataset]["networks"]
    networks.update({key: 2 * networks[key] for key in ("embedding", "hidden", "latent", "width") if key in networks})
    raw["datasets"][dataset]["optimisation"]["batch"] *= 2
    source = raw["datasets"]["synthetic"]["source"]
    source.update({key: 2 * source[key] for key in ("train", "words", "hidden", "embedding", "length")})
    params = config.parse(raw)

    assert sum(memory.training_needs(params, "vae", dataset, 40_000, 200_000).values()) < 4 * GIB
    assert sum(memory.synthetic_needs(params.dataset("synthetic").source).values()) < 4 * GIB


@pytest.mark.parametrize("dataset", ["synthetic", "short_yelp", "omniglot", "omniglot_small"])
def test_the_counted_weights_are_nearly_all_weights_and_never_more(dataset: str) -> None:
    networks = tiny.params().dataset(dataset).networks
    encoder, decoder = build(networks, 500, "torch", fast=False)
    real = sum(p.numel() for part in (encoder, decoder) for p in part.parameters())

    assert 0.5 * real < memory.weights(networks, 500) <= real
