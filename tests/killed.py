"""Trains a model in child processes that are killed one after the other, until one child finishes the training.

The script reads one request from each line of its standard input: a JSON list with the name of a setting in params.yaml
and then one pair for each training, a folder with params.yaml and prepared data, and a way of killing. There are four
ways:

- `never`: no child is killed;
- `moments`: the script sends SIGKILL to a child at a random moment within a quarter of the time that the training of
  the first pair took;
- `writing`: a child kills itself in the middle of writing a checkpoint;
- `outputs`: a child kills itself between the last epoch and the first output of the training.

It answers with one line: a JSON list with the number of killed children of each training. The script imports all
modules once and then forks, so that a child spends its time on the training alone.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo  # the first optimizer of a process imports it, which takes seconds

from duvae import config
from duvae.commands import train
from duvae.inference import model_files
from duvae.project import files
from duvae.project.fingerprint import of_this_process


def child(folder: Path, params: config.Params, setting: str, attempt: int, how: str) -> int:
    """Forks a child process that trains the model, and returns the child's process id.

    Args:
        folder: Folder with prepared data.
        params: The parameters.
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
        train.run(params, "synthetic", setting, 1)
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


def train_and_kill(folder: Path, setting: str, how: str, seconds: float) -> int:
    """Trains in children until one reaches the end; returns how many were killed.

    Args:
        folder: Folder with params.yaml and prepared data.
        setting: Name of the setting to train.
        how: Way of killing.
        seconds: Longest time before a kill at a random moment.
    """
    params, moments, killed = config.load(folder / "params.yaml"), random.Random(1), 0
    of_this_process("train", params.setting(setting).system)  # kept, so that no child computes it again
    for attempt in range(50):
        process = child(folder, params, setting, attempt, how)
        if how == "moments" and attempt < 4:
            time.sleep(moments.uniform(0.05, seconds))
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        elif os.waitstatus_to_exitcode(status) == 0:
            return killed
        else:
            sys.exit("a child failed")
    sys.exit("no child reached the end")


def answer(setting: str, trainings: list[tuple[str, str]]) -> list[int]:
    """Trains, and returns how many children of each training were killed.

    Args:
        setting: Name of the setting to train.
        trainings: Folder and way of killing of each training.
    """
    seconds, counts = None, []
    for folder, how in trainings:
        started = time.monotonic()
        counts.append(train_and_kill(Path(folder), setting, how, (seconds or 4.0) / 4))
        seconds = seconds or time.monotonic() - started

    return counts


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(request[0], request[1:])), flush=True)
