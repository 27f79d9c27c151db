"""Keeps the earlier outputs of a stage until the stage has new ones.

DVC removes all outputs of a stage before it starts the stage's command. If the command then fails or is killed, the
results of the last run are gone, although git holds them. DVC's option `persist` would keep them, but it takes the
stage out of the run cache. So a command that DVC has started puts those outputs back that git holds. The command later
replaces them, each at once.

Outputs that DVC holds, such as models, stay in DVC's cache: `dvc checkout` brings them back.
"""

import contextlib
import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from configparser import ConfigParser, Error
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from duvae.errors import UserError
from duvae.project.files import whole

STAGE, ROOT = "DVC_STAGE", "DVC_ROOT"
"""Environment variables in which DVC gives the command of a stage the stage's name and the project's folder."""


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keeps the earlier outputs of the running stage during the `with` block.

    If the block fails, a message says how to get back the outputs that are still missing. If the block succeeds,
    earlier files that it did not replace are removed: DVC must not take them for new ones.

    If DVC has not started this process, the function does nothing.
    """
    files = put_back()
    try:
        yield
    except BaseException as error:
        if not isinstance(error, SystemExit) or error.code not in (None, 0):
            print_advice()
            raise
        _remove_unchanged(files)
        raise
    _remove_unchanged(files)


def put_back() -> dict[Path, tuple[int, int]]:
    """Puts back the missing files among the running stage's earlier outputs that git holds.

    Returns:
        For each file that was put back, its number on the disk and the time of its last change in nanoseconds.
    """
    files = {}
    root, outs = _missing_outputs()
    held = {path: md5 for path, md5 in outs.items() if not md5.endswith(".dir")}
    for path in _not_ignored(root, held):
        content = _content(root, path, held[path])
        if content is not None:
            with suppress(UserError):  # the command itself will report that it cannot write there
                with whole(root / path) as temporary:
                    temporary.write_bytes(content)
                files[root / path] = _state(root / path)

    return files


def print_advice() -> None:
    """Prints which earlier outputs of the running stage are still missing, and the commands that bring them back."""
    root, outs = _missing_outputs()
    of_git = _not_ignored(root, outs)
    cached = [path for path, md5 in outs.items() if path not in of_git and _cached(root, md5).exists()]
    for command, paths in (("dvc checkout", cached), ("git checkout --", of_git)):
        if paths:
            print(
                f"DVC removed {', '.join(paths)} before it started this stage. To get the last version back, run"
                f" '{command} {shlex.join(paths)}'.",
                file=sys.stderr,
            )


def cache_folder(root: Path) -> Path:
    """Finds the folder of DVC's cache, in which DVC keeps results.

    DVC's settings give the path. A relative path starts from the folder `.dvc`.
    """
    name = "cache"
    for settings_file in ("config", "config.local"):
        settings = ConfigParser(interpolation=None)
        with suppress(Error, OSError, UnicodeDecodeError):  # DVC itself reports a broken file
            settings.read(root / ".dvc" / settings_file, encoding="utf-8")
            name = settings.get("cache", "dir", fallback=name).strip("'\"") or name

    return root / ".dvc" / name


def _missing_outputs() -> tuple[Path, dict[str, str]]:
    """The project's folder, and the MD5 hash of each output of the running stage that is missing, by path.

    The hashes are those of the stage's last run, from dvc.lock. There are none if DVC has not started this process.
    """
    stage, root = os.environ.get(STAGE, ""), Path(os.environ.get(ROOT, "."))
    outs: dict[str, str] = {}
    if not stage:
        return root, outs
    for out in _last_run(root, stage):
        path, md5 = str(out.get("path")), str(out.get("md5"))
        inside = (root / path).resolve().is_relative_to(root.resolve())
        if inside and re.fullmatch(r"[0-9a-f]{32}(\.dir)?", md5) and not (root / path).exists():
            outs[path] = md5

    return root, outs


def _last_run(root: Path, stage: str) -> list[Mapping[str, Any]]:
    """The outputs of a stage in dvc.lock. A lock that cannot be read is DVC's to report."""
    try:
        lock = yaml.load((root / "dvc.lock").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        return [out for out in lock["stages"][stage]["outs"] if isinstance(out, Mapping)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return []


def _not_ignored(root: Path, paths: Mapping[str, str]) -> list[str]:
    """The paths that git does not ignore. DVC lets git ignore every output that DVC itself holds."""
    if not paths:
        return []
    done = _git(root, "check-ignore", "-z", "--stdin", given="\0".join(paths).encode())
    ignored = (done.stdout if done and done.returncode in (0, 1) else "\0".join(paths).encode()).decode().split("\0")

    return [path for path in paths if path not in ignored]


def _content(root: Path, path: str, md5: str) -> bytes | None:
    """The content of an output with a given MD5 hash, from DVC's cache or from git; None: neither of them has it."""
    with suppress(OSError):
        content = _cached(root, md5).read_bytes()
        if _md5(content) == md5:
            return content
    done = _git(root, "cat-file", "-p", f":./{path}")

    return done.stdout if done and done.returncode == 0 and _md5(done.stdout) == md5 else None


def _cached(root: Path, md5: str) -> Path:
    return cache_folder(root) / "files" / "md5" / md5[:2] / md5[2:]


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _git(root: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes] | None:
    """Runs git in the project's folder; None: git is missing or does not answer."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        return subprocess.run(
            ["git", *arguments], cwd=root, env=environment, input=given, capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()

    return status.st_ino, status.st_mtime_ns


def _remove_unchanged(files: Mapping[Path, tuple[int, int]]) -> None:
    """Removes the files that were put back and not replaced since."""
    for path, state in files.items():
        with suppress(OSError):
            if _state(path) == state:
                path.unlink()
