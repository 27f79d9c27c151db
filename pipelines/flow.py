"""The Prefect flow of a rebuild: one Prefect task per stage, on a local device or on a worker of a Dask cluster.

A rebuild runs the stages of DVC's graph that are out of date. Prefect's states of the tasks only show the progress.
Whether a stage is finished depends only on the results that DVC has recorded.
"""

import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task, TaskRunNameCallbackWithParameters, exponential_backoff

from duvae import config
from duvae.errors import UserError
from duvae.project import job_list, parameters
from duvae.project.files import read_json
from pipelines import display, flow_runs, launcher, orchestration
from pipelines.devices import Device, of_worker
from pipelines.failures import Failure, TaskFailedError
from pipelines.launcher import Machine, TaskResult
from pipelines.orchestration import Cluster, RebuildOptions, TaskContext
from pipelines.pool import Pool
from pipelines.scheduler import Progress, Submit
from pipelines.stage_graph import Entry, StageGraph
from pipelines.workspaces import ProjectSnapshot, clean, git

RETRIES, DELAY = 3, 10.0
"""Number of retries of a task after a failure that may not come again, and seconds before the first retry.

The delay before each later retry is twice the delay before.
"""

GPU = {"GPU": 1}
"""Resources of a Dask worker that one task occupies while it runs."""

METRICS = ("nll", "kl", "mi", "au", "mpd", "ce")
"""Keys of metrics.json that the table of results shows for each model."""


class RebuildFailedError(Exception):
    """Error of a rebuild in which tasks failed. The message gives the reason of each failure."""


@flow(name="rebuild", flow_run_name="rebuild", validate_parameters=True, persist_result=False)
def rebuild(
    targets: list[str] | None = None,
    slots: int | None = None,
    devices: str | None = None,
    keep_going: bool = False,
    timeout: float | None = None,
    cluster: dict[str, Any] | None = None,
) -> None:
    """Rebuilds the stages that are out of date, and records their results.

    Args:
        targets: Stages to rebuild; none: all stages.
        slots: Number of tasks at a time on each GPU, or on the CPU; none: `pipelines.slots` chooses it for each GPU; on
            the CPU, as many tasks as the number of cores divided by the number of threads of a task.
        devices: `cpu`, or GPUs separated by commas; none: all GPUs, or the CPU if there is no GPU.
        keep_going: Whether, after a failure, all stages that do not depend on the failed stage still run.
        timeout: Time limit of each task in seconds; none: no limit.
        cluster: Fields of the `Cluster` whose workers run the tasks; none: this machine runs the tasks.

    Raises:
        RebuildFailedError: If tasks failed. The results of all other tasks are recorded.
    """
    flow_runs.begin()
    root = Path.cwd()
    params = config.load(root / "params.yaml")
    job_list.check(params, root / job_list.JOBS)
    parameters.write(params, root)
    own = [path for dataset in params.datasets.values() for path in getattr(dataset.source, "paths", ())]
    workers = Cluster(**cluster) if cluster is not None else None
    options = RebuildOptions(tuple(targets or ()), slots, devices, keep_going, timeout, workers, tuple(own))
    submitter = submit_to_cluster if options.cluster else submit_here
    progress, seconds = orchestration.run(root, options, params.threads, submitter, params)
    summary, logger = display.summary(progress, seconds), get_run_logger()
    logger.info(summary)
    print(summary)
    create_table_artifact(key="rebuild-tasks", table=display.rows(progress), description=summary)
    jobs = asked_for(params, progress)
    if table := results(root, jobs):
        create_table_artifact(key="rebuild-results", table=table, description="The models, on the test set")
    _track(root, params, jobs)
    if progress.failed:
        raise RebuildFailedError(display.failures(progress))


def asked_for(params: config.Params, progress: Progress) -> list[config.Job]:
    """The trainings that belong to the targets of a rebuild: all, unless the user names targets.

    Args:
        params: The project's parameters.
        progress: The state of all stages at the end of the rebuild.
    """
    stages = progress.stages

    return [job for job in params.jobs() if f"train@{job.name}" in stages]


def results(root: Path, jobs: Sequence[config.Job]) -> list[dict[str, Any]]:
    """The test metrics of all evaluated models.

    Args:
        root: The project's folder.
        jobs: The trainings that belong to the rebuild.

    Returns:
        One row per model, with the model's data set, setting (system with hyperparameters), seed, and the metrics that
        `METRICS` names.
    """
    rows = []
    for job in jobs:
        path = root / "results" / job.folder / "metrics.json"
        if path.is_file():
            content = read_json(path, "dvc repro")
            metrics = {name: content.get(name) for name in METRICS}
            rows.append(
                {
                    "dataset": job.dataset,
                    "setting": job.setting,
                    "seed": job.seed,
                    **{name: round(value, 3) if isinstance(value, float) else value for name, value in metrics.items()},
                }
            )

    return rows


