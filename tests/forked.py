"""Runs commands of `duvae` in forked processes, and kills them after a given CPU time.

A forked process has all modules of its parent, so it spends its CPU time on the command and not on imports. A kill at a
random moment therefore hits the work of the command. CPU time makes the moment independent of the load of the machine.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

# Without these imports, each forked process would spend most of its time on them.
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import psutil
import torch

from duvae import cli
from duvae.commands import search, track  # noqa: F401
from duvae.search import study

PATIENCE = 600.0
"""Greatest number of seconds to wait for a command."""

PAUSE = 0.005
"""Seconds between two looks at a running command."""


class Command:
    """A command of `duvae` that runs in a forked process.

    Args:
        folder: The project's folder, in which the command runs. Its file `command-NUMBER.log` gets the output.
        words: The words of the command line, without `duvae`.
    """

    def __init__(self, folder: Path, *words: str) -> None:
        self.log = folder.with_name(f"{folder.name}-{time.monotonic_ns()}.log")
        self.words, self.code = words, None
        self.process = os.fork()
        if self.process == 0:
            self._run(folder)

    def _run(self, folder: Path) -> None:
        """Runs the command in the forked process, which ends here."""
        code: object = 1
        try:
            os.chdir(folder)
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(output, stream)
            for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"):
                os.environ.pop(name, None)
            sys.argv = ["duvae", *self.words]
            torch.set_num_threads(1)
            study.WAIT_SECONDS = 0.05
            cli.main()
        except SystemExit as leaving:
            code = leaving.code or 0
        except BaseException:  # noqa: BLE001 (a child must never come back into its parent's code)
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds that the command has used. The command must not have been waited for."""
        times = psutil.Process(self.process).cpu_times()

        return float(times.user + times.system)

    def ended(self) -> bool:
        """Whether the command has ended; the attribute `code` is its exit status then, negative after a kill."""
        if self.code is None:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                self.code = os.waitstatus_to_exitcode(status)

        return self.code is not None

    def kill_at(self, cpu_seconds: float) -> bool:
        """Kills the command by SIGKILL once it has used this CPU time; returns False if it ended earlier by itself."""
        self._until(lambda: self.cpu_seconds >= cpu_seconds)
        if self.code is None:
            os.kill(self.process, signal.SIGKILL)
        self._until(lambda: False)

        return self.code == -signal.SIGKILL

    def wait_for(self, path: Path) -> float:
        """Waits until a file exists or the command has ended; returns the CPU seconds that the command has used."""
        return self._cpu_seconds_until(path.exists)

    def succeed(self) -> float:
        """Waits for the command, which must succeed; returns the seconds of CPU time that it used.

        Raises:
            SystemExit: The command failed. The message has its output.
        """
        used = self._cpu_seconds_until(lambda: False)
        if self.code:
            output = self.log.read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"'duvae {' '.join(self.words)}' ended with {self.code}:\n{output}")

        return used

    def _cpu_seconds_until(self, condition: Callable[[], bool]) -> float:
        """Waits like `_until`; returns the CPU seconds that the command has used."""
        used = 0.0

        def look() -> bool:
            nonlocal used
            used = self.cpu_seconds
            return condition()

        self._until(look)

        return used

    def _until(self, condition: Callable[[], bool]) -> None:
        """Waits until the command has ended or the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not self.ended() and not condition():
            if time.monotonic() > deadline:
                os.kill(self.process, signal.SIGKILL)
                raise SystemExit(f"'duvae {' '.join(self.words)}' took longer than {PATIENCE:.0f} seconds")
            time.sleep(PAUSE)


def kill_pair(first: Command, second: Command, moments: tuple[float, float | None]) -> int:
    """Kills two commands that run at the same time; returns how many of them were killed before their end.

    Args:
        first: The command that is killed first or alone.
        second: The other command.
        moments: CPU seconds of each command at its kill; None for the second command: it is not killed, and must
            succeed.
    """
    early, late = moments
    if late is None:
        count = int(first.kill_at(early))
        second.succeed()
        return count
    pair = [(first, early), (second, late)]
    deadline = time.monotonic() + PATIENCE
    while not all(command.ended() for command, _ in pair) and time.monotonic() < deadline:
        for command, moment in pair:
            if not command.ended() and command.cpu_seconds >= moment:
                os.kill(command.process, signal.SIGKILL)
        time.sleep(PAUSE)

    return sum(command.code == -signal.SIGKILL for command, _ in pair)
