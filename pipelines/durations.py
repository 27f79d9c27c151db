"""Estimates how long each stage runs: from the records of earlier runs, else from `default_durations.yaml`.

A record is an output `*.run.json` of a stage. It holds the device and the duration of the run.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from duvae.config import Job, Params
from duvae.project.durations import resumed, wall_seconds
from duvae.project.provenance import unwrapped
from pipelines.gpu_times import RATES, Card, Counted, Time, counted, read

if TYPE_CHECKING:
    from pipelines.stage_graph import StageGraph  # it imports DVC, which `early` can do without

DEFAULTS = Path(__file__).with_name("default_durations.yaml")
"""File of durations per data set, for stages without any record of an earlier run."""

IMAGE_KINDS = ("omniglot", "images")
"""Kinds of data sets whose examples are images."""


def duration(seconds: float) -> str:
    """A duration in words: `3 s`, `12 min`, `1.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"

    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def default_durations(params: Params, card: Card | None = None) -> dict[str, float]:
    """Computes the durations to assume for stages before any similar stage has run.

    Args:
        params: The project's parameters.
        card: The kind of GPU on which the stages run; None: they run on the CPU.

    Returns:
        Seconds by name of the stage, such as `train@synthetic-vae-1`, for the stages `train` and `evaluate`, and on a
        GPU also `samples`. A training is assumed to run for its largest number of epochs. Data sets that
        `default_durations.yaml` lacks are left out; on a GPU also those whose sizes are not counted.

    Raises:
        UserError: If `default_durations.yaml` or a file of `gpu_times` is not YAML.
    """
    if card is not None:
        return {name: time.seconds for name, time in gpu_times(params, card).items()}
    table = read(DEFAULTS)
    seconds = {}
    for job in params.jobs():
        if (row := table["datasets"].get(job.dataset)) is None:
            continue
        epochs = params.optimisation(job.setting, job.dataset).epochs
        step = row["cpu"]["step"] * _factor(params, job)
        seconds[f"train@{job.name}"] = float(row["steps"] * epochs * step)
        nll = row["cpu"]["nll"] * params.evaluation.importance_samples / 500
        seconds[f"evaluate@{job.name}"] = _measured(params, job, row) * nll

    return seconds


def gpu_times(params: Params, card: Card) -> dict[str, Time]:
    """Estimates the times of stages on a GPU, and how long they keep the GPU busy.

    A training takes its steps, and encodes the validation examples after each epoch. Agg-VAE takes encoder steps as
    well, as many as `factors` in `default_durations.yaml` says. An evaluation encodes all test examples and computes
    their NLL. The time of its other measures is left out.

    Args:
        params: The project's parameters.
        card: The kind of GPU.

    Returns:
        Times by name of the stage, for the stages `train`, `evaluate` and `samples`.
    """
    times = {}
    for job in params.jobs():
        if (work := counted_work(params, job)) is None:
            continue
        row = read(DEFAULTS)["datasets"][job.dataset]
        epoch = step_time(params, job, work, card).times(row["steps"]) + work.encode(card).times(row["valid"])
        times[f"train@{job.name}"] = epoch.times(params.optimisation(job.setting, job.dataset).epochs)
        nll = work.nll(card).times(_measured(params, job, row))
        times[f"evaluate@{job.name}"] = work.encode(card).times(row["examples"]) + nll
        times[f"samples@{job.name}"] = work.samples(card)

    return times


def gpu_memory(params: Params) -> dict[str, float]:
    """Estimates the memory of stages on a GPU: counted tensors, times a safety factor, and the rest of a process.

    Args:
        params: The project's parameters.

    Returns:
        MiB by name of the stage, for all kinds of stages that compute on a GPU and belong to a job.
    """
    rates, memory = read(RATES), dict[str, float]()
    for job in params.jobs():
        if (work := counted_work(params, job)) is None:
            continue
        training, evaluation = (rates["safety"] * tensors + rates["context_mib"] for tensors in work.memory)
        memory[f"train@{job.name}"] = training
        memory |= dict.fromkeys((f"{kind}@{job.name}" for kind in ("evaluate", "probe", "samples")), evaluation)

    return memory


def counted_work(params: Params, job: Job) -> Counted | None:
    """The counted work of a job's system on the job's data set; None if there is none for its sizes."""
    row = read(DEFAULTS)["datasets"].get(job.dataset)
    system = params.setting(job.setting).system

    return None if row is None else counted(params, job.dataset, system, row["counts"])


def step_time(params: Params, job: Job, work: Counted, card: Card) -> Time:
    """The mean time of a training step on a GPU, with the encoder steps of Agg-VAE."""
    return work.step(card, _factor(params, job) - 1)


def _factor(params: Params, job: Job) -> float:
    """Training time of a job as a multiple of VAE's."""
    kind = "images" if params.dataset(job.dataset).kind in IMAGE_KINDS else "text"

    return read(DEFAULTS)["factors"].get(params.setting(job.setting).system, {}).get(kind, 1)


def _measured(params: Params, job: Job, row: Mapping[str, Any]) -> int:
    """Number of test examples whose NLL is measured."""
    return min(params.dataset(job.dataset).nll_examples or row["examples"], row["examples"])


def records(graph: "StageGraph") -> dict[str, Mapping[str, object]]:
    """Reads the records of earlier runs, by name of the stage. Stages without a readable record are left out."""
    found: dict[str, Mapping[str, object]] = {}
    for name in graph.dvc_stages:
        for path in graph.outs(name):
            record = unwrapped(graph.read_output(path)) if path.endswith(".run.json") else None
            if isinstance(record, Mapping):
                found[name] = record

    return found


def recorded_seconds(job: Job, cuda: bool, root: Path) -> dict[str, float]:
    """Reads how long the training and the evaluation of a job took in the earlier runs whose results are here.

    Args:
        job: The data set, the setting and the seed.
        cuda: Whether the stages will run on GPUs. Only records of runs on the same kind of device count.
        root: Folder of the project.

    Returns:
        Seconds by name of the stage. Stages without a readable record are left out.
    """
    found = {}
    for kind in ("train", "evaluate"):
        try:
            record = unwrapped(json.loads((root / "results" / job.folder / f"{kind}.run.json").read_bytes()))
        except (OSError, ValueError):
            continue
        if isinstance(record, Mapping) and _on_gpu(record) == cuda:
            found[f"{kind}@{job.name}"] = _seconds(record, cuda)

    return found


def estimates(
    graph: "StageGraph",
    recorded: Mapping[str, Mapping[str, object]],
    cuda: bool = False,
    defaults: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Estimates the seconds of each stage, from the best available source.

    The sources are, in this order: the stage's own record, the median of the records of the same stage with other
    seeds, and `defaults`. Records from a GPU do not count for the CPU, nor records from the CPU for a GPU. On the CPU
    the estimate is the recorded CPU seconds divided by the number of threads. On a GPU it is the recorded wall-clock
    seconds.

    Args:
        graph: Graph of the project's stages.
        recorded: The records of earlier runs, by name of the stage (see `records`).
        cuda: Whether the stages will run on GPUs.
        defaults: Seconds to assume for stages without any record, by name of the stage; None: such stages have no
            estimate.

    Returns:
        Estimated seconds by name of the stage; stages without an estimate are left out.
    """
    own = {name: _seconds(record, cuda) for name, record in recorded.items() if _on_gpu(record) == cuda}
    by_seeds = _by_seeds(own)
    best = {name: seconds for name, seconds in (defaults or {}).items() if name in graph.stages}
    best |= {name: median(by_seeds[_without_seed(name)]) for name in graph.stages if _without_seed(name) in by_seeds}

    return best | {name: own[name] for name in graph.stages if name in own}


def recorded_memory(graph: "StageGraph", recorded: Mapping[str, Mapping[str, object]]) -> dict[str, float]:
    """Finds the memory that the stages took on a GPU in earlier runs.

    Args:
        graph: Graph of the project's stages.
        recorded: The records of earlier runs, by name of the stage (see `records`).

    Returns:
        MiB by name of the stage, with the memory that each process needs besides its tensors. A stage without a record
        of its own has the largest value of the same stage with other seeds; without such a record it is left out.
    """
    context = read(RATES)["context_mib"]
    own = {
        name: memory + context
        for name, record in recorded.items()
        if _on_gpu(record) and (memory := _number(record.get("gpu_memory_mib"))) > 0
    }
    by_seeds = _by_seeds(own)
    best = {name: max(by_seeds[_without_seed(name)]) for name in graph.stages if _without_seed(name) in by_seeds}

    return best | {name: own[name] for name in graph.stages if name in own}


def _by_seeds(values: Mapping[str, float]) -> dict[str, list[float]]:
    """The values of all seeds, by name of the stage without the seed."""
    found: dict[str, list[float]] = {}
    for name, value in values.items():
        found.setdefault(_without_seed(name), []).append(value)

    return found


def _on_gpu(record: Mapping[str, object]) -> bool:
    return str(record.get("device")).startswith("cuda")


def _seconds(record: Mapping[str, object], cuda: bool) -> float:
    if cuda:
        return wall_seconds(record)
    # The CPU time of a resumed training is known for its last part only, and is taken to grow with the wall time.
    last_part = _number(record.get("wall_seconds"))
    parts = wall_seconds(record) / last_part if resumed(record) and last_part else 1.0

    return max(parts * _number(record.get("cpu_seconds")) / max(1.0, _number(record.get("threads"), 1.0)), 0.0)


def _number(value: object, default: float = 0.0) -> float:
    return float(value) if isinstance(value, (int, float)) else default


def _without_seed(name: str) -> str:
    return re.sub(r"-\d+$", "", name)
