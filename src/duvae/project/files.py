"""Files that are either whole or not there."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from duvae.errors import UserError


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which takes its name once the body has ended well.

    Whatever interrupts the body, nothing half-written ever stands under the final name.

    Raises:
        UserError: Where it cannot be written, and why.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary)
        _open_to_others(temporary)  # mkstemp makes it private
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: yields a temporary one beside `path`, which takes its place once the body has ended well.

    Raises:
        UserError: Where it cannot be written, and why; what was there before is there again.
    """
    with scratch(path) as temporary:
        fresh, old = temporary / "new", temporary / "old"
        fresh.mkdir()
        try:
            yield fresh
        except UserError as error:  # of a file in it: the reader knows the folder by its own name
            raise type(error)(str(error).replace(str(fresh), str(path))) from error
        for file in fresh.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.is_dir():
            path.replace(old)
        try:
            fresh.replace(path)
        except OSError:
            if old.exists():
                old.replace(path)
            raise


@contextlib.contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`, which is gone once the body has ended.

    Raises:
        UserError: Where nothing can be written there, and why.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        yield temporary
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def require_writable(path: Path) -> None:
    """Finds out now whether `path` can be written, rather than after hours; leaves nothing.

    Raises:
        UserError: Where it cannot, and why.
    """
    try:
        there = next(parent for parent in path.parents if parent.exists())
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".part", dir=there).cleanup()
    except OSError as error:
        raise _unwritable(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path`, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def as_json(value: Any) -> str:
    """`value` as JSON with two-space indentation."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON, whole or not at all."""
    write_text(path, as_json(value))


def remove(path: Path) -> None:
    """Removes a file, or an empty folder, if it is there."""
    try:
        if path.is_dir():
            path.rmdir()
        elif path.exists() or path.is_symlink():
            path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def read_json(path: Path, made_by: str) -> Any:
    """Reads JSON; `made_by` is the command that makes the file, named when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. '{made_by}' makes it.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected JSON, but {error}. Delete it and run '{made_by}' again.") from error


def _sync(path: Path) -> None:
    """Waits until the file is on the disk, where a full one shows at the latest."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _open_to_others(path: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _unwritable(path: Path, error: OSError) -> UserError:
    """What is said of a path that cannot be written."""
    blocking = next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), None)
    why = f"{blocking} is a file" if blocking else error.strerror or str(error)

    return UserError(
        f"{path}: cannot be written ({why}). Expected a folder that may be written to, on a disk with space left."
        " Nothing half-written was left behind; mend that and run the same command again."
    )
