"""Studies, searches for hyperparameters with Optuna: which points they try, and what they cost.

A trial is one training at one point, and a worker is a process that runs trials. Whatever happens to a worker, no trial
is lost or counted twice.
"""

import copy
import dataclasses
import fcntl
import functools
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
import yaml
from optuna.trial import FrozenTrial, TrialState, create_trial

import tiny
from duvae import config, registry
from duvae.commands import figure2, train
from duvae.commands import search as stage
from duvae.config import Params
from duvae.data import store
from duvae.data.synthetic import prepared_synthetic
from duvae.errors import UserError
from duvae.inference import model_files
from duvae.project import array_files, job_list
from duvae.report import studies
from duvae.search import examples, one_seed
from duvae.search.attributes import EPOCHS
from duvae.search.plan import Plan, first_points, sampler
from duvae.search.pruning import MI
from duvae.search.reuse import equal_training
from duvae.search.storage import (
    FOLDER,
    HEARTBEAT,
    HOST,
    JOURNAL,
    MAX_ATTEMPTS,
    SILENCE_SECONDS,
    WORKER,
    Worker,
    file_lock,
    open_storage,
    requeue,
    with_driver,
)
from duvae.search.study import create_study, may_begin
from duvae.search.summary import best_trial, comparison
from duvae.tracking.store import connect, experiment
from duvae.tracking.trial_runs import TRIAL
from duvae.training import checkpoints
from test_parameters_read import read_by

pytestmark = pytest.mark.filterwarnings("ignore")  # Optuna and MLflow warn about their new functions

ROOT = Path(__file__).parents[1]
GRID = {"dataset": "synthetic", "setting": "du_vae", "seeds": [1], "sampler": "grid", "min_mi": 0.001}
TPE = {**GRID, "sampler": "tpe", "trials": 5, "startup": 2, "prune": {"rungs": [1], "keep": 0.34, "grace": 2}}
GP = {**GRID, "sampler": "gp", "trials": 5, "startup": 2}
VALUES = {"gamma": [0.5, 1.0], "p": [0.3, 0.7]}


small = functools.cache(tiny.small)


def raw(**given: Any) -> dict[str, Any]:
    """Small parameters with the given studies, as a dictionary like that of a YAML file."""
    values = copy.deepcopy(small())
    del values["datasets"]["own"]
    values["datasets"]["synthetic"]["optimisation"].update(epochs=3)
    values["studies"] = given
    values["checkpoint_seconds"] = 0.0

    return values


