"""The kinds of failures of a task, and what the rebuild does after each of them.

A task is one stage that a rebuild runs on one device. Its exit status tells the kind; `duvae.errors` defines the
statuses.
"""

import signal
from enum import Enum

from duvae.errors import DEVICE_LOST, HOST_UNAVAILABLE, OUT_OF_MEMORY

KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Exit statuses of a command that SIGKILL ended, most often because the system had no memory left."""


class Failure(Enum):
    """The kinds of failures of a task. Each value is an explanation of the kind, for messages."""

    FINAL = ""
    """An error of the program or of the user. It would come again, so the task is not tried again."""

    TEMPORARY = "temporary: a host did not answer"
    """Another machine did not answer. The task is tried again later."""

    KILLED = "it was killed, most often because memory ran out"
    """The process was killed. The task is tried again later."""

    MEMORY = "memory ran out"
    """The memory of the device or of the machine ran out. The task is tried once more, alone on its device."""

    DEVICE = "its GPU was lost or cannot be used"
    """The GPU was lost. The task is tried again later, and the failure counts against the GPU."""

    @property
    def may_pass(self) -> bool:
        """Whether the same task may succeed later, or on another device."""
        return self in {Failure.TEMPORARY, Failure.KILLED, Failure.DEVICE}


def of_exit_status(status: int | None) -> Failure:
    """The kind of failure that an exit status tells.

    Args:
        status: Exit status of a command of `duvae`; None: no command ended, since something else failed.
    """
    kinds = {
        HOST_UNAVAILABLE: Failure.TEMPORARY,
        OUT_OF_MEMORY: Failure.MEMORY,
        DEVICE_LOST: Failure.DEVICE,
        **dict.fromkeys(KILLED, Failure.KILLED),
    }

    return Failure.FINAL if status is None else kinds.get(status, Failure.FINAL)


class TaskFailedError(Exception):
    """Error of a task that failed.

    Attributes:
        stage: Name of the stage.
        reason: Cause of the failure, in words.
        failure: Kind of the failure.
        log: The last lines of the task's log.
    """

    def __init__(self, stage: str, reason: str, failure: Failure = Failure.FINAL, log: str = "") -> None:
        super().__init__(stage, reason, failure, log)
        self.stage, self.reason, self.failure, self.log = stage, reason, failure, log

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"
