"""Recording: one `dvc repro` in the project that finds everything in the run cache and writes dvc.lock.

And what a recording that was killed left behind: locks that nobody holds, a dvc.lock cut short.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from duvae.cli import TELEMETRY_OFF
from duvae.errors import UserError
from duvae.files import whole
from pipelines.running import LINES
from pipelines.workspaces import MARK, WORK, owner

BEFORE = WORK / "dvc.lock"
"""The project's dvc.lock before the recording that is under way."""

RWLOCK = Path(".dvc/tmp/rwlock")


def record(root: Path, targets: Sequence[str], stages: Sequence[str] | None = None) -> None:
    """Records in the project what the run cache has.

    Args:
        root: The project's folder.
        targets: What is wanted, where all that it needs is there; none: everything.
        stages: These alone, each after its upstream, where something is missing.

    Raises:
        UserError: Where it fails, with the end of what DVC said.
    """
    if stages is not None and not stages:
        return
    before = root / BEFORE
    if (root / "dvc.lock").exists():
        with whole(before) as temporary:
            shutil.copyfile(root / "dvc.lock", temporary)
    _call(root, "repro", *(["--single-item", *stages] if stages is not None else targets))
    before.unlink(missing_ok=True)


def _call(root: Path, *arguments: str) -> None:
    log = root / WORK / "logs" / "recording.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **TELEMETRY_OFF, MARK: owner()}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with log.open("wb") as written:
        done = subprocess.run(
            ["dvc", *arguments], cwd=root, env=environment, stdout=written, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:])
        raise UserError(
            f"'dvc {arguments[0]}' in {root} failed, which records what the jobs have made:\n{tail}\n"
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
