"""The setting that supplement E's rule selects stands beside the paper's in Figure 1."""

import json
from pathlib import Path

import pytest
import yaml

import made_up
from duvae.config import Params, best_params_path
from duvae.report import figure1, per_example, results, selection
from duvae.report.results import Result


@pytest.fixture(scope="module")
def params() -> Params:
    return made_up.params(settings=["ae", "vae", "agg_vae", "bn_vae", "du_vae", "du_vae_10_03"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Path:
    return made_up.project(tmp_path_factory.mktemp("selection"), params)


def select(root: Path, text: str) -> None:
    path = best_params_path("synthetic_grid", root)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def found(params: Params, root: Path) -> tuple[list[Result], Result | None]:
    models = results.read(params, params.run_jobs(), root)

    return models, selection.selected_model(params, models, root)


def test_the_selected_setting_is_found_and_described(params: Params, root: Path) -> None:
    select(root, yaml.safe_dump({"hyperparameters": {"gamma": 1.0, "p": 0.3}}))
    models, selected = found(params, root)
    assert selected is not None
    assert selected.job.setting == "du_vae_10_03"
    by_setting = {model.job.setting: model for model in models}
    values = {name: per_example.read(by_setting[name], root) for name in ("du_vae", "du_vae_10_03")}
    paper, ours = values["du_vae"], values["du_vae_10_03"]
    assert paper is not None
    assert ours is not None
    text = selection.sentence(params, (by_setting["du_vae"], paper), (selected, ours), root)
    assert text is not None
    assert "the settings whose MI is above 1 nat; we take both on validation." in text
    assert "In the study synthetic_grid this is γ 1, p 0.3; in the paper it is γ 1, p 0.5." in text
    assert "An earlier version made the study and kept no record of it." in text
    words = [
        selection.centres_text(selection.counts(selection.density(per_example.space(by_setting[name], each))))
        for name, each in (("du_vae", paper), ("du_vae_10_03", ours))
    ]
    assert f"has {words[0]} with γ 1, p 0.5 and {words[1]} with γ 1, p 0.3; the paper's figure shows five." in text
    text = selection.sentence(params, (by_setting["du_vae"], paper), None, root)
    assert text is not None
    assert text.endswith("A DU-VAE with γ 1, p 0.3 is not shown, since it was not trained.")
    five = [model for model in models if model.job.setting != "du_vae_10_03"]
    with_it, without = (figure1.picture(params, five, root, each)[1] for each in (selected, None))
    assert "(DU-VAE, γ 1, p 0.3)" in with_it["outside"]
    assert "(DU-VAE, γ 1, p 0.3)" not in without["outside"]


def test_the_papers_own_choice_needs_no_second_panel(params: Params, root: Path) -> None:
    select(root, yaml.safe_dump({"hyperparameters": {"gamma": 1.0, "p": 0.5}}))
    models, selected = found(params, root)
    assert selected is None
    du_vae = next(model for model in models if model.job.setting == "du_vae")
    values = per_example.read(du_vae, root)
    assert values is not None
    text = selection.sentence(params, (du_vae, values), None, root)
    assert text is not None
    assert "In the study synthetic_grid this is γ 1, p 0.5, as in the paper." in text
    assert "centre" not in text


def test_the_study_says_how_much_its_choice_means(params: Params, root: Path) -> None:
    """Its seed, the trials that may be as good, its limit of epochs, the paper's choice, and its version."""
    select(root, yaml.safe_dump({"hyperparameters": {"gamma": 1.0, "p": 0.3}}))
    folder = best_params_path("synthetic_grid", root).parent
    study = {"epochs_of_a_training": 50, "min_mi": 1.0, "maybe_best": [0, 1, 2]}
    (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")
    trials = (
        "trial,gamma,p,state,mi,epochs\n0,1.0,0.3,complete,1.7,50\n1,1.0,0.5,complete,0.83,40\n2,1.0,0.7,pruned,,5\n"
    )
    (folder / "trials.csv").write_text(trials, encoding="utf-8")
    record = {"commit": "fedcba9876543210fedcba9876543210fedcba98", "dirty": False}
    (folder / "search.run.json").write_text(json.dumps({"record": [record]}), encoding="utf-8")

    def text() -> str:
        models, selected = found(params, root)
        assert selected is not None
        paper = next(model for model in models if model.job.setting == "du_vae")
        pairs = [(model, per_example.read(model, root)) for model in (paper, selected)]
        known = [(model, values) for model, values in pairs if values is not None]
        return selection.sentence(params, known[0], known[1], root) or ""

    try:
        whole = text()
        assert "The study has one seed. 2 other trials cannot be distinguished from this one." in whole
        assert "Its training ended at the limit of 50 epochs, so it may not have converged." in whole
        assert (
            "There the one training with the paper's own values had an MI of 0.83, not above the bound. The model with"
            " these values on this page, after" in whole
        )
        assert "Another version made the study (commit fedcba9; the models: 0123456)." in whole
        record["commit"] = made_up.COMMIT
        (folder / "search.run.json").write_text(json.dumps({"record": [record]}), encoding="utf-8")
        study["maybe_best"] = [0]
        (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")
        whole = text()
        assert "version" not in whole
        assert "other trial" not in whole
        (folder / "study.json").write_text("[]", encoding="utf-8")
        (folder / "trials.csv").write_text("\x00", encoding="utf-8")
        assert "Its trials were not compared in pairs" in text()
    finally:
        for name in ("study.json", "trials.csv", "search.run.json"):
            (folder / name).unlink()


@pytest.mark.parametrize("text", ["", "hyperparameters: null", "hyperparameters: {gamma: x}", "[", "- 1", "\x00"])
def test_without_a_result_of_the_study_nothing_is_said(params: Params, root: Path, text: str) -> None:
    select(root, text)
    models, selected = found(params, root)
    assert selected is None
    du_vae = next(model for model in models if model.job.setting == "du_vae")
    values = per_example.read(du_vae, root)
    assert values is not None
    assert selection.sentence(params, (du_vae, values), None, root) is None
