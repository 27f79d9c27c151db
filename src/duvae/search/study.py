"""A study from its creation to its end: any number of workers take trials from it, and may be killed at any moment.

A trial trains the system of a setting with other hyperparameters, in the same way as `duvae train` and with the same
seed. Its value is the importance-weighted NLL on validation. A trial keeps its number, its reports and the state of its
training through every interruption. No trial is lost, and none counts twice.
"""

import time
from collections.abc import Callable

import optuna
import torch
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from duvae.data import store
from duvae.search.plan import Plan, first_points, sampler
from duvae.search.pruning import StudyPruner
from duvae.search.storage import Worker, study_root, without_warnings
from duvae.search.trial import ENDED, EPOCHS, PARENT, run_trial, state_path
from duvae.tracking.trial_runs import study_run

WAIT_SECONDS = 2.0
"""Time until an idle worker looks again for a trial to take."""


def create_study(plan: Plan, storage: BaseStorage, worker: Worker) -> optuna.Study:
    """Opens the study of a plan, or creates it with its first points in the queue.

    Optuna stores neither sampler nor pruner: this function sets the pruner, and `take` a new sampler for each trial.

    Args:
        plan: Plan of the study.
        storage: Storage of the study.
        worker: Worker whose guard is held meanwhile.
    """
    name = f"{plan.name}-{plan.key()[:8]}"
    pruner = StudyPruner(plan.optimisation.warmup, plan.study.prune, plan.study.min_mi)
    with worker.guard, without_warnings():
        parent = study_run(name, plan.study.dataset, plan.description(), study_root(plan.root))
        study = optuna.create_study(
            storage=storage, study_name=name, load_if_exists=True, pruner=pruner, sampler=RandomSampler()
        )
        study.set_metric_names(["validation NLL (nats)"])
        for point in first_points(plan):  # a kill may have left some of the points out
            study.enqueue_trial(point, skip_if_exists=True)
        study.set_user_attr(PARENT, parent)

    return study


def take(plan: Plan, study: optuna.Study, storage: BaseStorage, worker: Worker) -> Trial | bool:
    """Takes the next trial for a worker.

    Args:
        plan: Plan of the study.
        study: Study to take a trial from.
        storage: Storage of the study.
        worker: Worker that takes the trial.

    Returns:
        The trial, owned by the worker; True if none is free but one may become free; False if the study has no more.
    """
    with worker.guard, without_warnings():
        worker.recover(storage, study)
        trials = study.get_trials(deepcopy=False)
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        begun = [trial for trial in waiting if trial.user_attrs.get(EPOCHS)]
        if plan.study.sampler == "grid" and not waiting:
            return bool(running)
        if not begun and not may_begin(plan, trials):
            return bool(running)
        study.sampler = sampler(plan, len(trials))
        trial = study.ask(plan.distributions)
        worker.claim(trial)

        return trial


def may_begin(plan: Plan, trials: list[FrozenTrial]) -> bool:
    """Whether one more trial may begin.

    It may if the budget suffices to train this trial and all unfinished trials to their end.

    Args:
        plan: Plan of the study.
        trials: All trials of the study.
    """
    if plan.study.trials is not None:
        started = sum(t.state != TrialState.WAITING or EPOCHS in t.user_attrs for t in trials)
        if started >= plan.study.trials:
            return False
    if plan.budget is None:
        return True
    spent = sum(t.user_attrs.get(EPOCHS, 0) for t in trials)
    unfinished = [
        t for t in trials if t.state not in ENDED and (t.state == TrialState.RUNNING or EPOCHS in t.user_attrs)
    ]
    reserved = sum(plan.optimisation.epochs - len(t.intermediate_values) for t in unfinished)

    return spent + reserved + plan.optimisation.epochs <= plan.budget


def work(
    plan: Plan,
    study: optuna.Study,
    storage: BaseStorage,
    worker: Worker,
    report: Callable[[str], None] = lambda line: None,
) -> int:
    """Works on a study until no trial can begin and the trials of other workers have ended.

    Args:
        plan: Plan of the study.
        study: Study to work on.
        storage: Storage of the study.
        worker: Worker that takes the trials.
        report: Function that receives one line of text for each finished trial.

    Returns:
        Number of trials that this worker finished.

    Raises:
        Interrupted: The user asked for a stop. The trial continues later from where it stopped.
    """
    prepared = store.read(plan.root / "data/prepared" / plan.study.dataset)
    torch.set_num_threads(plan.params.threads)
    count = 0
    while True:
        trial = take(plan, study, storage, worker)
        if trial is False:
            return count
        if trial is True:
            time.sleep(WAIT_SECONDS)
            continue
        assert isinstance(trial, Trial)
        try:
            with without_warnings():
                finished = run_trial(plan, study, storage, worker, trial, prepared)
        except BaseException:
            worker.release(storage, study, trial)
            raise
        if finished:
            count += 1
            report(result_line(study.get_trials(deepcopy=False)[trial.number]))


def result_line(trial: FrozenTrial) -> str:
    """One line of text with the hyperparameters and the result of a finished trial."""
    values, attributes = ", ".join(f"{name} {value:.4g}" for name, value in trial.params.items()), trial.user_attrs
    mi = "" if attributes.get("mi") is None or trial.state != TrialState.COMPLETE else f", MI {attributes['mi']:.2f}"
    result = {
        TrialState.COMPLETE: f"NLL {trial.value:.3f}{mi}" if trial.value is not None else "",
        TrialState.PRUNED: f"ended early: {attributes.get('why')}",
        TrialState.FAIL: f"failed: {attributes.get('why')}",
    }[trial.state]

    return f"trial {trial.number} ({values}), {len(trial.intermediate_values)} epochs: {result}"


def remove_states(plan: Plan, study: optuna.Study) -> None:
    """Removes the training states that a kill has left beside finished trials."""
    for trial in study.get_trials(deepcopy=False, states=ENDED):
        state_path(plan, study, trial.number).unlink(missing_ok=True)
