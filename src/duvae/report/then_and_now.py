"""Compares the parameters that made a result with those in params.yaml now.

After a change of params.yaml, the results of earlier commands stay, and belong to the earlier parameters. `dvc repro`
notices this by itself. This module tells it to those who run the commands one by one.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from duvae.config import Frozen, Job, Params
from duvae.errors import UserError
from duvae.report import expected

PARAMETERS = "parameters"
"""The key of train.run.json that holds the parameters of the training. Records of earlier versions do not have it."""
NAMED = 3
"""The largest number of models that a sentence on several models names."""


def trained_with(metrics: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that made a model, in groups such as `optimisation`.

    Earlier versions recorded only the hyperparameters.

    Args:
        metrics: Content of the model's metrics.json, which has the hyperparameters under `hyperparameters`.
        record: The record of the training, train.run.json.
    """
    return {"hyperparameters": metrics["hyperparameters"], **(record.get(PARAMETERS) or {})}


class StageChange(NamedTuple):
    """The parameters of one stage that have changed since the stage ran.

    Attributes:
        folder: The folder of the outputs: `models` or `results`.
        verb: What the stage does to a model: `trained` or `measured`.
        command: The command of the stage.
        values: Texts such as `optimisation.epochs 50 (params.yaml: 120)`.
    """

    folder: str
    verb: str
    command: str
    values: tuple[str, ...]


def sentence(jobs: Sequence[Job], change: StageChange) -> str:
    """Writes the sentence on a change that concerns one model or several.

    Args:
        jobs: Data set, setting and seed of each model.
        change: The change.
    """
    names = [f"{change.folder}/{job.folder.as_posix()}" for job in jobs]
    if len(jobs) == 1:
        (job,) = jobs
        arguments = f"--dataset {job.dataset} --setting {job.setting} --seed {job.seed}"
        subject, remedy = (
            f"{names[0]}: was",
            f"'duvae {change.command} {arguments}' and the stages after it, or 'dvc repro'",
        )
    else:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        subject, remedy = f"{', '.join(names[:NAMED])}{more}: were", "'dvc repro'"

    return (
        f"{subject} {change.verb} with {', '.join(change.values)}. What is shown belongs to these earlier values."
        f" Run {remedy}."
    )


def _stage_changes(
    params: Params, job: Job, metrics: Mapping[str, Any], record: Mapping[str, Any], root: Path
) -> list[StageChange]:
    """Returns the change of the training and that of the measurement, each only if a parameter has changed."""
    trained, measured = changes(params, job, metrics, record, root)
    stages = (
        StageChange("models", "trained", "train", tuple(trained)),
        StageChange("results", "measured", "evaluate", tuple(measured)),
    )

    return [stage for stage in stages if stage.values]


def changes(
    params: Params, job: Job, metrics: Mapping[str, Any], record: Mapping[str, Any], root: Path = Path()
) -> tuple[list[str], list[str]]:
    """Finds the parameters that have changed since a model was trained and measured.

    Args:
        params: All parameters of params.yaml.
        job: Data set, setting and seed of the model.
        metrics: Content of the model's metrics.json, which has the hyperparameters under `hyperparameters`.
        record: The record of the training, train.run.json.
        root: Folder of the project, for hyperparameters that come from a study.

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
    """Writes one sentence for the training and one for the measurement, each only if a parameter of it has changed.

    Without metrics.json or train.run.json there are no sentences.

    Raises:
        UserError: If a file is broken.
    """
    return [sentence([job], change) for change in _read_changes(params, job, root)]


def _read_changes(params: Params, job: Job, root: Path) -> list[StageChange]:
    metrics, record = (root / "results" / job.folder / name for name in ("metrics.json", "train.run.json"))
    if not metrics.exists() or not record.exists():
        return []
    content, training = expected.read(metrics, "duvae evaluate"), expected.read(record, "duvae train")

    return _stage_changes(params, job, content, training, root)


def warn(params: Params, jobs: Iterable[Job], root: Path = Path()) -> None:
    """Prints the sentences of `changed` for some jobs as warnings to standard error, one line for each change.

    The command has done its work. So a file that cannot be compared is a warning, too.
    """
    same: dict[StageChange, list[Job]] = {}
    for job in jobs:
        try:
            for change in _read_changes(params, job, root):
                same.setdefault(change, []).append(job)
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)
    for change, concerned in same.items():
        print(f"warning: {sentence(concerned, change)}", file=sys.stderr)


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
