"""Copies of a private project, in which `dvc repro` runs the stages of one job each, several at a time.

Two `dvc repro` in one folder at the same time lose records. In a copy, DVC uses the project's cache. So the results are
in its run cache afterwards, where a last `dvc repro` in the project finds them. All copies share the project's data and
the saved states of its trainings.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from duvae.errors import UserError

FOLDER = Path(".dvc/tmp/run")
"""The folder of all copies, below the project's folder."""

COPIED = (
    *("params.yaml", "dvc.yaml", "dvc.lock", "fingerprints.yaml", "pipelines/jobs.yaml"),
    *(".dvc/config", ".dvc/config.local", ".dvcignore"),
)
"""Files of the project that a copy gets."""

LINKED = ("data", "checkpoints")
"""Folders of the project that all copies share."""


@contextlib.contextmanager
def exclusive(project: Path) -> Iterator[None]:
    """Holds the lock of the folder of all copies during the `with` block, and removes all copies before and after it.

    Args:
        project: Folder of the project.

    Raises:
        UserError: If another process holds the lock.
    """
    folder = project / FOLDER
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"{project}: another 'duvae run' works here. Wait for its end, or stop it.") from error
    try:
        shutil.rmtree(folder, ignore_errors=True)  # copies of a killed command
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def create(project: Path, name: str) -> Path:
    """Creates a copy of a project. Call it only inside of `exclusive`.

    Args:
        project: Folder of the project.
        name: Name of the copy.

    Returns:
        The folder of the copy.
    """
    copy = project / FOLDER / name
    for each in COPIED:
        if (project / each).is_file():
            (copy / each).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(project / each, copy / each)
    for each in LINKED:
        (project / each).mkdir(exist_ok=True)
        (copy / each).symlink_to((project / each).resolve(), target_is_directory=True)
    _use_cache_of(project, copy)

    return copy


def environment(copy: Path) -> dict[str, str]:
    """The environment variables for DVC in a copy. Copies do not share DVC's folder for the whole machine."""
    return {"DVC_SITE_CACHE_DIR": str((copy / ".dvc" / "tmp" / "site").absolute())}


def _use_cache_of(project: Path, copy: Path) -> None:
    """Makes DVC use the project's cache in a copy.

    DVC writes its configuration in ASCII, so the path is relative: the project may lie in a folder with another name.
    """
    from dvc.config import Config  # imported only here, since the import takes a second

    folder = Config(str(project / ".dvc"), validate=False)["cache"].get("dir", str(project / ".dvc" / "cache"))
    local = Config(str(copy / ".dvc"), validate=False)
    with local.edit("local") as content:
        content.setdefault("cache", {})["dir"] = os.path.relpath(folder)  # DVC takes it as relative to this folder
