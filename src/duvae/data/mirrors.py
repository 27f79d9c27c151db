"""Checks the place of a mirror: a folder, or a URL, with copies of known files."""

from pathlib import Path
from urllib.parse import urlsplit

from duvae.errors import UserError


def is_url(mirror: str) -> bool:
    """Whether a mirror is a URL, not a folder."""
    return mirror.startswith(("http://", "https://"))


def check_mirror(mirror: str) -> None:
    """Checks that a mirror is a folder, or a URL with the name of a host.

    Raises:
        UserError: If the mirror is neither.
    """
    try:
        if Path(mirror).is_dir():
            return
        why = "no such folder exists"
    except OSError as error:  # such as a path that is too long
        why = str(error.strerror)
    if is_url(mirror):
        try:
            parts = urlsplit(mirror)
            if parts.hostname and parts.port != 0:
                return
            why = "it names no host"
        except ValueError as error:  # such as a port above 65535
            why = str(error)
    raise UserError(
        f"mirror {mirror[:200]}: expected a folder or a URL (http or https); {why}."
        " Correct --mirror or the environment variable DUVAE_MIRROR."
    )
