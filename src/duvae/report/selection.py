"""Finds the setting that supplement E's own rule selects on our synthetic data, and compares it with the paper's.

Supplement E selects, among settings of DU-VAE whose mutual information (MI) is above 1 nat, the one with the lowest NLL
on validation. A grid study of this project follows this rule.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import yaml

from duvae.config import FIGURE1_DATASET, Params, best_params_path
from duvae.metrics.centres import centres
from duvae.report.claim_rules import density
from duvae.report.names import hyperparameter_text
from duvae.report.per_example import PerExample, space
from duvae.report.results import Result

SYSTEM = "du_vae"


def selected_values(params: Params, root: Path = Path()) -> dict[str, float] | None:
    """Reads the hyperparameters that a grid study of DU-VAE on the data of Figure 1 selected.

    Args:
        params: All parameters of params.yaml.
        root: The project's folder.

    Returns:
        The hyperparameters by key; None if there is no such study, or if it has no readable result.
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
                return {str(key): float(value) for key, value in values.items()}

    return None


def selected_model(params: Params, models: Sequence[Result], root: Path = Path()) -> Result | None:
    """Finds the model with the hyperparameters that the study selected, other than the paper's own setting.

    Args:
        params: All parameters of params.yaml.
        models: Results of all models.
        root: The project's folder.

    Returns:
        The model with the seed of Figure 1; None if no such model was trained.
    """
    values = selected_values(params, root)
    if values is None or params.figure1 is None:
        return None
    for model in models:
        own = model.metrics["hyperparameters"]
        if (
            model.job.dataset == FIGURE1_DATASET
            and model.system == SYSTEM
            and model.job.setting != SYSTEM
            and model.job.seed == params.figure1.seed
            and all(key in own and math.isclose(float(own[key]), value) for key, value in values.items())
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
    values = selected_values(params, root)
    if values is None:
        return None
    rule = "Supplement E selects the lowest NLL on validation among the settings whose MI is above 1 nat."
    ours, theirs = hyperparameter_text(SYSTEM, values), paper[0].hyperparameters
    if ours == theirs:
        return f"{rule} On our data, as in the paper, this is {ours}."
    counts = f"{_centres(*paper)} with {theirs}"
    if selected is not None:
        counts += f" and {_centres(*selected)} with {ours}"
    rest = "" if selected is not None else f" A DU-VAE with {ours} is not shown, since it was not trained."

    return (
        f"{rule} On our data this is {ours}, and in the paper {theirs}. The aggregated posterior has {counts}; the"
        f" paper's figure shows five.{rest}"
    )


def _centres(model: Result, values: PerExample) -> str:
    count = len(centres(density(space(model, values))))

    return "1 centre" if count == 1 else f"{count} centres"
