"""Lists the user's own files in a folder. No file is left out without a word, except hidden files."""

import os
from pathlib import Path

from duvae.errors import UserError

DEEPEST = 16
"""Largest number of folders inside each other. A link to a folder further up would otherwise never end."""


def files_in(folder: Path) -> list[Path]:
    """The sorted paths of all files in a folder and in the folders below it. Links to files and folders are followed.

    Hidden files and hidden folders, whose names begin with a dot, are left out.

    Args:
        folder: The folder to list.

    Returns:
        Paths of files, each beginning with `folder`.

    Raises:
        UserError: If a folder cannot be read, if a link has no target or leads back to a folder above it, or if
            something is neither a file nor a folder. Also if a name is not UTF-8.
    """
    files: list[Path] = []
    _list(folder, files, [])

    return sorted(files)


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


def _list(folder: Path, files: list[Path], above: list[Path]) -> None:
    """Adds the files below a folder to `files`. `above` has the real paths of the folders around this folder."""
    real = folder.resolve()
    if real in above:
        raise UserError(f"{folder}: a link that leads back to {real}, a folder above it. Remove the link.")
    if len(above) == DEEPEST:
        raise UserError(f"{folder}: expected at most {DEEPEST} folders inside each other. Move the files up.")
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}). Make the folder readable.") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        require_utf8(entry)
        if entry.is_dir():
            _list(entry, files, [*above, real])
        elif entry.is_file():
            files.append(entry)
        elif entry.is_symlink():
            raise UserError(f"{entry}: a link to {entry.readlink()}, which does not exist. Mend or remove the link.")
        else:
            raise UserError(f"{entry}: expected a file or a folder; found neither. Remove it.")
