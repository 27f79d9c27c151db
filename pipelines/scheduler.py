"""The scheduler: decides which stages have to run, in which order, and how many run at a time.

A rebuild runs the stages of DVC's graph that are out of date. A task is one stage that the rebuild runs on one device.
The entry of a stage in dvc.lock holds the hashes of the stage's inputs and outputs. The stages upstream of a stage
write its inputs. A stage can run once the entries of all stages upstream of it are known. Among the stages that can
run, the scheduler first starts the one that begins the chain of stages with the longest estimated duration.

Prefect's own scheduler does not fit for two reasons. The entries that decide whether a stage has to run become known
only during the rebuild. The order of the stages depends on estimated durations.
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.failures import TaskFailedError
from pipelines.launcher import TaskResult
from pipelines.stage_graph import Entry, Stage, StageGraph

Submit = Callable[[str, dict[str, Entry]], Callable[[], TaskResult]]
"""Function that starts a task. Its arguments are the stage's name and the entries of the stages upstream.

The function returns a second function, which waits for the end of the task and returns the task's result.
"""


@dataclass
class Progress:
    """The state of all stages during a rebuild.

    Attributes:
        total: Number of all stages.
        up_to_date: Names of the stages that were up to date in the project.
        cached: Names of the stages whose outputs were in DVC's run cache, which keeps the outputs of earlier runs.
        deferred: Names of the stages that are left to the final `dvc repro` of the rebuild.
        running: Start time of each running task in seconds, from `time.monotonic`, by name of the stage.
        done: Results of the tasks that succeeded, by name of the stage.
        failed: Errors of the tasks that failed, by name of the stage.
        skipped: Names of the stages that did not start because another stage had failed.
        waiting: Names of all other stages.
        no_device: Reason why no device was left for further tasks; empty: a device was left.
    """

    total: int
    up_to_date: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    deferred: list[str] = field(default_factory=list)
    running: dict[str, float] = field(default_factory=dict)
    done: dict[str, TaskResult] = field(default_factory=dict)
    failed: dict[str, TaskFailedError] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    no_device: str = ""

    @property
    def stages(self) -> set[str]:
        """The names of all stages of the rebuild, in whatever state they are."""
        listed = (self.up_to_date, self.cached, self.deferred, self.skipped, self.waiting)

        return {*self.running, *self.done, *self.failed, *(name for names in listed for name in names)}


class Scheduler:
    """Runs the stages that are out of date, several at a time.

    Args:
        graph: Graph of the project's stages.
        estimates: Estimated seconds of each stage, by name. The mapping lacks stages of unknown duration.
        keep_going: Whether, after a failure, all stages that do not depend on the failed stage still run.
    """

    def __init__(self, graph: StageGraph, estimates: Mapping[str, float], keep_going: bool = False) -> None:
        self.graph, self.keep_going = graph, keep_going
        self.progress = Progress(len(graph.stages), waiting=list(graph.stages))
        self.priorities = priorities(graph.stages, estimates)
        self.cache_misses: set[str] = set()
        self.finished: queue.SimpleQueue[tuple[str, TaskResult | BaseException]] = queue.SimpleQueue()

    def resolve(self) -> list[str]:
        """Searches the project and the run cache for the entry of each waiting stage.

        A stage keeps waiting as long as the entry of some stage upstream of it is not known.

        A stage that gathers the results of several stages never runs as a task. If such a stage is out of date, the
        final `dvc repro` of the rebuild runs it, together with all stages that depend on it.

        Returns:
            Names of the stages that have to run and can start now. The stage that begins the longest chain is first.
        """
        progress, entries = self.progress, self.graph.entries
        for name in list(progress.waiting):
            stage = self.graph.stages[name]
            deferred = any(upstream in progress.deferred for upstream in stage.upstream)
            if stage.gathers and not self.graph.up_to_date.issuperset(stage.upstream):
                deferred = True
            if deferred:
                progress.deferred.append(name)
                progress.waiting.remove(name)
            elif name in self.cache_misses or any(upstream not in entries for upstream in stage.upstream):
                continue
            elif self.graph.look_up(name):
                (progress.up_to_date if name in self.graph.up_to_date else progress.cached).append(name)
                progress.waiting.remove(name)
            elif stage.gathers:
                progress.deferred.append(name)
                progress.waiting.remove(name)
            else:
                self.cache_misses.add(name)
        ready = [name for name in progress.waiting if name in self.cache_misses]

        return sorted(ready, key=lambda name: -self.priorities[name])

    def run(
        self, submit: Submit, capacity: Callable[[], int], on_change: Callable[[Progress], Any] = lambda _: None
    ) -> None:
        """Runs tasks until no further stage can start.

        Args:
            submit: Function that starts a task.
            capacity: Function that returns the largest number of tasks that may run at this moment.
            on_change: Function that receives the progress after each change.
        """
        progress, ready = self.progress, self.resolve()
        on_change(progress)
        while ready or progress.running:
            stopped = bool(progress.failed) and not self.keep_going
            while ready and not stopped and len(progress.running) < capacity():
                name = ready.pop(0)
                progress.waiting.remove(name)
                progress.running[name] = time.monotonic()
                wait = submit(name, self.graph.upstream_entries(name))
                threading.Thread(target=self._wait, args=(name, wait), daemon=True).start()
            on_change(progress)
            if not progress.running:
                break
            name, result = self.finished.get()
            del progress.running[name]
            if isinstance(result, TaskResult):
                progress.done[name] = result
                self.graph.entries[name] = result.entry
                ready = self.resolve()
            elif isinstance(result, TaskFailedError):
                progress.failed[name] = result
            else:
                raise result
        progress.skipped, progress.waiting = progress.waiting, []
        on_change(progress)

    def _wait(self, name: str, wait: Callable[[], TaskResult]) -> None:
        try:
            self.finished.put((name, wait()))
        except BaseException as error:  # noqa: BLE001 (`run` raises it again)
            self.finished.put((name, error))


def priorities(stages: Mapping[str, Stage], estimates: Mapping[str, float]) -> dict[str, float]:
    """The priority of each stage: the estimated seconds of the longest chain of stages that begins with it.

    A stage of unknown duration may take long, and an early start costs nothing. So this stage counts as much as the
    longest stage of its kind, and at least one second. If no stage of its kind has an estimate, it counts one second.

    Args:
        stages: Stages by name. Each stage comes after the stages upstream of it.
        estimates: Estimated seconds of each stage, by name.
    """
    found: dict[str, float] = {}
    longest: dict[str, float] = {}
    for name, seconds in estimates.items():
        kind = stages[name].kind
        longest[kind] = max(longest.get(kind, 1.0), seconds)
    downstream: dict[str, list[str]] = {name: [] for name in stages}
    for name, stage in stages.items():
        for upstream in stage.upstream:
            downstream[upstream].append(name)
    for name in reversed(list(stages)):
        seconds = estimates.get(name, longest.get(stages[name].kind, 1.0))
        found[name] = seconds + max((found[after] for after in downstream[name]), default=0.0)

    return found
