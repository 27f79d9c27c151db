"""Records the provenance of each result: code, machine, time and library versions. Git keeps the records.

A record is a JSON file beside the result. The only key in it, `record`, holds a list with one mapping. The file must be
among the metrics of a stage in `dvc.yaml`; a comment there gives the reason. `dvc metrics show` prints the metrics as a
table, but skips lists. The list around the mapping therefore keeps the values of the record out of that table.
"""

import datetime
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from duvae.errors import UserError
from duvae.project.files import file_digest, read_json, write_json
from duvae.project.fingerprint import of_this_process

RECORD = "record"
"""The only key in the file of a record."""

DIGEST = "digest"
"""The key of a record that holds the digest of all its other fields. Records of earlier versions have no digest."""

LIBRARIES = ("duvae", "numpy", "scipy", "scikit-learn")
"""Libraries, besides torch, whose versions may change a result."""

MIB = 2**20


class Stopwatch:
    """Measures the time and the memory of a stage, and writes the record of the stage.

    The time is measured from the creation of this object.

    Args:
        stage: Name of the stage, such as `train`.
        system: Name of the system (such as `du_vae`) of the model that the stage trains or loads; None: the stage has
            no model.
    """

    def __init__(self, stage: str, system: str | None = None) -> None:
        self.stage, self.system = stage, system
        self.started = datetime.datetime.now(datetime.UTC)
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def write(self, path: Path, outputs: Sequence[Path] = (), **more: Any) -> None:
        """Writes the record.

        Args:
            path: The file to write.
            outputs: Files that the stage wrote and that git keeps. The record holds their digests, so that a file that
                was changed or cut short afterwards is noticed.
            more: Further fields of the record, such as `device`.
        """
        largest = peak_memory()
        made_at = commit()
        if made_at["commit"] is None and owned_by_another():
            print(
                f"warning: {path}: the record has no commit, since git refuses to read a repository of another user."
                f" Run '{trust()}'.",
                file=sys.stderr,
            )
        record = {
            "stage": self.stage,
            **made_at,
            "fingerprint": of_this_process(self.stage, self.system),
            "started": self.started.isoformat(timespec="seconds"),
            "wall_seconds": round(time.perf_counter() - self.wall, 2),
            "cpu_seconds": round(time.process_time() - self.cpu, 2),  # sum over all threads
            "peak_memory_mib": round(largest),
            **gpu_memory(),
            "versions": versions(),
            "machine": machine(),
            "outputs": {output.name: file_digest(output) for output in outputs},
            **more,
        }
        write_json(path, {RECORD: [{**record, DIGEST: record_digest(record)}]})


def unwrapped(content: Any) -> Any:
    """Extracts the record from the content of a record's file.

    Args:
        content: Parsed JSON of the file.

    Returns:
        The mapping inside the list. Files of earlier versions hold the mapping alone, without the key `record` and the
        list; the content of such a file is returned unchanged.
    """
    if isinstance(content, Mapping) and isinstance(content.get(RECORD), list) and len(content[RECORD]) == 1:
        return content[RECORD][0]

    return content


def read_record(path: Path, command: str, missing_ok: bool = False) -> dict[str, Any]:
    """Reads the record of a stage, and checks that the record and the outputs beside it are what the stage wrote.

    Records of earlier versions have no digests; they are not checked.

    Args:
        path: The file of the record.
        command: The command that runs the stage, for the message.
        missing_ok: Whether the result is an empty record where the file is missing.

    Returns:
        The record.

    Raises:
        UserError: If the record is missing or broken. Also if the record or an output has changed or was cut short.
            A missing output is not reported here.
    """
    if missing_ok and not path.exists():
        return {}
    record = unwrapped(read_json(path, command))
    if not isinstance(record, dict) or not isinstance(record.get("outputs") or {}, dict):
        raise UserError(f"{path}: expected the record of a stage. Run '{command}' again.")
    if record.get(DIGEST) not in (None, record_digest(record)):
        raise _changed(path, command)
    for name, digest in (record.get("outputs") or {}).items():
        output = path.parent / name
        # This module is no part of the fingerprints, so it computes the digest of `file_digest` by itself.
        if output.is_file() and hashlib.blake2b(output.read_bytes(), digest_size=16).hexdigest() != digest:
            raise _changed(output, command)

    return record


