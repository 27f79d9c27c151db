"""Errors that end a command with a message instead of a traceback."""


class UserError(Exception):
    """An error that the user can correct. The command line prints the message of the error and exits with status 2.

    The message says what is wrong and where it is wrong, what was expected, and what the user should do.
    """


TEMPORARY_FAILURE = 75
"""Exit status of a failure that may end by itself. The C header sysexits.h calls this status EX_TEMPFAIL."""


class TemporaryError(UserError):
    """A failure that may end by itself, such as a host that does not answer. Its exit status is `TEMPORARY_FAILURE`."""


class Interrupted(Exception):
    """The user asked for a stop, and the command stopped without loss of work. The command line exits with status 130.

    The message says where the command stopped, and how to resume it.
    """
