"""Kills one process of a rebuild in the middle of a write, where this folder is on PYTHONPATH.

`torture.py` writes a file that says which process; the environment variable DUVAE_DYING names the file. It holds the
kind of file to truncate, the number of the write, and the path of a token: only the process that creates it dies.
"""

import json
import os
import signal
import sys


def arm(order: dict[str, object]) -> None:
    """Prepares this process to die half-way through a write of a training's state, or of dvc.lock.

    Args:
        order: The content of the file that DUVAE_DYING names.
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