def record_digest(record: Mapping[str, Any]) -> str:
    """Computes the digest of all fields of a record but the digest itself, as 32 hexadecimal digits."""
    fields = {name: value for name, value in record.items() if name != DIGEST}

    return hashlib.blake2b(json.dumps(fields).encode(), digest_size=16).hexdigest()


def _changed(path: Path, command: str) -> UserError:
    return UserError(
        f"{path}: has changed since '{command}' wrote it (its digest is another). Run 'git checkout {path}' if git has"
        f" the right file, or run '{command}' again."
    )


def versions() -> dict[str, str]:
    """The versions of Python, of torch if this process has imported torch, and of the installed `LIBRARIES`."""
    torch = sys.modules.get("torch")
    numbers = {"python": platform.python_version()}
    if torch:
        numbers["torch"] = str(torch.__version__)  # includes the build, such as +cpu
    for library in LIBRARIES:
        try:
            numbers[library] = version(library)
        except PackageNotFoundError:
            continue

    return numbers


def machine() -> dict[str, Any]:
    """The processor's name, the number of cores and the operating system; nothing that identifies the machine.

    If this process has used a GPU, also the card and the versions of its driver and libraries, under the key `gpu`.
    """
    torch = sys.modules.get("torch")
    system = f"{platform.system()} {platform.machine()}"
    found: dict[str, Any] = {"processor": processor(), "cores": os.cpu_count(), "system": system}
    if torch and torch.cuda.is_initialized():
        from duvae import devices  # imported here: it loads torch, which many commands do without

        found["gpu"] = devices.versions(torch.device("cuda"))

    return found


def processor() -> str:
    """The processor's name where the operating system gives it, otherwise its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()

    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def peak_memory() -> float:
    """The largest memory that this process has used since its program began, in MiB.

    Linux counts in `ru_maxrss` also the memory of the process that started this one. So the value comes from the
    process's status, where there is one.
    """
    import resource

    try:
        return memory("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 2**10)


def gpu_memory() -> dict[str, int]:
    """The largest memory that PyTorch has held on the GPU, in MiB, under the name `gpu_memory_mib`.

    The memory of the CUDA context, which each process needs besides, is not part of it. The result is empty if this
    process has not used a GPU.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}

    return {"gpu_memory_mib": round(torch.cuda.max_memory_reserved() / MIB)}


def memory(name: str) -> float:
    """Reads one value about the memory of this process from /proc/self/status, in MiB.

    Args:
        name: Name of the value: `VmRSS` for the present memory, `VmHWM` for the peak memory.

    Raises:
        OSError: If the system has no such file.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    values = dict(line.split(":", 1) for line in lines)

    return int(values[name].split()[0]) / 2**10


def owned_by_another(folder: Path = Path()) -> bool:
    """Whether git refuses to read the project's repository because it belongs to another user."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False

    return "dubious ownership" in done.stderr


def trust(folder: Path = Path()) -> str:
    """The command that lets git read a project of another user."""
    return f"git config --global --add safe.directory {shlex.quote(str(folder.resolve()))}"


def commit(folder: Path = Path()) -> dict[str, Any]:
    """Finds the commit of a project, and checks for uncommitted changes that may affect results.

    Args:
        folder: The project's folder.

    Returns:
        `commit`: the hash of the commit; `dirty`: whether there are such uncommitted changes. A value is None where git
        fails, for example outside a repository.
    """
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    head = git("rev-parse", "HEAD")
    # Results and dvc.lock change while DVC runs the stages. So the check is limited to files on which results depend.
    status = git("status", "--porcelain", "--", "src", "params.yaml", "dvc.yaml", "pipelines")

    return {"commit": head, "dirty": bool(status) if status is not None else None}
