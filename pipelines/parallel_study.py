"""A study by several workers at once, each with a process and a device of its own.

The command is `python -m pipelines.parallel_study --study NAME`.

The workers share nothing but the study: what is drawn next, whose trial it is and when it is over, they see there.
Killed in part or altogether, the same command goes on; further ones may join from other machines through --storage.
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

from duvae import config
from duvae.errors import Interrupted, UserError
from pipelines.devices import Device, choose

RESTARTS = 3
"""So often a worker that has crashed is started anew."""

MISTAKE, STOPPED = 2, 130
"""What `duvae` ends with after a user's mistake, and after an interruption."""


class Crew:
    """The workers of a study.

    Args:
        study: Its name.
        devices: One for each.
        storage: The database that the study is kept in; None: the journal.
        params: The file of parameters.
    """

    def __init__(self, study: str, devices: list[Device], storage: str | None, params: Path) -> None:
        self.study, self.devices = study, devices
        self.command = [sys.executable, "-m", "duvae", "search", "--study", study, "--params", str(params)]
        self.command += ["--storage", storage] if storage else []
        self.running: dict[Device, subprocess.Popen[str]] = {}
        self.ended: dict[Device, int] = {}
        self.stopping = threading.Event()

    def run(self) -> None:
        """Works until the study has ended.

        Raises:
            UserError: Where a worker met a mistake of the user's, or keeps crashing.
            Interrupted: Where the user asked for a stop.
        """
        before = {number: signal.signal(number, self.stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            threads = [threading.Thread(target=self.tend, args=(device,)) for device in self.devices]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():  # so that signals are heard meanwhile
                    thread.join(0.2)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        codes = set(self.ended.values())
        if self.stopping.is_set() or STOPPED in codes:
            raise Interrupted(f"the workers of {self.study} have stopped")
        if codes != {0}:
            raise UserError(f"{self.study}: a worker ended with {max(codes)}; what it said stands above.")

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Asks all workers to stop where nothing is lost."""
        self.stopping.set()
        for process in list(self.running.values()):
            process.terminate()

    def tend(self, device: Device) -> None:
        """One worker, started anew where it crashes; its lines are shown with its device before them."""
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": device.visible}
        for _ in range(RESTARTS + 1):
            if self.stopping.is_set():
                break
            with subprocess.Popen(
                [*self.command, "--worker"],
                env=environment,
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
            self.ended[device] = process.returncode
            if process.returncode in (0, MISTAKE, STOPPED):
                break
            print(f"{device.name}: the worker ended with {process.returncode}", flush=True)


def main(
    study: Annotated[str, typer.Option("--study", metavar="NAME", help="A study of params.yaml.")],
    slots: Annotated[
        int | None, typer.Option("--slots", metavar="N", min=1, help="Workers on each GPU, or on the CPU.")
    ] = None,
    devices: Annotated[
        str | None, typer.Option("--devices", metavar="LIST", help="GPUs like 0,1, or cpu; without it all there are.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", envvar="OPTUNA_STORAGE", metavar="URL", help="A database; else studies/journal.log."),
    ] = None,
    params: Annotated[Path, typer.Option("--params", metavar="PATH", help="The file of parameters.")] = Path(
        "params.yaml"
    ),
) -> None:
    """Search hyperparameters with several workers at once, then write what was found."""
    known = config.load(params)
    known.study(study)
    crew = Crew(study, choose(known.threads, slots, devices), storage, params)
    crew.run()
    subprocess.run(crew.command, check=True)


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(MISTAKE)
    except Interrupted as stopped:
        print(f"\ninterrupted: {stopped}; the same command goes on from there", file=sys.stderr)
        sys.exit(STOPPED)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
