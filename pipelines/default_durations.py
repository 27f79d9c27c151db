"""How long trainings and evaluations take where nothing like them has run yet, by pipelines/priors.yaml."""

from pathlib import Path
from typing import Any

import yaml

from duvae.config import Params

TABLE = Path(__file__).with_name("priors.yaml")
IMAGES = ("omniglot", "images")


def priors(params: Params, cuda: bool = False) -> dict[str, float]:
    """Seconds of `train` and `evaluate` of each job whose data set is in the table, at the most epochs."""
    table: dict[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    device = "gpu" if cuda else "cpu"
    found = {}
    for job in params.jobs():
        if (row := table["datasets"].get(job.dataset)) is None:
            continue
        dataset, system = params.dataset(job.dataset), params.setting(job.setting).system
        factor = table["factors"].get(system, {}).get("images" if dataset.kind in IMAGES else "text", 1)
        examples = min(dataset.nll_examples or row["examples"], row["examples"])
        epochs = params.optimisation(job.setting, job.dataset).epochs
        found[f"train@{job.name}"] = float(row["steps"] * epochs * row["step"][device] * factor)
        found[f"evaluate@{job.name}"] = examples * row["nll"][device] * params.evaluation.importance_samples / 500

    return found
