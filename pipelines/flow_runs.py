"""The runs of a flow on Prefect's page: their names, and the end of runs whose process was killed.

Each run gets a label with the mark of its process (see `owners.py`). A killed process cannot tell Prefect that its run
has ended. So the next rebuild looks for runs whose process has ended, and sets their state to Crashed.
"""

from collections.abc import Collection, Iterator
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType, TaskRun
from prefect.runtime import flow_run
from prefect.states import Crashed

from pipelines.owners import is_alive, owner

LABEL = "duvae.owner"
"""Key of the label of a flow run. Its value identifies the process of the run."""

UNFINISHED = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
"""Types of the states of a run that has not ended."""

MESSAGE = "The process of this run was killed. Finished stages are kept; the next rebuild continues."
"""Message of the state Crashed."""

PAGE = 200
"""Number of runs that a Prefect server lists at once, at most."""

NOUNS = {"train": ("training", "trainings"), "search": ("study", "studies"), "evaluate": ("evaluation", "evaluations")}
"""Nouns for the kinds of stages that the name of a run counts, the most important kind first."""

MOST_DATASETS = 2
"""Largest number of data sets that the name of a run lists."""


def task_name(stage: str) -> str:
    """The name of the task that runs a stage: `train synthetic-vae-1` for `train@synthetic-vae-1`."""
    return stage.replace("@", " ", 1)


def title(stages: Collection[str]) -> str:
    """The name of the run of a rebuild, such as `rebuild: 5 trainings on synthetic`.

    Args:
        stages: Names of the stages that have to run.
    """
    if not stages:
        return "rebuild: no tasks"
    if len(stages) == 1:
        return f"rebuild: {task_name(*stages)}"
    for kind, (one, many) in NOUNS.items():
        items = [name.partition("@")[2] for name in stages if name.startswith(f"{kind}@")]
        if items:
            count = f"rebuild: {len(items)} {one if len(items) == 1 else many}"
            return count if kind == "search" else f"{count} on {_datasets(items)}"  # a study's name has no data set

    return f"rebuild: {len(stages)} tasks"


def _datasets(items: Collection[str]) -> str:
    """The data sets of some jobs in words. A job's name begins with its data set."""
    names = list(dict.fromkeys(item.partition("-")[0] for item in items))

    return " and ".join(names) if len(names) <= MOST_DATASETS else f"{len(names)} data sets"


def rename(stages: Collection[str]) -> None:
    """Names the run of the flow that calls this function.

    Args:
        stages: Names of the stages that have to run.
    """
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(flow_run.get_id()), name=title(stages))


def begin() -> None:
    """Marks the run of the flow that calls this function, and ends the runs of this flow whose process was killed."""
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(UUID(flow_run.get_id()), {LABEL: owner()})
        _end_killed(client, str(flow_run.get_flow_name()))


def end_killed(flow: str) -> None:
    """Sets the state of each run of a flow whose process was killed to Crashed, and also that of its tasks.

    Runs stay that have no mark or the mark of another machine, because their processes may still run.

    Args:
        flow: Name of the flow.
    """
    with get_client(sync_client=True) as client:
        _end_killed(client, flow)


def _end_killed(client: SyncPrefectClient, flow: str) -> None:
    for run in list(_unfinished(client, flow)):
        if is_alive(str(run.labels.get(LABEL, ""))) is False:
            for task in _unfinished_tasks(client, run):
                client.set_task_run_state(task.id, Crashed(message=MESSAGE), force=True)
            client.set_flow_run_state(run.id, Crashed(message=MESSAGE), force=True)


def _unfinished(client: SyncPrefectClient, flow: str) -> Iterator[FlowRun]:
    """Yields all runs of a flow that have begun and have not ended."""
    began: list[StateType] = [state for state in UNFINISHED if state is not StateType.SCHEDULED]
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=began))
    for offset in range(0, 100 * PAGE, PAGE):
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            flow_run_filter=FlowRunFilter(state=state),
            limit=PAGE,
            offset=offset,
        )
        yield from runs
        if len(runs) < PAGE:
            return


def _unfinished_tasks(client: SyncPrefectClient, run: FlowRun) -> list[TaskRun]:
    """The tasks of a flow run that have not ended. A task that waits for its next attempt is scheduled."""
    state = TaskRunFilterState(type=TaskRunFilterStateType(any_=UNFINISHED))

    return client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])),
        task_run_filter=TaskRunFilter(state=state),
        limit=PAGE,
    )
