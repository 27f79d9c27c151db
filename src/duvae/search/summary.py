"""What a study has found: its trials as a table, the winners, what it cost, and the gap to a grid's best."""

import math
from collections.abc import Mapping
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from duvae.search.pruning import curve
from duvae.search.trial import DONE, EPOCHS, Plan

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}

MEASURED = ("nll", "nll_stderr", "loss", "kl", "mi", "au")
"""What a complete trial has been measured by, on validation."""


def trials(plan: Plan, study: optuna.Study) -> pd.DataFrame:
    """The trials that have ended, a row each.

    Columns: `trial`, its hyperparameters, `state` (complete, pruned, failed), the NLL on validation with its standard
    error over sentences and the loss, KL, MI and AU of the kept weights (complete trials), `feasible` (whether MI is
    what is asked for; complete trials), `epochs` it got to, `trained` epochs, those after a kill counted again, and
    `why` it was not brought to its end.
    """
    found = study.get_trials(deepcopy=False, states=DONE)
    rows = [
        {
            "trial": trial.number,
            **{name: trial.params.get(name) for name in plan.space},
            "state": STATES[trial.state],
            **{name: trial.user_attrs.get(name) for name in MEASURED},
            "feasible": feasible(plan, trial) if trial.state == TrialState.COMPLETE else None,
            "epochs": len(trial.intermediate_values),
            "trained": trial.user_attrs.get(EPOCHS, 0),
            "why": trial.user_attrs.get("why", ""),
        }
        for trial in found
    ]
    columns = ["trial", *plan.space, "state", *MEASURED, "feasible", "epochs", "trained", "why"]

    return pd.DataFrame(rows, columns=columns)


def curves(study: optuna.Study) -> pd.DataFrame:
    """The validation loss, and where it is asked for the MI, of each epoch of each trial that has ended."""
    rows = []
    for trial in study.get_trials(deepcopy=False, states=DONE):
        own = curve(trial)
        for index, loss in enumerate(own.losses):
            told = own.mi[index] if index < len(own.mi) else None
            rows.append({"trial": trial.number, "epoch": index + 1, "valid_loss": loss, "valid_mi": told})

    return pd.DataFrame(rows, columns=["trial", "epoch", "valid_loss", "valid_mi"])


def feasible(plan: Plan, trial: FrozenTrial) -> bool:
    """Whether a complete trial's mutual information is what the study asks for."""
    return plan.study.min_mi is None or float(trial.user_attrs["mi"]) > plan.study.min_mi


def winner(frame: pd.DataFrame, of_all: bool = False) -> dict[str, Any] | None:
    """The complete trial of least NLL among the feasible ones, or of all; None where there is none."""
    able = frame[frame["state"] == "complete"]
    if not of_all:
        able = able[able["feasible"].astype(bool)]
    if able.empty:
        return None
    row = able.iloc[int(able["nll"].astype(float).argmin())]
    measured = ("nll", "nll_stderr", "kl", "mi", "au")
    others = (*MEASURED, "state", "feasible", "epochs", "trained", "why")

    return {
        "trial": int(row["trial"]),
        "hyperparameters": {name: _plain(row[name]) for name in frame.columns if name not in ("trial", *others)},
        **{name: _plain(row[name]) for name in measured},
    }


def _plain(value: Any) -> Any:
    """A number as JSON has it; None for what is not there."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None

    return value.item() if hasattr(value, "item") else value


def summary(
    plan: Plan, frame: pd.DataFrame, against: Mapping[str, Any] | None = None, sentences: int = 0
) -> dict[str, Any]:
    """The study in numbers: what it searched, its winners, what it cost, and how it compares with a grid.

    Args:
        plan: The study's.
        frame: Its trials, as `trials` has them.
        against: The summary of the grid study that it is compared with.
        sentences: Of the validation set.
    """
    dataset = plan.params.dataset(plan.study.dataset)
    best = winner(frame)
    trained = int(frame["trained"].sum())

    return {
        "study": plan.name,
        "key": plan.key()[:8],
        "conditions": plan.conditions[:8],
        "dataset": plan.study.dataset,
        "column": dataset.column,
        "setting": plan.study.setting,
        "system": plan.system,
        "seed": plan.study.seed,
        "sampler": plan.study.sampler,
        "space": {name: list(values) for name, values in plan.space.items()},
        "min_mi": plan.study.min_mi,
        "sentences": sentences,
        "importance_samples": plan.samples,
        "warmup": plan.optimisation.warmup,
        "epochs_of_a_training": plan.optimisation.epochs,
        "trials": {state: int((frame["state"] == state).sum()) for state in STATES.values()},
        "best": best,
        "best_of_all": winner(frame, of_all=True),
        "cost": {
            "epochs": trained,
            "reached": int(frame["epochs"].sum()),
            "grid": len(plan.grid),
            "grid_epochs": plan.grid_epochs,
            "share": trained / plan.grid_epochs,
            "saved": plan.grid_epochs - trained,
        },
        "against": compared(best, trained, against) if against else None,
    }


def compared(best: Mapping[str, Any] | None, trained: int, against: Mapping[str, Any]) -> dict[str, Any]:
    """The gap of a study's best to a grid's best, in nats, whether it is within one standard error, and what it cost.

    Args:
        best: The study's winner.
        trained: The epochs that the study has trained.
        against: The grid's summary. Its epochs are those that its trainings got to: the same, where some were taken
            over from the graph, or trained twice after a kill.
    """
    theirs = against["best"]
    gap = best["nll"] - theirs["nll"] if best and theirs else None
    epochs = against["cost"]["reached"]

    return {
        "study": against["study"],
        "best": theirs,
        "epochs": epochs,
        "share": trained / epochs if epochs else None,
        "gap": gap,
        "within_one_standard_error": None if gap is None else bool(gap <= theirs["nll_stderr"]),
    }
