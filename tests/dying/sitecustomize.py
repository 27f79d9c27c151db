"""On PYTHONPATH, makes one process of a rebuild die in the middle of a write; `torture.py` says which, by a file.

DUVAE_DYING names that file: what to die of, at which write, and a token that the first to die takes.
"""

import json
import os
import signal
import sys


def arm(order: dict[str, object]) -> None:
    """Dies half-way through writing a training's state, or dvc.lock."""
    seen = []

    def die(path: int | str, size: int) -> None:
        seen.append(path)
        if len(seen) != order["write"]:
            return
        try:
            os.close(os.open(str(order["token"]), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.truncate(path, size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    entering = order["how"] == "lock" and "pipelines.lockfile" in sys.orig_argv
    if entering or (order["how"] == "checkpoint" and "train" in sys.orig_argv):
        fsync = os.fsync

        def half(descriptor: int) -> None:
            die(descriptor, os.fstat(descriptor).st_size)
            fsync(descriptor)

        os.fsync = half

    if order["how"] == "lock" and "repro" in sys.orig_argv:

        def heard(event: str, arguments: tuple[object, ...]) -> None:
            if event != "open" or not isinstance(arguments[0], str) or not arguments[0].endswith("dvc.lock"):
                return
            flags = arguments[2]
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) and os.path.exists(arguments[0]):  # noqa: PTH110
                die(arguments[0], os.stat(arguments[0]).st_size)  # noqa: PTH116

        sys.addaudithook(heard)


if "DUVAE_DYING" in os.environ:
    with open(os.environ["DUVAE_DYING"]) as file:  # noqa: PTH123
        arm(json.load(file))
