"""Works on studies in child processes that are killed, until one child ends each study.

The argument is a JSON list of entries: a folder with params.yaml and prepared data, a study, a way of killing, and
seconds. There are two ways:

- `one`: one child at a time; two are killed at random moments, and two between the end of a training and of its trial;
- `two`: two children in parallel; the first is killed once, in the middle.

Moments are CPU seconds of the child, so that a busy machine does not move them. The script imports everything once and
forks, so that a child only costs its training. It prints the number of killed children for each entry.
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
from duvae.search import study as studies
from duvae.search import trial


def child(folder: Path, study: str, seconds: float | None = None, measuring: bool = False, worker: bool = False) -> int:
    """Forks a child that works on the study, and is killed after `seconds` if given; returns its process id."""
    process = os.fork()
    if process:
        return process
    os.chdir(folder)
    studies.WAIT_SECONDS = 0.05
    try:
        if measuring:
            trial.importance_weighted_nll = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        if seconds is not None:
            signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF, which nobody handles, ends a process
        stage.run(config.load(), study, worker=worker)
    except BaseException as error:  # noqa: BLE001 (a child must never come back into its parent's code)
        traceback.print_exception(error)
        os._exit(1)
    os._exit(0)


def killed(process: int) -> bool:
    """Waits for a child, and returns whether it was killed. A child that failed ends the script."""
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status):
        sys.exit("a child failed")

    return False


def work(folder: Path, study: str, how: str, seconds: float) -> int:
    """Number of children that were killed before one ended the study."""
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
