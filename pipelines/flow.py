"""The Prefect flow: a task a stage, on a device of the pool or on a worker of a Dask cluster.

Prefect's states are for looking; the truth is what DVC has recorded.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task, exponential_backoff

from duvae import config
from duvae.errors import UserError
from duvae.project import job_list, parameters
from duvae.project.files import read_json
from pipelines import display, launcher, orchestration
from pipelines.default_durations import priors
from pipelines.devices import Pool
from pipelines.graph import Entry, Graph
from pipelines.launcher import Done, JobFailedError, Place
from pipelines.orchestration import Cluster, Hands, Wish
from pipelines.scheduler import Submit
from pipelines.workspaces import Snapshot, clean, git

RETRIES, DELAY = 3, 10.0
"""Further tries of what may pass, and seconds before the first of them; twice as long before each next."""

GPU = {"GPU": 1}
"""What a job takes of a Dask worker."""

FIGURES = ("nll", "kl", "mi", "au", "mpd", "ce")
"""Of a model, in the table of results."""


class RebuildFailedError(Exception):
    """Jobs that failed, with the reasons."""


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
    root = Path.cwd()
    params = config.load(root / "params.yaml")
    job_list.check(params, root / job_list.JOBS)
    parameters.write(params, root)
    own = [path for dataset in params.datasets.values() for path in getattr(dataset.source, "paths", ())]
    elsewhere = Cluster(**cluster) if cluster is not None else None
    wish = Wish(tuple(targets or ()), slots, devices, keep_going, timeout, elsewhere, tuple(own))
    with_ = on_a_cluster if wish.cluster else here
    progress, seconds = orchestration.rebuild(root, wish, params.threads, with_, partial(priors, params))
    said, logger = display.summary(progress, seconds), get_run_logger()
    logger.info(said)
    print(said)
    create_table_artifact(key="rebuild-jobs", table=display.rows(progress), description=said)
    if table := results(root, params):
        create_table_artifact(key="rebuild-results", table=table, description="Every model, on the test set")
    _track(root, params)
    if progress.failed:
        raise RebuildFailedError(display.failures(progress))


def results(root: Path, params: config.Params) -> list[dict[str, Any]]:
    """The figures of all models that were measured, a row each."""
    rows = []
    for job in params.jobs():
        path = root / "results" / job.folder / "metrics.json"
        if path.is_file():
            found = read_json(path, "dvc repro")
            figures = {name: found.get(name) for name in FIGURES}
            rows.append(
                {
                    "dataset": job.dataset,
                    "setting": job.setting,
                    "seed": job.seed,
                    **{name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()},
                }
            )

    return rows


def _track(root: Path, params: config.Params) -> None:
    """Fills the project's own MLflow store from what is there now."""
    from duvae.commands import track

    track.run(params, root)


# ---------------------------------------------------------------------------------- jobs as tasks


def here(hands: Hands) -> Submit:
    """Jobs on this machine's devices."""
    run_stage = stage_task(hands.place, hands.snapshot, hands.pool, hands.placed)

    return lambda name, entries: run_stage.submit(name, entries).result


def on_a_cluster(hands: Hands) -> Submit:
    """Jobs on the workers of a Dask cluster, each with `GPU=1` of its resources."""
    run_stage, known = stage_task(hands.place, hands.snapshot, None, None), hands.graph

    def submit(name: str, entries: dict[str, Entry]) -> Callable[[], Done]:
        import dask

        fresh = [each for each in known.stages[name].upstream if each in known.fresh and each not in known.generated]
        if fresh:  # what the project had, the remote may not have
            known.repo.push(targets=fresh, remote=hands.place.remote or None)
        with dask.annotate(resources=GPU):  # type: ignore[attr-defined]
            return run_stage.submit(name, entries).result

    return submit


def passing(_: Any, __: Any, state: Any) -> bool:
    """Whether another try makes sense."""
    return isinstance(state.data, JobFailedError) and state.data.passing


def stage_task(place: Place, snapshot: Snapshot, pool: Pool | None, placed: dict[str, str] | None) -> Task[Any, Done]:
    """The task that runs one stage.

    Args:
        place: Where.
        snapshot: The project.
        pool: What hands devices out; None: the worker that runs the task has its own.
        placed: Where to note which device a stage has.
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
        try:
            if pool is None:
                return launcher.run(stage, on_worker(place, snapshot), snapshot, entries, None)
            with pool.lend() as device:
                if placed is not None:
                    placed[stage] = device.name
                return launcher.run(stage, place, snapshot, entries, device)
        except JobFailedError as error:
            get_run_logger().error("%s\n%s", error, error.log)
            raise

    return run_stage


def on_worker(place: Place, snapshot: Snapshot) -> Place:
    """The place on the machine that this is called on, once it has the commit and what was left there is cleared up."""
    root = place.root.resolve()
    clean(root)
    try:
        git(root, "cat-file", "-e", f"{snapshot.commit}^{{commit}}")
    except UserError:
        git(root, "fetch", "--quiet")
    with contextlib.closing(Graph(root)) as found:
        return replace(place, root=root, cache=found.cache)
