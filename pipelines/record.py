"""Recording: what jobs have made comes into the project, and one `dvc repro` there runs what needs all of it.

And what a recording that was killed left behind: locks that nobody holds, a dvc.lock cut short.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from duvae.cli import TELEMETRY_OFF
from duvae.errors import UserError
from duvae.project.files import whole, write_json
from pipelines.launcher import LINES
from pipelines.workspaces import MARK, WORK, built_in, owner

BEFORE = WORK / "dvc.lock"
"""The project's dvc.lock before the recording that is under way."""

RWLOCK = Path(".dvc/tmp/rwlock")


def record(root: Path, entries: Mapping[str, Any], targets: Sequence[str] | None = None) -> None:
    """Records in the project what the cache has.

    Args:
        root: The project's folder.
        entries: Stages whose outputs the cache holds, as dvc.lock is to have them.
        targets: What is wanted, where nothing that it needs is missing, none: everything; None: the entries alone.

    Raises:
        UserError: Where it fails, with the end of what DVC said.
    """
    if entries:
        # DVC addresses those of another dvc.yaml by its path; their dvc.lock is another too, and `dvc repro` writes it.
        path = root / WORK / "entries.json"
        write_json(path, {name: built_in(entry) for name, entry in entries.items() if ":" not in name})
        _call(root, sys.executable, "-m", "pipelines.lockfile", str(path))
        path.unlink()
    if targets is not None:
        before = root / BEFORE
        if (root / "dvc.lock").exists():
            with whole(before) as temporary:
                shutil.copyfile(root / "dvc.lock", temporary)
        _call(root, "dvc", "repro", *targets)
        before.unlink(missing_ok=True)


def _call(root: Path, *command: str) -> None:
    log = root / WORK / "logs" / "recording.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **TELEMETRY_OFF, MARK: owner()}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    here = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    with log.open("wb") as written:
        done = subprocess.run(command, cwd=root, env=environment, stdout=written, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:])
        raise UserError(
            f"'{' '.join(command[:3])}' in {root} failed, which records what the jobs have made:\n{tail}\n"
            "What they made is kept: start again once that is mended."
        )


def mend(root: Path) -> list[str]:
    """Puts right what killed processes left behind; returns what it did.

    Only what nobody holds any more is touched: DVC itself notices a dead process, but neither one whose number has
    been given away again, nor a file of locks that was cut short.
    """
    said = []
    path = root / RWLOCK
    if path.exists() and _stale(path):
        path.unlink(missing_ok=True)
        said.append(f"{RWLOCK}: removed, nobody held it any more")
    before, lock = root / BEFORE, root / "dvc.lock"
    if before.exists():
        stages, kept = _stages(lock), _stages(before)
        if kept is not None and (stages is None or not kept.keys() <= stages.keys()):
            with whole(lock) as temporary:
                shutil.copyfile(before, temporary)
            said.append("dvc.lock: cut short, as before the recording again")
        before.unlink()
    elif lock.exists() and _stages(lock) is None:
        raise UserError(f"{lock}: not a dvc.lock (cut short?). 'git checkout dvc.lock' brings the committed one back.")

    return said


def _stages(lock: Path) -> dict[str, Any] | None:
    """The stages of a dvc.lock; None where it is none."""
    try:
        stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {})["stages"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return None

    return stages if isinstance(stages, dict) and all(isinstance(entry, dict) for entry in stages.values()) else None


def _stale(path: Path) -> bool:
    """Whether no process that a file of DVC's locks names is the one that wrote it."""
    try:
        written, held = path.stat().st_mtime, json.loads(path.read_text(encoding="utf-8"))
        infos = [
            info for of in held.values() for found in of.values() for info in ([found] if "pid" in found else found)
        ]
        pids = {int(info["pid"]) for info in infos}
    except OSError:
        return False
    except (ValueError, KeyError, TypeError, AttributeError):
        # Cut short, or about to be written: in the second case it is whole a moment later.
        return time.time() - path.stat().st_mtime > 1.0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            if process.create_time() <= written and process.status() != psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            continue
        except psutil.Error:
            return False

    return bool(pids)
