"""The page of a study names its commit, parameters that have changed, and the trials that may not have converged."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from duvae import config
from duvae.report import studies, study_text
from duvae.report.study_figures import paper_choice

PARAMS = config.load(Path(__file__).parents[1] / "params.yaml")

SUMMARY = {"space": {"gamma": [0.5, 1.0]}, "system": "du_vae", "best": None, "epochs_of_a_training": 50, "seeds": [1]}


def trials(*rows: tuple[str, int]) -> pd.DataFrame:
    known = dict.fromkeys(("gamma", "nll", "nll_stderr", "kl", "mi"), 1.0)

    return pd.DataFrame(
        [
            {"trial": place, **known, "state": state, "epochs": epochs, "why": ""}
            for place, (state, epochs) in enumerate(rows)
        ]
    )


def test_trials_at_the_limit_or_stopped_early_are_named() -> None:
    frame = trials(("complete", 50), ("complete", 41), ("pruned", 10), ("pruned", 50), ("failed", 2))
    (line,) = study_text.ending_lines(SUMMARY, frame)
    assert line.startswith("‡ Of 5 trials, 1 reached the limit of 50 epochs and 2 were stopped early.")
    assert study_text.ending_lines(SUMMARY, trials(("complete", 41))) == []
    marks = [row.cells[1].mark for row in studies.trials_table(SUMMARY, frame).rows]
    assert marks == ["‡", "", "", "", ""]


def test_the_commit_of_a_study_is_named_or_said_to_be_unknown() -> None:
    assert study_text.origin_line({"commit": "0123456789", "dirty": True}) == "The study ran at commit 0123456+."
    assert study_text.origin_line({}) == (
        "The commit of this study is not known: an earlier version made it and kept no record."
    )
    assert study_text.origin_line({"commit": None}).endswith("its record names none.")


def of_today(study: str) -> dict[str, Any]:
    """The part of study.json that a search with today's params.yaml would write about its parameters."""
    of, optimisation = (
        PARAMS.study(study),
        PARAMS.optimisation(PARAMS.study(study).setting, PARAMS.study(study).dataset),
    )

    return {
        "study": study,
        **of.model_dump(include={"dataset", "setting", "seeds", "sampler", "min_mi"}),
        "epochs_of_a_training": optimisation.epochs,
        "warmup": optimisation.warmup,
        "importance_samples": of.importance_samples or PARAMS.evaluation.importance_samples,
    }


@pytest.mark.parametrize("study", PARAMS.studies)
def test_a_study_of_todays_parameters_is_not_called_earlier(study: str) -> None:
    assert study_text.earlier_lines(of_today(study), PARAMS) == []


@pytest.mark.parametrize(
    ("key", "word", "then"),
    [
        ("epochs_of_a_training", "epochs", 7),
        ("warmup", "warmup", 3),
        ("seeds", "seeds", [99]),
        ("min_mi", "bound of MI", None),
        ("sampler", "sampler", "tpe"),
        ("importance_samples", "K", 50),
    ],
)
def test_a_study_of_earlier_parameters_names_them(key: str, word: str, then: Any) -> None:
    summary = of_today("synthetic_grid")
    (line,) = study_text.earlier_lines({**summary, key: then}, PARAMS)

    assert line == (
        f"This study is of earlier parameters: {word} {then} (params.yaml: {summary[key]}). 'duvae search --study"
        " synthetic_grid' runs it again."
    )


def test_the_papers_choice_is_no_part_of_the_page_of_own_data() -> None:
    """Data of the user read the column of one of the paper's data sets, for which the paper has chosen values."""
    summary = {**SUMMARY, "column": "yelp", "space": {"gamma": [0.5], "p": [0.8]}}
    assert paper_choice(summary) == {"gamma": 0.5, "p": 0.8}
    assert paper_choice({**summary, "own_data": True}) is None
    own = PARAMS.dataset("short_yelp").model_copy(update={"paper": None})
    datasets = {**PARAMS.datasets, "reviews": own}
    assert [name for name, dataset in datasets.items() if config.is_own(dataset)] == ["reviews"]


@pytest.mark.parametrize("content", ["[", "{}", '{"system": "du_vae", "dataset": "synthetic"}'])
def test_a_study_that_cannot_be_read_is_left_out_with_a_warning(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = next(iter(PARAMS.studies))
    path = config.best_params_path(name, tmp_path).with_name("study.json")
    assert study_text.in_short(PARAMS, tmp_path) == []
    assert not capsys.readouterr().err

    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    path.with_name("trials.csv").write_text("trial\n0\n", encoding="utf-8")
    assert study_text.in_short(PARAMS, tmp_path) == []
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {path.parent}")
    assert f"duvae search --study {name}" in warning


def test_the_front_page_says_how_far_a_study_is_to_be_trusted(tmp_path: Path) -> None:
    """One seed, the selection among many trials, the limit of epochs, and parameters that have changed since."""
    study = next(name for name in PARAMS.studies if PARAMS.study(name).prune is None)
    folder = config.best_params_path(study, tmp_path).parent
    folder.mkdir(parents=True)
    best = {"trial": 0, "hyperparameters": {"gamma": 0.5, "p": 0.8}, "nll": 30.0, "nll_stderr": 0.3, "mi": 1.5}
    summary = {**SUMMARY, **of_today(study), "maybe_best": None, "best": best, "epochs_of_a_training": 42}
    (folder / "study.json").write_text(json.dumps({**summary, "seeds": [7]}), encoding="utf-8")
    frame = trials(("complete", 42), ("complete", 42)).assign(feasible=True)
    frame.to_csv(folder / "trials.csv", index=False)

    (line,) = study_text.in_short(PARAMS, tmp_path)
    assert line["name"] == study
    for words in (
        "NLL 30.00 [0.30]",
        "it is biased low",
        "were not compared in pairs",
        "‡ Of 2 trials, 2 reached the limit of 42 epochs",
        "This study is of earlier parameters: seeds [7]",
    ):
        assert words in line["text"], words
