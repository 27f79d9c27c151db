"""The page of a study: the front of NLL against use of z, and the importance of hyperparameters."""

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import create_trial

from duvae.report import study_front
from duvae.search.plan import Plan
from duvae.search.summary import LEAST_FOR_IMPORTANCE, importance
from test_search import GRID, params


def table(*rows: tuple[float, float | None], state: str = "complete") -> pd.DataFrame:
    """A table of trials with the given NLL and use of z."""
    return pd.DataFrame(
        [
            {"trial": n, "state": state, "nll": nll, "nll_stderr": 0.1, "use": use, "feasible": True}
            for n, (nll, use) in enumerate(rows)
        ]
    )


def test_the_front_by_hand() -> None:
    trials = table((30.0, 1.0), (29.0, 0.0), (31.0, 0.5), (30.0, 0.9), (32.0, 4.0), (29.0, 0.0), (33.0, 4.0))
    assert study_front.front(trials) == [1, 0, 4]


def test_trials_that_were_not_measured_are_left_out() -> None:
    assert study_front.front(table((30.0, None), (31.0, 0.5))) == [1]
    assert study_front.front(table((30.0, 1.0), state="pruned")) == []
    assert study_front.front(table((30.0, 1.0)).drop(columns="use")) == []


@given(st.lists(st.tuples(st.floats(20, 40), st.floats(-1, 9)), min_size=1, max_size=12))
def test_no_trial_is_better_than_one_of_the_front_and_one_of_the_front_is_as_good_as_each_other(
    rows: list[tuple[float, float]],
) -> None:
    found = [rows[number] for number in study_front.front(table(*rows))]
    for nll, use in rows:
        assert any(own <= nll and of_z >= use for own, of_z in found)
    for own, of_z in found:
        assert not any(nll <= own and use >= of_z and (nll, use) != (own, of_z) for nll, use in rows)


@pytest.mark.parametrize("best", [0, None])
def test_the_figure_has_all_measured_trials_and_the_line_of_the_front(best: int | None) -> None:
    trials = table((30.0, 1.0), (29.0, 0.0), (31.0, 0.5), (30.5, None))
    summary = {"best": None if best is None else {"trial": best}}
    (ax,) = study_front.front_figure(summary, trials).axes
    lines = [line.get_xydata().tolist() for line in ax.lines]
    assert [[0.0, 29.0], [1.0, 30.0]] in lines
    assert [[1.0, 30.0], [0.0, 29.0], [0.5, 31.0]] in lines
    assert ([[1.0, 30.0]] in lines) is (best == 0)


def study_of(plan: Plan, values: list[tuple[float, float, float]]) -> optuna.Study:
    """A study with complete trials of the given gamma, p and NLL."""
    study = optuna.create_study()
    for gamma, p, nll in values:
        study.add_trial(create_trial(params={"gamma": gamma, "p": p}, distributions=plan.distributions, value=nll))

    return study


@pytest.fixture
def plan() -> Plan:
    return Plan.from_params(params(one=GRID), "one")


def test_the_hyperparameter_that_alone_decides_the_nll_has_all_the_importance(plan: Plan) -> None:
    points = [(gamma, p, 30 + gamma) for gamma in (0.5, 0.7, 1.0, 1.2) for p in (0.1, 0.3, 0.5, 0.7)]
    shares = importance(plan, study_of(plan, points))
    assert shares is not None
    assert list(shares) == ["gamma", "p"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["gamma"] > 0.95
    assert importance(plan, study_of(plan, points)) == shares


def test_few_trials_or_a_single_hyperparameter_have_no_importance(plan: Plan) -> None:
    values = np.linspace(0.5, 1.2, LEAST_FOR_IMPORTANCE)
    points = [(float(gamma), 0.3, float(gamma)) for gamma in values]
    assert importance(plan, study_of(plan, points[:-1])) is None
    assert importance(plan, study_of(plan, [(gamma, p, 30.0) for gamma, p, _ in points])) is None
    single = Plan.from_params(params(one={**GRID, "values": {"gamma": [0.5, 1.2]}, "setting": "bn_vae"}), "one")
    study = optuna.create_study()
    for gamma, _, nll in points:
        study.add_trial(create_trial(params={"gamma": gamma}, distributions=single.distributions, value=nll))
    assert importance(single, study) is None


def test_the_sentence_has_the_letters_of_the_paper_the_largest_first() -> None:
    summary = {"system": "du_vae", "importance": {"gamma": 0.25, "p": 0.75}, "trials": {"complete": 16}}
    line = study_front.importance_line(summary)
    assert line is not None
    assert line.startswith("Importance for the NLL, by fANOVA: p 75.0 % and γ 25.0 % of what single hyperparameters")
    assert "16 complete trials" in line
    assert study_front.importance_line({**summary, "importance": None}) is None
    assert study_front.importance_line({"system": "du_vae"}) is None
