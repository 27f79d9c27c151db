"""Errors that end a command with a message instead of a traceback."""

import errno
import os
import re

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
    """

    def __str__(self) -> str:
        return without_passwords(super().__str__())


TEMPORARY_FAILURE = 75
"""Exit status of a failure that may end by itself. The C header sysexits.h calls this status EX_TEMPFAIL."""


class TemporaryError(UserError):
    """A failure that may end by itself, such as a host that does not answer. Its exit status is `TEMPORARY_FAILURE`."""


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
