"""Shows a rebuild in texts and tables: the plan, the live table on a terminal, the summary and the failures.

A rebuild runs the stages of DVC's graph that are out of date. A task is one stage that the rebuild runs on one device.
A deferred stage does not run as a task: the `dvc repro` at the end of the rebuild runs it.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from duvae.project import name_lists
from pipelines.durations import duration
from pipelines.forecast import Forecast
from pipelines.launcher import TaskResult
from pipelines.scheduler import Progress
from pipelines.stage_graph import StageGraph


def plan(graph: StageGraph, ahead: Forecast, verbose: bool = False) -> str:
    """The text of `--plan`: the numbers of tasks and their estimated time, by kind of stage and data set.

    Args:
        graph: Graph of the project's stages. Each stage has already been looked up in the project and in the run cache,
            which keeps the outputs of earlier runs.
        ahead: What is known about the rebuild. The tasks are the stages that its scheduler waits for.
        verbose: Whether the text also has one line for each task.
    """
    stages, deferred = ahead.scheduler.progress.waiting, ahead.scheduler.progress.deferred
    estimates, devices = ahead.seconds, ahead.sharing.devices
    lines = []
    if verbose:
        lines += [f"  {name}  {duration(estimates[name]) if name in estimates else 'unknown'}" for name in stages]
    groups: dict[str, list[str]] = {}
    for name in stages:
        groups.setdefault(f"{graph.stages[name].kind} {_dataset(name)}".rstrip(), []).append(name)
    for group, names in groups.items():
        lines.append(f"  {group}: {_tasks(len(names))}, {_time(names, estimates)}")
    kinds = Counter(graph.stages[name].kind for name in stages)
    by_kind = f", {', '.join(f'{count} {kind}' for kind, count in kinds.items())}" if len(kinds) > 1 else ""
    lines.append(
        f"{_tasks(len(stages))} to run{by_kind}; {len(graph.up_to_date)} stages up to date,"
        f" {len(graph.entries) - len(graph.up_to_date)} in the run cache"
        + (f", {len(deferred)} for the final dvc repro" if deferred else "")
    )
    lines += [f"slots: {ahead.sharing.reason}"] if ahead.sharing.reason else []
    hours = sum(estimates.get(name, 0.0) for name in stages) / 3600
    total = f"estimated {hours:,.2f} hours of tasks, {ahead.makespan / 3600:,.2f} hours from start to end on"
    total += f" {', '.join(dict.fromkeys(device.name for device in devices))}"
    if unknown := sum(name not in estimates for name in stages):
        total += f", without {_tasks(unknown)} of unknown duration: no similar stage has run yet"
    lines.append(total)
    if ahead.card:
        lines.append(f"Tasks that have never run on a GPU have an estimate, at the assumed speed of {ahead.card}.")
    if stages and not verbose:
        lines.append("--verbose lists the tasks one by one.")

    return "\n".join(lines)


def _time(names: Sequence[str], estimates: Mapping[str, float]) -> str:
    """The estimated time of some tasks in words, such as `2.0 h + 1 of unknown length`."""
    lengths = [estimates[name] for name in names if name in estimates]
    parts = [duration(sum(lengths))] if lengths else []
    if unknown := len(names) - len(lengths):
        parts.append(f"{unknown} of unknown length")

    return " + ".join(parts)


def _dataset(name: str) -> str:
    return name.partition("@")[2].partition("-")[0]


def _tasks(count: int) -> str:
    return f"{count} task{'' if count == 1 else 's'}"


class LiveTable:
    """Shows a rebuild on standard error: a table of the running tasks, their devices, a bar and the time left.

    Above the table stands one line for each evaluated model, with its numbers. Where standard error is not a terminal,
    the object prints one line for each finished task instead of the table.

    Args:
        estimates: Estimated seconds of each stage, by name. The mapping lacks stages of unknown duration.
        slots: Number of tasks that can run at a time.
        numbers: Function that puts the numbers of a finished task into words. The text is empty if the task is no
            evaluation.

    Attributes:
        devices: Name of the device of each started stage, by name of the stage. Each Prefect task adds the device on
            which it runs its stage.
    """

    def __init__(
        self,
        estimates: Mapping[str, float],
        slots: int,
        numbers: Callable[[TaskResult], str] = lambda _: "",
    ) -> None:
        self.estimates, self.slots, self.numbers = estimates, slots, numbers
        self.progress: Progress | None = None
        self.devices: dict[str, str] = {}
        console = Console(stderr=True)
        self.live = Live(
            console=console,
            get_renderable=self.draw,
            refresh_per_second=2,
            transient=True,
            redirect_stderr=False,
            redirect_stdout=False,
        )
        self.visible = console.is_terminal
        self.printed: set[str] = set()

    def __enter__(self) -> Self:
        if self.visible:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.visible:
            self.live.stop()

    def update(self, progress: Progress) -> None:
        """Sets the progress to show, and prints the numbers of newly evaluated models.

        Without a terminal, this method prints a line for each newly finished task.
        """
        self.progress = progress
        for name in [*progress.done, *progress.failed]:
            if name in self.printed:
                continue
            self.printed.add(name)
            result = progress.done.get(name)
            found = self.numbers(result) if result is not None else ""
            if self.visible:
                if found:
                    self.report(f"{name.partition('@')[2]}: {found}")
                continue
            state = "failed"
            if result is not None:
                state = f"done in {duration(result.seconds)} on {result.device}" if result.ran else "in the run cache"
            state += f", {found}" if found else ""
            print(f"{name}: {state}. {self.line(progress, time.monotonic())}", file=sys.stderr, flush=True)

    def report(self, message: str) -> None:
        """Prints a message for the user. On a terminal, it stands above the table."""
        if self.visible:
            self.live.console.print(Text(message))
        else:
            print(message, file=sys.stderr, flush=True)

    def draw(self) -> Group:
        """Draws this moment: the time left, a bar, the counts, and a table with one row for each running task.

        A terminal with few columns shortens the names of tasks. A terminal with few lines leaves out the last tasks. No
        terminal cuts the time left.
        """
        progress, now = self.progress, time.monotonic()
        if progress is None:
            return Group(Text("reading the graph ..."))
        table = Table(box=None, pad_edge=False)
        for column in ("task", "device"):
            table.add_column(column, overflow="ellipsis")
        for column in ("running", "left"):
            table.add_column(column, justify="right", no_wrap=True)
        for name, started in list(progress.running.items()):
            estimate = self.estimates.get(name)
            left = "?" if estimate is None else duration(max(0.0, estimate - (now - started)))
            table.add_row(escape(name), self.devices.get(name, ""), duration(now - started), left)

        share, time_left = self.share(progress, now), self.time_left(progress, now)
        parts: list[RenderableType] = [Text(time_left)] if time_left else []
        if share is not None:
            bar = Table.grid(padding=(0, 1))
            bar.add_row(ProgressBar(total=1.0, completed=share, width=40), Text(f"{share:.0%}"))
            parts.append(bar)

        return Group(*parts, Text(self.counts(progress)), table)

    def share(self, progress: Progress, now: float) -> float | None:
        """Share of the estimated time of all tasks that lies behind; None where no task has an estimate.

        Args:
            progress: The progress to show.
            now: Present time in seconds, from `time.monotonic`.
        """
        behind = sum(self.estimates.get(name, 0.0) for name in progress.done)
        running = dict(progress.running)
        begun = sum(min(now - started, self.estimates.get(name, 0.0)) for name, started in running.items())
        ahead = sum(self.estimates.get(name, 0.0) for name in [*running, *progress.waiting])

        return (behind + begun) / (behind + ahead) if behind + ahead else None

    def line(self, progress: Progress, now: float) -> str:
        """The line of a finished task: how many stages are in each state, and the time left.

        Args:
            progress: The progress to show.
            now: Present time in seconds, from `time.monotonic`.
        """
        counts = self.counts(progress)
        time_left = self.time_left(progress, now)

        return f"{counts}; {time_left}" if time_left else counts

    def counts(self, progress: Progress) -> str:
        """How many stages are in each state."""
        return _counts(
            {
                "up to date": len(progress.up_to_date),
                "in the run cache": len(progress.cached),
                "done": len(progress.done),
                "failed": len(progress.failed),
                "running": len(progress.running),
                "waiting": len(progress.waiting),
                "deferred": len(progress.deferred),
            }
        )

    def time_left(self, progress: Progress, now: float) -> str:
        """The estimated time until the end of all tasks, such as `about 2.0 h left + 3 of unknown length`.

        Args:
            progress: The progress to show.
            now: Present time in seconds, from `time.monotonic`.
        """
        running = {name: now - started for name, started in list(progress.running.items())}
        ahead = [*running, *progress.waiting]
        left = sum(max(0.0, self.estimates.get(name, 0.0) - running.get(name, 0.0)) for name in ahead)
        unknown = sum(name not in self.estimates for name in ahead)
        parts = [f"about {duration(left / max(1, self.slots))} left"] if left else []
        parts += [f"{unknown} of unknown length"] if unknown else []

        return " + ".join(parts)


def summary(progress: Progress, seconds: float) -> str:
    """Describes a finished rebuild in one line: the duration, the number of all stages, and the number in each state.

    Deferred stages count only among all stages, because they have no state of their own in this line.

    Args:
        progress: The state of all stages at the end of the rebuild.
        seconds: Wall-clock seconds of the rebuild.
    """
    ran = sum(result.ran for result in progress.done.values())
    counts = _counts(
        {
            "up to date": len(progress.up_to_date),
            "found in the run cache": len(progress.cached) + len(progress.done) - ran,
            "run": ran,
            "failed": len(progress.failed),
            "not started": len(progress.skipped),
        }
    )

    return f"{progress.total} stages in {duration(seconds)}: {counts or 'nothing to do'}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def failures(progress: Progress) -> str:
    """For each failed task, the reason and the end of its log; then the stages that did not start.

    If no device is left, the last line is the reason.
    """
    parts = []
    for error in progress.failed.values():
        parts += [f"failed: {error}", *(f"    {line}" for line in error.log.splitlines())]
    if progress.skipped:
        parts.append(f"not started: {name_lists.shortened(progress.skipped)}")
    if progress.no_device:
        parts.append(progress.no_device)

    return "\n".join(parts)


def rows(progress: Progress) -> list[dict[str, Any]]:
    """The rows of a table on Prefect's page: one row for each stage that was neither up to date nor deferred."""
    failed = [_row(name, "failed", reason=error.reason) for name, error in progress.failed.items()]
    done = [
        _row(name, "run" if result.ran else "in the run cache", result.device, round(result.seconds, 1))
        for name, result in progress.done.items()
    ]
    skipped = [_row(name, "not started") for name in progress.skipped]

    return [*failed, *done, *skipped, *(_row(name, "in the run cache") for name in progress.cached)]


def _row(stage: str, state: str, device: str = "", seconds: float | None = None, reason: str = "") -> dict[str, Any]:
    return {"stage": stage, "state": state, "device": device, "seconds": seconds, "reason": reason}
