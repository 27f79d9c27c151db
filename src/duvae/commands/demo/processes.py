"""Trains the models of a demonstration in processes of their own, and shows how far each has come."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from duvae import streams
from duvae.commands.demo import folder, model
from duvae.config import Job, Params
from duvae.errors import Interrupted, UserError
from duvae.project import gpus

EPOCH = re.compile(r"(?P<name>\S+): epoch (?P<epoch>\d+) of \d+  (?P<note>.*)")
"""The line that a training prints after each epoch."""

GRACE = 20.0
"""Seconds between SIGTERM and SIGKILL. A training saves its state in this time."""

STEP = 0.1
"""Seconds between two looks at the processes."""


def at_once(jobs: int) -> int:
    """Number of models that train at the same time: one on each core.

    Args:
        jobs: Number of models that have to be trained.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    return max(1, min(jobs, cores))


def train_all(params: Params, root: Path) -> None:
    """Trains and measures all models that have not been trained and measured yet.

    Args:
        params: All parameters of the demonstration.
        root: Folder of the demonstration.

    Raises:
        Interrupted: If the user asks for a stop. The trainings have saved their states.
        UserError: If a process fails; the other one is stopped, too.
    """
    jobs = [job for job in params.run_jobs() if model.waiting(job, root)]
    if not jobs:
        return
    epochs = {job.name: params.optimisation(job.setting, job.dataset).epochs for job in jobs}
    running: list[Model] = []
    try:
        with _terminable(), Display(epochs) as display:
            try:
                _run(jobs, root, running, display)
            finally:
                _stop(running)
    except KeyboardInterrupt as error:
        raise Interrupted(f"{root}: the trainings have saved their states") from error


class Display:
    """Bars over the epochs of all models on a terminal; without a terminal, the lines of all models.

    Args:
        epochs: Greatest number of epochs of each model, by the name of its job.
    """

    def __init__(self, epochs: dict[str, int]) -> None:
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
        """Shows a line that the process of a model has printed."""
        epoch = EPOCH.fullmatch(line)
        if not self.console.is_terminal:
            streams.say(line)
        elif epoch and epoch["name"] in self.tasks:
            self.bars.update(self.tasks[epoch["name"]], completed=int(epoch["epoch"]), note=epoch["note"])
        else:
            self.console.print(Text(line))


class Model:
    """The process that trains and measures one model.

    Args:
        job: Data set, setting and seed of the model.
        root: Folder of the demonstration.
        display: Object that shows the lines of the process.
    """

    def __init__(self, job: Job, root: Path, display: Display) -> None:
        self.job = job
        self.display = display
        arguments = ["demo", "--output", str(root), "--params", str(root / folder.PARAMS), "--model", job.name]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "duvae", *arguments],
            env={**os.environ, gpus.VARIABLE: gpus.CPU, "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
            process_group=0,  # so that Ctrl-C reaches the process only once, from `stop`
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
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
                f"{self.job.name}: expected a finished training and measurement; found the end of its process with"
                f" {ended}. The lines above say why. Correct this, then run the same command again: it continues."
            )

        return status is not None


def _run(jobs: list[Job], root: Path, running: list[Model], display: Display) -> None:
    """Runs the processes of all models, as many at a time as there are cores.

    Args:
        jobs: Jobs of the models.
        root: Folder of the demonstration.
        running: List of the running processes, which the function changes.
        display: Object that shows the lines of the processes.
    """
    places, waiting = at_once(len(jobs)), list(jobs)
    while waiting or running:
        while waiting and len(running) < places:
            running.append(Model(waiting.pop(0), root, display))
        time.sleep(STEP)
        for each in list(running):
            if each.require_success():
                each.close()
                running.remove(each)


def _stop(running: list[Model]) -> None:
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
