"""Lists the user's own files in a folder. No file is left out without a word, except hidden files."""

from collections.abc import Callable
from pathlib import Path

from duvae.errors import UserError
from duvae.paths import require_utf8, require_visible

DEEPEST = 16
"""Largest number of folders inside each other. A link to a folder further up would otherwise never end."""


def files_in(folder: Path, check: Callable[[Path], None] | None = None) -> list[Path]:
    """The sorted paths of all files in a folder and in the folders below it. Links to files and folders are followed.

    Hidden files and hidden folders, whose names begin with a dot, are left out.

    Args:
        folder: The folder to list.
        check: Function that raises an error for an unwanted file. It is called for each file before further folders are
            listed, so that a folder such as `/` is refused at once. None: all files are wanted.

    Returns:
        Paths of files, each beginning with `folder`.

    Raises:
        UserError: If a folder cannot be read, if a link has no target or leads back to a folder above it, or if
            something is neither a file nor a folder. Also if a name is not UTF-8 or has
            control characters.
    """
    files: list[Path] = []
    _list(folder, files, [], check)

    return sorted(files)


def _list(folder: Path, files: list[Path], above: list[Path], check: Callable[[Path], None] | None) -> None:
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
        require_visible(entry)
        if entry.is_dir():
            _list(entry, files, [*above, real], check)
        elif entry.is_file():
            if check is not None:
                check(entry)
            files.append(entry)
        elif entry.is_symlink() and not entry.exists():
            raise UserError(f"{entry}: a link to {entry.readlink()}, which does not exist. Mend or remove the link.")
        else:
            raise UserError(f"{entry}: expected a file or a folder; found neither. Remove it.")
