"""Kills one process of a rebuild in the middle of a write.

Python imports this module at the start of every process whose PYTHONPATH includes this folder. `torture.py` writes an
order into a JSON file, and puts the path of this file into the environment variable DUVAE_DYING. The order has three
keys:

- `how`: `lock` to truncate dvc.lock, or `checkpoint` to truncate the checkpoint of a training;
- `write`: the number of the write that is cut, counted from 1 in each process;
- `token`: the path of a file that a process must create before it dies. Only one process can create it, so only one
  dies.
"""

import json
import os
import signal
import sys


def arm(order: dict[str, object]) -> None:
    """Makes this process die half-way through a write of a training's checkpoint or of dvc.lock.

    Args:
        order: The content of the file that DUVAE_DYING names, as the module's docstring describes it.
    """
    writes = []

    def die(path: int | str, size: int) -> None:
        writes.append(path)
        if len(writes) != order["write"]:
            return
        try:
            os.close(os.open(str(order["token"]), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.truncate(path, size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    lockfile = order["how"] == "lock" and "pipelines.lockfile" in sys.orig_argv
    if lockfile or (order["how"] == "checkpoint" and "train" in sys.orig_argv):
        fsync = os.fsync

        def half_written_fsync(descriptor: int) -> None:
            die(descriptor, os.fstat(descriptor).st_size)
            fsync(descriptor)

        os.fsync = half_written_fsync

    if order["how"] == "lock" and "repro" in sys.orig_argv:

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event != "open" or not isinstance(arguments[0], str) or not arguments[0].endswith("dvc.lock"):
                return
            flags = arguments[2]
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) and os.path.exists(arguments[0]):  # noqa: PTH110
                die(arguments[0], os.stat(arguments[0]).st_size)  # noqa: PTH116

        sys.addaudithook(hook)


if "DUVAE_DYING" in os.environ:
    with open(os.environ["DUVAE_DYING"]) as file:  # noqa: PTH123
        arm(json.load(file))
