"""Shows the progress of a command as a bar, if standard error is a terminal.

Without a terminal all bars are hidden, and a training prints one line per epoch instead.
"""

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

Row = dict[str, float | int | None]
"""Measurements of one epoch, by name; None: the epoch has no such measurement."""


class Bar:
    """A progress bar on standard error; hidden where standard error is not a terminal.

    Args:
        title: Text before the bar.
        total: Number of finished steps at which the bar is full.
    """

    def __init__(self, title: str, total: float) -> None:
        console = Console(stderr=True)
        self.title, self.total, self.visible = title, total, console.is_terminal
        self.bar = Progress(
            TextColumn("{task.description}", table_column=Column(overflow="ellipsis")),
            BarColumn(),
            # A narrow terminal shortens the title and the bar, and wraps the note. It never cuts a number or a time.
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[note]}", table_column=Column(overflow="fold")),
            console=console,
            disable=not self.visible,
        )
        self.task = self.bar.add_task(title, total=total, note="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def done(self, count: float) -> None:
        """Sets the number of finished steps."""
        self.bar.update(self.task, completed=count)


class TrainingBar(Bar):
    """A bar over the epochs of a training.

    Beside the bar are measurements of the last finished epoch on the validation data: the loss, the KL and the MI, in
    nats per example, and the number of active units.

    Inside the `with` block of the bar, Ctrl-C and SIGTERM stop the training after the current optimiser step. A second
    signal stops the training at once.
    """

    def __enter__(self) -> Self:
        self.stop_requested = False
        self.handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            signals = (signal.SIGINT, signal.SIGTERM)
            self.handlers = {number: signal.signal(number, self.request_stop) for number in signals}
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def request_stop(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal. After the first signal `step` returns True; the second signal raises an exception at once.

        Args:
            number: Number of the signal; not used.
            frame: The interrupted stack frame, or None; not used.
        """
        if self.stop_requested:
            raise KeyboardInterrupt
        self.stop_requested = True

    def step(self, epoch: int, batch: int, batches: int) -> bool:
        """Shows the progress within an epoch.

        Args:
            epoch: Number of the running epoch, from 1.
            batch: Number of finished batches in the running epoch.
            batches: Number of batches per epoch.

        Returns:
            Whether the training should stop.
        """
        if batch % 20 == 0 or batch == batches:
            self.bar.update(self.task, completed=round(epoch - 1 + batch / batches, 1))
        return self.stop_requested

    def epoch(self, row: Row) -> None:
        """Shows the measurements of a finished epoch beside the bar, or prints them on one line if the bar is hidden.

        Args:
            row: The measurements of the epoch.
        """
        values = [
            f"{name} {row[key]:.2f}"
            for name, key in (("loss", "valid_loss"), ("KL", "valid_kl"), ("MI", "valid_mi"), ("AU", "valid_au"))
            if row[key] is not None
        ]
        note = "  ".join(values)
        self.bar.update(self.task, completed=row["epoch"], note=note)
        if not self.visible:
            print(f"{self.title}: epoch {row['epoch']} of {self.total:g}  {note}", file=sys.stderr, flush=True)
