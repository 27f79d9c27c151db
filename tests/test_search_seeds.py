"""Studies whose trials train one model per seed: what is measured, what is kept after a kill, which trials end early.

Some tests run small studies. Others replace the training and the measurement by made-up numbers.
"""

import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from duvae import config
from duvae.commands import search as stage
from duvae.data.splits import Array
from duvae.report import studies, study_text
from duvae.search import examples
from duvae.search import trial as search_trial
from duvae.search.attributes import EPOCHS, SEEDS
from duvae.search.plan import Plan
from duvae.search.pruning import MI, reason_between_seeds, reported_curve, step_of
from duvae.search.storage import open_storage
from duvae.search.study import epochs_left, may_begin
from duvae.search.trial import LEAST_MI, feasible, over_seeds
from duvae.tracking.store import connect, experiment
from duvae.tracking.trial_runs import TRIAL
from test_search import GRID, TPE, params, prepared, project, results, table

pytestmark = pytest.mark.filterwarnings("ignore")  # Optuna and MLflow warn about their new functions

__all__ = ["prepared", "project"]  # fixtures of the other tests of searches


# ------------------------------------------------------------------- small studies


@pytest.fixture(scope="module")
def three_studies(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the studies of seed 1, of seed 2, and of both, each with one point."""
    project = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("three") / "project"))
    given = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    point = {**GRID, "values": {"gamma": [1.0], "p": [0.5]}}
    given["studies"] = {"one": point, "two": {**point, "seeds": [2]}, "both": {**point, "seeds": [1, 2]}}
    for name in given["studies"]:
        stage.run(config.parse(given), name, root=project)

    return project


def test_a_trial_of_two_seeds_is_two_trials_of_one_seed(three_studies: Path) -> None:
    root = three_studies
    one, two, both = (table(root, name).iloc[0] for name in ("one", "two", "both"))
    single = [examples.read(root / f"results/studies/{name}/nll.json", "")[0] for name in ("one", "two")]
    curves = [pd.read_csv(root / f"results/studies/{name}/curves.csv") for name in ("one", "two", "both")]

    for name in ("nll", "loss", "kl", "mi", "use"):
        assert both[name] == pytest.approx((one[name] + two[name]) / 2)
    assert both["least_mi"] == min(one["mi"], two["mi"])
    assert (one["seeds"], both["seeds"], both["epochs"], both["longest"], both["trained"]) == (1, 2, 6, 3, 6)
    found = examples.read(root / "results/studies/both/nll.json", "")[0]
    assert np.array_equal(found, [single[0][0], single[1][0]])
    pd.testing.assert_frame_equal(curves[2], pd.concat(curves[:2], ignore_index=True))
    assert list(curves[2]["seed"]) == [1] * 3 + [2] * 3
    assert results(root, "both")["seeds"] == [1, 2]
    assert not list((root / "checkpoints/studies").iterdir())

    client = connect(root)
    where = experiment(client, "synthetic", root, studies=True)
    (run,) = [r for r in client.search_runs([where], f"tags.`{TRIAL}` = '0'") if r.data.tags["seed"] == "1, 2"]
    for seed in (1, 2):
        logged = client.get_metric_history(run.info.run_id, f"valid/loss/seed {seed}")
        of_seed = curves[2][curves[2]["seed"] == seed]
        assert [metric.value for metric in logged] == list(of_seed["valid_loss"])
        assert [metric.step for metric in logged] == [1, 2, 3]
    assert run.data.metrics["kept/nll"] == both["nll"]


def test_the_page_of_several_seeds_speaks_of_them(three_studies: Path) -> None:
    _, html = studies.page(three_studies / "results/studies/both")

    assert "seeds 1 and 2, at most 3 epochs per training" in html
    assert html.count("over the examples and seeds") == 2
    assert "least MI" in html
    assert "one seed" not in html


# ------------------------------------------------------------------- made-up trials


def made_up(monkeypatch: pytest.MonkeyPatch, mi: float = 2.0, stop_at: int | None = None) -> Counter[tuple[int, int]]:
    """Replaces training and measurement by numbers: the NLL is 10 γ plus parts of the seed and of the example.

    Args:
        monkeypatch: Fixture that undoes the replacement.
        mi: MI in nats of each model of the second seed; that of other models is 2.
        stop_at: Number of the measurement before which the user stops the study once; None: never.

    Returns:
        A counter of the measurements, by number of the trial and index of the seed.
    """
    measured: Counter[tuple[int, int]] = Counter()
    random, stopped = np.random.default_rng(1), []

    def measure(plan: Plan, model: None, prepared: object, progress: Any) -> tuple[dict[str, Any], Array]:
        if stop_at == measured.total() and not stopped:
            stopped.append(1)
            raise KeyboardInterrupt
        measured[progress.trial.number, progress.index] += 1
        hard = np.linspace(20, 40, 60)
        nll = hard + 10 * progress.trial.params["gamma"] + progress.index + 0.05 * random.standard_normal()
        known = {"nll": float(nll.mean()), "nll_stderr": 0.1, "mi": mi if progress.index == 1 else 2.0}

        return {**known, **dict.fromkeys(("loss", "kl", "use", "use_stderr", "au"), 1.0)}, nll

    monkeypatch.setattr(search_trial, "trained_model", lambda *_: None)
    monkeypatch.setattr(search_trial, "evaluate_on_validation", measure)

    return measured


def several(project: Path, **more: Any) -> config.Params:
    """The parameters of a study of three seeds: ten trials with γ from 0.5 to 1, pruned between seeds."""
    given = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    study = {**TPE, "seeds": [1, 2, 3], "trials": 10, "startup": 4, "values": {"gamma": [0.5, 1.0]}, "min_mi": 1.0}
    given["studies"] = {"one": {**study, **more}}

    return config.parse(given)


def test_trials_that_are_worse_by_a_paired_interval_get_no_further_seeds(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = made_up(monkeypatch)
    stage.run(several(project), "one", root=project)
    trials = table(project, "one")
    pruned, complete = (trials[trials["state"] == state] for state in ("pruned", "complete"))

    assert len(trials) == 10
    assert set(measured.values()) == {1}
    assert list(complete["seeds"].unique()) == [3]
    assert len(pruned) >= 2
    assert set(pruned["seeds"]) <= {1, 2}
    best = complete["gamma"].min()
    for _, row in pruned.iterrows():
        assert row["gamma"] > best, "the NLL rises with gamma"
        assert "nats above that of trial" in row["why"]
    assert results(project, "one")["best"]["hyperparameters"]["gamma"] == best


def test_without_a_rule_each_trial_gets_all_seeds(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = made_up(monkeypatch, mi=0.5)
    stage.run(several(project, prune=None, trials=4), "one", root=project)

    assert len(measured) == 12
    assert not table(project, "one")["feasible"].any(), "with one seed, the MI is too low"
    assert results(project, "one")["best"] is None


def test_a_seed_with_too_little_mi_ends_its_trial(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, mi=0.5)
    stage.run(several(project, trials=3), "one", root=project)
    trials = table(project, "one")

    assert list(trials["state"]) == ["pruned"] * 3
    assert list(trials["seeds"]) == [2] * 3
    assert set(trials["why"]) == {"MI 0.50 with seed 2"}
    stored = optuna.load_study(study_name=None, storage=open_storage(None, project)).trials
    assert [trial.constraints for trial in stored[:3]] == [{MI: 0.5}] * 3


@pytest.mark.parametrize("stop_at", [0, 1, 2, 4])
def test_a_stopped_trial_goes_on_with_its_first_unfinished_seed(
    stop_at: int, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = made_up(monkeypatch, stop_at=stop_at)
    known = several(project, prune=None, trials=2)
    with pytest.raises(KeyboardInterrupt):
        stage.run(known, "one", root=project)
    stage.run(known, "one", root=project)

    assert measured == Counter({(trial, index): 1 for trial in range(2) for index in range(3)})
    assert set(table(project, "one")["state"]) == {"complete"}


# ------------------------------------------------------------------- the rule between seeds


HARD = np.linspace(20, 40, 100)


def of_seeds(level: float, *seeds: float) -> list[Array]:
    """The NLL of 100 examples with each seed: a level, a part of the seed, and small differences of the examples."""
    return [HARD + level + seed + np.resize([0.2, -0.2], 100) * (level + index + 1) for index, seed in enumerate(seeds)]


def test_nothing_ends_before_two_trials_are_complete() -> None:
    assert reason_between_seeds(of_seeds(50, 0.0), {}) is None
    assert reason_between_seeds(of_seeds(50, 0.0), {3: of_seeds(0, 0.0, 0.1, 0.2)}) is None
    alike = {3: of_seeds(0, 0.0), 4: of_seeds(1, 0.0)}  # a study of one seed
    assert reason_between_seeds(of_seeds(50, 0.0), alike) is None


def test_a_trial_ends_if_no_seed_explains_its_distance() -> None:
    complete = {3: of_seeds(1.0, 0.0, 0.1, 0.2), 5: of_seeds(0.0, 0.1, 0.0, 0.2)}
    reason = reason_between_seeds(of_seeds(9, 0.0), complete)

    assert reason is not None
    assert reason.startswith("NLL 8.90 nats above that of trial 5 with the first seed (95 % interval 8.")
    assert reason_between_seeds(of_seeds(0.1, 0.0), complete) is None
    assert reason_between_seeds(of_seeds(-9, 0.0), complete) is None
    two = reason_between_seeds(of_seeds(9, 0.0, 0.1), complete)
    assert two is not None
    assert "with 2 seeds" in two
    wide = {3: of_seeds(1.0, 0.0, 9.0, 0.2), 5: of_seeds(0.0, 9.0, 0.0, 0.2)}  # seeds decide between these two
    assert reason_between_seeds(of_seeds(9, 9.0), wide) is None


def test_the_best_trial_itself_is_seldom_ended() -> None:
    """Over many simulated studies of equally good trials, at most 5 % end after their first seed.

    The best of several equal trials is the one that was lucky, so the share would be larger without the part of the
    seeds in the interval.
    """
    random = np.random.default_rng(1)
    ended, rounds = 0, 400
    for _ in range(rounds):
        trials = [[HARD + 0.3 * random.standard_normal() for _ in range(3)] for _ in range(4)]
        ended += reason_between_seeds(trials[0][:1], dict(enumerate(trials[1:]))) is not None

    assert ended / rounds <= 0.05


# ------------------------------------------------------------------- numbers by hand


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_reported_epochs_are_read_back_by_seed(lengths: list[int]) -> None:
    values = {step_of(e, index, 4): 10.0 * index + e for index, n in enumerate(lengths) for e in range(1, n + 1)}
    trial = create_trial(
        state=TrialState.RUNNING,
        intermediate_values=values,
        user_attrs={MI: [[index + e / 10 for e in range(n)] for index, n in enumerate(lengths)]},
    )
    assert len(values) == sum(lengths)
    for index, n in enumerate(lengths):
        curve = reported_curve(trial, 4, index)
        assert curve.losses == [10.0 * index + e for e in range(1, n + 1)]
        assert curve.mi == [index + e / 10 for e in range(n)]
    assert reported_curve(trial, 4, len(lengths)).mi == []


def test_means_over_seeds_by_hand() -> None:
    first = {"nll": 30.0, "nll_stderr": 0.3, "mi": 2.0, "au": 2, "mpd": None}
    second = {"nll": 30.8, "nll_stderr": 0.5, "mi": 1.0, "au": 1, "mpd": 1.0}

    assert over_seeds([first]) == {**first, LEAST_MI: 2.0}
    assert over_seeds([first, second]) == {
        LEAST_MI: 1.0,
        "nll": pytest.approx(30.4),
        "nll_stderr": pytest.approx(math.hypot(0.4, 0.4)),  # over the examples, and 0.8 / 2 over the seeds
        "mi": 1.5,
        "au": 1.5,
        "mpd": None,
    }
    assert over_seeds([{**first, "mi": None}])[LEAST_MI] is None


def test_the_mi_of_every_seed_must_lie_above_the_bound() -> None:
    plan = Plan.from_params(params(one={**GRID, "min_mi": 1.0}), "one")
    low, high = (create_trial(value=1.0, user_attrs={"mi": 1.5, LEAST_MI: least}) for least in (1.0, 1.1))

    assert not feasible(plan, low)
    assert feasible(plan, high)
    assert feasible(Plan.from_params(params(one={**GRID, "min_mi": None}), "one"), low)


def test_the_budget_is_for_all_seeds() -> None:
    """Each training takes 3 epochs, a trial of two seeds 6. The grid of 16 points takes 96 epochs."""
    plan = Plan.from_params(params(one={**TPE, "seeds": [1, 2], "trials": None, "budget": 14 / 96}), "one")
    assert (plan.grid_epochs, plan.trial_epochs, plan.budget) == (96, 6, 14)

    def begun(finished: int, steps: list[int], trained: int) -> optuna.trial.FrozenTrial:
        return create_trial(
            state=TrialState.RUNNING,
            intermediate_values=dict.fromkeys(steps, 1.0),
            user_attrs={EPOCHS: trained, SEEDS: [{}] * finished},
        )

    assert epochs_left(plan, begun(0, [], 0)) == 6
    assert epochs_left(plan, begun(0, [1, 2], 2)) == 4
    assert epochs_left(plan, begun(1, [1, 2], 2)) == 3, "the first training has ended early"
    assert epochs_left(plan, begun(1, [1, 2, 4], 3)) == 2
    assert may_begin(plan, [begun(1, [1, 2, 4], 3)])  # 3 spent, 2 reserved, 6 new
    assert not may_begin(plan, [begun(0, [1, 2, 3], 3), begun(1, [1, 2, 3, 4, 5], 5)])  # 8 spent, 4 reserved


def test_a_study_of_an_earlier_version_has_one_seed() -> None:
    assert study_text.seeds_of({"seed": 3}) == [3]
    assert study_text.seeds_text({"seed": 3}) == "seed 3"
    assert study_text.seeds_text({"seeds": [1, 2, 3]}) == "seeds 1, 2 and 3"
