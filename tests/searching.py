"""Runs hyperparameter studies in child processes that are killed, until one child finishes each study.

The script's argument is a JSON list of lists. Each inner list has four values: a folder with params.yaml and prepared
data, the name of a study, a way of killing, and a number of seconds. There are two ways:

- `one`: One child runs at a time. Two children are killed at random moments. Two more kill themselves after the
  training of a trial, before the trial ends.
- `two`: Two children run in parallel, and the first is killed after the given seconds.

The seconds are CPU time of the child, so that a kill hits the same work on a busy machine. The script imports all
modules once and then forks, so that a child spends its time on the study alone. It prints the number of killed
children for each inner list.
"""

import json
import os
import random
import signal
import sys
import traceback
from pathlib import Path

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 (otherwise each child imports it)
import torch

from duvae import config
from duvae.commands import search as stage
from duvae.search import one_seed
from duvae.search import study as studies


def child(folder: Path, study: str, seconds: float | None = None, measuring: bool = False, worker: bool = False) -> int:
    """Forks a child process that works on a study, and returns the child's process id.

    Args:
        folder: Folder with params.yaml and prepared data.
        study: Name of the study.
        seconds: CPU seconds after which the child is killed. None: it is not.
        measuring: Whether the child kills itself when it starts to measure the NLL of a trained model.
        worker: Whether the child is one of several workers on the study.
    """
    process = os.fork()
    if process:
        return process
    os.chdir(folder)
    studies.WAIT_SECONDS = 0.05
    try:
        if measuring:
            one_seed.importance_weighted_nll = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        if seconds is not None:
            signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF, which nobody handles, ends a process
        stage.run(config.load(), study, worker=worker)
    except BaseException as error:  # noqa: BLE001 (a child must never come back into its parent's code)
        traceback.print_exception(error)
        os._exit(1)
    os._exit(0)


def killed(process: int) -> bool:
    """Waits until a child ends, and returns whether it was killed. If the child failed, the script ends."""
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status):
        sys.exit("a child failed")

    return False


def work(folder: Path, study: str, how: str, seconds: float) -> int:
    """Starts and kills children as `how` says, then lets one child finish the study. Returns the number of kills."""
    moments, count = random.Random(1), 0
    if how == "one":
        count += sum([killed(child(folder, study, moments.uniform(0.1, 1.0) * seconds)) for _ in range(2)])
        count += sum([killed(child(folder, study, measuring=True)) for _ in range(2)])
    else:
        pair = [child(folder, study, seconds, worker=True), child(folder, study, worker=True)]
        count += sum([killed(process) for process in pair])
    if killed(child(folder, study)):
        sys.exit("no child reached the end")

    return count


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps([work(Path(folder), *others) for folder, *others in json.loads(sys.argv[1])]), flush=True)
