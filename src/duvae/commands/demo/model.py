"""The stages of one model of a demonstration, which run in a process of their own: train, evaluate, samples.

The process that shows the results starts this one, and reads its messages. The standard input of this process is a
pipe whose other end only that process holds. So this process ends if that one was killed.
"""

import importlib
import os
import signal
import sys
import threading
from pathlib import Path

from duvae import streams
from duvae.config import Job, Params
from duvae.errors import UserError
from duvae.project import leftovers

WORK = {"evaluate": "measures NLL, KL, MI and the use of z", "samples": "decodes sentences"}
"""What a stage does, for a message. The stage `train` has messages of its own."""


def run(params: Params, name: str, root: Path) -> None:
    """Runs the stages of one model that have not run yet.

    Args:
        params: All parameters of the demonstration.
        name: Name of the job, such as `demo-vae-1`.
        root: Folder of the demonstration.

    Raises:
        Interrupted: If a signal stops the training. Its state has been saved.
        UserError: If there is no such job, or if a stage fails.
    """
    jobs = {job.name: job for job in params.run_jobs()}
    if name not in jobs:
        raise UserError(f"--model {name!r}: expected one of {', '.join(jobs)}.")
    threading.Thread(target=_end_with_caller, daemon=True).start()
    for stage in waiting(jobs[name], root):
        if stage in WORK:
            streams.say(f"{name}: {WORK[stage]}")
        arguments = (params, jobs[name].dataset, jobs[name].setting, jobs[name].seed, root)
        if stage == "train":
            with leftovers.training(name, root):
                importlib.import_module("duvae.commands.train").run(*arguments)
        else:
            importlib.import_module(f"duvae.commands.{stage}").run(*arguments)


def waiting(job: Job, root: Path) -> list[str]:
    """The stages of a model from the first one without a record on. Each stage writes its record last.

    Args:
        job: Data set, setting and seed of the model.
        root: Folder of the demonstration.
    """
    results = root / "results" / job.folder
    records = {
        "train": results / "train.run.json",
        "evaluate": results / "evaluate.run.json",
        "samples": results.parent / "samples" / f"{job.seed}.run.json",
    }
    stages = list(records)
    first = next((place for place, stage in enumerate(stages) if not records[stage].exists()), len(stages))

    return stages[first:]


def _end_with_caller() -> None:
    """Waits until the process that has started this one closes the pipe or ends, and then interrupts this one."""
    while os.read(sys.stdin.fileno(), 1):  # without the lock of `sys.stdin`, which Python needs at its end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
