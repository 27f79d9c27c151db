"""The Prefect flow: a task a stage, on a device of the pool or on a worker of a Dask cluster.

Prefect's states are for looking; the truth is what DVC has recorded.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task, exponential_backoff

import duvae.graph
from duvae import config
from duvae.errors import UserError
from pipelines import board, running
from pipelines.board import Board
from pipelines.devices import Pool, choose
from pipelines.engine import Engine, Progress
from pipelines.estimates import estimates
from pipelines.graph import Entry, Graph
from pipelines.recording import mend, record
from pipelines.running import Done, JobFailedError, Place
from pipelines.workspaces import WORK, Snapshot, clean

RETRIES, DELAY = 3, 10.0
"""Further tries of what may pass, and seconds before the first of them; twice as long before each next."""

GPU = {"GPU": 1}
"""What a job takes of a Dask worker."""


class RebuildFailedError(Exception):
    """Jobs that failed, with the reasons."""


@dataclass(frozen=True)
class Cluster:
    """Other machines, by their Dask scheduler.

    Attributes:
        slots: Jobs at a time on all of them.
        remote: The DVC remote through which results come and go; empty: the default one.
        folder: The project's folder on each worker; empty: the one it was started in.
    """

    slots: int
    remote: str = ""
    folder: str = ""


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Holds what one rebuild at a time can hold, and clears up after those that were killed.

    Raises:
        UserError: Where another rebuild of the same project runs.
    """
    (root / WORK).mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / WORK / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"{root}: another rebuild runs here. Let it end, or stop it.") from error
    try:
        clean(root)
        mend(root)
        yield
    finally:
        lock.release()


def passing(task: Any, run: Any, state: Any) -> bool:  # noqa: ARG001 (Prefect calls it so)
    """Whether another try makes sense."""
    error = state.data

    return isinstance(error, JobFailedError) and error.passing


