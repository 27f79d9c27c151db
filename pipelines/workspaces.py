"""Throwaway workspaces: clones of the project in which one stage runs, beside each other, on one cache.

A workspace is a clone at the project's commit with what is not committed copied over it. Its cache is the project's,
so that what the stage makes is in the run cache once it ends; trainings keep their states in the project's
`checkpoints`, and studies their trials in its `studies`, so that the next try goes on from the last one, whichever
workspace it gets.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from dvc.config import Config
from dvc.exceptions import DvcException

from duvae.errors import UserError
from duvae.project.files import write_text

KEPT = ("checkpoints", "studies")
"""Folders of the project that all workspaces share."""

WORK = Path(".dvc/tmp/rebuild")
"""Where a rebuild keeps what is its own: workspaces, logs, a copy of dvc.lock."""

MARK = "DUVAE_REBUILD_OWNER"
"""In the environment of all that a rebuild starts: who answers for it."""


@dataclass(frozen=True)
class Snapshot:
    """The project as it was when the rebuild began.

    Attributes:
        commit: What is checked out.
        files: What is not committed, by path; None: it is deleted.
        modes: Permissions of those files.
        beside: Files that git does not know and that stages read, by path; each is linked to where it lies.
    """

    commit: str
    files: Mapping[str, bytes | None] = field(repr=False)
    modes: Mapping[str, int] = field(default_factory=dict, repr=False)
    beside: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def take(
        cls, root: Path, outs: Iterable[str] = (), own: Iterable[str] = (), generated: Iterable[str] = ()
    ) -> "Snapshot":
        """Takes a snapshot of a project.

        Args:
            root: The project's folder.
            outs: Paths that stages write, which are left out.
            own: The user's own files, which are linked whether git knows them or not.
            generated: Files of parameters that stages write, which are copied whether git knows them or not.

        Raises:
            UserError: Where it is no git repository with a commit.
        """
        made = {"dvc.lock", *outs}
        names = git(root, "ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard").split("\0")
        staged = git(root, "diff", "--cached", "--name-only", "-z", "HEAD").split("\0")
        files: dict[str, bytes | None] = {}
        modes: dict[str, int] = {}
        written = {name for name in generated if (root / name).is_file()}
        for name in sorted({*names, *staged, *written} - {""}):
            if made.intersection([name, *(p.as_posix() for p in Path(name).parents)]):
                continue
            path = root / name
            if path.is_file():
                files[name], modes[name] = path.read_bytes(), path.stat().st_mode & 0o777
            elif not path.is_dir():
                files[name] = None

        beside = {name: str((root / name).resolve()) for name in own if (root / name).is_file()}

        return cls(git(root, "rev-parse", "HEAD").strip(), files, modes, beside)

    def write(self, folder: Path) -> None:
        """Puts what is not committed over a clone."""
        for name, content in self.files.items():
            path = folder / name
            if content is None:
                path.unlink(missing_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(content)
            path.chmod(self.modes[name])
        for name, target in self.beside.items():
            path = folder / name
            if not path.exists() and path.resolve().is_relative_to(folder.resolve()):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(target)


def git(root: Path, *arguments: str) -> str:
    """What git says in `root`.

    Raises:
        UserError: Where it fails.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        why = " ".join((getattr(error, "stderr", "") or str(error)).split())
        raise UserError(
            f"{root}: 'git {arguments[0]}' failed ({why}). Workspaces are clones:"
            " a rebuild needs git, and the project as a repository with a commit."
        ) from error

    return done.stdout


@contextmanager
def workspace(root: Path, cache: Path, name: str, snapshot: Snapshot, entries: Mapping[str, Any]) -> Iterator[Path]:
    """Yields a clone for one job, which is gone once the body has ended.

    Args:
        root: The project's folder on this machine.
        cache: The folder of DVC's cache here.
        name: The stage, for the reader.
        snapshot: What the clone holds.
        entries: What its dvc.lock holds.
    """
    place = root / WORK / "workspaces"
    place.mkdir(parents=True, exist_ok=True)
    for kept in KEPT:
        (root / kept).mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{owner()}.{plain(name)}.", dir=place))
    try:
        here = folder / "project"
        git(root, "clone", "--quiet", "--shared", "--no-checkout", str(root), str(here))
        git(here, "checkout", "--quiet", "--force", "--detach", snapshot.commit)
        snapshot.write(here)
        _configure(root, here, cache)
        write_text(here / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": built_in(entries)}, sort_keys=False))
        for kept in KEPT:
            (here / kept).symlink_to(root.resolve() / kept, target_is_directory=True)
        yield here
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _configure(root: Path, here: Path, cache: Path) -> None:
    """The project's own configuration, with its cache, and with what DVC notes by the way inside the workspace."""
    (here / ".dvc" / "tmp").mkdir(parents=True, exist_ok=True)
    try:
        known = Config(str(root / ".dvc"), validate=False)
        chosen = {name: value for name, value in known["core"].items() if name in {"remote", "no_scm"}}
        remotes = dict(known["remote"])
    except DvcException as error:
        raise UserError(f"{root}/.dvc/config: DVC cannot read it ({error}).") from error
    local = Config(str(here / ".dvc"), validate=False)
    with local.edit("local") as config:
        config["cache"] = {"dir": str(cache)}
        config["core"] = {**chosen, "site_cache_dir": str(here.parent / "site")}
        config["remote"] = {name: built_in(remote) for name, remote in remotes.items()}


def built_in(value: Any) -> Any:
    """The same as plain dicts, lists and strings, which YAML and DVC's configuration can write."""
    if isinstance(value, Mapping):
        return {str(key): built_in(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [built_in(inner) for inner in value]
    if isinstance(value, str):
        return str(value)

    return value if value is None or type(value) in {bool, int, float} else json.loads(json.dumps(value))


def plain(name: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^\w.-]+", "-", name)[:100]


# ---------------------------------------------------------------------------------- who answers for what


def owner() -> str:
    """This process, among all that ever ran: machine, process id and its start."""
    host = re.sub(r"\W+", "_", socket.gethostname())

    return f"{host}-{os.getpid()}-{_start(psutil.Process())}"


def _start(process: psutil.Process) -> int:
    return int(process.create_time() * 100)


def alive(mark: str) -> bool | None:
    """Whether the process that a mark speaks of still runs; None: it is on another machine, or no mark."""
    matched = re.fullmatch(r"(\w+)-(\d+)-(\d+)", mark)
    if matched is None or matched[1] != re.sub(r"\W+", "_", socket.gethostname()):
        return None
    try:
        process = psutil.Process(int(matched[2]))
        return abs(_start(process) - int(matched[3])) <= 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def clean(root: Path) -> None:
    """Ends what a killed rebuild left running on this machine, and removes what it left lying."""
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK, "")
            if mark and alive(mark) is False:
                process.kill()
        except (psutil.Error, OSError):
            continue
    place = root / WORK / "workspaces"
    for folder in place.iterdir() if place.is_dir() else ():
        if alive(folder.name.partition(".")[0]) is False:
            shutil.rmtree(folder, ignore_errors=True)
