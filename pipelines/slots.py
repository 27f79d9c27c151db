"""Chooses how many tasks share a GPU, if the user does not say so with `--slots`.

A process that spends its time on starting kernels leaves its GPU idle for a part of the time. Other processes can use
the GPU meanwhile. The number of tasks on one GPU is the smallest of three numbers, and at least 1:

- memory: 0.8 times the memory of the GPU, divided by the need of the task that needs most memory;
- time: 1 divided by the share of the tasks' time in which the GPU computes, over all tasks together;
- processor: the number of cores per GPU, divided by the number of threads of a task.

The need of a task is the memory that an earlier run of the same stage took, with any seed. If there is no such record,
it is estimated from the counted work (see `gpu_times`). If the memory of the GPU or a need is not known, each GPU runs
one task at a time.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from duvae.project.gpus import STAGES
from pipelines.devices import Device, cpus
from pipelines.gpu_times import Time

MEMORY = 0.8
"""Largest part of a GPU's memory that the tasks on it may need together."""


@dataclass(frozen=True)
class Demand:
    """What one task needs from its GPU.

    Attributes:
        stage: Name of the task's stage.
        memory: Memory of the task's process on the GPU in MiB; None: not known.
        measured: Whether `memory` comes from a record. If not, it is an estimate.
        time: Estimated duration, and the part of it in which the GPU computes; None: not known.
    """

    stage: str
    memory: float | None = None
    measured: bool = False
    time: Time | None = None


@dataclass(frozen=True)
class Sharing:
    """The slots of a rebuild, and the reason for their number.

    Attributes:
        devices: One `Device` for each slot.
        reason: The number of tasks on each GPU with its reason, for the user; empty: there is no GPU.
        slowdown: Factor by which a task takes longer than alone, because the tasks on its GPU need the GPU for more
            than the whole time.
    """

    devices: list[Device]
    reason: str = ""
    slowdown: float = 1.0


def demands(
    stages: Iterable[str], recorded: Mapping[str, float], assumed: Mapping[str, float], times: Mapping[str, Time]
) -> list[Demand]:
    """Collects the demands of all stages that compute on a GPU.

    Args:
        stages: Names of the stages that have to run.
        recorded: Memory of earlier runs of these stages in MiB, by name of the stage.
        assumed: Estimated memory in MiB, by name of the stage.
        times: Estimated times, by name of the stage.
    """
    return [
        Demand(stage, recorded.get(stage, assumed.get(stage)), stage in recorded, times.get(stage))
        for stage in stages
        if stage.partition("@")[0] in STAGES
    ]


def share(
    devices: Sequence[Device],
    tasks: Collection[Demand],
    threads: int,
    slots: int | None = None,
    cores: int | None = None,
) -> Sharing:
    """Chooses the number of slots of each GPU, and says why.

    Args:
        devices: The GPUs, or the slots of the CPU. The slots of a CPU stay as they are.
        tasks: Demands of the tasks that wait for a GPU.
        threads: Number of CPU threads of a task.
        slots: Number of tasks at a time on each GPU, if the user gives it; None: this function chooses it.
        cores: Number of cores of this machine; None: those that this process may use.
    """
    if not devices or not devices[0].cuda:
        return Sharing(list(devices))
    each = [device for device in devices if device.slot == 0]
    by_cores = max(1, (len(cpus()) if cores is None else cores) // (threads * len(each)))
    counts, reasons = [], dict[str, list[str]]()
    for device in each:
        count, reason = (slots, "--slots") if slots else on_one(device.memory, tasks, by_cores)
        counts.append(count)
        reasons.setdefault(f"{count} at a time on {{}}: {reason}", []).append(device.name)
    found = [
        replace(device, slot=slot)
        for slot in range(max(counts))
        for device, count in zip(each, counts, strict=True)
        if slot < count
    ]
    reason = "; ".join(text.format(", ".join(names)) for text, names in reasons.items())

    return Sharing(found, reason, max(1.0, max(counts) * (_busy(tasks) or 1.0)))


def on_one(memory: float, tasks: Collection[Demand], by_cores: int) -> tuple[int, str]:
    """The number of tasks that one GPU runs at a time, and the reason.

    Args:
        memory: Memory of the GPU in MiB; 0: not known.
        tasks: Demands of the tasks that wait for a GPU.
        by_cores: Number of tasks for which the machine has cores, per GPU.
    """
    unknown = [task.stage for task in tasks if task.memory is None]
    busy = _busy(tasks)
    if not tasks:
        return 1, "no task waits for a GPU"
    if not memory:
        return 1, "the memory of the GPU is not known"
    if unknown:
        return 1, f"the memory that {unknown[0]} needs is not known, since no such stage has run on a GPU"
    if busy is None:
        return 1, "the share of the time in which the GPU computes is not known"
    largest = max(tasks, key=lambda task: task.memory or 0.0)
    need = max(largest.memory or 0.0, 1.0)
    by_memory, by_time = math.floor(MEMORY * memory / need), math.floor(1 / max(busy, 1e-3) + 1e-9)
    reason = (
        f"memory allows {by_memory} ({largest.stage} needs {need / 1024:.1f} of {memory / 1024:.0f} GiB,"
        f" {'measured' if largest.measured else 'estimated'}), time {by_time} (the GPU computes for {busy:.0%} of the"
        f" tasks' time, estimated), the cores {by_cores}"
    )

    return max(1, min(by_memory, by_time, by_cores)), reason


def _busy(tasks: Iterable[Demand]) -> float | None:
    """Share of the time of all tasks in which the GPU computes; None if no time is known."""
    total = sum((task.time for task in tasks if task.time is not None), Time())

    return total.share if total.seconds else None
