"""Runs one trial of a study: trains one model per seed with given hyperparameters, and evaluates it on validation.

A study is a search for hyperparameters. A worker is a process that runs trials; if a worker dies, another worker takes
its trial over. The pruner of a study is the rule that ends trials early.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from duvae.data import store
from duvae.errors import UserError
from duvae.metrics.statistics import standard_error
from duvae.search import examples
from duvae.search.attributes import PARENT, SEEDS
from duvae.search.one_seed import evaluate_on_validation, trained_model
from duvae.search.plan import Plan
from duvae.search.pruning import MI, reason_between_seeds
from duvae.search.storage import Worker, fail, study_root
from duvae.search.trial_progress import Pruned, TrialLost, TrialProgress
from duvae.tracking.trial_runs import TrialRun
from duvae.training.checkpoints import Checkpoint

LEAST_MI = "least_mi"
"""Name of the least MI over the seeds of a trial in nats, which the bound of the study is for."""


def run_trial(
    plan: Plan, study: optuna.Study, storage: BaseStorage, worker: Worker, trial: Trial, prepared: store.Prepared
) -> bool:
    """Trains and evaluates the models of a trial, one per seed, and stores the result in the study.

    A trial that was interrupted goes on with its first unfinished seed. Its training continues from its last saved
    state, if there is one.

    Args:
        plan: Plan of the study.
        study: Study of the trial.
        storage: Storage of the study.
        worker: Worker that owns the trial.
        trial: Trial to run.
        prepared: Prepared data set of the study.

    Returns:
        Whether the trial ended; False if another worker has taken it over.

    Raises:
        Interrupted: If the user asked for a stop.
        UserError: If the study cannot go on. A training that diverges raises no error: its trial fails, and the study
            goes on.
    """
    hyperparameters = plan.hyperparameters(trial.params)
    seeds = ", ".join(map(str, plan.study.seeds))
    tags = {"dataset": plan.study.dataset, "system": plan.system, "seed": seeds}
    parent = str(study.user_attrs[PARENT])
    with TrialRun(study.study_name, parent, trial.number, tags, hyperparameters, study_root(plan.root)) as run:
        progress = None
        try:
            while (index := len(measures_of_seeds(trial))) < len(plan.study.seeds):
                if reason := reason_to_end(plan, study, trial):
                    raise Pruned(reason)
                progress = TrialProgress(plan, study, worker, trial, run, index)
                checkpoint = Checkpoint(state_path(plan, study, trial.number, index), plan.params.checkpoint_seconds)
                with progress:
                    model = trained_model(plan, hyperparameters, prepared, checkpoint, progress)
                results, nll = evaluate_on_validation(plan, model, prepared, progress)
                if not worker.owns(study, trial):
                    return False
                packed = trial.user_attrs.get(examples.ATTRIBUTE, [])[:index]  # a kill may have left one more
                trial.set_user_attr(examples.ATTRIBUTE, [*packed, examples.packed(nll)])
                trial.set_user_attr(SEEDS, [*measures_of_seeds(trial), results])
                checkpoint.remove()
                progress = None
        except Pruned as pruned:
            run.end("pruned", {})
            trial.set_user_attr("why", str(pruned))
            _set_constraint(plan, trial, progress.mi[-1:] if progress is not None else [])
            study.tell(trial, state=TrialState.PRUNED)
        except TrialLost:
            return False
        except UserError as error:
            if not str(error).startswith("training stopped"):  # the training did not diverge; something else failed
                raise
            run.end("failed", {})
            fail(storage, study, trial.number, str(error))
        else:
            if not worker.owns(study, trial):
                return False
            means = over_seeds(measures_of_seeds(trial))
            run.end("complete", means)
            for name, value in means.items():
                trial.set_user_attr(name, value)
            _set_constraint(plan, trial)
            study.tell(trial, means["nll"])
    remove_states(plan, study, trial.number)

    return True


def measures_of_seeds(trial: Trial | FrozenTrial) -> list[dict[str, Any]]:
    """Returns the measures on validation of the models that a trial has finished, by name; one entry per seed."""
    return list(trial.user_attrs.get(SEEDS, []))


def reason_to_end(plan: Plan, study: optuna.Study, trial: Trial) -> str | None:
    """Gives the reason why a trial should end before it trains the model of its next seed; None if it should go on.

    Args:
        plan: Plan of the study. Without `prune`, no trial ends early.
        study: Study of the trial.
        trial: Trial whose models of the first seeds, if any, are measured.
    """
    measured = measures_of_seeds(trial)
    if plan.study.prune is None or not measured:
        return None
    least, mi = plan.study.min_mi, measured[-1]["mi"]
    if least is not None and mi is not None and mi <= least:
        return f"MI {mi:.2f} with seed {plan.study.seeds[len(measured) - 1]}"
    complete = {
        other.number: examples.of_trial(other)
        for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if feasible(plan, other)
    }

    return reason_between_seeds(examples.of_trial(trial)[: len(measured)], complete)


def feasible(plan: Plan, trial: FrozenTrial) -> bool:
    """Returns whether the MI of a complete trial lies above the bound of the study with every seed.

    Args:
        plan: Plan of the study. Without a bound, the result is True.
        trial: Complete trial, which therefore has the least MI of its seeds as an attribute.
    """
    return plan.study.min_mi is None or float(trial.user_attrs[LEAST_MI]) > plan.study.min_mi


def over_seeds(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Computes the means of measures over the seeds of a trial.

    The standard error of a mean has a part for the seeds and a part for the examples. The second is the mean of the
    errors of the single seeds, as if an example had the same part in all of them. The error is therefore rather too
    large than too small.

    Args:
        measured: Measures of the model of each seed, by name. The standard error of a measure over the examples has the
            name of the measure with the ending `_stderr`.

    Returns:
        The means, by the same names, and the least MI over the seeds as `LEAST_MI`. A measure that is unknown for a
        seed is None.
    """
    known = {name: [each[name] for each in measured] for name in measured[0]}
    means: dict[str, Any] = {LEAST_MI: None if None in known["mi"] else min(known["mi"])}
    for name, values in known.items():
        if None in values:
            means[name] = None
        elif len(values) == 1:
            means[name] = values[0]
        else:
            means[name] = math.fsum(values) / len(values)
    for name, values in known.items():
        base = name.removesuffix("_stderr")
        if base != name and means[name] is not None and len(values) > 1:
            means[name] = math.hypot(means[name], standard_error(np.asarray(known[base])) or 0.0)

    return means


