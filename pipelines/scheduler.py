"""What runs next: stages whose upstream is known, those first that most time hangs on."""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.graph import Entry, Graph
from pipelines.launcher import Done, JobFailedError

Submit = Callable[[str, dict[str, Entry]], Callable[[], Done]]
"""Starts a job, given the stage and what it depends on, and returns what waits for its end."""


@dataclass
class Progress:
    """How far a rebuild is.

    Attributes:
        total: Stages in all.
        fresh: Those that the project had, up to date.
        cached: Those that were found in the run cache.
        left: Those that run where all is recorded.
        running: Those that run now, each with when it began.
        done: Those that a job has made.
        failed: Those that failed, and why.
        skipped: Those that need one that failed, or that were not begun after it.
        waiting: All others.
    """

    total: int
    fresh: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    running: dict[str, float] = field(default_factory=dict)
    done: dict[str, Done] = field(default_factory=dict)
    failed: dict[str, JobFailedError] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)


class Engine:
    """Runs what is out of date, so many jobs at a time as there are devices.

    Args:
        graph: What there is.
        estimates: Seconds of those stages of which they are known.
        keep_going: Whether all that does not need a failed stage still runs.
    """

    def __init__(self, graph: Graph, estimates: Mapping[str, float], keep_going: bool = False) -> None:
        self.graph, self.keep_going = graph, keep_going
        self.progress = Progress(len(graph.stages), waiting=list(graph.stages))
        self.urgency = _urgency(graph, estimates)
        self.sought: set[str] = set()
        """Stages that were looked up and not found."""
        self.ended: queue.SimpleQueue[tuple[str, Done | BaseException]] = queue.SimpleQueue()

    def resolve(self) -> list[str]:
        """Looks all stages up whose upstream is known; returns those that have to run and can, the most urgent first.

        Stages that gather what others make are left to the recording, with all that needs them.
        """
        progress, known = self.progress, self.graph.known
        for name in list(progress.waiting):
            stage = self.graph.stages[name]
            left = any(upstream in progress.left for upstream in stage.upstream)
            if stage.gathers and not self.graph.fresh.issuperset(stage.upstream):
                left = True
            if left:
                progress.left.append(name)
                progress.waiting.remove(name)
            elif name in self.sought or any(upstream not in known for upstream in stage.upstream):
                continue
            elif self.graph.look_up(name):
                (progress.fresh if name in self.graph.fresh else progress.cached).append(name)
                progress.waiting.remove(name)
            elif stage.gathers:
                progress.left.append(name)
                progress.waiting.remove(name)
            else:
                self.sought.add(name)
        ready = [name for name in progress.waiting if name in self.sought]

        return sorted(ready, key=lambda name: -self.urgency[name])

    def run(
        self, submit: Submit, capacity: Callable[[], int], look: Callable[[Progress], Any] = lambda _: None
    ) -> None:
        """Runs until nothing more can.

        Args:
            submit: Starts a job.
            capacity: How many may run now.
            look: Called whenever something changed.
        """
        progress, ready = self.progress, self.resolve()
        look(progress)
        while ready or progress.running:
            stopped = bool(progress.failed) and not self.keep_going
            while ready and not stopped and len(progress.running) < capacity():
                name = ready.pop(0)
                progress.waiting.remove(name)
                progress.running[name] = time.monotonic()
                wait = submit(name, self.graph.inputs(name))
                threading.Thread(target=self._wait, args=(name, wait), daemon=True).start()
            look(progress)
            if not progress.running:
                break
            name, outcome = self.ended.get()
            del progress.running[name]
            if isinstance(outcome, Done):
                progress.done[name] = outcome
                self.graph.known[name] = outcome.entry
                ready = self.resolve()
            elif isinstance(outcome, JobFailedError):
                progress.failed[name] = outcome
            else:
                raise outcome
        progress.skipped, progress.waiting = progress.waiting, []
        look(progress)

    def _wait(self, name: str, wait: Callable[[], Done]) -> None:
        try:
            self.ended.put((name, wait()))
        except BaseException as error:  # noqa: BLE001 (raised again where the jobs are counted)
            self.ended.put((name, error))


def _urgency(graph: Graph, estimates: Mapping[str, float]) -> dict[str, float]:
    """Seconds of the longest chain of stages from each on.

    What is not known may be long, and nothing is lost by beginning it early: it counts as the longest of its kind.
    """
    urgency: dict[str, float] = {}
    longest: dict[str, float] = {}
    for name, seconds in estimates.items():
        kind = graph.stages[name].kind
        longest[kind] = max(longest.get(kind, 1.0), seconds)
    downstream: dict[str, list[str]] = {name: [] for name in graph.stages}
    for name, stage in graph.stages.items():
        for upstream in stage.upstream:
            downstream[upstream].append(name)
    for name in reversed(graph.stages):
        alone = estimates.get(name, longest.get(graph.stages[name].kind, 1.0))
        urgency[name] = alone + max((urgency[after] for after in downstream[name]), default=0.0)

    return urgency
