"""Errors that end a command with a message instead of a traceback."""


class UserError(Exception):
    """An error that the user can correct; the command line prints its message and exits with 2.

    The message says what is wrong, where, what was expected, and what to do.
    """


TEMPORARY_FAILURE = 75
"""Exit status of a failure that may pass; sysexits.h calls it EX_TEMPFAIL."""


class TemporaryError(UserError):
    """A failure that may pass, such as a host that does not answer; the exit status is `TEMPORARY_FAILURE`."""


class Interrupted(Exception):
    """The user asked for a stop, and the command stopped without loss; the command line exits with 130.

    The message says where the command stopped, and how to resume it.
    """
