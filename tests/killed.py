"""Trains a model in child processes that are killed one after the other, until one child finishes the training.

The script has five arguments: a folder with params.yaml and prepared data, the name of a setting in params.yaml, a
seed of the random moments, a way of killing, and the longest time in seconds before a kill. There are three ways:

- `moments`: the script sends SIGKILL to a child at a random moment;
- `writing`: a child kills itself in the middle of writing a checkpoint;
- `outputs`: a child kills itself between the last epoch and the first output of the training.

The script imports all modules once and then forks, so that a child spends its time on the training alone. It prints
two numbers: how many children were killed, and how many seconds the last child took.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from duvae import config
from duvae.commands import train
from duvae.inference import model_files
from duvae.project import files


def child(folder: Path, setting: str, attempt: int, how: str) -> int:
    """Forks a child process that trains the model, and returns the child's process id.

    Args:
        folder: Folder with params.yaml and prepared data.
        setting: Name of the setting to train.
        attempt: Number of children before this one. It decides whether and where the child kills itself.
        how: Way of killing.
    """
    process = os.fork()
    if process:
        return process
    os.chdir(folder)
    try:
        if how == "writing" and attempt < 4:
            die_writing(attempt)
        if how == "outputs" and attempt == 0:
            model_files.save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        train.run(config.load(), "synthetic", setting, 1)
    except BaseException as error:  # noqa: BLE001 (a child must never return into its parent's code)
        print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)


def die_writing(attempt: int) -> None:
    """Makes this process die while it writes a checkpoint, the one with number `attempt + 2`.

    The process cuts the temporary file of this checkpoint in half, and then kills itself. The file has not yet got its
    final name.
    """
    fsync, states = os.fsync, []

    def half(descriptor: int) -> None:
        states.append(descriptor)
        if len(states) == attempt + 2:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    files.os.fsync = half


def main(folder: Path, setting: str, seed: int, how: str, seconds: float) -> None:
    moments, killed = random.Random(seed), 0
    for attempt in range(50):
        started = time.monotonic()
        process = child(folder, setting, attempt, how)
        if how == "moments" and attempt < 4:
            time.sleep(moments.uniform(0.05, seconds))
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        elif os.waitstatus_to_exitcode(status) == 0:
            print(killed, time.monotonic() - started)
            return
        else:
            sys.exit("a child failed")
    sys.exit("no child reached the end")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5]))
