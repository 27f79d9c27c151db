"""Finds the setting that supplement E's own rule selects on our synthetic data, and compares it with the paper's.

Supplement E selects, among settings of DU-VAE whose mutual information (MI) is above 1 nat, the one with the lowest
NLL. A grid study of this project follows this rule, with the NLL and the MI on validation.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import ValidationError

from duvae.config import FIGURE1_DATASET, Params, best_params_path
from duvae.errors import UserError
from duvae.metrics.centres import counts
from duvae.project.files import read_json
from duvae.project.provenance import read_record
from duvae.report.cells import number, word_list
from duvae.report.expected import Content
from duvae.report.latent_rules import centres_text, density
from duvae.report.names import hyperparameter_text
from duvae.report.per_example import PerExample, space
from duvae.report.results import Result, read_table, short_commit

SYSTEM = "du_vae"


class Summary(Content):
    """The keys of study.json that the sentence needs; None where the file lacks them, as in earlier versions.

    Attributes:
        epochs_of_a_training: Limit of epochs of a trial.
        min_mi: Bound of the MI in nats, above which a trial can be selected.
        maybe_best: Numbers of the trials that cannot be distinguished from the selected one, with this one.
        seeds: Seeds of each trial; None: one seed, in results of an earlier version.
    """

    epochs_of_a_training: int | None = None
    min_mi: float | None = None
    maybe_best: list[int] | None = None
    seeds: list[int] | None = None


@dataclass(frozen=True)
class Selection:
    """What a grid study of DU-VAE on the data of Figure 1 selected.

    Attributes:
        study: Name of the study.
        values: The selected hyperparameters by key.
        summary: The part of study.json that the sentence needs.
        trials: Content of trials.csv, one row per trial; empty where it cannot be read.
        record: The record of the search; empty where there is none, as for studies of earlier versions.
    """

    study: str
    values: Mapping[str, float]
    summary: Summary
    trials: pd.DataFrame
    record: Mapping[str, Any]


def read_selection(params: Params, root: Path = Path()) -> Selection | None:
    """Reads what a grid study of DU-VAE on the data of Figure 1 selected.

    Args:
        params: All parameters of params.yaml.
        root: The project's folder.

    Returns:
        The selection; None if there is no such study, or if its hyperparameters cannot be read.
    """
    for name in params.studies:
        study = params.study(name)
        if (
            study.sampler == "grid"
            and study.dataset == FIGURE1_DATASET
            and study.setting == SYSTEM
            and study.min_mi is not None
        ):
            try:
                content = yaml.safe_load(best_params_path(name, root).read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                continue
            values = content.get("hyperparameters") if isinstance(content, dict) else None
            if isinstance(values, dict) and all(isinstance(value, (int, float)) for value in values.values()):
                numbers = {str(key): float(value) for key, value in values.items()}
                return Selection(name, numbers, *_details(name, root))

    return None


def _details(study: str, root: Path) -> tuple[Summary, pd.DataFrame, Mapping[str, Any]]:
    """Reads the summary, the trials and the record of a study; each of them is empty where it cannot be read."""
    folder, command = best_params_path(study, root).parent, f"duvae search --study {study}"
    summary, trials, record = Summary(), pd.DataFrame({"state": []}), dict[str, Any]()
    with suppress(UserError, ValidationError):
        summary = Summary.model_validate(read_json(folder / "study.json", command))
    with suppress(UserError):
        trials = read_table(folder / "trials.csv", command)
    with suppress(UserError):
        record = read_record(folder / "search.run.json", command, missing_ok=True)

    return summary, trials, record


def selected_model(params: Params, models: Sequence[Result], root: Path = Path()) -> Result | None:
    """Finds the model with the hyperparameters that the study selected, other than the paper's own setting.

    Args:
        params: All parameters of params.yaml.
        models: Results of all models.
        root: The project's folder.

    Returns:
        The model with the seed of Figure 1; None if no such model was trained.
    """
    selection = read_selection(params, root)
    if selection is None or params.figure1 is None:
        return None
    for model in models:
        own = model.metrics["hyperparameters"]
        if (
            model.job.dataset == FIGURE1_DATASET
            and model.system == SYSTEM
            and model.job.setting != SYSTEM
            and model.job.seed == params.figure1.seed
            and all(key in own and math.isclose(float(own[key]), value) for key, value in selection.values.items())
        ):
            return model

    return None


def sentence(
    params: Params,
    paper: tuple[Result, PerExample],
    selected: tuple[Result, PerExample] | None,
    root: Path = Path(),
) -> str | None:
    """Says which setting supplement E's rule selects, and how many centres its latent space has.

    Args:
        params: All parameters of params.yaml.
        paper: The model with the paper's hyperparameters, and the values of its test examples.
        selected: The model with the selected hyperparameters, and the values of its test examples; None: not trained.
        root: The project's folder.

    Returns:
        The sentence; None if no study has selected hyperparameters.
    """
    selection = read_selection(params, root)
    if selection is None:
        return None
    ours, theirs = hyperparameter_text(SYSTEM, selection.values), paper[0].hyperparameters
    lines = [
        "Supplement E selects the lowest NLL among the settings whose MI is above 1 nat; we take both on validation.",
        f"In the study {selection.study} this is {ours}"
        + (", as in the paper." if ours == theirs else f"; in the paper it is {theirs}."),
        *_study_lines(selection, paper[0], selected[0] if selected else None),
    ]
    if ours == theirs:
        return " ".join(lines)
    parts = [f"{centres_text(counts(density(space(*paper))))} with {theirs}"]
    parts += [f"{centres_text(counts(density(space(*selected))))} with {ours}"] if selected else []
    lines.append(f"The aggregated posterior has {word_list(parts)}; the paper's figure shows five.")
    if not selected:
        lines.append(f"A DU-VAE with {ours} is not shown, since it was not trained.")

    return " ".join(lines)


def _study_lines(selection: Selection, paper: Result, selected: Result | None) -> list[str]:
    """Says how much the study's choice means: its seeds, the other trials, the paper's own choice, and its version.

    Args:
        selection: The study and its choice.
        paper: The model with the paper's hyperparameters.
        selected: The model with the selected hyperparameters; None: not trained.
    """
    summary, trials = selection.summary, selection.trials
    maybe, limit, least = summary.maybe_best, summary.epochs_of_a_training, summary.min_mi
    seeds = len(summary.seeds or [0])
    several = seeds > 1
    lines = [f"The study has {seeds} seeds." if several else "The study has one seed."]
    if maybe is None:
        lines.append("Its trials were not compared in pairs, so others may be as good.")
    elif len(maybe) > 1:
        others = len(maybe) - 1
        lines.append(f"{others} other trial{'s' * (others > 1)} cannot be distinguished from this one.")
    own = _trial(trials, selection.values)
    if limit is not None and own.get("longest", own.get("epochs", 0)) >= limit:
        training = "At least one of its trainings" if several else "Its training"
        lines.append(f"{training} ended at the limit of {limit} epochs, so it may not have converged.")
    theirs = _trial(trials, {key: paper.metrics["hyperparameters"].get(key) for key in selection.values})
    mi = theirs.get("least_mi", theirs.get("mi", math.inf))
    if least is not None and mi <= least:
        decimals = next((more for more in range(2, 9) if round(mi, more) <= least), 9)
        training = "one of the trainings" if several else "the one training"
        found = number(mi, decimals)
        lines.append(f"There {training} with the paper's own values had an MI of {found}, not above the bound.")
        here = paper.metrics["mi"]
        if here is not None and here > least:
            epochs = f"after {paper.metrics['epochs']} epochs"
            lines.append(f"The model with these values on this page, {epochs}, has an MI of {number(here, 2)} on test.")

    return [*lines, *_version_lines(selection, selected or paper)]


def _version_lines(selection: Selection, model: Result) -> list[str]:
    """Says that other code made the study than the model, or that this is not known; empty if the code is the same."""
    record, own = selection.record, model.provenance.get("train", {})
    if not record.get("commit"):
        return ["An earlier version made the study and kept no record of it."]
    if not own.get("commit"):
        return ["An earlier version made the models; they have no record."]
    if record["commit"] != own["commit"]:
        return [f"Another version made the study (commit {short_commit(record)}; the models: {short_commit(own)})."]

    return []


def _trial(trials: pd.DataFrame, values: Mapping[str, float | None]) -> Mapping[str, float]:
    """Finds the numbers of the complete trial with certain hyperparameters; empty if there is no such trial."""
    complete = trials[trials["state"] == "complete"] if "state" in trials else trials[:0]
    for _, row in complete.apply(pd.to_numeric, errors="coerce").iterrows():
        if all(value is not None and math.isclose(row.get(key, math.nan), value) for key, value in values.items()):
            return {str(key): float(value) for key, value in row.items() if not math.isnan(value)}

    return {}
