"""The setting that supplement E's rule selects stands beside the paper's in Figure 1."""

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
    assert "On our data this is γ 1, p 0.3, and in the paper γ 1, p 0.5." in text
    counts = [len(selection.centres(selection.density(per_example.space(by_setting[name], each))))
              for name, each in (("du_vae", paper), ("du_vae_10_03", ours))]  # fmt: skip
    words = ["1 centre" if count == 1 else f"{count} centres" for count in counts]
    assert f"has {words[0]} with γ 1, p 0.5 and {words[1]} with γ 1, p 0.3; the paper's figure shows five." in text
    text = selection.sentence(params, (by_setting["du_vae"], paper), None, root)
    assert text is not None
    assert text.endswith("A DU-VAE with γ 1, p 0.3 is not shown, since it was not trained.")
    five = [model for model in models if model.job.setting != "du_vae_10_03"]
    with_it, without = (figure1.content(params, five, root, each)[1] for each in (selected, None))
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
    assert text.endswith("On our data, as in the paper, this is γ 1, p 0.5.")


@pytest.mark.parametrize("text", ["", "hyperparameters: null", "hyperparameters: {gamma: x}", "[", "- 1", "\x00"])
def test_without_a_result_of_the_study_nothing_is_said(params: Params, root: Path, text: str) -> None:
    select(root, text)
    models, selected = found(params, root)
    assert selected is None
    du_vae = next(model for model in models if model.job.setting == "du_vae")
    values = per_example.read(du_vae, root)
    assert values is not None
    assert selection.sentence(params, (du_vae, values), None, root) is None