def job(place: Place, snapshot: Snapshot, pool: Pool | None, placed: dict[str, str] | None) -> Task[Any, Done]:
    """The task that runs one stage.

    Args:
        place: Where it runs; with an empty folder, in the one that the worker was started in.
        snapshot: The project.
        pool: What hands devices out; None: the worker that runs the task has its own.
        placed: Takes down which device each stage has.
    """

    @task(
        name="stage",
        task_run_name="{stage}",
        retries=RETRIES,
        retry_delay_seconds=exponential_backoff(DELAY),
        retry_jitter_factor=0.2,
        retry_condition_fn=passing,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run_stage(stage: str, entries: Mapping[str, Entry]) -> Done:
        device = pool.take() if pool else None
        lost = False
        here = place if pool else on_worker(place)
        if device and placed is not None:
            placed[stage] = device.name
        try:
            return running.run(stage, here, snapshot, entries, device)
        except JobFailedError as error:
            lost = error.passing
            get_run_logger().error("%s\n%s", error, error.log)
            raise
        finally:
            if pool and device:
                pool.give_back(device, lost)

    return run_stage


def on_worker(place: Place) -> Place:
    """The place on the machine that this is called on, once what was left lying there is cleared up."""
    root = place.root.resolve()
    clean(root)
    graph = Graph(root)
    try:
        return replace(place, root=root, cache=graph.cache)
    finally:
        graph.close()


@flow(name="rebuild", validate_parameters=True, persist_result=False)
def rebuild(
    targets: list[str] | None = None,
    slots: int | None = None,
    devices: str | None = None,
    keep_going: bool = False,
    timeout: float | None = None,
    cluster: dict[str, Any] | None = None,
) -> None:
    """Rebuilds what is out of date and records it.

    Args:
        targets: Stages of the graph; none: all.
        slots: Jobs at a time on each GPU, or on the CPU.
        devices: `cpu`, or GPUs separated by commas; none: all GPUs that are found, or else the CPU.
        keep_going: After a failure, still run all that does not need what failed.
        timeout: Seconds that one job may take.
        cluster: The fields of a `Cluster` whose workers run the jobs.

    Raises:
        RebuildFailedError: Where jobs failed, after all the others were recorded.
    """
    root, elsewhere = Path.cwd(), Cluster(**cluster) if cluster is not None else None
    with alone(root):
        progress = _rebuild(root, targets or [], slots, devices, keep_going, timeout, elsewhere)
    if progress.failed:
        raise RebuildFailedError(board.failures(progress))


def _rebuild(
    root: Path,
    targets: list[str],
    slots: int | None,
    devices: str | None,
    keep_going: bool,
    timeout: float | None,
    cluster: Cluster | None,
) -> Progress:
    started, params = time.monotonic(), config.load(root / "params.yaml")
    duvae.graph.check(params, root / duvae.graph.JOBS)
    graph = Graph(root, targets)
    snapshot = Snapshot.take(root, outputs(graph))
    pool = None if cluster else Pool(choose(params.threads, slots, devices))
    known = estimates(graph, cuda=bool(pool and pool.devices[0].cuda))
    engine = Engine(graph, known, keep_going)
    place = Place(root, graph.cache, None, timeout)
    if cluster:
        place = Place(Path(cluster.folder), graph.cache, cluster.remote, timeout)

    def capacity() -> int:
        return len(pool) if pool else cluster.slots if cluster else 1

    with Board(known, capacity()) as shown, _ending():
        engine.run(_submit(graph, job(place, snapshot, pool, shown.places if pool else None), cluster), capacity, shown.look)
        if Snapshot.take(root, outputs(graph)) != snapshot:
            raise UserError(
                f"{root}: changed while the rebuild ran. What was made is in the run cache: start again,"
                " and what the change has not touched is found there."
            )
        whole = not engine.progress.failed
        record(root, targets, None if whole else engine.recordable, cluster and cluster.remote)
    graph.close()
    _tell(root, params, engine.progress, time.monotonic() - started)

    return engine.progress


def outputs(graph: Graph) -> list[str]:
    """The paths of all that stages write."""
    return [path for name in graph.found for path in graph.outs(name)]


def _submit(
    graph: Graph, run_stage: Task[Any, Done], cluster: Cluster | None
) -> Callable[[str, dict[str, Entry]], Callable[[], Done]]:
    def submit(name: str, entries: dict[str, Entry]) -> Callable[[], Done]:
        if cluster is None:
            return run_stage.submit(name, entries).result
        import dask

        give(graph, name, cluster.remote)
        with dask.annotate(resources=GPU):
            return run_stage.submit(name, entries).result

    return submit


def give(graph: Graph, name: str, remote: str) -> None:
    """Pushes what a stage depends on, where the project has it and the remote may not."""
    upstream = [made for made in graph.stages[name].upstream if made in graph.fresh]
    if upstream:
        graph.repo.push(targets=upstream, remote=remote or None)


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    """Ends all jobs of this process when the body is left: none outlives what asked for it."""
    try:
        yield
    finally:
        running.end_all()


def _tell(root: Path, params: config.Params, progress: Progress, seconds: float) -> None:
    """Fills MLflow, and shows on Prefect's page what came of it."""
    from duvae.stages import track

    logger = get_run_logger()
    said = board.summary(progress, seconds)
    logger.info(said)
    print(said)
    track.run(params, root)
    create_table_artifact(key="rebuild-jobs", table=board.rows(progress), description=said)
    table = results(root, params)
    if table:
        create_table_artifact(key="rebuild-results", table=table, description="All results that are there, test set")


def results(root: Path, params: config.Params) -> list[dict[str, Any]]:
    """The figures of all models that were measured, a row each."""
    from duvae.files import read_json

    rows = []
    for wanted in params.jobs():
        path = root / "results" / wanted.folder / "metrics.json"
        if path.is_file():
            found = read_json(path, "dvc repro")
            figures = {
                name: round(found[name], 3) if isinstance(found.get(name), float) else found.get(name)
                for name in ("nll", "kl", "mi", "au", "mpd", "ce")
            }
            rows.append({"dataset": wanted.dataset, "setting": wanted.setting, "seed": wanted.seed, **figures})

    return rows