def _set_constraint(plan: Plan, trial: Trial, current: Sequence[float] = ()) -> None:
    """Stores the bound of the study minus the least mutual information (MI) of a trial, in nats, as a constraint.

    The samplers and Optuna's dashboard read the constraint. A value of at most 0 means that the trial satisfies the
    bound. Nothing is stored if the study has no bound or if no MI is known.

    Args:
        plan: Plan of the study.
        trial: Trial to store the value in.
        current: MI in nats of the last epoch of an unfinished seed, if there is one.
    """
    known = [*current, *(each["mi"] for each in measures_of_seeds(trial) if each["mi"] is not None)]
    if plan.study.min_mi is not None and known:
        trial.set_constraint(MI, plan.study.min_mi - min(known))


def state_path(plan: Plan, study: optuna.Study, number: int, index: int) -> Path:
    """Returns the path of the file with the saved training state of one seed of a trial.

    Args:
        plan: Plan of the study.
        study: Study of the trial.
        number: Number of the trial.
        index: Index of the seed in the list of the study, from 0.
    """
    return plan.root / "checkpoints" / "studies" / f"{study.study_name}-{number}-{index}.safetensors"


def remove_states(plan: Plan, study: optuna.Study, number: int) -> None:
    """Removes the saved training states of a finished trial, which a killed worker may have left behind."""
    for index in range(len(plan.study.seeds)):
        state_path(plan, study, number, index).unlink(missing_ok=True)
