"""Creates MLflow's local store, the SQLite file mlflow.db, completely or not at all.

MLflow itself creates the file in place, in some fifty steps. If it is killed meanwhile, the file stays half-made, and
no later command can use it. If two processes create it at once, one of them fails. So this module creates the file
under another name, while it holds a lock, and then renames it.
"""

import os
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import psutil
from filelock import FileLock, Timeout

from duvae.errors import UserError
from duvae.project.files import require_writable

FILE = "mlflow.db"
FILLING_LOCK = "mlflow.db.track.lock"
"""File that a process locks while it brings the store's runs up to date."""

PATIENCE = 120.0
"""Seconds to wait for another process that creates the store. Creating takes about ten seconds on a busy machine."""

LOCKED = 60.0
"""Seconds to wait for another process that writes to the store."""

State = Literal["missing", "half-made", "complete", "of another version"]

MADE: tuple[State, ...] = ("missing", "half-made")
"""The states in which `require` creates the store."""


def require(root: Path) -> Path:
    """Creates the store if it is missing or half-made.

    Args:
        root: Folder of the project.

    Returns:
        The path of the store. A store that another version of MLflow made, and that has runs, stays as it is. If
        `mlflow.db` is a link, this is the path that it leads to.

    Raises:
        UserError: If another process keeps the lock for too long.
        OSError, sqlite3.Error: If the store cannot be read or written.
    """
    return require_at((root / FILE).resolve())


def require_at(path: Path) -> Path:
    """Creates the store at a path if it is missing or half-made; see `require`."""
    if state(path) not in MADE:
        return path
    try:
        with FileLock(path.with_name(f"{path.name}.lock"), timeout=PATIENCE):
            _wait_for_users(path)
            if state(path) in MADE:
                _create(path)
    except Timeout as error:
        raise UserError(
            f"{path}: another process has been creating MLflow's store for {PATIENCE:.0f} seconds. Wait until it has"
            f" ended. If there is no such process, delete {path.name}.lock there. Then run the same command again."
        ) from error

    return path


@contextmanager
def filled_by_one(root: Path) -> Iterator[None]:
    """Waits until no other process brings the runs of the local store up to date, and keeps others out of the block.

    Two such processes at once would each write a run of the same job.

    Args:
        root: Folder of the project.

    Raises:
        UserError: If the folder cannot be written to.
    """
    path = root.resolve() / FILLING_LOCK
    require_writable(path)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("another process brings MLflow's runs up to date; waiting for its end", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def state(path: Path, patience: float = LOCKED) -> State:
    """Finds out whether a store is complete.

    A store is half-made if it has no runs, and if its tables are not those of the installed version of MLflow. Such a
    store may be made anew, since nothing is lost.

    Args:
        path: Path of the store.
        patience: Seconds to wait for another process that writes to the store.

    Raises:
        sqlite3.Error: If the file is no database, or cannot be read, or another process keeps it locked.
    """
    if not path.exists():
        return "missing"
    if not path.stat().st_size:
        return "half-made"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=patience)) as database:
        # A writer that was killed may have left a journal. Locking the file for writing rolls it back first.
        database.executescript("BEGIN IMMEDIATE; ROLLBACK")
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        versions = (
            [version for (version,) in database.execute("SELECT version_num FROM alembic_version")]
            if "alembic_version" in tables
            else []
        )
        runs = any(
            database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608 (a name from this module)
            for table in ("runs", "_alembic_tmp_runs")
            if table in tables
        )
    latest = newest_schema()
    current = bool(versions) and (latest is None or versions == [latest])
    whole = {"runs", "experiments"} <= tables and not any(name.startswith("_alembic_tmp_") for name in tables)

    if current and whole:
        return "complete"

    return "of another version" if runs else "half-made"


def newest_schema() -> str | None:
    """Finds the version of the tables that the installed MLflow makes; None if it cannot be found.

    MLflow keeps one Python file per version, with the names of this version and of the one before. The files are only
    read here, because importing them takes seconds.
    """
    spec = find_spec("mlflow")
    if spec is None or spec.origin is None:
        return None
    versions, earlier = set(), set()
    for file in (Path(spec.origin).parent / "store/db_migrations/versions").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        versions |= set(re.findall(r"""^revision\s*=\s*["'](\w+)["']""", text, re.MULTILINE))
        earlier |= set(re.findall(r"""^down_revision\s*=\s*["'](\w+)["']""", text, re.MULTILINE))
    newest = versions - earlier

    return newest.pop() if len(newest) == 1 else None


def _wait_for_users(path: Path) -> None:
    """Waits while a store is half-made and another process, such as `mlflow ui`, has it open: it may be creating it.

    Raises:
        UserError: If the process neither completes nor closes the store.
    """
    until = time.monotonic() + PATIENCE
    while state(path) == "half-made" and (user := _user(path)) is not None:
        if time.monotonic() > until:
            raise UserError(
                f"{path}: is half-made, and process {user} has it open. End this process, then run the same command"
                " again, which creates the store."
            )
        time.sleep(0.2)


def _user(path: Path) -> int | None:
    """The number of another process that has a file open; None: there is none that this user may see."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and any(Path(file.path) == path for file in process.open_files()):
                return int(process.pid)

    return None


def _create(path: Path) -> None:
    """Creates an empty store under a temporary name, and renames it. A half-made store at the path is replaced."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        store: Any = SqlAlchemyStore(  # type: ignore[no-untyped-call]
            f"sqlite:///{temporary}", str(path.parent / "mlruns")
        )
        store.engine.dispose()
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # only the owner can read a file of mkstemp
        # SQLite would apply the journal of the half-made store to the new one.
        path.unlink(missing_ok=True)
        for end in ("-journal", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        temporary.replace(path)
    finally:
        for end in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                temporary.with_name(temporary.name + end).unlink(missing_ok=True)
