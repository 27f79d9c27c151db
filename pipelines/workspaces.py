"""Workspaces: throwaway clones of the project, one for each task. A task is one stage that a rebuild runs.

A workspace is a clone at the project's commit, into which all uncommitted changes are copied. DVC in a workspace uses
the project's cache, so the outputs of a task are in this cache when the task ends. All workspaces share the project's
folders `checkpoints` and `studies`. So a training, or a study (a search for hyperparameters), can resume from its last
state in any workspace.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dvc.config import Config
from dvc.exceptions import DvcException

from duvae.errors import UserError
from duvae.project.files import write_text
from pipelines.owners import end_left_over, is_alive, owner

SHARED_FOLDERS = ("checkpoints", "studies")
"""Folders of the project that all workspaces share."""

WORK_FOLDER = Path(".dvc/tmp/rebuild")
"""Folder in the project for the files of a rebuild: workspaces, logs, a lock and a copy of dvc.lock."""


@dataclass(frozen=True)
class ProjectSnapshot:
    """The content of the project when the rebuild began.

    Attributes:
        commit: Hash of the commit that is checked out.
        files: Contents of the files with uncommitted changes, by path in the project; None: the file was deleted.
        modes: Permission bits of the files in `files` that were not deleted, by path in the project.
        links: Absolute paths of the user's own data files, by path in the project. If a clone lacks such a file, it
            gets a link to the file.
    """

    commit: str
    files: Mapping[str, bytes | None] = field(repr=False)
    modes: Mapping[str, int] = field(default_factory=dict, repr=False)
    links: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Checks the hash, which may come from another machine and becomes an argument of git."""
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", self.commit):
            raise UserError(f"expected the hash of a commit; found {self.commit[:80]!r}. Start the rebuild again.")

    @classmethod
    def take(
        cls, root: Path, outs: Iterable[str] = (), own: Iterable[str] = (), parameter_files: Iterable[str] = ()
    ) -> "ProjectSnapshot":
        """Takes a snapshot of a project.

        Args:
            root: The project's folder.
            outs: Paths of outputs of stages. The snapshot leaves these files out.
            own: Paths of the user's own data files, to which workspaces link.
            parameter_files: Paths of parameter files that are outputs of stages. The snapshot holds these files even
                if git ignores them.

        Raises:
            UserError: If the project is not a git repository with a commit.
        """
        excluded = {"dvc.lock", *outs}
        names = git(root, "ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard").split("\0")
        staged = git(root, "diff", "--cached", "--name-only", "--relative", "-z", "HEAD").split("\0")
        files: dict[str, bytes | None] = {}
        modes: dict[str, int] = {}
        written = {name for name in parameter_files if (root / name).is_file()}
        for name in sorted({*names, *staged, *written} - {""}):
            if excluded.intersection([name, *(p.as_posix() for p in Path(name).parents)]):
                continue
            path = root / name
            if path.is_file():
                files[name], modes[name] = path.read_bytes(), path.stat().st_mode & 0o777
            elif not path.is_dir():
                files[name] = None

        links = {name: str((root / name).resolve()) for name in own if (root / name).is_file()}

        return cls(git(root, "rev-parse", "HEAD").strip(), files, modes, links)

    def write(self, folder: Path) -> None:
        """Copies the uncommitted changes into a clone, and adds links to the user's own files that the clone lacks.

        Args:
            folder: Folder of the clone, in which the snapshot's commit is checked out.
        """
        for name, content in self.files.items():
            path = folder / name
            if content is None:
                path.unlink(missing_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(content)
            path.chmod(self.modes[name])
        for name, target in self.links.items():
            path = folder / name
            if not path.exists() and path.resolve().is_relative_to(folder.resolve()):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(target)


def git(root: Path, *arguments: str) -> str:
    """Runs git in a folder, and returns the standard output of git.

    Args:
        root: Folder in which git runs.
        arguments: The command of git, such as `clone`, and its arguments.

    Raises:
        UserError: If git fails.
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
            f"{root}: 'git {arguments[0]}' failed ({why}). A rebuild needs git, since its workspaces are clones."
            " Expected the project to be a git repository with a commit."
        ) from error

    return done.stdout


@contextmanager
def workspace(
    root: Path, cache: Path, name: str, snapshot: ProjectSnapshot, entries: Mapping[str, Any]
) -> Iterator[Path]:
    """Sets up a workspace, yields its folder, and removes the workspace at the end of the `with` block.

    Args:
        root: The project's folder on this machine.
        cache: The folder of DVC's cache on this machine.
        name: Name of the stage, which becomes part of the workspace's path.
        snapshot: Content of the project that the workspace gets.
        entries: Entries for the workspace's dvc.lock, by name of the stage. An entry holds the hashes of the stage's
            inputs and outputs.
    """
    parent = root / WORK_FOLDER / "workspaces"
    parent.mkdir(parents=True, exist_ok=True)
    for shared in SHARED_FOLDERS:
        (root / shared).mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{owner()}.{file_name(name)}.", dir=parent))
    try:
        # The project may be a folder inside a larger repository.
        top, inside = (git(root, "rev-parse", f"--show-{name}").rstrip("\n") for name in ("toplevel", "prefix"))
        git(root, "clone", "--quiet", "--shared", "--no-checkout", "--", top, str(folder / "project"))
        git(folder / "project", "checkout", "--quiet", "--force", "--detach", snapshot.commit)
        clone = folder / "project" / inside
        clone.mkdir(parents=True, exist_ok=True)
        snapshot.write(clone)
        _configure(root, clone, cache)
        lock = {"schema": "2.0", "stages": plain_types(entries)}
        write_text(clone / "dvc.lock", yaml.safe_dump(lock, sort_keys=False))
        for shared in SHARED_FOLDERS:
            (clone / shared).symlink_to(root.resolve() / shared, target_is_directory=True)
        yield clone
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _configure(root: Path, clone: Path, cache: Path) -> None:
    """Writes the configuration of DVC in a clone.

    DVC in the clone uses the project's cache and remotes. DVC writes this file in ASCII, so the path of the cache is
    relative: the project may lie in a folder with another name.
    """
    (clone / ".dvc" / "tmp").mkdir(parents=True, exist_ok=True)
    try:
        project = Config(str(root / ".dvc"), validate=False)
        core = {name: value for name, value in project["core"].items() if name in {"remote", "no_scm"}}
        remotes = dict(project["remote"])
    except DvcException as error:
        raise UserError(f"{root}/.dvc/config: DVC cannot read the file ({error}). Correct it.") from error
    local = Config(str(clone / ".dvc"), validate=False)
    with local.edit("local") as config:
        config["cache"] = {"dir": os.path.relpath(cache)}  # DVC takes it as relative to the working folder
        config["core"] = core
        config["remote"] = {name: plain_types(remote) for name, remote in remotes.items()}


def plain_types(value: Any) -> Any:
    """Copies a value into plain Python types, so that it can be written as YAML or into DVC's configuration."""
    if isinstance(value, Mapping):
        return {str(key): plain_types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_types(item) for item in value]
    if isinstance(value, str):
        return str(value)

    return value if value is None or type(value) in {bool, int, float} else json.loads(json.dumps(value))


def file_name(stage: str) -> str:
    """Replaces the characters of a stage's name that a file system may refuse, and keeps at most 100 characters."""
    return re.sub(r"[^\w.-]+", "-", stage)[:100]


def clean(root: Path) -> None:
    """Cleans up after rebuilds that were killed on this machine: kills their processes and removes their workspaces.

    Args:
        root: The project's folder.
    """
    end_left_over()
    parent = root / WORK_FOLDER / "workspaces"
    for folder in parent.iterdir() if parent.is_dir() else ():
        if is_alive(folder.name.partition(".")[0]) is False:
            shutil.rmtree(folder, ignore_errors=True)
