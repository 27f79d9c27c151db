"""Runs a study with several workers in parallel. Each worker is a process with its own device: a GPU or CPU cores.

Usage: `python -m pipelines.parallel_study --study NAME`.

A study is a search for hyperparameters, and a trial is one training of the study. The workers share only the stored
study. The stored study determines which trial is next, which worker owns a trial, and when the study ends. If workers
are killed, run the same command again. To add workers on other machines, run the command on those machines with the
same --storage.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from duvae import config, streams
from duvae.cli.usage import program
from duvae.errors import USER_ERROR, Interrupted, UserError, as_user_error
from pipelines import owners, signals, watchdog
from pipelines.devices import Device, choose
from pipelines.failures import TaskFailedError, of_exit_status
from pipelines.pool import Pool

RESTARTS = 3
"""Largest number of restarts of a worker after failures that may not come again."""

INTERRUPTED = 130
"""Exit code of `duvae` after an interruption."""


class Crew:
    """The workers of a study.

    A worker whose memory runs out continues alone on its device, after the other workers there have ended. A worker
    that loses its GPU starts again. After two losses in a row, no worker starts on this GPU any more.

    Args:
        study: Name of the study.
        devices: Devices of the workers, one for each worker.
        storage: URL of the database that holds the study; None: the journal file in the folder `studies`.
        params: Path of params.yaml.
    """

    def __init__(self, study: str, devices: list[Device], storage: str | None, params: Path) -> None:
        self.study, self.size = study, len(devices)
        self.pool = Pool(devices, lambda message: print(message, flush=True))
        self.command = [sys.executable, "-m", "duvae", "search", "--study", study, "--params", str(params)]
        self.command += ["--storage", storage] if storage else []
        self.running: dict[Device, subprocess.Popen[str]] = {}
        self.exit_codes: list[int] = []
        self.errors: list[str] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        """Runs the workers until the study ends.

        Raises:
            UserError: If a worker reports an error, or keeps failing, or if no GPU is left.
            Interrupted: If the user asks for a stop.
        """
        handlers = {number: signal.signal(number, self.stop) for number in signals.handled()}
        try:
            threads = [threading.Thread(target=self.run_worker) for _ in range(self.size)]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():  # short waits let the main thread handle signals
                    thread.join(0.2)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self.stopping.is_set() or INTERRUPTED in self.exit_codes:
            raise Interrupted(f"the workers of {self.study} have stopped")
        if len(self.exit_codes) < self.size:
            raise UserError(
                "\n".join(dict.fromkeys(self.errors or ["a worker could not be started"]))
                + "\nThe messages of the workers are above."
            )

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Asks all workers to stop after their current step. The arguments are those of a signal handler."""
        self.stopping.set()
        for process in list(self.running.values()):
            process.terminate()

    def run_worker(self) -> None:
        """Runs one worker, and starts it again after a failure that may not come again."""
        for attempt in range(RESTARTS + 1):
            try:
                self.exit_codes.append(self.pool.run("search", self.run_on))
                return
            except TaskFailedError as error:
                if not error.failure.may_pass or attempt == RESTARTS:
                    self.errors.append(str(error))
                    return

    def run_on(self, device: Device) -> int:
        """Runs one worker on a device, and prints its output with the device's name before each line.

        Args:
            device: Device of the worker.

        Returns:
            The exit code of the worker: 0, or `INTERRUPTED`.

        Raises:
            TaskFailedError: If the worker fails.
        """
        if self.stopping.is_set():
            return INTERRUPTED
        with subprocess.Popen(
            [*self.command, "--worker"],
            env={**os.environ, **device.environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            self.running[device] = process
            device.pin(process.pid)
            if self.stopping.is_set():
                process.terminate()
            assert process.stdout is not None
            for line in process.stdout:
                print(f"{device.name}: {line}", end="", flush=True)
        code = process.returncode
        if code in (0, INTERRUPTED):
            return code
        failure = of_exit_status(code)
        reason = f"a worker on {device.name} ended with exit code {code}"
        reason += f" ({failure.value})" if failure.value else ""
        print(f"{self.study}: {reason}", flush=True)
        raise TaskFailedError(self.study, reason, failure)


def main(
    study: Annotated[str, typer.Option("--study", metavar="NAME", help="Name of a study in params.yaml.")],
    slots: Annotated[
        int | None,
        typer.Option(
            "--slots",
            metavar="N",
            min=1,
            help="Number of workers on each GPU, or on the CPU. Default: 1 per GPU, or as many as the cores allow.",
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            "--devices",
            metavar="LIST",
            help="'cpu', or a list of GPUs such as 0,1. Default: all GPUs, or the CPU if there is none.",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            envvar="OPTUNA_STORAGE",
            metavar="URL",
            help="URL of the database that keeps the study. Default: the file studies/journal.log.",
        ),
    ] = None,
    params: Annotated[Path, typer.Option("--params", metavar="PATH", help="File of parameters.")] = Path("params.yaml"),
) -> None:
    """Run the trials of a study in several workers in parallel, then write its results.

    The results are the files that 'duvae search' writes.
    """
    parameters = config.load(params)
    parameters.study(study)
    crew = Crew(study, choose(parameters.threads, slots, devices), storage, params)
    owners.end_left_over()
    watchdog.start(mark_children=True)
    crew.run()
    environment = {**os.environ, **crew.pool.devices[0].environment()}
    subprocess.run(crew.command, env=environment, check=True)


if __name__ == "__main__":
    try:
        program(main)(prog_name="python -m pipelines.parallel_study")
    except UserError as error:
        streams.print_error(error)
        sys.exit(USER_ERROR)
    except Interrupted as interruption:
        streams.say(f"\ninterrupted: {interruption}. Run the same command again to continue.")
        sys.exit(INTERRUPTED)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except OSError as error:
        if not (refusal := as_user_error(error)):
            raise
        streams.print_error(refusal)
        sys.exit(USER_ERROR)
