"""Compares the parameters that made a result with those in params.yaml now.

After a change of params.yaml, the results of earlier commands stay, and belong to the earlier parameters. `dvc repro`
notices this by itself. This module tells it to those who run the commands one by one.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from duvae.config import Frozen, Job, Params
from duvae.errors import UserError
from duvae.report import expected

PARAMETERS = "parameters"
"""The key of train.run.json that holds the parameters of the training. Records of earlier versions do not have it."""


def trained_with(metrics: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that made a model, in groups such as `optimisation`.

    Earlier versions recorded only the hyperparameters.

    Args:
        metrics: Content of the model's metrics.json, which has the hyperparameters under `hyperparameters`.
        record: The record of the training, train.run.json.
    """
    return {"hyperparameters": metrics["hyperparameters"], **(record.get(PARAMETERS) or {})}


def differences(
    params: Params, job: Job, metrics: Mapping[str, Any], record: Mapping[str, Any], root: Path = Path()
) -> list[str]:
    """Finds the parameters that have changed since a model was trained and measured.

    Args:
        params: All parameters of params.yaml.
        job: Data set, setting and seed of the model.
        metrics: Content of the model's metrics.json, which has the hyperparameters under `hyperparameters`.
        record: The record of the training, train.run.json.
        root: Folder of the project, for hyperparameters that come from a study.

    Returns:
        One sentence for the training and one for the measurement, each only if a parameter of it has changed.
    """
    arguments = f"--dataset {job.dataset} --setting {job.setting} --seed {job.seed}"
    trained, measured = changes(params, job, metrics, record, root)
    groups = (("models", "trained", "train", trained), ("results", "measured", "evaluate", measured))

    return [
        f"{folder}/{job.folder.as_posix()}: was {verb} with {', '.join(found)}. What is shown belongs to these earlier"
        f" values. Run 'duvae {command} {arguments}' and the stages after it, or 'dvc repro'."
        for folder, verb, command, found in groups
        if found
    ]


def changes(
    params: Params, job: Job, metrics: Mapping[str, Any], record: Mapping[str, Any], root: Path = Path()
) -> tuple[list[str], list[str]]:
    """Finds the parameters that have changed, of the training and of the measurement. See `differences`.

    Returns:
        Two lists of texts such as `optimisation.epochs 50 (params.yaml: 120)`.
    """
    measured = {"importance_samples": metrics.get("importance_samples")}
    pairs = (
        (trained_with(metrics, record), _now(params, job, root)),
        (measured, {"importance_samples": params.evaluation.importance_samples}),
    )
    trained_changes, measured_changes = (_changed(flat(then), flat(now)) for then, now in pairs)

    return trained_changes, measured_changes


def _changed(earlier: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {earlier[name]} (params.yaml: {present[name]})"
        for name in earlier
        if name in present and earlier[name] != present[name]
    ]


def changed(params: Params, job: Job, root: Path = Path()) -> list[str]:
    """Reads the two files that `differences` needs, and returns its sentences. Without these files there are none.

    Raises:
        UserError: If a file is broken.
    """
    metrics, record = (root / "results" / job.folder / name for name in ("metrics.json", "train.run.json"))
    if not metrics.exists() or not record.exists():
        return []
    content, training = expected.read(metrics, "duvae evaluate"), expected.read(record, "duvae train")

    return differences(params, job, content, training, root)


def warn(params: Params, jobs: Iterable[Job], root: Path = Path()) -> None:
    """Prints the sentences of `changed` for some jobs as warnings to standard error.

    The command has done its work. So a file that cannot be compared is a warning, too.
    """
    for job in jobs:
        try:
            sentences = changed(params, job, root)
        except UserError as error:
            sentences = [str(error)]
        for sentence in sentences:
            print(f"warning: {sentence}", file=sys.stderr)


def _now(params: Params, job: Job, root: Path) -> dict[str, Any]:
    """The parameters of a training as params.yaml and the studies give them now, in the groups of `trained_with`."""
    groups: dict[str, Frozen] = {
        "parts": params.setting(job.setting).parts,
        "networks": params.dataset(job.dataset).networks,
        "optimisation": params.optimisation(job.setting, job.dataset),
    }
    with suppress(UserError):  # a study without results; the stage that needs them reports it
        groups["hyperparameters"] = params.hyperparameters(job.setting, job.dataset, root)

    return {name: group.model_dump() for name, group in groups.items()}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Replaces nested mappings by dotted names, such as `optimisation.batch`, and values by those of JSON."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = json.loads(json.dumps(value))

    return found
