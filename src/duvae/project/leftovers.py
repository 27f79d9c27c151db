"""Removes what killed commands have left: unfinished files, and states of trainings that nothing resumes any more.

Nothing is removed that a running process of this machine may still write.
"""

import contextlib
import fcntl
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from rich.filesize import decimal

FOLDERS = ("data", "models", "posteriors", "generated", "results", "reports", "checkpoints", "pipelines", ".dvc/tmp")
"""Folders of the project in which commands create unfinished files, beside those in the project's folder itself."""

UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}\.part")
"""Names of unfinished files and folders, as the library `tempfile` makes them for `duvae.project.files`."""

DEPTH = 5
"""Number of folders above the deepest unfinished file, such as `results/synthetic/vae/1/.metrics.json.abcdefgh.part`.

Deeper are only the user's own files and DVC's cache.
"""

PROGRAMS = re.compile(r"(python|duvae|dvc)[\d.]*", re.IGNORECASE)
"""Names of the programs that can write the project's files."""

SLACK = 5.0
"""Seconds by which the clock of processes and the clock of the disk may differ."""


def remove_unfinished(root: Path = Path()) -> None:
    """Removes the unfinished files and folders of killed commands, and says so on standard error.

    An unfinished file stays if a process of the project was running when it was last written: the process may be its
    writer. Files that cannot be removed stay, since they do no harm.

    Args:
        root: Folder of the project.
    """
    if not (paths := list(_unfinished(root))):
        return
    roots = {root.resolve(), (root / "checkpoints").resolve().parent}  # workspaces share the project's checkpoints
    started = min(_starts_of_writers(roots), default=float("inf"))
    removed, size = [], 0
    for path in paths:
        with contextlib.suppress(OSError):
            files = [path, *path.rglob("*")]
            if max(file.lstat().st_mtime for file in files) + SLACK < started:
                size += sum(file.lstat().st_size for file in files if file.is_file())
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(str(path))
    if removed:
        more = f" and {len(removed) - 1} more" if len(removed) > 1 else ""
        _say(f"removed {removed[0]}{more} ({decimal(size)}): a command was killed before it had finished them")


def _unfinished(root: Path) -> Iterator[Path]:
    """Yields the unfinished files and folders of a project."""
    folders = [(root, DEPTH), *((root / name, 0) for name in FOLDERS)]
    while folders:
        folder, depth = folders.pop()
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if UNFINISHED.fullmatch(entry.name):
                    yield folder / entry.name
                elif depth < DEPTH and entry.is_dir(follow_symlinks=False):
                    folders.append((folder / entry.name, depth + 1))


def _starts_of_writers(roots: set[Path]) -> Iterator[float]:
    """Yields the start times of the running processes that may write into one of some folders.

    This process, those that called it and those that it has called are left out: none of them has an unfinished file
    now.
    """
    this = psutil.Process()
    own = {this.pid}
    with contextlib.suppress(psutil.Error):
        own |= {process.pid for process in (*this.parents(), *this.children(recursive=True))}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.pid in own or process.status() == psutil.STATUS_ZOMBIE:
                continue
            try:
                words = process.cmdline()[:2]
            except psutil.AccessDenied:
                words = [process.name()]
            if not any(PROGRAMS.fullmatch(Path(word).name) for word in words):
                continue
            try:
                inside = any(Path(process.cwd()).is_relative_to(folder) for folder in roots)
            except psutil.AccessDenied:  # the process of another user
                inside = True
            if inside:
                yield process.create_time()


@contextlib.contextmanager
def training(name: str, root: Path = Path()) -> Iterator[None]:
    """Removes the old states of a training once it has finished in the `with` block.

    A saved state belongs to certain parameters, data and code. After a change, the training starts anew and saves other
    states. The old ones stay until then, since the user may take the change back. They also stay if another process
    trains the same job at the same time.

    Args:
        name: Name of the job, such as `synthetic-vae-1`.
        root: Folder of the project.
    """
    folder = root / "checkpoints"
    made = not folder.exists()
    lock = None
    # Without a lock, the training runs all the same, and old states stay. It says itself what is wrong with the folder.
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        lock = _shared_lock(folder / f".{name}.lock")
    try:
        yield
        if lock is not None and _is_alone(lock):
            _remove_states(folder, name)
    finally:
        if lock is not None:
            if _is_alone(lock):
                (folder / f".{name}.lock").unlink(missing_ok=True)
            os.close(lock)
        if made:
            with contextlib.suppress(OSError):  # the folder is not empty
                folder.rmdir()


def _shared_lock(path: Path) -> int:
    """Opens a file and locks it, together with other processes. The system frees the lock when a process ends.

    Returns:
        The descriptor of the file.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another process has removed the file in between


def _is_alone(descriptor: int) -> bool:
    """Whether no other process holds the lock. If so, no other process can get it from now on."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False

    return True


def _remove_states(folder: Path, name: str) -> None:
    """Removes all saved states of a job. The state of the training that has just finished is gone already."""
    removed = []
    for path in sorted(folder.glob(f"{name}.*.safetensors")):
        with contextlib.suppress(OSError):
            path.unlink()
            removed.append(path.name)
    if removed:
        _say(f"removed {', '.join(removed)} from {folder}: states of {name} with other parameters, data or code")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
