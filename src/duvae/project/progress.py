"""Progress bars, drawn on a terminal and nowhere else."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Row = dict[str, float | int | None]


class Bar:
    """One bar on standard error; silent when that is not a terminal.

    Args:
        title: What is being done.
        total: How many of it.
    """

    def __init__(self, title: str, total: float) -> None:
        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(title, total=total, said="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def done(self, count: float) -> None:
        """`count` of the total are done."""
        self.bar.update(self.task, completed=count)


class TrainingBar(Bar):
    """A bar over epochs, with the last epoch's validation loss, KL, MI and active units beside it.

    While it is shown, Ctrl-C and SIGTERM stop the training after its present step; a second one stops at once.
    """

    def __enter__(self) -> Self:
        self.asked = False
        self.before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def ask(self, number: int, frame: FrameType | None) -> None:
        """What a signal does: the first asks, the second insists."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def step(self, epoch: int, batch: int, batches: int) -> bool:
        if batch % 20 == 0 or batch == batches:
            self.bar.update(self.task, completed=round(epoch - 1 + batch / batches, 1))
        return self.asked

    def epoch(self, row: Row) -> None:
        said = [
            f"{name} {row[key]:.2f}"
            for name, key in (("loss", "valid_loss"), ("KL", "valid_kl"), ("MI", "valid_mi"), ("AU", "valid_au"))
            if row[key] is not None
        ]
        self.bar.update(self.task, completed=row["epoch"], said="  ".join(said))
