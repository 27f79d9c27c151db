"""Writes files and folders completely or not at all, even if the command is interrupted.

Each file or folder is written under a temporary name on the same disk, flushed to the disk, and then renamed.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from duvae.errors import UserError

_LEFT = "The unfinished {} could not be removed: delete it."


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Writes a file completely or not at all.

    Args:
        path: The final path; missing parent folders are created.

    Yields:
        A temporary file beside `path`, which is renamed to `path` at the end of the `with` block. After an exception,
        the temporary file is removed.

    Raises:
        UserError: If the file cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary)
        _set_default_permissions(temporary)  # only the owner can read a file of mkstemp
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error, temporary) from error
    except UserError as error:
        if _discard(temporary):
            raise
        raise type(error)(f"{error} {_LEFT.format(temporary)}") from error
    finally:
        _discard(temporary)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Writes a folder completely or not at all.

    Args:
        path: The final path; an existing folder is replaced.

    Yields:
        A temporary folder beside `path`, which is renamed to `path` at the end of the `with` block. After an exception,
        the temporary folder is removed, and an existing folder at `path` is unchanged.

    Raises:
        UserError: If the folder cannot be written.
    """
    with scratch(path) as temporary:
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        try:
            yield new
        except UserError as error:  # the user knows the folder only by its final name
            raise type(error)(str(error).replace(str(new), str(path))) from error
        for file in new.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.is_dir():
            path.replace(old)
        try:
            new.replace(path)
        except OSError:
            if old.exists():
                old.replace(path)
            raise


@contextlib.contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Creates a temporary folder, and removes it at the end of the `with` block.

    Args:
        path: The path beside which the temporary folder is created, so that the folder is on the same disk as `path`.

    Yields:
        The temporary folder.

    Raises:
        UserError: If the folder cannot be created.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        yield temporary
    except OSError as error:
        raise _unwritable(path, error, temporary) from error
    except UserError as error:
        if _discard(temporary):
            raise
        raise type(error)(f"{error} {_LEFT.format(temporary)}") from error
    finally:
        _discard(temporary)


def require_writable(path: Path) -> None:
    """Checks that a file or folder can be created at a path, so that a command does not fail after hours of work.

    The check creates a temporary folder and removes it.

    Args:
        path: The path to check.

    Raises:
        UserError: If no file or folder can be created at the path.
    """
    try:
        parent = next(parent for parent in path.parents if parent.exists())
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".part", dir=parent).cleanup()
    except OSError as error:
        raise _unwritable(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, completely or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_digest(path: Path) -> str:
    """Computes the BLAKE2b hash of a file, as 32 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def as_json(value: Any) -> str:
    """Converts a value to JSON text, indented by two spaces.

    Raises:
        ValueError: If the value holds NaN or an infinity, which JSON does not have.
    """
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON in the form of `as_json`, completely or not at all."""
    write_text(path, as_json(value))


def remove(path: Path) -> None:
    """Removes a file or an empty folder, if it exists.

    Raises:
        UserError: If the file or folder cannot be removed.
    """
    try:
        if path.is_dir():
            path.rmdir()
        elif path.exists() or path.is_symlink():
            path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def read_json(path: Path, made_by: str) -> Any:
    """Reads a JSON file.

    Args:
        path: The file to read.
        made_by: The command that writes the file, which error messages name.

    Returns:
        The content of the file.

    Raises:
        UserError: If the file is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. '{made_by}' makes it.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected JSON, but {error}. Delete it and run '{made_by}' again.") from error


def _sync(path: Path) -> None:
    """Waits until the content of a file is on the disk. If the disk is full, this raises the error."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _set_default_permissions(path: Path) -> None:
    """Gives a file the permissions that a newly created file of this user would have."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _discard(temporary: Path | None) -> bool:
    """Removes a temporary file or folder. Returns whether it is gone; a disk that fails may keep it."""
    if temporary is None:
        return True
    try:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        return not temporary.exists()
    except OSError:
        return False


def _unwritable(path: Path, error: OSError, temporary: Path | None = None) -> UserError:
    """Builds the error for a path that cannot be written, and removes its temporary file or folder.

    Args:
        path: Path of the file or folder that could not be written.
        error: The error of the operating system.
        temporary: The temporary file or folder; None: it was not created.
    """
    file = next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), None)
    why = f"{file} is a file" if file else error.strerror or str(error)
    left = "No unfinished file was left behind." if _discard(temporary) else _LEFT.format(temporary)

    return UserError(
        f"{path}: cannot be written ({why}). Expected a folder with write permission, on a disk with free space."
        f" {left} Correct this, then run the same command again."
    )