def params(**given: Any) -> Params:
    return config.parse(raw(**given))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with prepared data and an empty MLflow store."""
    root = tmp_path_factory.mktemp("made")
    given = {
        "grid": {**GRID, "values": VALUES},
        "tpe": {**TPE, "values": VALUES, "against": "grid"},
        "gp": {**GP, "trials": 4, "values": VALUES},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(raw(**given)), encoding="utf-8")
    source = config.load(root / "params.yaml").datasets["synthetic"].source
    assert isinstance(source, config.SyntheticSource)
    store.write(root / "data/prepared/synthetic", *prepared_synthetic(source))
    (root / "data/validated").mkdir()
    (root / "data/validated/synthetic.json").write_text("{}")
    connect(root)

    return root


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    return Path(shutil.copytree(prepared, tmp_path / "project"))


# ------------------------------------------------------------------- studies in params.yaml


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({**GRID, "setting": "du_va"}, "did you mean 'du_vae'?"),
        ({**GRID, "dataset": "synthetics"}, "did you mean 'synthetic'?"),
        ({**GRID, "values": {"gama": [1.0]}}, "did you mean 'gamma'?"),
        ({**GRID, "values": {"p": [0.5, 1.5]}}, "values.p.*at most 1"),
        ({**GRID, "setting": "beta_vae"}, "expected values of beta_vae's hyperparameters"),
        ({**GRID, "sampler": "random"}, "expected 'grid', 'tpe' or 'gp'"),
        ({**GRID, "sampler": "tpe"}, "budget.*needs an end"),
        ({**GP, "trials": None}, "budget.*needs an end"),
        ({**GP, "prune": TPE["prune"]}, "prune: expected null, because 'gp' learns nothing"),
        ({**GRID, "seeds": []}, "seeds: expected a length of at least 1"),
        ({**GRID, "seeds": [1, 2, 1]}, "seeds: expected different seeds; found 1 twice"),
        ({**GRID, "seed": 1}, "did you mean 'seeds'?"),
        ({**GRID, "against": "nothing"}, "unknown study 'nothing'"),
        ({**TPE, "against": "one"}, "expected a study that is not compared with 'one'"),
        ({**GRID, "setting": "du_iaf"}, "expected none, since the mutual information of du_iaf is unknown"),
    ],
)
def test_a_mistake_in_a_study_is_told(study: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"studies.one.*{message}"):
        params(one=study)


@pytest.mark.parametrize("other", [{"seeds": [1, 2]}, {"dataset": "omniglot", "values": VALUES, "min_mi": None}])
def test_a_study_is_compared_only_with_one_of_its_data_and_seeds(other: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"studies\.one\.against: expected a grid study of the same data set and seeds"):
        params(one={**TPE, "against": "two"}, two={**GRID, **other})


def test_a_study_takes_supplement_e_or_what_it_is_given() -> None:
    known = params(
        paper=GRID,
        mixed={**GRID, "values": {"p": [0.9]}},
        beta={**GRID, "setting": "beta_vae", "values": {"beta": [1.0, 0.2]}},
    )

    assert Plan.from_params(known, "paper").space == {"gamma": (0.5, 0.7, 1.0, 1.2), "p": (0.1, 0.3, 0.5, 0.7)}
    assert Plan.from_params(known, "mixed").space == {"gamma": (0.5, 0.7, 1.0, 1.2), "p": (0.9,)}
    assert Plan.from_params(known, "beta").space == {"beta": (0.2, 1.0)}


def test_the_shipped_studies_are_those_of_the_paper() -> None:
    known = config.load(ROOT / "params.yaml")
    plans = {name: Plan.from_params(known, name) for name in known.studies}

    assert len(plans["synthetic_grid"].grid) == 16
    assert plans["synthetic_grid"].grid_epochs == 16 * 3 * 120
    assert plans["synthetic_tpe"].budget == 1919
    assert plans["yahoo_grid"].space == {"gamma": (0.4, 0.5, 0.6, 0.7), "p": (0.6, 0.7, 0.8, 0.9, 1.0)}
    assert plans["omniglot_du_iaf"].space == {"gamma": (0.4, 0.5, 0.6, 0.7), "p": (0.75, 0.8, 0.85, 0.9)}
    assert all(plans[f"{data}_beta_vae"].space == {"beta": (0.2, 0.4, 0.6, 0.8, 1.0)} for data in ("yahoo", "omniglot"))
    systems = {"beta_vae", "fb", "delta_vae", "bn_vae", "mae", "du_vae", "iaf_fb", "iaf_bn", "du_iaf"}
    asked = {(plan.study.dataset, plan.system) for plan in plans.values() if plan.study.sampler == "grid"}
    assert asked == set(itertools.product(("synthetic", "yahoo", "yelp", "omniglot"), systems))
    assert known.run_studies() == []


# ------------------------------------------------------------------- points and sampler


def test_the_grid_is_tried_once_each(prepared: Path) -> None:
    plan = Plan.from_params(config.load(prepared / "params.yaml"), "grid", prepared)

    assert first_points(plan) == [{"gamma": g, "p": p} for g in (0.5, 1.0) for p in (0.3, 0.7)]


def test_tpe_begins_with_what_it_is_given_and_spreads_the_rest() -> None:
    known = params(one={**TPE, "first": [{"p": 0.5, "gamma": 0.9}], "startup": 8})
    given, *spread = first_points(Plan.from_params(known, "one"))

    assert given == {"gamma": 0.9, "p": 0.5}
    assert len(spread) == 8
    for name, (low, high) in {"gamma": (0.5, 1.2), "p": (0.1, 0.7)}.items():
        values = np.array([point[name] for point in spread])
        assert ((values >= low) & (values <= high)).all()
        quarters = np.floor(4 * (values - low) / (high - low))
        assert sorted(quarters) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_whole_number_stays_one() -> None:
    known = params(one={**TPE, "min_mi": None, "setting": "du_iaf", "values": {"blocks": [1, 4], "gamma": [0.5, 1.0]}})
    plan = Plan.from_params(known, "one")

    assert all(isinstance(point["blocks"], int) for point in first_points(plan))
    assert isinstance(plan.distributions["blocks"], optuna.distributions.IntDistribution)


@pytest.mark.parametrize("study", [TPE, GP], ids=["tpe", "gp"])
def test_what_is_drawn_depends_on_the_seed_and_the_trials_so_far_alone(study: dict[str, Any]) -> None:
    """A study that was killed draws the same points as an undisturbed study, and no point twice."""
    plan = Plan.from_params(params(one=study), "one")

    def drawn() -> list[tuple[float, ...]]:
        study = optuna.create_study()
        for n in range(3):
            values = {"gamma": 0.5 + n / 5, "p": 0.2 + n / 5}
            study.add_trial(create_trial(params=values, distributions=plan.distributions, value=float(n)))
        points = []
        for number in range(3, 9):  # none of these trials has ended when the next one begins
            study.sampler = sampler(plan, number)
            points.append(tuple(study.ask(plan.distributions).params.values()))

        return points

    points = drawn()
    assert drawn() == points
    assert len(set(points)) == 6


TRIED = [  # one row per trial: gamma, p, NLL (None: the trial ended early), last loss, MI
    (0.70, 0.20, None, 33.9, 0.80),
    (0.91, 0.66, None, 34.5, 0.78),
    (1.09, 0.29, None, 35.0, 0.85),
    (0.53, 0.43, None, 33.3, 0.40),
    (1.15, 0.25, 30.9, 33.0, 1.84),
    (1.18, 0.53, 30.9, 33.0, 1.49),
    (1.14, 0.70, None, 34.6, 0.95),
    (1.13, 0.46, None, 34.6, 1.10),
]


def drawn_after_tried(name: str, seed: int, early: bool) -> float:
    """Draws the gamma of the trial after those of TRIED.

    Args:
        name: The sampler.
        seed: Seed of the study.
        early: Whether the trials without an NLL ended early; False: they are complete, and their loss is their NLL.
    """
    plan = Plan.from_params(params(one={"tpe": TPE, "gp": GP}[name] | {"seeds": [seed]}), "one")
    study = optuna.create_study()
    for gamma, p, nll, loss, mutual in TRIED:
        study.enqueue_trial({"gamma": gamma, "p": p})
        tried = study.ask(plan.distributions)
        tried.report(loss, 16 if nll is None else 50)
        tried.set_constraint(MI, 1.0 - mutual)
        if early and nll is None:
            study.tell(tried, state=TrialState.PRUNED)
        else:
            study.tell(tried, loss if nll is None else nll)
    study.sampler = sampler(plan, len(TRIED))

    return float(study.ask(plan.distributions).params["gamma"])


@pytest.mark.parametrize(("name", "early"), [("tpe", True), ("tpe", False), ("gp", False)])
def test_a_sampler_stays_where_there_is_mutual_information(name: str, early: bool) -> None:
    """A sampler looks for most new points where trials have enough MI.

    In this list, trials with too little MI have the lowest losses. A sampler must not follow these losses. Of a uniform
    sampler, 57 % of the points would have such a gamma.
    """
    drawn = [drawn_after_tried(name, seed, early) for seed in range(12)]
    assert sum(gamma > 0.8 for gamma in drawn) >= 10


def test_no_sampler_uses_an_argument_that_optuna_has_deprecated(recwarn: pytest.WarningsRecorder) -> None:
    for study in (TPE, GP):
        sampler(Plan.from_params(params(one=study), "one"), 3)
    assert not [warning for warning in recwarn if issubclass(warning.category, (FutureWarning, DeprecationWarning))]


# ------------------------------------------------------------------- the budget


def frozen_trial(number: int, state: TrialState, reported: int = 0, trained: int | None = None) -> FrozenTrial:
    trial = create_trial(
        state=state,
        value=1.0 if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        intermediate_values=dict.fromkeys(range(1, reported + 1), 1.0),
        user_attrs={EPOCHS: reported if trained is None else trained} if reported else {},
    )
    trial.number = number

    return trial


def test_a_trial_begins_only_where_all_could_end_within_the_budget() -> None:
    """A trial begins only if the running trials and the new trial can all end within the budget.

    Each training takes 3 epochs. The budget is 10 epochs, a share of the 48 epochs of the full grid of 16 points.
    """
    plan = Plan.from_params(params(one={**TPE, "trials": None, "budget": 10 / 48}), "one")
    complete, running = frozen_trial(0, TrialState.COMPLETE, 3), frozen_trial(1, TrialState.RUNNING, 1)

    assert plan.budget == 10
    assert may_begin(plan, [complete, complete])  # 6 epochs spent, the new trial needs 3
    assert not may_begin(plan, [complete, complete, frozen_trial(2, TrialState.PRUNED, 2)])  # 8 epochs spent
    assert may_begin(plan, [complete, running])  # 4 epochs spent, 2 reserved, the new trial needs 3
    assert not may_begin(plan, [complete, running, frozen_trial(2, TrialState.RUNNING)])
    assert not may_begin(plan, [complete, frozen_trial(1, TrialState.RUNNING, 1, trained=3)])  # it repeats two epochs
    assert not may_begin(
        plan, [complete, complete, frozen_trial(2, TrialState.WAITING, 2)]
    )  # the waiting trial must still resume: 1 epoch reserved
    assert may_begin(
        plan, [complete, complete, frozen_trial(2, TrialState.WAITING)]
    )  # the waiting trial has no epoch yet: it is the new trial


def test_the_number_of_trials_ends_a_study() -> None:
    plan = Plan.from_params(params(one={**TPE, "trials": 2}), "one")

    assert may_begin(plan, [frozen_trial(0, TrialState.COMPLETE, 3), frozen_trial(1, TrialState.WAITING)])
    assert not may_begin(plan, [frozen_trial(0, TrialState.COMPLETE, 3), frozen_trial(1, TrialState.FAIL, 1)])


# ------------------------------------------------------------------- when two studies are the same study


def test_a_study_is_another_when_its_numbers_would_be(tmp_path: Path) -> None:
    source = raw(one=TPE)
    data = tmp_path / "data/prepared/synthetic"
    data.mkdir(parents=True)
    (data / "ids").write_text("1 2 3")

    def key(edit: Callable[[Any], object]) -> str:
        changed = yaml.safe_load(yaml.safe_dump(source))
        edit(changed)

        return Plan.from_params(config.parse(changed), "one", tmp_path).key()

    first, grid = key(lambda _: None), key(lambda r: r["studies"]["one"].update(sampler="grid", startup=0))
    for same in (
        lambda r: r["studies"]["one"].update(trials=50),
        lambda r: r["studies"]["one"].update(budget=0.5),
        lambda r: r["settings"]["du_vae"]["columns"]["synthetic"].update(gamma=0.9),  # the study replaces this gamma
        lambda r: tiny.block(r).update(seeds=[3]),
    ):
        assert key(same) == first
    for other in (
        lambda r: r["studies"]["one"].update(seeds=[2]),
        lambda r: r["studies"]["one"].update(importance_samples=7),
        lambda r: r["studies"]["one"].update(values={"p": [0.2, 0.3]}),
        lambda r: r["studies"]["one"].update(startup=3),
        lambda r: r["datasets"]["synthetic"]["networks"].update(hidden=17),
        lambda r: r["datasets"]["synthetic"]["optimisation"].update(clip=4.0),
        lambda r: r["settings"]["du_vae"]["parts"].update(start="at_once"),
        lambda r: r.update(threads=2),
    ):
        assert key(other) != first
    assert grid != first != key(lambda r: r["studies"]["one"].update(sampler="gp", prune=None))
    (data / "more").write_text("x")
    assert key(lambda _: None) != first


# ------------------------------------------------------------------- the journal file and the workers that write it


def opened(root: Path) -> tuple[optuna.storages.BaseStorage, optuna.Study]:
    storage = open_storage(None, root)

    return storage, optuna.create_study(storage=storage, study_name="s", load_if_exists=True)


def test_a_trial_whose_worker_is_gone_waits_again_with_all_that_it_had(tmp_path: Path) -> None:
    storage, study = opened(tmp_path)
    with Worker(tmp_path) as gone:
        taken = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        gone.claim(taken)
        taken.report(3.5, 1)
        with Worker(tmp_path) as other, other.guard:
            assert other.recover(storage, study) == []  # the trial's worker is alive
    with Worker(tmp_path) as other, other.guard:
        assert other.recover(storage, study) == [0]
        assert other.recover(storage, study) == []
    (waiting,) = study.trials
    assert waiting.state == TrialState.WAITING
    assert waiting.params == taken.params
    assert waiting.intermediate_values == {1: 3.5}
    again = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    assert again.number == 0
    assert again.params == taken.params
    assert not list((tmp_path / FOLDER).glob("worker-*.lock"))


def test_a_worker_that_lost_its_trial_is_told_and_puts_nothing_back(tmp_path: Path) -> None:
    storage, study = opened(tmp_path)
    with Worker(tmp_path) as slow, Worker(tmp_path) as other:
        taken = study.ask()
        slow.claim(taken)
        assert slow.owns(study, taken)
        requeue(storage, study, 0)
        other.claim(study.ask())
        assert not slow.owns(study, taken)
        slow.release(storage, study, taken)
        assert study.trials[0].state == TrialState.RUNNING
        assert other.owns(study, taken)


def test_of_another_machine_only_a_long_silence_counts(tmp_path: Path) -> None:
    _, study = opened(tmp_path)
    with Worker(tmp_path) as worker:
        taken = study.ask()
        for name, value in ((WORKER, "elsewhere"), (HOST, "another"), (HEARTBEAT, int(time.time()))):
            taken.set_user_attr(name, value)
        assert worker.is_alive(study.trials[0])
        taken.set_user_attr(HEARTBEAT, int(time.time()) - SILENCE_SECONDS - 1)
        assert not worker.is_alive(study.trials[0])


def test_a_trial_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    storage, study = opened(tmp_path)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        with Worker(tmp_path) as gone:
            taken = study.ask()
            assert taken.number == 0
            gone.claim(taken)
        with Worker(tmp_path) as other, other.guard:
            other.recover(storage, study)
        state = TrialState.FAIL if attempt == MAX_ATTEMPTS else TrialState.WAITING
        assert study.trials[0].state == state
    assert "given up after" in study.trials[0].user_attrs["why"]


def test_a_line_that_a_killed_writer_left_is_cut_off(tmp_path: Path) -> None:
    _, study = opened(tmp_path)
    study.enqueue_trial({"x": 1.0})
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    _, again = opened(tmp_path)
    again.enqueue_trial({"x": 2.0})
    lines = (tmp_path / JOURNAL).read_text(encoding="utf-8").splitlines()

    assert all(json.loads(line) for line in lines)
    assert len(opened(tmp_path)[1].trials) == 2


def test_a_lock_is_free_once_its_holder_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        f"import fcntl, time; f = open({str(path)!r}, 'ab'); fcntl.flock(f, fcntl.LOCK_EX)\n"
        "print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with path.open("ab") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.kill()
    with file_lock(path):
        pass


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:secret@127.0.0.1:1/studies", "cannot be used.*refused"),
        ("mysql+pymysql://me:secret@127.0.0.1:1/studies", "driver is not installed"),
        ("nonsense", "cannot be used"),
        ("sqlite:////nowhere/at/all.db", "cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_without_its_password(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        open_storage(url, tmp_path)
    assert "secret" not in str(error.value)


def test_postgresql_is_opened_by_the_driver_that_is_installed() -> None:
    for url in ("postgresql://me@host/studies", "postgres://me@host/studies", "postgresql+psycopg://me@host/studies"):
        assert with_driver(url) == "postgresql+psycopg://me@host/studies"
    assert with_driver("sqlite:///studies.db") == "sqlite:///studies.db"


# ------------------------------------------------------------------- whole studies


def results(root: Path, name: str) -> dict[str, Any]:
    return json.loads((root / f"results/studies/{name}/study.json").read_text(encoding="utf-8"))


def table(root: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(root / f"results/studies/{name}/trials.csv")


@pytest.fixture(scope="module")
def searched(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Runs the studies `grid` and `tpe` in a copy of the project.

    Returns:
        The copy's folder, and the CPU seconds of the study `tpe`.
    """
    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("searched") / "project"))
    known = config.load(root / "params.yaml")
    stage.run(known, "grid", root=root)
    started = time.process_time()
    stage.run(known, "tpe", root=root)

    return root, time.process_time() - started


