"""Works on a study in children that are killed, again and again, until one of them ends it.

Called with a folder that holds params.yaml and prepared data, a study, a seed, and how:

- `never`: nothing is killed;
- `moments`: SIGKILL at random moments;
- `measuring`: SIGKILL between the end of a training and its trial's end, for the first three trials;
- `pair`: two children at a time, the first of which is killed once, in the middle.

Imports once and forks, so that a child costs what it trains. Prints how many were killed.
"""

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

from duvae import config, search
from duvae.stages import search as stage


def child(folder: Path, study: str, how: str, attempt: int, worker: bool = False) -> int:
    """Forks a child that works on the study, and gives its process id."""
    process = os.fork()
    if process:
        return process
    os.chdir(folder)
    search.WAIT_SECONDS = 0.05
    try:
        if how == "measuring" and attempt < 3:
            search.importance_weighted_nll = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        stage.run(config.load(), study, worker=worker)
    except BaseException as error:  # noqa: BLE001 (a child must never come back into its parent's code)
        traceback.print_exception(error)
        os._exit(1)
    os._exit(0)


def wait(process: int) -> bool:
    """Whether a child was killed; one that failed ends everything."""
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status):
        sys.exit("a child failed")

    return False


def main(folder: Path, study: str, seed: int, how: str, seconds: float) -> None:
    moments, killed = random.Random(seed), 0
    if how == "pair":
        first, second = (child(folder, study, how, 0, worker=True) for _ in range(2))
        time.sleep(seconds)
        os.kill(first, signal.SIGKILL)
        killed += wait(first) + wait(second)
        how = "never"
    for attempt in range(30):
        process = child(folder, study, how, attempt)
        if how == "moments" and attempt < 5:
            time.sleep(moments.uniform(0.1, seconds))
            os.kill(process, signal.SIGKILL)
        if wait(process):
            killed += 1
        else:
            print(killed, flush=True)
            return
    sys.exit("no child reached the end")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5]))
