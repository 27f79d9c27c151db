"""What the user can mend, said in words."""


class UserError(Exception):
    """A user's mistake: the command line prints it and exits with 2, without a traceback.

    Its text says what was wrong, where, what was expected and what to do.
    """


PASSING = 75
"""The exit status of what may end well at another time; sysexits.h calls it a temporary failure."""


class Passing(UserError):
    """What nobody has to mend: a host did not answer. The command line ends with `PASSING`."""


class Interrupted(Exception):
    """The user asked for a stop, and it was made where nothing is lost: the command line prints it and exits with 130.

    Its text says where, and what goes on from there.
    """
