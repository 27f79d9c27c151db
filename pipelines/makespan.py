"""Computes in advance how long a rebuild takes: plays the scheduler's decisions with estimated durations."""

import heapq
from collections.abc import Collection, Mapping

from pipelines.scheduler import priorities
from pipelines.stage_graph import Stage


def makespan(
    stages: Mapping[str, Stage], estimates: Mapping[str, float], slots: int, waiting: Collection[str] | None = None
) -> float:
    """The seconds from the start of the first task to the end of the last one.

    As in a rebuild, a stage can start when all stages upstream of it have ended, and the stage that begins the longest
    chain of stages starts first. So the result is never less than the longest chain.

    Args:
        stages: Stages by name. Each stage comes after the stages upstream of it.
        estimates: Estimated seconds of each stage, by name. Stages of unknown duration count 0 seconds.
        slots: Number of tasks that run at the same time.
        waiting: Names of the stages that have to run; None: all.
    """
    names = list(stages) if waiting is None else [name for name in stages if name in waiting]
    order = priorities(stages, estimates)
    place = {name: number for number, name in enumerate(names)}
    left = {name: sum(upstream in place for upstream in stages[name].upstream) for name in names}
    downstream: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        for upstream in stages[name].upstream:
            if upstream in place:
                downstream[upstream].append(name)
    ready = [(-order[name], place[name], name) for name in names if not left[name]]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < slots:
            name = heapq.heappop(ready)[2]
            heapq.heappush(running, (now + estimates.get(name, 0.0), name))
        now, name = heapq.heappop(running)
        for after in downstream[name]:
            left[after] -= 1
            if not left[after]:
                heapq.heappush(ready, (-order[after], place[after], after))

    return now
