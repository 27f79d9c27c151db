"""Runs a study: creates it, hands out its trials to workers, and lets each worker run its trials.

A study is a search for hyperparameters, and a trial trains one model per seed of the study. A worker is a process that
runs trials. Any number of workers can work on one study, and each worker may be killed at any moment. The trial of a
killed worker is not lost, and does not count twice: another worker continues it. The trial keeps its number, the losses
that it has reported and the saved state of its training.

In params.yaml, a study names a setting: a system with its hyperparameters. A trial trains this system in the same way
as `duvae train`, but with hyperparameters of its own. All trials have the seeds of the study. The value of a trial is
the importance-weighted NLL on the validation set, as a mean over the seeds.
"""

import time
from collections.abc import Callable

import optuna
import torch
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from duvae.data import store
from duvae.search.attributes import ENDED, EPOCHS, PARENT
from duvae.search.plan import Plan, first_points, sampler
from duvae.search.pruning import StudyPruner
from duvae.search.storage import Worker, study_root, without_warnings
from duvae.search.trial import measures_of_seeds, remove_states, run_trial
from duvae.tracking.trial_runs import study_run

WAIT_SECONDS = 2.0
"""Seconds that an idle worker waits before it looks for a trial again."""


def create_study(plan: Plan, storage: BaseStorage, worker: Worker) -> optuna.Study:
    """Opens the study of a plan, creates it if necessary, and puts its first points into the queue.

    A point gives values to the searched hyperparameters. Optuna stores neither the sampler, which chooses these values,
    nor the pruner, which ends trials early. This function therefore sets the pruner, and the function `take` sets a new
    sampler for each trial.

    Args:
        plan: Plan of the study.
        storage: Storage of the study.
        worker: Worker that opens the study. Its lock `guard` keeps other workers from changing the study meanwhile.

    Returns:
        The study of Optuna. Its name is the name of the plan, followed by the first digits of the plan's key.
    """
    name = f"{plan.name}-{plan.key()[:8]}"
    pruner = StudyPruner(plan.optimisation.warmup, plan.optimisation.epochs, plan.study.prune, plan.study.min_mi)
    with worker.guard, without_warnings():
        parent = study_run(name, plan.study.dataset, plan.description(), study_root(plan.root))
        study = optuna.create_study(
            storage=storage, study_name=name, load_if_exists=True, pruner=pruner, sampler=RandomSampler()
        )
        study.set_metric_names(["validation NLL (nats)"])
        for point in first_points(plan):  # also for an existing study: a killed worker may have queued only some points
            study.enqueue_trial(point, skip_if_exists=True)
        study.set_user_attr(PARENT, parent)

    return study


def take(plan: Plan, study: optuna.Study, storage: BaseStorage, worker: Worker) -> Trial | bool:
    """Takes the next trial for a worker: an unfinished trial of a dead worker, a queued point, or a new point.

    Args:
        plan: Plan of the study.
        study: Study to take a trial from.
        storage: Storage of the study.
        worker: Worker that takes the trial.

    Returns:
        The trial, which the worker now owns. True: no trial is free, but a trial that another worker runs may become
            free. False: the study has no more trials.
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
    """Returns whether one more trial may begin.

    A trial may begin if the study has not reached its limit on the number of trials, and if its budget of epochs
    suffices. The budget must cover the epochs trained so far, the remaining epochs of all unfinished trials, and all
    epochs of the new trial.

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
    reserved = sum(epochs_left(plan, t) for t in unfinished)

    return spent + reserved + plan.trial_epochs <= plan.budget


def epochs_left(plan: Plan, trial: FrozenTrial) -> int:
    """Returns the number of epochs that an unfinished trial may still train.

    Args:
        plan: Plan of the study.
        trial: Trial that waits or runs. The epochs that it has reported, and its finished seeds, do not count.
    """
    finished, epochs = len(measures_of_seeds(trial)), plan.optimisation.epochs
    reported = sum(step > finished * epochs for step in trial.intermediate_values)

    return (len(plan.study.seeds) - finished) * epochs - reported


def work(
    plan: Plan,
    study: optuna.Study,
    storage: BaseStorage,
    worker: Worker,
    report: Callable[[str], None] = lambda line: None,
) -> int:
    """Runs trials of a study until no more trial can begin and the trials of all other workers have ended.

    Args:
        plan: Plan of the study.
        study: Study to work on.
        storage: Storage of the study.
        worker: Worker that takes the trials.
        report: Function that receives one line of text for each finished trial.

    Returns:
        Number of trials that this worker finished.

    Raises:
        Interrupted: If the user asked for a stop. A later call of `work` continues the trial from its saved state.
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
    """Writes one line of text with the hyperparameters and the result of a finished trial."""
    values, attributes = ", ".join(f"{name} {value:.4g}" for name, value in trial.params.items()), trial.user_attrs
    mi = "" if attributes.get("mi") is None or trial.state != TrialState.COMPLETE else f", MI {attributes['mi']:.2f}"
    result = {
        TrialState.COMPLETE: f"NLL {trial.value:.3f}{mi}" if trial.value is not None else "",
        TrialState.PRUNED: f"ended early: {attributes.get('why')}",
        TrialState.FAIL: f"failed: {attributes.get('why')}",
    }[trial.state]

    return f"trial {trial.number} ({values}), {len(trial.intermediate_values)} epochs: {result}"


def remove_finished_states(plan: Plan, study: optuna.Study) -> None:
    """Removes the saved training states of finished trials. A killed worker may have left such files behind.

    Args:
        plan: Plan of the study.
        study: Study whose finished trials are looked up.
    """
    for trial in study.get_trials(deepcopy=False, states=ENDED):
        remove_states(plan, study, trial.number)
