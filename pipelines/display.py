"""What is shown of a rebuild: a live table on a terminal, and at the end what came of it."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipelines.estimates import hours
from pipelines.scheduler import Progress


class Board:
    """Jobs, devices and time left, on standard error; silent where that is not a terminal.

    Args:
        known: Seconds of those stages of which they are known.
        devices: So many jobs may run at a time.
    """

    def __init__(self, known: Mapping[str, float], devices: int) -> None:
        self.known, self.devices = known, devices
        self.progress: Progress | None = None
        self.places: dict[str, str] = {}
        console = Console(stderr=True)
        self.live = Live(
            console=console,
            get_renderable=self.draw,
            refresh_per_second=2,
            transient=True,
            redirect_stderr=False,
            redirect_stdout=False,
        )
        self.shown = console.is_terminal

    def __enter__(self) -> Self:
        if self.shown:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.shown:
            self.live.stop()

    def look(self, progress: Progress) -> None:
        """Takes note of how far it is."""
        self.progress = progress

    def draw(self) -> Group:
        """The table as it is now."""
        progress, now = self.progress, time.monotonic()
        if progress is None:
            return Group(Text("reading the graph ..."))
        table = Table(box=None, pad_edge=False)
        for column in ("job", "device", "running", "left"):
            table.add_column(column, justify="left" if column in {"job", "device"} else "right")
        for name, began in list(progress.running.items()):
            known = self.known.get(name)
            left = "?" if known is None else hours(max(0.0, known - (now - began)))
            table.add_row(escape(name), self.places.get(name, ""), hours(now - began), left)

        return Group(table, Text(self.line(progress, now)))

    def line(self, progress: Progress, now: float) -> str:
        """How many of what, and the time that is left."""
        counts = {
            "up to date": len(progress.fresh),
            "in the run cache": len(progress.cached),
            "made": len(progress.done),
            "failed": len(progress.failed),
            "running": len(progress.running),
            "waiting": len(progress.waiting),
            "for the end": len(progress.left),
        }
        said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        running = {name: now - began for name, began in list(progress.running.items())}
        ahead = [*running, *progress.waiting]
        left = sum(max(0.0, self.known.get(name, 0.0) - running.get(name, 0.0)) for name in ahead)
        unknown = sum(name not in self.known for name in ahead)
        about = f"; about {hours(left / max(1, self.devices))} left" if left else ""

        return said + about + (f", and {unknown} of unknown length" if unknown else "")


def summary(progress: Progress, seconds: float) -> str:
    """What came of it."""
    ran = [done for done in progress.done.values() if done.ran]
    counts = {
        "up to date": len(progress.fresh),
        "found in the run cache": len(progress.cached) + len(progress.done) - len(ran),
        "made": len(ran),
        "failed": len(progress.failed),
        "not tried": len(progress.skipped),
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    return f"{progress.total} stages in {hours(seconds)}: {said or 'nothing to do'}"


def failures(progress: Progress) -> str:
    """The reason of each failure and the end of its log."""
    parts = []
    for failed in progress.failed.values():
        parts += [f"failed: {failed}", *(f"    {line}" for line in failed.log.splitlines())]
    if progress.skipped:
        parts.append(f"not tried: {', '.join(progress.skipped)}")

    return "\n".join(parts)


def rows(progress: Progress) -> list[dict[str, Any]]:
    """A row a job, for a table."""
    made = [
        {
            "stage": done.stage,
            "state": "made" if done.ran else "in the run cache",
            "device": done.device,
            "seconds": round(done.seconds, 1),
            "reason": "",
        }
        for done in progress.done.values()
    ]
    failed = [
        {"stage": name, "state": "failed", "device": "", "seconds": None, "reason": error.reason}
        for name, error in progress.failed.items()
    ]
    other: Sequence[tuple[str, list[str]]] = (("not tried", progress.skipped), ("in the run cache", progress.cached))

    return [
        *failed,
        *made,
        *(
            {"stage": name, "state": state, "device": "", "seconds": None, "reason": ""}
            for state, names in other
            for name in names
        ),
    ]
