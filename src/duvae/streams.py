"""Writes messages to standard error, and drops what can no longer be written anywhere.

A terminal may be gone, and a disk may be full. When Python ends, it writes the rest of each stream once more. If this
fails, it changes the exit status. So a stream that cannot be written leads to the null device from then on.
"""

import contextlib
import os
import sys
from typing import TextIO

from duvae.errors import UserError


def say(message: str) -> None:
    """Writes a message to standard error. If this fails, the exit status alone tells what happened."""
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def print_error(error: UserError) -> None:
    """Writes an error that the user can correct. Further lines of its message are indented."""
    first, *more = str(error).splitlines()
    say("\n       ".join([f"error: {first}", *more]))


def discard(stream: TextIO) -> None:
    """Leads a stream to the null device, with all that it has not written yet."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
