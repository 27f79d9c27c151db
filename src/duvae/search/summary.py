"""Summarizes a study: its trials, its best trials, its cost in epochs, and its comparison with a grid study.

A study is a search for hyperparameters, and a trial trains one model per seed of the study. A grid study tries all
combinations of the given values. A study may have a bound: the mutual information (MI) that its best trial must exceed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from duvae.data.splits import Array
from duvae.search import examples
from duvae.search.attributes import ENDED, EPOCHS
from duvae.search.plan import Plan
from duvae.search.pruning import Curve, reported_curve
from duvae.search.trial import LEAST_MI, feasible, measures_of_seeds

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
"""Names of the states of finished trials. A pruned trial ended early."""

MEASURES = ("nll", "nll_stderr", "loss", "kl", "mi", LEAST_MI, "au", "use", "use_stderr")
"""Measures of a complete trial on the validation set: in nats per example, except `au`, the number of active units.

They are means over the seeds, except `least_mi`, the least MI of a seed. `nll_stderr` and `use_stderr` are standard
errors over examples and seeds (see `duvae.search.trial.over_seeds`), `loss` is the negative ELBO, and `use` is the use
of z by the decoder.
"""

LEAST_FOR_IMPORTANCE = 8
"""Smallest number of complete trials from which the importance of hyperparameters is estimated."""


def trials(plan: Plan, study: optuna.Study) -> pd.DataFrame:
    """Lists the finished trials of a study.

    Args:
        plan: Plan of the study.
        study: Study to read.

    Returns:
        One row per trial, with these columns:

        - `trial`: number of the trial;
        - one column per searched hyperparameter;
        - `state`: complete, pruned or failed;
        - `seeds`: number of seeds whose models are trained and measured;
        - `nll`, `nll_stderr`, `loss`, `kl`, `mi`, `least_mi`, `use`, `use_stderr`: measures of the best weights on the
          validation set in nats, only of complete trials (see `MEASURES`);
        - `au`: number of active units, only of complete trials;
        - `feasible`: whether the MI of every seed lies above the bound of the study, only of complete trials; without a
          bound, true;
        - `epochs`: number of epochs that the trainings of all seeds reached together;
        - `longest`: number of epochs that the longest of them reached;
        - `trained`: number of epochs trained. An epoch counts again if it was trained again after the worker of the
          trial was killed;
        - `why`: reason why the trial was pruned or failed; empty for a complete trial.
    """
    rows = [
        {
            "trial": trial.number,
            **{name: trial.params.get(name) for name in plan.space},
            "state": STATES[trial.state],
            "seeds": len(measures_of_seeds(trial)),
            **{name: trial.user_attrs.get(name) for name in MEASURES},
            "feasible": feasible(plan, trial) if trial.state == TrialState.COMPLETE else None,
            "epochs": len(trial.intermediate_values),
            "longest": max(len(curve.losses) for curve in _curves(plan, trial)),
            "trained": trial.user_attrs.get(EPOCHS, 0),
            "why": trial.user_attrs.get("why", ""),
        }
        for trial in study.get_trials(deepcopy=False, states=ENDED)
    ]
    columns = ["trial", *plan.space, "state", "seeds", *MEASURES, "feasible", "epochs", "longest", "trained", "why"]

    return pd.DataFrame(rows, columns=columns)


def _curves(plan: Plan, trial: FrozenTrial) -> list[Curve]:
    """The validation curves that a trial has reported, one per seed of the study."""
    return [reported_curve(trial, plan.optimisation.epochs, index) for index in range(len(plan.study.seeds))]


def curves(plan: Plan, study: optuna.Study) -> pd.DataFrame:
    """Collects the validation curves of all finished trials.

    Args:
        plan: Plan of the study.
        study: Study to read.

    Returns:
        One row per trial, seed and epoch, with the validation loss and the MI in nats. The MI is missing if the study
        has no bound on MI.
    """
    rows = []
    for trial in study.get_trials(deepcopy=False, states=ENDED):
        for seed, curve in zip(plan.study.seeds, _curves(plan, trial), strict=True):
            for index, loss in enumerate(curve.losses):
                mi = curve.mi[index] if index < len(curve.mi) else None
                row = {"trial": trial.number, "seed": seed, "epoch": index + 1, "valid_loss": loss, "valid_mi": mi}
                rows.append(row)

    return pd.DataFrame(rows, columns=["trial", "seed", "epoch", "valid_loss", "valid_mi"])


def importance(plan: Plan, study: optuna.Study) -> dict[str, float] | None:
    """Estimates how much of the variance of the NLL over the complete trials each hyperparameter explains (fANOVA).

    Args:
        plan: Plan of the study.
        study: Study of Optuna. The value of each complete trial is its NLL in nats per example.

    Returns:
        The share of each searched hyperparameter in what single hyperparameters explain, by name; None if there is only
        one hyperparameter, fewer complete trials than `LEAST_FOR_IMPORTANCE`, or only one NLL.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(plan.space) < 2 or len(complete) < LEAST_FOR_IMPORTANCE or len({trial.value for trial in complete}) < 2:
        return None
    evaluator = FanovaImportanceEvaluator(seed=plan.study.seeds[0])
    shares = get_param_importances(study, evaluator=evaluator, params=list(plan.space))

    return {name: float(shares[name]) for name in plan.space}