def _track(root: Path, params: config.Params, jobs: Sequence[config.Job]) -> None:
    """Fills the project's MLflow store with the present results of some trainings."""
    from duvae.commands import track

    track.run(params, root, jobs)


# ---------------------------------------------------------------------------------- stages as Prefect tasks


def submit_here(context: TaskContext) -> Submit:
    """Names the run of the flow, and returns the function that starts tasks on this machine's devices."""
    flow_runs.rename(context.tasks)
    run_stage = stage_task(context.machine, context.snapshot, context.pool, context.devices)

    return lambda name, entries: run_stage.submit(name, entries).result


def submit_to_cluster(context: TaskContext) -> Submit:
    """Names the run of the flow, and returns the function that starts tasks on a Dask cluster.

    Each task takes `GPU=1` of its worker's resources.
    """
    flow_runs.rename(context.tasks)
    run_stage, graph = stage_task(context.machine, context.snapshot, None, None), context.graph

    def submit(name: str, entries: dict[str, Entry]) -> Callable[[], TaskResult]:
        import dask

        inputs = [
            stage
            for stage in graph.stages[name].upstream
            if stage in graph.up_to_date and stage not in graph.parameter_files
        ]
        if inputs:  # the worker downloads them; the remote may lack results from before this rebuild
            graph.repo.push(targets=inputs, remote=context.machine.remote or None)
        with dask.annotate(resources=GPU):  # type: ignore[attr-defined]
            return run_stage.submit(name, entries).result

    return submit


def is_transient(_: Any, __: Any, state: Any) -> bool:
    """Whether Prefect should run a failed task again. The last argument is the state in which the task ended."""
    return isinstance(state.data, TaskFailedError) and state.data.failure.may_pass


def _task_name(parameters: dict[str, Any]) -> str:
    """The name of a task on Prefect's page, from the arguments of the task."""
    return flow_runs.task_name(parameters["stage"])


def stage_task(
    machine: Machine, snapshot: ProjectSnapshot, pool: Pool | None, devices: dict[str, str] | None
) -> Task[Any, TaskResult]:
    """Creates the Prefect task that runs one stage.

    Args:
        machine: Settings of the machine on which the task runs.
        snapshot: The project's content when the rebuild began.
        pool: The devices of this machine; None: the task runs on a cluster, on the device of a worker.
        devices: Name of the device of each started stage, by name of the stage. The task adds its own device to this
            mapping; None: the task adds nothing.
    """

    @task(
        name="stage",
        task_run_name=cast("TaskRunNameCallbackWithParameters", _task_name),
        retries=RETRIES,
        retry_delay_seconds=exponential_backoff(DELAY),
        retry_jitter_factor=0.2,
        retry_condition_fn=is_transient,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run_stage(stage: str, entries: Mapping[str, Entry]) -> TaskResult:
        logger = get_run_logger()

        def work(device: Device) -> TaskResult:
            if devices is not None:
                devices[stage] = device.name
            here = machine if pool is not None else on_worker(machine, snapshot)
            return launcher.run(stage, here, snapshot, entries, device)

        try:
            # A worker of a cluster runs one task at a time, so its device is a pool of its own.
            chosen = pool if pool is not None else Pool([device_of_worker(stage)], logger.warning)
            return chosen.run(stage, work)
        except TaskFailedError as error:
            logger.error("%s\n%s", error, error.log)
            raise

    return run_stage


def device_of_worker(stage: str) -> Device:
    """The device of a worker of a cluster. Its name begins with the name of the machine.

    Args:
        stage: Name of the stage that the worker should run.

    Raises:
        TaskFailedError: If the machine has GPUs that cannot be read or used.
    """
    host = socket.gethostname()
    try:
        device = of_worker()
    except UserError as error:
        raise TaskFailedError(stage, f"on {host}: {error}", Failure.DEVICE) from error

    return replace(device, name=f"{host}: {device.name}")


def on_worker(machine: Machine, snapshot: ProjectSnapshot) -> Machine:
    """Prepares the machine of the worker that calls this function.

    The function removes the workspaces of killed rebuilds and kills their remaining processes. If git lacks the
    snapshot's commit, the function fetches it.

    Args:
        machine: Settings of the machine, as the rebuild knows them. A relative `root` is relative to the folder in
            which the worker was started.
        snapshot: The project's content when the rebuild began.

    Returns:
        The settings of `machine`, but with the project's folder and the folder of DVC's cache on this machine.
    """
    root = machine.root.resolve()
    clean(root)
    try:
        git(root, "cat-file", "-e", "--end-of-options", f"{snapshot.commit}^{{commit}}")
    except UserError:
        git(root, "fetch", "--quiet")
    with contextlib.closing(StageGraph(root)) as graph:
        return replace(machine, root=root, cache=graph.cache)
