"""Remembers the digests of the files that `duvae fetch` wrote, and checks them when `duvae prepare` reads the files."""

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from duvae.config import path_in_folder
from duvae.data import sources
from duvae.data.fetching import Fetched
from duvae.errors import UserError
from duvae.project.files import read_json, write_json

FILE = "duvae-fetched.json"
"""The file in data/raw/<data set> with the SHA-256 digest of each fetched file, by the path that params.yaml names."""


def write(folder: Path, files: Sequence[Fetched]) -> Path:
    """Writes the digests of the fetched files.

    Args:
        folder: Folder of the data set in data/raw.
        files: The fetched files of this data set, each with its path in the folder and its SHA-256 digest.

    Returns:
        The path of the written file.

    Raises:
        UserError: If a file of the user has the same path, or if the file cannot be written.
    """
    if any(path_in_folder(file.path) == PurePosixPath(FILE) for file in files):
        raise UserError(f"{FILE}: this name is taken by the digests of the fetched files. Rename your file.")
    write_json(folder / FILE, {file.path: file.sha256 for file in files})

    return folder / FILE


def check(folder: Path, root: Path) -> None:
    """Checks that the fetched files, and the user's own files behind them, are those that `duvae fetch` read.

    A data set without the file of digests is not checked: an earlier version has fetched it.

    Args:
        folder: Folder of the data set in data/raw.
        root: Folder of the project, from which paths of the user's own files start.

    Raises:
        UserError: If a fetched file is missing, cannot be read or has changed. Also if a file of the user has changed
            since it was copied. A file of the user that is not there any more is not reported.
    """
    command = f"duvae fetch --dataset {folder.name}"
    path = folder / FILE
    if not path.exists():
        return
    digests = read_json(path, command)
    if not isinstance(digests, dict):
        raise UserError(f"{path}: expected the digests of the fetched files. Run '{command}' again.")
    for name, digest in digests.items():
        copy, own = folder / path_in_folder(name), root / name
        if not copy.is_file():
            raise UserError(f"{copy}: not there, though {path} lists it. Run '{command}' again.")
        if _digest(copy, command) != digest:
            raise UserError(
                f"{copy}: has changed since '{command}' wrote it (its digest is not the one in {FILE}). Run '{command}'"
                " again."
            )
        if name not in sources.SOURCES and own.is_file() and _digest(own, command) != digest:
            raise UserError(
                f"{own}: has changed since '{command}' copied it. Run '{command}' again, which copies it anew."
            )


def _digest(path: Path, command: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Mend it, then run '{command}' again.") from error