def best_trial(frame: pd.DataFrame, feasible_only: bool = True) -> dict[str, Any] | None:
    """Finds the complete trial with the least NLL.

    Args:
        frame: Table of trials, as `trials` returns it.
        feasible_only: Whether to leave out trials whose MI does not lie above the bound of the study.

    Returns:
        The number of the trial (`trial`), its `hyperparameters`, and its measures `nll`, `nll_stderr`, `kl`, `mi` and
        `au`; None if there is no such trial.
    """
    candidates = frame[frame["state"] == "complete"]
    if feasible_only:
        candidates = candidates[candidates["feasible"].astype(bool)]
    if candidates.empty:
        return None
    row = candidates.iloc[int(candidates["nll"].astype(float).argmin())]
    shown = ("nll", "nll_stderr", "kl", "mi", "au")
    others = ("trial", *MEASURES, "state", "seeds", "feasible", "epochs", "longest", "trained", "why")

    return {
        "trial": int(row["trial"]),
        "hyperparameters": {name: _plain(row[name]) for name in frame.columns if name not in others},
        **{name: _plain(row[name]) for name in shown},
    }


def _plain(value: Any) -> Any:
    """Turns a value of a table into a Python number, which JSON can hold; None for a missing value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None

    return value.item() if hasattr(value, "item") else value


def summarize(
    plan: Plan,
    frame: pd.DataFrame,
    against: Mapping[str, Any] | None = None,
    sentences: int = 0,
    nll: Mapping[int, Sequence[Array]] | None = None,
    nll_against: Mapping[int, Sequence[Array]] | None = None,
    shares: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Collects the content of study.json: search space, best trials, cost in epochs, and comparison with a grid study.

    Args:
        plan: Plan of the study.
        frame: Table of trials, as `trials` returns it.
        against: Summary of the grid study to compare with; None: no comparison.
        sentences: Number of examples in the validation set.
        nll: NLL of each validation example in nats, one array per seed, by number of the trial; None: not known.
        nll_against: The same of the grid study to compare with; None: not known.
        shares: Importance of each hyperparameter, as `importance` returns it; None: not known.
    """
    dataset = plan.params.dataset(plan.study.dataset)
    best = best_trial(frame)
    trained = int(frame["trained"].sum())

    return {
        "study": plan.name,
        "key": plan.key()[:8],
        "conditions": plan.conditions[:8],
        "dataset": plan.study.dataset,
        "column": dataset.column,
        "setting": plan.study.setting,
        "system": plan.system,
        "seeds": plan.study.seeds,
        "sampler": plan.study.sampler,
        "space": {name: list(values) for name, values in plan.space.items()},
        "min_mi": plan.study.min_mi,
        "sentences": sentences,
        "importance_samples": plan.samples,
        "warmup": plan.optimisation.warmup,
        "epochs_of_a_training": plan.optimisation.epochs,
        "trials": {state: int((frame["state"] == state).sum()) for state in STATES.values()},
        "best": best,
        "best_of_all": best_trial(frame, feasible_only=False),
        "importance": shares,
        "maybe_best": examples.maybe_best(frame, nll or {}),
        "cost": {
            "epochs": trained,
            "reached": int(frame["epochs"].sum()),
            "grid": len(plan.grid),
            "grid_epochs": plan.grid_epochs,
            "share": trained / plan.grid_epochs,
            "saved": plan.grid_epochs - trained,
        },
        "against": comparison(best, trained, against, nll or {}, nll_against or {}) if against else None,
    }


def comparison(
    best: Mapping[str, Any] | None,
    trained: int,
    against: Mapping[str, Any],
    nll: Mapping[int, Sequence[Array]],
    nll_against: Mapping[int, Sequence[Array]],
) -> dict[str, Any]:
    """Compares a study with a grid study by the NLL of the best trials and by the number of epochs.

    Args:
        best: Best trial of the study, as `best_trial` returns it; None: the study has no best trial.
        trained: Number of epochs that the study has trained.
        against: Summary of the grid study, as `summarize` returns it.
        nll: NLL of each validation example in nats, one array per seed, by number of the study's trial.
        nll_against: NLL of the same examples in nats, by number of the grid study's trial, with the same seeds.

    Returns:
        Values by name:

        - `study`: name of the grid study;
        - `best`: best trial of the grid study;
        - `epochs`: number of epochs of all trainings of the grid study together. Each epoch of a training counts once,
          even if it was trained again after a kill, or if the trial took the training over from the DVC graph;
        - `share`: `trained`, divided by `epochs`; None if `epochs` is 0;
        - `gap`: NLL of the study's best trial minus NLL of the grid study's best trial, in nats; None if a study has no
          best trial;
        - `paired`: the same difference on the validation examples of both, with its 95 % interval (`mean`, `low`,
          `high`) and the number of `seeds`; None where the NLL of the examples is not known.
    """
    grid_best = against["best"]
    gap = best["nll"] - grid_best["nll"] if best and grid_best else None
    epochs = against["cost"]["reached"]

    return {
        "study": against["study"],
        "best": grid_best,
        "epochs": epochs,
        "share": trained / epochs if epochs else None,
        "gap": gap,
        "paired": examples.difference(nll.get(best["trial"]), nll_against.get(grid_best["trial"]))
        if best and grid_best
        else None,
    }
