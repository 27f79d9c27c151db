"""Errors that end a command with a message instead of a traceback."""

import errno
import os
import re
import sys
from collections.abc import Iterator

USER_ERROR = 2
"""Exit status after an error that the user can correct, such as a mistake in params.yaml."""

HOST_UNAVAILABLE = 69
"""Exit status if another machine did not answer. The C header sysexits.h calls this status EX_UNAVAILABLE."""

OUT_OF_MEMORY = 71
"""Exit status if the memory of the device or of the machine ran out. sysexits.h calls this status EX_OSERR."""

DEVICE_LOST = 75
"""Exit status if a GPU cannot be used or was lost. The same command may succeed later, or on another device.

The header sysexits.h calls this status EX_TEMPFAIL.
"""

_ABOUT_FILES = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE),
}
"""Numbers of the system's errors that come from a disk, its permissions or its folders, not from the program."""

_PASSWORD = re.compile(r"(?<=://)([^\s:/@]*):(?!\d{1,5}(?:/|\s|$))\S*@")
"""The user and the password of a URL. A number of a port, as in `http://localhost:80/name@x`, is no password."""


def without_passwords(text: str) -> str:
    """Leaves the passwords of all URLs out of a text, which may end in a log or in a report of an error."""
    return _PASSWORD.sub(r"\1@", text)


class UserError(Exception):
    """An error that the user can correct. The command line prints the message of the error and exits with status 2.

    The message says what is wrong and where it is wrong, what was expected, and what the user should do. It never shows
    the password of a URL.

    Attributes:
        status: Exit status of a command that ends with this error.
    """

    status = USER_ERROR

    def __str__(self) -> str:
        return without_passwords(super().__str__())


class TemporaryError(UserError):
    """A failure that may end by itself, such as a host that does not answer. Its exit status is `HOST_UNAVAILABLE`."""

    status = HOST_UNAVAILABLE


class DeviceLostError(UserError):
    """The process was given a GPU that it cannot use. Its exit status is `DEVICE_LOST`."""

    status = DEVICE_LOST


class Interrupted(Exception):
    """The user asked for a stop, and the command stopped without loss of work. The command line exits with status 130.

    The message says where the command stopped, and how to resume it.
    """


def as_user_error(error: OSError) -> UserError | None:
    """Turns an error of the operating system about a file into an error that the user can correct.

    Commands check the files that they read and write. This function is for all other files, such as those of a folder
    that this user may not open.

    Args:
        error: The error of the operating system.

    Returns:
        The error that names the file; None if the user cannot correct the error, for example a missing file.
    """
    if error.errno not in _ABOUT_FILES:
        return None
    name = "a file" if error.filename is None else os.fsencode(str(error.filename)).decode("utf-8", "backslashreplace")
    if error.errno == errno.ENAMETOOLONG:
        return UserError(f"{name[:100]}…: expected a shorter path. Correct the argument.")

    return UserError(
        f"{name}: cannot be read or written ({error.strerror}). Expected files and folders that you may read and write,"
        " on a disk with free space. Correct this, then run the same command again."
    )


_FULL = (
    *("CUDA out of memory", "CUDA error: out of memory", "can't allocate memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED"),
    *("CUDNN_STATUS_ALLOC_FAILED", "CUDNN_STATUS_NOT_INITIALIZED"),
)
"""Parts of the messages with which PyTorch says that memory ran out.

The libraries cuBLAS and cuDNN report NOT_INITIALIZED if a full GPU leaves them no memory for their own tables.
"""

_LOST = (
    *("no CUDA-capable device", "No CUDA GPUs are available", "invalid device ordinal", "GPU is lost"),
    *("fallen off the bus", "busy or unavailable", "Found no NVIDIA driver", "unspecified launch failure"),
    *("uncorrectable ECC error", "uncorrectable NVLink error", "hardware error", "CUDA error: unknown error"),
    *("CUDA error: initialization error", "system not yet initialized", "OS call failed or operation not supported"),
    *("Unexpected error from cudaGetDeviceCount", "Torch not compiled with CUDA enabled"),
)
"""Parts of the messages with which CUDA and PyTorch say that a GPU is gone, broken or busy.

All other errors of CUDA count as errors of the program, such as `device-side assert triggered` or `an illegal memory
access was encountered`: they ruin the process but not the GPU, and come again in the next attempt.
"""


def failure_status(error: BaseException) -> int | None:
    """The exit status for an error of a device or of the memory.

    The error itself decides, or else the errors that led to it.

    Args:
        error: The error that ends a command.

    Returns:
        `OUT_OF_MEMORY` or `DEVICE_LOST`; None after all other errors, which are errors of the program.
    """
    for each in _chain(error):
        if isinstance(each, MemoryError):
            return OUT_OF_MEMORY
        torch = sys.modules.get("torch")  # without torch, no error can come from a GPU
        if torch is None or not (isinstance(each, RuntimeError) or type(each).__module__.startswith("torch")):
            continue
        # Only the first line says what happened: each error of CUDA goes on with advice about device-side assertions.
        message = str(each).partition("\n")[0]
        if isinstance(each, getattr(torch, "OutOfMemoryError", ())) or any(part in message for part in _FULL):
            return OUT_OF_MEMORY
        if any(part in message for part in _LOST):
            return DEVICE_LOST

    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error, then the errors that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
