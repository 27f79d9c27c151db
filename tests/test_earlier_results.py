"""Results of earlier parameters, or without a record of their training, are named as such."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import made_up
from duvae.commands import report
from duvae.config import Job, Params
from duvae.report import earlier_results, page, results
from duvae.report.results import Result

RECORD = {"train": {"commit": made_up.COMMIT}}


@pytest.fixture(scope="module")
def params() -> Params:
    return made_up.params(settings=["vae", "du_vae", "sa_vae"])


def model(system: str, epochs: int, recorded: bool = True, **changed: Any) -> Result:
    metrics = {"system": system, "hyperparameters": {}, "epochs": epochs, "sentences": 9, "importance_samples": 5}
    metrics |= {"warmup_ended": True, **changed}
    history = pd.DataFrame(dict.fromkeys(results.HISTORY, 0.0), index=range(3))

    return Result(Job("synthetic", system, 1, "synthetic"), metrics, history, None, RECORD if recorded else {})


def test_another_limit_of_epochs_than_today_is_told(params: Params) -> None:
    """The synthetic data have 120 epochs now, and SA-VAE has 30 of its own."""
    old = model("vae", 50, stopped="after 50 epochs")
    new = model("du_vae", 120, ending="epochs")
    own = model("sa_vae", 30, ending="epochs")
    ended = model("du_vae", 40, ending="decays")

    assert [earlier_results.limit(each) for each in (old, new, own, ended)] == [50, 120, 30, None]
    assert earlier_results.sentences(params, [old, new, own, ended]) == [
        "VAE was trained with a limit of 50 epochs; params.yaml now has 120: this result is of earlier parameters."
    ]
    both = [old, model("du_vae", 50, ending="epochs")]
    assert earlier_results.sentences(params, [*both, own])[0].startswith(
        "VAE and DU-VAE were trained with a limit of 50"
    )
    assert earlier_results.sentences(params, both)[0].startswith("All models were trained with a limit of 50")
    assert earlier_results.sentences(params, [new, own, ended]) == []


def test_other_parameters_than_today_are_told(params: Params) -> None:
    """The record of a training has its parameters."""
    recorded = {"optimisation": {"epochs": 50, "batch": 32}, "networks": {"hidden": 50}}
    samples = params.evaluation.importance_samples
    old = dataclasses.replace(
        model("vae", 50, ending="epochs", importance_samples=samples),
        provenance={"train": {**RECORD["train"], "parameters": recorded}},
    )
    today = dataclasses.replace(
        model("du_vae", 120, ending="epochs", importance_samples=samples),
        provenance={"train": {**RECORD["train"], "parameters": {"optimisation": {"epochs": 120}}}},
    )
    lines = earlier_results.sentences(params, [old, today])
    assert len(lines) == 1
    assert lines[0].startswith("VAE was made with optimisation.epochs 50 (params.yaml: 120)")
    assert lines[0].endswith(": earlier parameters.")


def test_other_code_than_today_is_told(params: Params, tmp_path: Path) -> None:
    """The record of each stage has the fingerprint of its code, and fingerprints.yaml has those of today."""

    def made(system: str, **codes: str) -> Result:
        records = {stage: {**RECORD["train"], "fingerprint": code} for stage, code in codes.items()}
        return dataclasses.replace(model(system, 120, ending="epochs"), provenance=records)

    models = [made("vae", train="a", evaluate="b"), made("du_vae", train="x", evaluate="d", probe="e")]
    assert earlier_results.sentences(params, models, tmp_path) == [], "without the file nothing is known"
    (tmp_path / "fingerprints.yaml").write_text(
        "train:\n  vae: 'a'\n  du_vae: 'c'\nevaluate:\n  vae: 'b'\n  du_vae: 'd'\nprobe:\n  du_vae: 'f'\n"
    )
    assert earlier_results.sentences(params, models, tmp_path) == [
        "DU-VAE was made by earlier code of training and probes; 'dvc repro' makes it again."
    ]


def test_a_training_without_a_record_is_told(params: Params) -> None:
    of = [model("vae", 120, False, ending="epochs"), model("du_vae", 120, ending="epochs")]
    assert earlier_results.sentences(params, of) == [
        "VAE was made by an earlier version that kept no record of the training, so the commit is not known."
    ]


def test_the_limit_of_today_is_not_that_of_old_results(params: Params) -> None:
    dataset, of = params.dataset("synthetic"), [model("vae", 50, stopped="after 50 epochs")]
    assert "50 epochs of at most 120" in page.size(dataset, None, of)[0]
    assert "50 epochs; NLL" in page.size(dataset, None, of, same_limit=False)[0]


def test_the_page_names_old_results_in_the_section_and_in_the_scoreboard(tmp_path: Path) -> None:
    params = made_up.params(settings=["vae", "fb"])
    made_up.project(tmp_path, params)
    (tmp_path / "results/synthetic/vae/1/train.run.json").unlink()
    path = tmp_path / "results/synthetic/fb/1/train.run.json"  # earlier versions recorded no parameters
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    for record in content["record"]:
        record.pop("parameters", None)
    path.write_text(json.dumps(content), encoding="utf-8")
    report.run(params, tmp_path)
    html = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    front, rest = html.split('<section id="synthetic">')
    assert "partly of earlier code or parameters" in front.partition('<section id="claims">')[0]
    for line in ("VAE was made by an earlier version that kept no record", "FB was trained with a limit of"):
        assert line not in front
        assert line in rest
