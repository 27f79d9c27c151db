"""Records the results of tasks in the project, and repairs DVC's files if an earlier recording was killed.

A task is one stage that a rebuild runs in a clone of the project. The results of tasks are in DVC's cache. To record
them, this module writes an entry for each stage into dvc.lock. An entry holds the hashes of the stage's inputs and
outputs. After that, one `dvc repro` in the project runs the stages that gather the results of several stages.
"""

import contextlib
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
from pipelines.devices import Device
from pipelines.launcher import LOG_LINES
from pipelines.owners import OWNER_VARIABLE, owner
from pipelines.workspaces import WORK_FOLDER, plain_types

BACKUP = WORK_FOLDER / "dvc.lock"
"""Copy of the project's dvc.lock from before the final `dvc repro`. It is removed once that command has succeeded."""

RWLOCK = Path(".dvc/tmp/rwlock")
"""DVC's file of locks. It lists the processes that read or write each path."""


SETTLED = 60.0
"""Age in seconds from which on an empty folder of the run cache counts as left over."""


def record(
    root: Path, entries: Mapping[str, Any], targets: Sequence[str] | None = None, device: Device | None = None
) -> None:
    """Records the results of tasks: writes the stages' entries into dvc.lock, then calls `dvc repro`.

    Args:
        root: The project's folder.
        entries: New entries of dvc.lock, by name of the stage; the cache holds all outputs of these stages.
        targets: Targets of the final `dvc repro`; empty: all stages; None: no `dvc repro`.
        device: Device of the stages that the final `dvc repro` runs; None: any device that this process may use.

    Raises:
        UserError: If a command fails. The message shows the end of the log.
    """
    if entries:
        # DVC addresses a stage of the dvc.yaml in a subfolder as `path:name`. The entry of such a stage is left out: it
        # belongs to the subfolder's dvc.lock, which only `dvc repro` writes.
        path = root / WORK_FOLDER / "entries.json"
        write_json(path, {name: plain_types(entry) for name, entry in entries.items() if ":" not in name})
        _call(root, {}, sys.executable, "-m", "pipelines.lockfile", str(path))
        path.unlink()
    if targets is not None:
        backup = root / BACKUP
        if (root / "dvc.lock").exists():
            with whole(backup) as temporary:
                shutil.copyfile(root / "dvc.lock", temporary)
        _call(root, {} if device is None else device.environment(), "dvc", "repro", *targets)
        backup.unlink(missing_ok=True)


def _call(root: Path, variables: Mapping[str, str], *command: str) -> None:
    """Runs a command with further environment variables in the project's folder, and writes its output to a log."""
    log = root / WORK_FOLDER / "logs" / "recording.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **TELEMETRY_OFF, **variables, OWNER_VARIABLE: owner()}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    package = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    with log.open("wb") as file:
        done = subprocess.run(command, cwd=root, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])
        ending = "failed" if done.returncode > 0 else f"was ended by signal {-done.returncode}"
        raise UserError(
            f"'{' '.join(command[:3])}' in {root} {ending}, so the results were not recorded:\n{tail}\n"
            "The results are kept in the run cache. Correct the error, then run the same command again."
        )


def repair(root: Path) -> list[str]:
    """Removes DVC's file of locks if only killed processes held locks, and restores a truncated dvc.lock.

    DVC itself frees the locks of a dead process. But DVC fails to do so if a new process has got the same id, or if the
    file of locks is truncated.

    Args:
        root: The project's folder.

    Returns:
        One message for each repair.

    Raises:
        UserError: If dvc.lock is truncated and there is no backup.
    """
    messages = []
    path = root / RWLOCK
    if path.exists() and _is_stale(path):
        path.unlink(missing_ok=True)
        messages.append(f"{RWLOCK}: removed, since no running process held a lock")
    backup, lock = root / BACKUP, root / "dvc.lock"
    if backup.exists():
        stages, saved = _stages(lock), _stages(backup)
        if saved is not None and (stages is None or not saved.keys() <= stages.keys()):
            with whole(lock) as temporary:
                shutil.copyfile(backup, temporary)
            messages.append("dvc.lock: was truncated; restored to its state before the recording")
        backup.unlink()
    elif lock.exists() and _stages(lock) is None:
        raise UserError(
            f"{lock}: expected entries of DVC's stages; the file may be truncated. Run 'git checkout dvc.lock' to"
            " restore the committed version."
        )

    return messages


def remove_empty_runs(cache: Path) -> int:
    """Removes empty folders from DVC's run cache, at which DVC would fail with a TypeError.

    DVC creates the folder of a stage before the entry in it, so that a kill can leave it empty. A folder that is
    younger than `SETTLED` stays, because a running DVC may be about to write into it.

    Args:
        cache: The folder of DVC's cache.

    Returns:
        Number of removed folders.
    """
    removed = 0
    for folder in (cache / "runs").glob("*/*/"):
        with contextlib.suppress(OSError):  # another process has removed the folder, or has written into it
            if not any(folder.iterdir()) and time.time() - folder.stat().st_mtime > SETTLED:
                folder.rmdir()
                removed += 1

    return removed


def _stages(lock: Path) -> dict[str, Any] | None:
    """The stages of a dvc.lock; None if the file is missing or incomplete."""
    try:
        stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {})["stages"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return None

    return stages if isinstance(stages, dict) and all(isinstance(entry, dict) for entry in stages.values()) else None


def _is_stale(path: Path) -> bool:
    """Whether DVC's file of locks is truncated, or lists only processes that have ended."""
    try:
        written, locks = path.stat().st_mtime, json.loads(path.read_text(encoding="utf-8"))
        holders = [
            holder
            for by_path in locks.values()
            for value in by_path.values()
            for holder in ([value] if "pid" in value else value)
        ]
        pids = {int(holder["pid"]) for holder in holders}
    except OSError:
        return False
    except (ValueError, KeyError, TypeError, AttributeError):
        # The file is truncated, or a process is writing the file right now. If the file has not changed for a second,
        # it counts as truncated.
        return time.time() - path.stat().st_mtime > 1.0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            # A process that started after the file was written is a different process with the same id.
            if process.create_time() <= written and process.status() != psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            continue
        except psutil.Error:
            return False

    return bool(pids)
