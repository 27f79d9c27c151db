"""Ends a command in an orderly way after Ctrl-C, SIGTERM, or SIGHUP, which a closed terminal sends."""

import signal
import sys
from types import FrameType
from typing import NoReturn

from duvae import streams

_received: list[int] = []
"""Numbers of the signals that have interrupted this process, in order."""


def handled() -> list[signal.Signals]:
    """The signals that end a command in an orderly way.

    If SIGHUP is ignored, the command shall survive the end of its terminal: `nohup` started it.
    """
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN

    return [signal.SIGINT, signal.SIGTERM, *([] if nohup else [signal.SIGHUP])]


def install() -> None:
    """Makes each of these signals raise KeyboardInterrupt, even SIGINT in a background process of a shell."""
    for number in handled():
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt. From now on, only Ctrl-C can interrupt the process again.

    A closed terminal often sends SIGHUP twice. The second one must not disturb the clean-up after the first.
    """
    for later in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(later, signal.SIG_IGN)
    _received.append(number)
    raise KeyboardInterrupt


def was_interrupted() -> bool:
    """Whether a signal has interrupted this process."""
    return bool(_received)


def exit_status() -> int:
    """The exit status after an interruption, as shells count: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def leave() -> NoReturn:
    """Ends this process after an interruption. What can no longer be written is dropped: the terminal may be gone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            streams.discard(stream)
    sys.exit(exit_status())