def test_a_grid_ends_with_every_cell_once(searched: tuple[Path, float]) -> None:
    root, _ = searched
    trials, summary = table(root, "grid"), results(root, "grid")

    assert sorted(zip(trials["gamma"], trials["p"], strict=True)) == [(g, p) for g in (0.5, 1.0) for p in (0.3, 0.7)]
    assert set(trials["state"]) == {"complete"}
    assert list(trials["epochs"]) == list(trials["trained"]) == [3] * 4
    assert summary["cost"] == {
        "epochs": 12,
        "reached": 12,
        "grid": 4,
        "grid_epochs": 12,
        "share": 1.0,
        "saved": 0,
    }
    assert summary["best_of_all"]["nll"] == trials["nll"].min()
    able = trials[trials["feasible"]]
    assert summary["best"]["nll"] == able["nll"].min()
    assert (able["mi"] > 0.001).all()


def test_a_trial_is_the_training_of_a_setting(searched: tuple[Path, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting with the best hyperparameters gives exactly the numbers of the best trial."""
    root, _ = searched
    monkeypatch.chdir(root)
    given = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    given["settings"]["best"] = {**given["settings"]["du_vae"], "columns": {"synthetic": {"study": "grid"}}}
    train.run(config.parse(given), "synthetic", "best", 1, root)
    history = pd.read_csv(root / "results/synthetic/best/1/history.csv")
    curves = pd.read_csv(root / "results/studies/grid/curves.csv")
    of = curves[curves["trial"] == results(root, "grid")["best"]["trial"]]

    assert list(of["valid_loss"]) == list(history["valid_loss"])
    assert list(of["valid_mi"]) == list(history["valid_mi"].round(4))


def test_a_tpe_study_says_what_it_cost_and_how_it_compares(searched: tuple[Path, float]) -> None:
    root, _ = searched
    trials, summary, grid = table(root, "tpe"), results(root, "tpe"), results(root, "grid")

    assert len(trials) == 5
    assert "pruned" in set(trials["state"])
    assert (trials.loc[trials["state"] == "pruned", "epochs"] < 3).all()
    assert summary["cost"]["epochs"] == trials["trained"].sum() < 15
    assert summary["against"]["epochs"] == 12
    assert summary["against"]["share"] == summary["cost"]["epochs"] / 12
    assert summary["against"]["gap"] == pytest.approx(summary["best"]["nll"] - grid["best"]["nll"])
    found, theirs = (examples.read(root / f"results/studies/{name}/nll.json", "") for name in ("tpe", "grid"))
    assert set(found) == set(trials.loc[trials["state"] == "complete", "trial"])
    for number, nll in found.items():
        assert np.mean(nll) == pytest.approx(float(trials.set_index("trial")["nll"][number]), rel=1e-5)
    paired = summary["against"]["paired"]
    assert paired["mean"] == pytest.approx(summary["against"]["gap"], abs=1e-4)
    assert paired["low"] < paired["mean"] < paired["high"]
    own, other = found[summary["best"]["trial"]], theirs[grid["best"]["trial"]]
    assert paired == pytest.approx(examples.difference(own, other))
    assert summary["best"]["trial"] in summary["maybe_best"]
    best = yaml.safe_load((root / "results/studies/tpe/best_params.yaml").read_text(encoding="utf-8"))
    assert best["hyperparameters"] == summary["best"]["hyperparameters"]


def test_a_gp_study_ends_with_its_trials(project: Path) -> None:
    stage.run(config.load(project / "params.yaml"), "gp", root=project)
    trials = table(project, "gp")
    assert list(trials["state"]) == ["complete"] * 4
    assert len(trials[["gamma", "p"]].drop_duplicates()) == 4
    assert trials["gamma"].between(0.5, 1.0).all()
    assert results(project, "gp")["best"]["nll"] == trials["nll"].min()


def test_each_trial_is_a_run_under_its_study(searched: tuple[Path, float]) -> None:
    root, _ = searched
    client = connect(root)
    where = experiment(client, "synthetic", root, studies=True)
    (parent,) = [
        r for r in client.search_runs([where]) if r.info.run_name.startswith("tpe-") and not r.data.tags[TRIAL]
    ]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best/nll"] == results(root, "tpe")["best"]["nll"]
    below = client.search_runs([where], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    trials = table(root, "tpe").set_index("trial")

    assert sorted(int(run.data.tags[TRIAL]) for run in below) == list(trials.index)
    for run in below:
        row = trials.loc[int(run.data.tags[TRIAL])]
        assert run.data.tags["state"] == row["state"]
        assert run.info.status == "FINISHED"
        assert float(run.data.params["gamma"]) == row["gamma"]
        assert len(client.get_metric_history(run.info.run_id, "valid/loss")) == row["epochs"]
        if row["state"] == "complete":
            assert run.data.metrics["kept/nll"] == row["nll"]


def test_a_second_call_trains_nothing_and_says_the_same(searched: tuple[Path, float]) -> None:
    root, _ = searched
    before = (root / "results/studies/tpe/trials.csv").read_bytes()
    journal_before = (root / JOURNAL).read_bytes()
    stage.run(config.load(root / "params.yaml"), "tpe", root=root)

    assert (root / "results/studies/tpe/trials.csv").read_bytes() == before
    assert b'"step"' not in (root / JOURNAL).read_bytes()[len(journal_before) :]


def test_killed_workers_lose_no_trial_and_count_none_twice(
    prepared: Path, searched: tuple[Path, float], tmp_path: Path
) -> None:
    undisturbed, seconds = searched
    jobs = []
    for how, study, each in (("one", "tpe", 4), ("two", "grid", 8)):
        root = shutil.copytree(prepared, tmp_path / how)
        if study == "tpe":
            shutil.copytree(undisturbed / "results/studies/grid", root / "results/studies/grid")
        jobs.append((str(root), study, how, seconds / each))
    command = [sys.executable, str(ROOT / "tests/searching.py"), json.dumps(jobs)]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr

    assert json.loads(done.stdout.splitlines()[-1]) == [4, 1]
    for (root, study, _, _), cut in zip(jobs, (2, 1), strict=True):
        trials, expected = (table(Path(folder), study) for folder in (root, undisturbed))
        pd.testing.assert_frame_equal(trials.drop(columns="trained"), expected.drop(columns="trained"))
        twice = trials["trained"] - trials["epochs"]  # epochs trained again after a kill at their end
        assert (twice >= 0).all()
        assert twice.sum() <= cut
        assert not list((Path(root) / "checkpoints/studies").iterdir())


def test_a_training_that_diverges_fails_and_the_study_goes_on(project: Path) -> None:
    given = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    given["studies"] = {"one": {**GRID, "setting": "mae", "values": {"gamma": [1e6], "eta": [1e6]}}}
    given["datasets"]["synthetic"]["optimisation"].update(learning_rate=1e6, clip=1e6)
    stage.run(config.parse(given), "one", root=project)
    (row,) = table(project, "one").to_dict("records")

    assert row["state"] == "failed"
    assert row["why"].startswith("training stopped")
    assert results(project, "one")["best"] is None
    with pytest.raises(UserError, match="found none that it may recommend"):
        config.best_hyperparameters("one", "mae", project)


def test_a_training_of_the_graph_is_taken_over_while_it_is_of_now(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    given = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    given["studies"] = {"one": {**GRID, "values": {"gamma": [1.0], "p": [0.5]}}}
    (project / "params.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    train.run(config.parse(given), "synthetic", "du_vae", 1)
    stage.run(config.parse(given), "one")
    (shared,) = table(project, "one").to_dict("records")
    assert (shared["epochs"], shared["trained"]) == (3, 0)

    record = project / "results/synthetic/du_vae/1/train.run.json"
    record.rename(project / "away")
    (project / JOURNAL).unlink()
    stage.run(config.parse(given), "one")
    (trained,) = table(project, "one").to_dict("records")
    assert (trained["epochs"], trained["trained"]) == (3, 3)
    assert {**shared, "trained": 3, "why": ""} == {**trained, "why": ""}

    (project / "away").rename(record)
    plan = Plan.from_params(config.parse(given), "one")
    described = model_files.load(project / "models/synthetic/du_vae/1")[1]
    same = dataclasses.replace(described, training=None)
    other = dataclasses.replace(same, hyperparameters={**same.hyperparameters, "p": 0.4})
    cpu = torch.device("cpu")
    assert equal_training(plan.params, plan.study, 1, same, cpu) == plan.params.job("synthetic", "du_vae", 1)
    assert equal_training(plan.params, plan.study, 1, other, cpu) is None
    given["datasets"]["synthetic"]["optimisation"]["clip"] = 4.0
    assert equal_training(config.parse(given), plan.study, 1, same, cpu) is None
    given["datasets"]["synthetic"]["optimisation"]["clip"] = 5.0
    assert equal_training(config.parse(given), plan.study, 1, same, cpu) is not None
    with monkeypatch.context() as patch:  # another fingerprint, as after a change of the code
        patch.setattr(checkpoints.fingerprint, "of_this_process", lambda *_: "0123456789abcdef")
        assert equal_training(config.parse(given), plan.study, 1, same, cpu) is None
    (project / "data/prepared/synthetic/more").write_text("x", encoding="utf-8")
    assert equal_training(config.parse(given), plan.study, 1, same, cpu) is None


def test_another_mistake_leaves_the_trial_for_later(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is no divergence of the training, such as a full disk, does not count as the trial's result."""

    def broken(*_: object) -> None:
        raise UserError("the disk is full")

    given = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    given["studies"] = {"one": {**GRID, "values": {"gamma": [1.0], "p": [0.5]}}}
    known = config.parse(given)
    with monkeypatch.context() as patch:
        patch.setattr(one_seed, "encode", broken)
        with pytest.raises(UserError, match="the disk is full"):
            stage.run(known, "one", root=project)
    study = create_study(Plan.from_params(known, "one", project), open_storage(None, project), Worker(project))

    assert [t.state for t in study.trials] == [TrialState.WAITING]


@pytest.mark.parametrize("how", ["missing", "other"])
def test_a_grid_to_compare_with_is_asked_for_before_anything_is_trained(project: Path, how: str) -> None:
    given = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    if how == "other":
        path = project / "results/studies/grid/study.json"
        path.parent.mkdir(parents=True)
        path.write_text('{"conditions": "0123abcd"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"grid/study\.json.*'duvae search --study grid' makes"):
        stage.run(config.parse(given), "tpe", root=project)

    assert not (project / JOURNAL).exists()


def test_a_workspace_whose_studies_are_the_projects_leaves_nothing_behind(project: Path, tmp_path: Path) -> None:
    """A study in a workspace of a rebuild writes into the project: the link `studies` leads to the project's folder.

    The next workspace therefore continues the study, and MLflow shows the trials in the project.
    """
    given = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    given["studies"] = {"one": {**GRID, "values": {"gamma": [1.0], "p": [0.5]}}}
    given["datasets"]["synthetic"]["optimisation"].update(epochs=1)
    (project / "studies").mkdir()
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace/data").symlink_to(project / "data")
    (tmp_path / "workspace/studies").symlink_to(project / "studies")
    stage.run(config.parse(given), "one", root=tmp_path / "workspace")

    assert (project / JOURNAL).exists()
    client = connect(project)
    where = experiment(client, "synthetic", project, studies=True)
    assert [run.data.tags[TRIAL] for run in client.search_runs([where])] == ["0", ""]
    assert {path.name for path in (tmp_path / "workspace").iterdir()} == {"checkpoints", "data", "results", "studies"}


def test_a_database_keeps_a_study_too(project: Path) -> None:
    given = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    given["studies"] = {"one": {**TPE, "values": VALUES, "trials": 2}}
    given["datasets"]["synthetic"]["optimisation"].update(epochs=1)
    stage.run(config.parse(given), "one", url=f"sqlite:///{project}/studies.db", root=project)

    assert len(table(project, "one")) == 2
    assert not (project / JOURNAL).exists()


# ------------------------------------------------------------------- page and comparison


def test_the_page_shows_the_map_the_trials_and_the_cost(searched: tuple[Path, float]) -> None:
    root, _ = searched
    for name in ("grid", "tpe"):
        figure2.run(config.load(root / "params.yaml"), name, root)
        text = (root / f"reports/studies/{name}.html").read_text(encoding="utf-8")
        summary = results(root, name)
        assert text.count('<svg class="whole"') == 3
        assert (root / f"reports/studies/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"{summary['best']['nll']:.2f}" in text
        assert f"{summary['cost']['epochs']} epochs were trained" in text
        assert ("Its NLL minus that of" in text) == (name == "tpe")
        assert ("Each of the two was selected" in text) == (name == "tpe")


def test_the_page_says_at_which_commit_it_was_found_where_that_is_known(
    searched: tuple[Path, float], tmp_path: Path
) -> None:
    folder = tmp_path / "grid"
    shutil.copytree(searched[0] / "results/studies/grid", folder)
    (folder / "search.run.json").write_text(json.dumps({"commit": "0123456789" * 4, "dirty": True}))
    assert "--study grid</code>, at commit 0123456+." in studies.page(folder)[1]

    (folder / "search.run.json").unlink()
    assert "--study grid</code>." in studies.page(folder)[1]


@pytest.mark.parametrize("name", ["best_params.yaml", "trials.csv", "curves.csv", "study.json"])
def test_a_changed_file_of_a_study_is_named(searched: tuple[Path, float], tmp_path: Path, name: str) -> None:
    folder = tmp_path / "grid"
    shutil.copytree(searched[0] / "results/studies/grid", folder)
    path = folder / name
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")

    with pytest.raises(UserError, match=f"{name}: has changed since 'duvae search --study grid' wrote it"):
        studies.page(folder)


def test_the_map_of_the_paper_marks_its_choice(searched: tuple[Path, float]) -> None:
    root, _ = searched
    summary = {**results(root, "grid"), "column": "omniglot"}
    summary["space"] = {"gamma": [0.5, 1.0], "p": [0.3, 0.9]}
    trials = table(root, "grid").replace({"p": {0.7: 0.9}})
    summary["best"]["hyperparameters"] = {"gamma": 1.0, "p": 0.3}
    drawn = studies.figure2(summary, trials)
    assert drawn is not None

    assert [head.label for head in drawn.heads] == ["γ 0.5", "γ 1"]
    assert [row.name for row in drawn.rows] == ["p 0.9", "p 0.3"]
    marks = [[cell.mark for cell in row.cells] for row in drawn.rows]
    assert marks == [["p‡", "‡"], ["‡", "c‡"]], "all trials ended at their limit of epochs"
    assert not any(cell.strong for row in drawn.rows for cell in row.cells), "other trials may be as good"


def test_winners_and_the_gap_by_hand() -> None:
    frame = pd.DataFrame(
        {
            "trial": [0, 1, 2, 3],
            "gamma": [0.5, 0.7, 1.0, 1.2],
            "state": ["complete", "complete", "complete", "pruned"],
            "nll": [30.0, 31.5, 31.25, None],
            "nll_stderr": [0.25, 0.25, 0.5, None],
            "loss": 0.0,
            "kl": 1.0,
            "mi": [0.5, 1.5, 2.0, None],
            "au": 2,
            "feasible": [False, True, True, None],
            "epochs": 3,
            "trained": 3,
            "why": "",
        }
    )
    best, of_all = best_trial(frame), best_trial(frame, feasible_only=False)
    assert best is not None
    assert of_all is not None
    assert best["hyperparameters"] == {"gamma": 1.0}
    assert of_all["hyperparameters"] == {"gamma": 0.5}
    grid = {"study": "g", "best": {"nll": 31.0, "trial": 7}, "cost": {"epochs": 750, "reached": 800}}
    own, other = np.array([31.0, 31.25, 31.5]), np.array([31.0, 31.0, 31.0])
    compared = comparison(best, 200, grid, {2: [own]}, {7: [other]})
    assert (compared["epochs"], compared["share"]) == (800, 0.25)
    assert compared["gap"] == 0.25
    half = 4.302653 * 0.25 / math.sqrt(3)  # the quantile of Student's distribution with 2 degrees of freedom
    assert compared["paired"] == pytest.approx({"mean": 0.25, "low": 0.25 - half, "high": 0.25 + half, "seeds": 1})
    for nll, theirs in (
        ({}, {7: [other]}),
        ({2: [own]}, {}),
        ({2: [own]}, {7: [other[:2]]}),
        ({2: [own[:1]]}, {7: [other[:1]]}),
        ({2: [own]}, {7: [other, other]}),
    ):
        assert comparison(best, 200, grid, nll, theirs)["paired"] is None
    nothing = {"study": "g", "best": None, "cost": {"reached": 0}}
    assert comparison(None, 0, nothing, {}, {})["gap"] is None
    assert best_trial(frame[frame["state"] == "pruned"]) is None


def test_trials_that_cannot_be_told_from_the_lowest_are_named() -> None:
    """Trial 1 has the lowest NLL, trial 2 is as good on half of the examples, trial 3 is worse on each."""
    frame = pd.DataFrame(
        {
            "trial": [0, 1, 2, 3],
            "state": "complete",
            "feasible": [False, True, True, True],
            "nll": [29.0, 30.0, 30.0, 31.0],
        }
    )
    hard = np.linspace(20, 40, 50)
    values = {0: hard - 1, 1: hard, 2: hard + np.resize([0.5, -0.4], 50), 3: hard + 1 + np.resize([0.1, -0.1], 50)}
    nll = {number: [of_trial] for number, of_trial in values.items()}

    assert examples.maybe_best(frame, nll) == [1, 2]
    assert examples.maybe_best(frame, nll, feasible_only=False) == [0]
    assert examples.maybe_best(frame, {1: [hard], 2: [hard]}) is None  # an earlier version did not keep trial 3
    assert examples.maybe_best(frame[:1], nll) is None


def test_values_of_examples_survive_the_storage(tmp_path: Path) -> None:
    nll = np.random.default_rng(1).normal(30, 8, 2000).astype(np.float32).astype(np.float64)
    assert (examples.unpacked(examples.packed(nll)) == nll).all()
    examples.write(tmp_path / "nll.json", "grid", {3: [nll, -nll], 1: [nll + 1, nll]})
    found = examples.read(tmp_path / "nll.json", "duvae search")
    assert list(found) == [1, 3]
    assert np.array_equal(found[3], [nll, -nll])
    array_files.write(tmp_path / "nll.json", {}, {"trial": np.array([3]), "nll": nll[None]})  # of an earlier version
    ((of_seed,),) = examples.read(tmp_path / "nll.json", "duvae search").values()
    assert (of_seed == nll).all()
    examples.write(tmp_path / "nll.json", "grid", {})
    assert examples.read(tmp_path / "nll.json", "duvae search") == {}
    assert examples.read(tmp_path / "none.json", "duvae search") == {}


@pytest.mark.parametrize(
    "arrays",
    [
        {"trial": np.arange(2)},
        {"trial": np.arange(2), "nll": np.zeros(2)},
        {"trial": np.arange(2), "nll": np.zeros((2, 1, 4, 1))},
        {"trial": np.arange(3), "nll": np.zeros((2, 4))},
        {"trial": np.zeros(2), "nll": np.zeros((2, 4))},
        {"trial": np.arange(2), "nll": np.full((2, 4), np.nan)},
    ],
)
def test_values_of_examples_that_are_none_are_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    array_files.write(tmp_path / "nll.json", {}, arrays)
    with pytest.raises(UserError, match=r"nll\.json: expected .* Run 'duvae search' again"):
        examples.read(tmp_path / "nll.json", "duvae search")


# ------------------------------------------------------------------- studies in dvc.yaml


def test_a_setting_that_takes_a_studys_best_waits_for_it(tmp_path: Path) -> None:
    given = raw(grid={**GRID, "values": VALUES}, tpe={**TPE, "against": "grid"})
    given["settings"]["best"] = {**given["settings"]["du_vae"], "columns": {"synthetic": {"study": "tpe"}}}
    tiny.block(given).update(datasets=["synthetic"], settings=["best", "vae"], seeds=[1])
    known = config.parse(given)
    rows = job_list.contents(known)

    assert list(rows["searches"]) == ["grid", "tpe"]
    assert rows["searches"]["tpe"]["after"] == "results/studies/grid/study.json"
    assert rows["jobs"]["synthetic-best-1"]["after"] == "results/studies/tpe/best_params.yaml"
    others = set(rows["jobs"]) - {"synthetic-best-1"}
    assert {rows["jobs"][name]["after"] for name in others} == {job_list.FIRST}
    with pytest.raises(UserError, match=r"not there\. Run 'duvae search --study tpe'"):
        known.hyperparameters("best", "synthetic", tmp_path)
    path = config.best_params_path("tpe", tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("system: du_vae\nhyperparameters: {gamma: 0.75, p: 0.25}\n", encoding="utf-8")
    assert known.hyperparameters("best", "synthetic", tmp_path) == registry.DiversityUncertainty(gamma=0.75, p=0.25)
    path.write_text("system: du_vae\nhyperparameters: {gamma: 0.75, p: 25}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"hyperparameters\.p: expected a number of at most 1"):
        known.hyperparameters("best", "synthetic", tmp_path)


@pytest.mark.parametrize(
    ("study", "message"), [("nothing", "unknown study"), ("of_beta", "expected a study of du_vae")]
)
def test_a_setting_that_refers_to_a_wrong_study_is_told(study: str, message: str) -> None:
    given = raw(of_beta={**GRID, "setting": "beta_vae", "values": {"beta": [0.5]}})
    given["settings"]["best"] = {**given["settings"]["du_vae"], "columns": {"synthetic": {"study": study}}}

    with pytest.raises(UserError, match=f"settings.best.columns.synthetic.study.*{message}"):
        config.parse(given)


def test_the_stage_lists_the_parameters_it_reads(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duvae.search.one_seed.equal_training", lambda *_: None)  # the real function reads all settings
    given = raw(one={**TPE, "values": VALUES, "trials": 1})
    given["datasets"]["synthetic"]["optimisation"].update(epochs=1)
    read = read_by("search", project, "one", params=config.parse(given))
    listed = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["search"]["do"]["params"]
    listed = [entry for entry in listed if isinstance(entry, str)]
    names = {"dataset": "synthetic", "key": "settings.du_vae", "column": "synthetic", "study": "one"}
    for name, value in names.items():
        listed = [entry.replace(f"${{item.{name}}}", value) for entry in listed]
    # dvc.yaml lists none of these keys: `checkpoint_seconds` changes no result, the items of the `foreach` hold the
    # key `column`, and the key `system` is in the name of the stage's fingerprint.
    apart = {"checkpoint_seconds", "datasets.synthetic.column", "settings.du_vae.system"}

    assert {path for path in read - apart if not any(f"{path}.".startswith(f"{entry}.") for entry in listed)} == set()
    assert {entry for entry in listed if not any(f"{path}.".startswith(f"{entry}.") for path in read)} == set()
