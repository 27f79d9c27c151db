"""Estimates how long each stage runs: from the records of earlier runs, else from `default_durations.yaml`.

A record is an output `*.run.json` of a stage. It holds the device and the duration of the run.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from duvae.config import Params
from duvae.errors import UserError
from duvae.project.provenance import unwrapped
from pipelines.stage_graph import StageGraph

DEFAULTS = Path(__file__).with_name("default_durations.yaml")
"""File of durations per data set, for stages without any record of an earlier run."""

IMAGE_KINDS = ("omniglot", "images")
"""Kinds of data sets whose examples are images."""


def default_durations(params: Params, cuda: bool = False) -> dict[str, float]:
    """Computes the durations to assume for trainings and evaluations before any similar stage has run.

    Args:
        params: The project's parameters.
        cuda: Whether the stages run on GPUs.

    Returns:
        Seconds by name of the stage, such as `train@synthetic-vae-1`, for the stages `train` and `evaluate`. A training
        is assumed to run for its largest number of epochs. Data sets that `default_durations.yaml` lacks are left out.

    Raises:
        UserError: If `default_durations.yaml` is not YAML.
    """
    table = _table()
    device = "gpu" if cuda else "cpu"
    seconds = {}
    for job in params.jobs():
        if (row := table["datasets"].get(job.dataset)) is None:
            continue
        dataset, system = params.dataset(job.dataset), params.setting(job.setting).system
        factor = table["factors"].get(system, {}).get("images" if dataset.kind in IMAGE_KINDS else "text", 1)
        examples = min(dataset.nll_examples or row["examples"], row["examples"])
        epochs = params.optimisation(job.setting, job.dataset).epochs
        seconds[f"train@{job.name}"] = float(row["steps"] * epochs * row["step"][device] * factor)
        seconds[f"evaluate@{job.name}"] = examples * row["nll"][device] * params.evaluation.importance_samples / 500

    return seconds


def _table() -> dict[str, Any]:
    """Reads `DEFAULTS`."""
    try:
        table: dict[str, Any] = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"{DEFAULTS}: expected the durations of stages, in YAML ({' '.join(str(error).split())}). If git left a"
            f" merge conflict in it, resolve it; otherwise run 'git checkout {DEFAULTS}'."
        ) from error

    return table


def estimates(graph: StageGraph, cuda: bool = False, defaults: Mapping[str, float] | None = None) -> dict[str, float]:
    """Estimates the seconds of each stage, from the best available source.

    The sources are, in this order: the stage's own record, the median of the records of the same stage with other
    seeds, and `defaults`. Records from a GPU do not count for the CPU, nor records from the CPU for a GPU. On the CPU
    the estimate is the recorded CPU seconds divided by the number of threads. On a GPU it is the recorded wall-clock
    seconds.

    Args:
        graph: Graph of the project's stages.
        cuda: Whether the stages will run on GPUs.
        defaults: Seconds to assume for stages without any record, by name of the stage; None: such stages have no
            estimate.

    Returns:
        Estimated seconds by name of the stage; stages without an estimate are left out.
    """
    recorded: dict[str, float] = {}
    for name in graph.dvc_stages:
        for path in graph.outs(name):
            record = unwrapped(graph.read_output(path)) if path.endswith(".run.json") else None
            if isinstance(record, Mapping) and str(record.get("device")).startswith("cuda") == cuda:
                recorded[name] = _seconds(record, cuda)
    by_seeds: dict[str, list[float]] = {}
    for name, seconds in recorded.items():
        by_seeds.setdefault(_without_seed(name), []).append(seconds)

    best = {name: seconds for name, seconds in (defaults or {}).items() if name in graph.stages}
    best |= {name: median(by_seeds[_without_seed(name)]) for name in graph.stages if _without_seed(name) in by_seeds}

    return best | {name: recorded[name] for name in graph.stages if name in recorded}


def _seconds(record: Mapping[str, object], cuda: bool) -> float:
    if not cuda:
        return max(_number(record.get("cpu_seconds")) / max(1.0, _number(record.get("threads"), 1.0)), 0.0)
    epochs = record.get("seconds_per_epoch")
    # If a training was interrupted and resumed, its record has the wall time of the last part only, but the seconds of
    # all epochs. So the estimate is the sum over the epochs if that sum is larger than the wall time.
    least = sum(map(float, epochs)) if isinstance(epochs, Sequence) and not isinstance(epochs, str) else 0.0

    return max(least, _number(record.get("wall_seconds")))


def _number(value: object, default: float = 0.0) -> float:
    return float(value) if isinstance(value, (int, float)) else default


def _without_seed(name: str) -> str:
    return re.sub(r"-\d+$", "", name)
