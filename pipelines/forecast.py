"""Foresees a rebuild: which stages have to run, how long they take, and how many of them share a GPU."""

from collections.abc import Sequence
from dataclasses import dataclass

from duvae.config import Params
from pipelines import durations, slots
from pipelines.devices import Device
from pipelines.gpu_times import card
from pipelines.makespan import makespan
from pipelines.scheduler import Scheduler
from pipelines.slots import Sharing
from pipelines.stage_graph import StageGraph


@dataclass(frozen=True)
class Forecast:
    """What is known about a rebuild before its first task.

    Attributes:
        seconds: Estimated seconds of each stage, by name. The mapping lacks stages of unknown duration.
        scheduler: The scheduler, which has looked for the results of all stages once.
        sharing: The slots of all devices.
        card: The kind of GPU whose assumed speed the estimates use, in words; empty: the tasks run on the CPU.
    """

    seconds: dict[str, float]
    scheduler: Scheduler
    sharing: Sharing
    card: str = ""

    @property
    def makespan(self) -> float:
        """Estimated seconds of the whole rebuild, without the stages of unknown duration."""
        waiting, sharing = self.scheduler.progress.waiting, self.sharing
        slower = {name: seconds * sharing.slowdown for name, seconds in self.seconds.items()}

        return makespan(self.scheduler.graph.stages, slower, max(1, len(sharing.devices)), waiting)


def forecast(
    graph: StageGraph,
    params: Params | None,
    devices: Sequence[Device],
    threads: int = 1,
    requested: int | None = None,
    keep_going: bool = False,
) -> Forecast:
    """Foresees a rebuild.

    Args:
        graph: Graph of the project's stages.
        params: The project's parameters; None: nothing is assumed about stages without a record.
        devices: The GPUs, or the slots of the CPU; empty: the tasks run on a cluster.
        threads: Number of CPU threads of a task.
        requested: Number of tasks at a time on each GPU, if the user gives it; None: the number is chosen here.
        keep_going: Whether, after a failure, all stages that do not depend on the failed stage still run.
    """
    kind = card(devices[0].model) if devices and devices[0].cuda else None
    defaults = durations.default_durations(params, kind) if params is not None else {}
    records = durations.records(graph)
    seconds = durations.estimates(graph, records, kind is not None, defaults)
    scheduler = Scheduler(graph, seconds, keep_going)
    scheduler.resolve()
    if kind is None:
        return Forecast(seconds, scheduler, Sharing(list(devices)))
    tasks = slots.demands(
        scheduler.progress.waiting,
        durations.recorded_memory(graph, records),
        durations.gpu_memory(params) if params is not None else {},
        durations.gpu_times(params, kind) if params is not None else {},
    )

    words = f"an {kind.name}"
    if not kind.known and devices[0].model:
        words += f", since pipelines/gpu_rates.yaml lacks {devices[0].model}"

    return Forecast(seconds, scheduler, slots.share(devices, tasks, threads, requested), words)
