"""Checks of paths that a user gives: their encoding and their length."""

import os
import re
import stat
from pathlib import Path

from duvae.errors import UserError

LONGEST_PATH, LONGEST_PART = 1_000, 200
"""Largest numbers of bytes of a path, and of one name in it.

File systems allow 4,096 and 255 bytes, but the project also writes files with longer names, such as temporary ones.
"""

_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def shown_path(path: Path | str) -> str:
    r"""A path as text that can always be printed. A byte that is not UTF-8 is shown as `\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def require_utf8(path: Path | str) -> None:
    """Checks that a path is UTF-8, since results name files in UTF-8.

    Raises:
        UserError: If the path has bytes that are not UTF-8.
    """
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{shown_path(path)}: expected a name in UTF-8; found bytes of another encoding. Rename it."
        ) from error


def require_visible(path: Path) -> None:
    """Checks that a name has no control characters and none that change the direction of writing.

    Such a name stands in messages, pages and lists of classes, and would break a line or hide its own end there.

    Raises:
        UserError: If the last part of the path has such a character.
    """
    if _INVISIBLE.search(path.name):
        raise UserError(
            f"{shown_path(path.parent)}: expected names without control characters; found {path.name[:60]!a}."
            " Rename it."
        )


def require_no_device(path: Path) -> None:
    """Checks that a path is no device, since reading `/dev/zero` would never end.

    Raises:
        OSError: If the path does not exist.
        UserError: If the path is a device.
    """
    mode = path.stat().st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise UserError(f"{shown_path(path)}: expected a file; found a device. Give the path of a file.")
