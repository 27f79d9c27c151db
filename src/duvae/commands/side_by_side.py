"""Runs the trainings of several models in processes of their own, and shows how far each has come."""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from duvae import streams
from duvae.errors import UserError

EPOCH = re.compile(r"(?P<name>\S+): epoch (?P<epoch>\d+) of \d+  (?P<note>.*)")
"""The line that a training prints after each epoch."""

GRACE = 20.0
"""Seconds between SIGTERM and SIGKILL. A training saves its state in this time."""

STEP = 0.1
"""Seconds between two looks at the processes."""


def cores() -> list[int]:
    """The indices of the CPU cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


@dataclass(frozen=True)
class Work:
    """The work on one model.

    Attributes:
        name: Name of the model's job, such as `demo-vae-1`.
        epochs: Greatest number of epochs of the training.
        command: Program with its arguments. Its standard input is a pipe, which is closed when this process ends.
        environment: Environment variables of the program.
        folder: Folder in which the program runs; None: the folder of this process.
    """

    name: str
    epochs: int
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path | None = None


def run(works: Sequence[Work], places: Sequence[Sequence[int]], wanted: Callable[[str], bool] = lambda _: True) -> None:
    """Runs the programs of all models, as many at a time as there are places.

    Args:
        works: Command, folder and number of epochs of each model.
        places: For each place, the CPU cores on which its program runs; no cores: the system chooses them.
        wanted: Whether to show a line that a program has printed.

    Raises:
        KeyboardInterrupt: If the user asks for a stop. All programs have ended.
        UserError: If a program fails; the others are stopped, too.
    """
    running: dict[int, Model] = {}
    with _terminable(), Display({work.name: work.epochs for work in works}, wanted) as display:
        try:
            _run(list(works), places, running, display)
        finally:
            _stop(list(running.values()))


class Display:
    """Bars over the epochs of all models on a terminal; without a terminal, the lines of all models.

    Args:
        epochs: Greatest number of epochs of each model, by the name of its job.
        wanted: Whether to show a line that a program has printed.
    """

    def __init__(self, epochs: Mapping[str, int], wanted: Callable[[str], bool] = lambda _: True) -> None:
        self.wanted = wanted
        self.console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {
            name: self.bars.add_task(name, total=total, note="") for name, total in epochs.items()
        }

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def show(self, line: str) -> None:
        """Shows a line that the program of a model has printed."""
        epoch = EPOCH.fullmatch(line)
        if not self.wanted(line):
            return
        if not self.console.is_terminal:
            streams.say(line)
        elif epoch and epoch["name"] in self.tasks:
            self.bars.update(self.tasks[epoch["name"]], completed=int(epoch["epoch"]), note=epoch["note"])
        else:
            self.console.print(Text(line))


class Model:
    """The process that trains and measures one model.

    Args:
        work: Command, folder and number of epochs of the model.
        cpus: CPU cores on which the process runs; none: the system chooses them.
        display: Object that shows the lines of the process.
    """

    def __init__(self, work: Work, cpus: Sequence[int], display: Display) -> None:
        self.name = work.name
        self.display = display
        self.process = subprocess.Popen(
            work.command,
            cwd=work.folder,
            env=work.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
            process_group=0,  # so that Ctrl-C reaches the process only once, from `_stop`
        )
        if cpus and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError):  # the process has ended
                os.sched_setaffinity(self.process.pid, cpus)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.display.show(line.rstrip("\n"))

    def close(self) -> None:
        """Shows the last lines of the process, which has ended, and closes the pipes to it."""
        self.reader.join(GRACE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not (pipe is self.process.stdout and self.reader.is_alive()):
                with contextlib.suppress(OSError):
                    pipe.close()

    def require_success(self) -> bool:
        """Whether the process has ended.

        Raises:
            UserError: If the process has failed.
        """
        status = self.process.poll()
        if status:
            self.reader.join(GRACE)
            ended = f"signal {-status}" if status < 0 else f"exit status {status}"
            raise UserError(
                f"{self.name}: expected a finished training and measurement; found the end of its process with"
                f" {ended}. The lines above say why. Correct this, then run the same command again: it continues."
            )

        return status is not None


def _run(waiting: list[Work], places: Sequence[Sequence[int]], running: dict[int, Model], display: Display) -> None:
    """Runs the programs of all models.

    Args:
        waiting: Command, folder and number of epochs of each model. The function removes those that it has started.
        places: For each place, the CPU cores on which its program runs.
        running: The running processes by the number of their place, which the function changes.
        display: Object that shows the lines of the processes.
    """
    while waiting or running:
        for place, cpus in enumerate(places):
            if waiting and place not in running:
                running[place] = Model(waiting.pop(0), cpus, display)
        time.sleep(STEP)
        for place, model in list(running.items()):
            if model.require_success():
                model.close()
                del running[place]


def _stop(running: Sequence[Model]) -> None:
    """Ends all processes that still run. After SIGTERM, a training saves its state; SIGKILL follows after `GRACE`."""
    for each in running:
        with contextlib.suppress(OSError):
            each.process.terminate()
    until = time.monotonic() + GRACE
    for each in running:
        try:
            each.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()
        each.close()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM and a closed terminal interrupt the `with` block like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
        numbers.append(signal.SIGHUP)
    handlers = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Raises KeyboardInterrupt. Until the trainings have saved their states, further signals have no effect."""
    for later in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(later, signal.SIG_IGN)
    raise KeyboardInterrupt
