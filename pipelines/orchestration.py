"""Runs one rebuild: locks the project, takes a snapshot of it, schedules the tasks and records their results.

A rebuild runs the stages of DVC's graph that are out of date. A task is one stage that the rebuild runs on one device.
Stages that gather the results of several stages do not run as tasks: the `dvc repro` at the end of the rebuild runs
them.

This module does not import Prefect. `flow.py` calls `run` with a `submitter` that starts each task as a Prefect task.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from duvae.config import Params
from duvae.errors import UserError
from duvae.project.leftovers import remove_unfinished
from pipelines import launcher, numbers, watchdog
from pipelines.devices import Device, choose
from pipelines.display import LiveTable
from pipelines.forecast import forecast
from pipelines.launcher import Machine, TaskResult
from pipelines.pool import Pool
from pipelines.record import record, remove_empty_runs, repair
from pipelines.scheduler import Progress, Scheduler, Submit
from pipelines.stage_graph import StageGraph
from pipelines.workspaces import WORK_FOLDER, ProjectSnapshot, clean


@dataclass(frozen=True)
class Cluster:
    """A Dask cluster of several machines.

    Attributes:
        slots: Number of tasks at a time on all machines together.
        remote: Name of the DVC remote that carries results between machines; empty: DVC's default remote.
        folder: The project's folder on each machine; empty: the folder in which the machine's worker was started.
    """

    slots: int
    remote: str = ""
    folder: str = ""


@dataclass(frozen=True)
class RebuildOptions:
    """The options of a rebuild.

    Attributes:
        targets: Stages, kinds of stages (such as `train`) or outputs to rebuild; empty: all stages.
        slots: Number of tasks at a time on each GPU, or on the CPU. None: `pipelines.slots` chooses it for each GPU;
            without a GPU, as many tasks as the number of cores divided by the number of threads of a task.
        devices: `cpu`, or GPUs separated by commas; None: all GPUs, or the CPU if there is no GPU.
        keep_going: Whether, after a failure, all stages that do not depend on the failed stage still run.
        timeout: Time limit of each task in seconds; None: no limit.
        cluster: Cluster that runs the tasks; None: this machine runs them.
        own: Paths of the user's own data files, relative to the project's folder. Stages read these files.
    """

    targets: tuple[str, ...] = ()
    slots: int | None = None
    devices: str | None = None
    keep_going: bool = False
    timeout: float | None = None
    cluster: Cluster | None = None
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskContext:
    """Objects that all tasks of a rebuild share.

    Attributes:
        graph: Graph of the project's stages.
        machine: Settings of the machine on which the tasks run. On a cluster, each worker replaces two of them by its
            own: the project's folder and the folder of DVC's cache.
        snapshot: The project's content when the rebuild began.
        pool: The devices of this machine; None: the tasks run on a cluster.
        devices: Name of the device of each started stage, by name of the stage. Each Prefect task adds the device on
            which it runs its stage.
        tasks: Names of the stages that have to run, as far as this is known before the first task.
    """

    graph: StageGraph
    machine: Machine
    snapshot: ProjectSnapshot
    pool: Pool | None
    devices: dict[str, str]
    tasks: tuple[str, ...] = ()


def run(
    root: Path,
    options: RebuildOptions,
    threads: int,
    submitter: Callable[[TaskContext], Submit],
    params: Params | None = None,
) -> tuple[Progress, float]:
    """Runs the stages that are out of date, and records their results in the project.

    Args:
        root: The project's folder.
        options: The options of the rebuild.
        threads: Number of CPU threads of one task.
        submitter: Function that receives the objects that all tasks share. It returns the function that starts a task.
        params: The project's parameters, from which durations and memory are estimated for stages without a record of
            an earlier run; None: there are no such estimates.

    Returns:
        The state of all stages at the end, and the wall-clock seconds of the rebuild.

    Raises:
        UserError: If the project cannot be rebuilt, or if its files change during the rebuild.
    """
    started = time.monotonic()
    watchdog.start()
    cluster = options.cluster
    devices = [] if cluster else choose(threads, options.slots, options.devices)
    with exclusive(root), contextlib.closing(StageGraph(root, options.targets)) as graph:
        remove_empty_runs(graph.cache)
        snapshot = _snapshot(root, graph, options)
        ahead = forecast(graph, params, devices, threads, options.slots, options.keep_going)
        scheduler, sharing = ahead.scheduler, ahead.sharing
        pool = Pool(sharing.devices) if devices else None
        machine = Machine(root, graph.cache, None, options.timeout)
        if cluster:
            machine = Machine(Path(cluster.folder), graph.cache, cluster.remote, options.timeout)

        def capacity() -> int:
            # A pool without a GPU left is empty: no further task starts.
            return len(pool) if pool is not None else cluster.slots if cluster else 1

        def words(result: TaskResult) -> str:
            return numbers.of_task(result, graph.cached_file)

        with LiveTable(ahead.seconds, capacity(), words) as table, _terminating_tasks():
            if pool is not None:
                pool.report = table.report
            if sharing.reason:
                table.report(f"slots: {sharing.reason}")
            context = TaskContext(graph, machine, snapshot, pool, table.devices, tuple(scheduler.progress.waiting))
            scheduler.run(submitter(context), capacity, table.update)
            scheduler.progress.no_device = pool.no_device if pool is not None else ""
            _record(root, options, scheduler, snapshot, next(iter(pool.devices), None) if pool is not None else None)

    return scheduler.progress, time.monotonic() - started


def _snapshot(root: Path, graph: StageGraph, options: RebuildOptions) -> ProjectSnapshot:
    """The project's content at this moment, including the parameter files that are outputs of stages."""
    return ProjectSnapshot.take(root, graph.output_paths, options.own, graph.parameter_files.values())


def _record(
    root: Path, options: RebuildOptions, scheduler: Scheduler, snapshot: ProjectSnapshot, device: Device | None
) -> None:
    progress, graph = scheduler.progress, scheduler.graph
    if len(progress.up_to_date) == progress.total and not graph.unrecorded:
        return
    if _snapshot(root, graph, options) != snapshot:
        raise UserError(
            f"{root}: files changed while the rebuild ran, so nothing was recorded. The results are kept in the run"
            " cache. Run the same command again: it runs only those stages that the change affects."
        )
    if options.cluster:
        graph.fetch(options.cluster.remote)
    entries = {
        name: graph.entries[name] for name in graph.stages if name in graph.entries and name not in graph.up_to_date
    }
    # An entry holds the hashes of a stage's inputs and outputs. If the cache lacks one of these outputs, the entry is
    # not recorded, and the final `dvc repro` runs the stage.
    complete = {
        name: entry for name, entry in entries.items() if all(graph.in_cache(out["md5"]) for out in entry["outs"])
    }
    record(root, complete, None if progress.failed else options.targets, device)


@contextlib.contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Holds the project's rebuild lock during the `with` block.

    Before the block, the function removes what killed rebuilds left behind, and repairs DVC's files.

    Args:
        root: The project's folder.

    Raises:
        UserError: If another rebuild of the same project runs.
    """
    (root / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / WORK_FOLDER / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"{root}: another rebuild runs here. Wait for its end, or stop it.") from error
    try:
        clean(root)
        remove_unfinished(root)
        repair(root)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _terminating_tasks() -> Iterator[None]:
    """Terminates all tasks at the end of the `with` block, so that no task runs longer than the rebuild."""
    try:
        yield
    finally:
        launcher.terminate_all()
