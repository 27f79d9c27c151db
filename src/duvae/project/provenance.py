"""What made a result: the record of a stage, kept in git beside the result.

A record is a JSON file of one key, `record`, with a list of one mapping. `dvc metrics show` skips lists: the file has
to be one of DVC's metrics (`dvc.yaml` says why), and none of its values becomes a column there.
"""

import datetime
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from duvae.project.files import write_json
from duvae.project.fingerprint import of_this_process

RECORD = "record"
"""The only key of a record's file."""

LIBRARIES = ("duvae", "numpy", "scipy", "scikit-learn")
"""Libraries beside torch whose version a number may depend on."""


class Stopwatch:
    """Measures a stage from its start and writes its record.

    Args:
        stage: The kind of stage, as in dvc.yaml.
        system: The name of the system that the stage trains or loads; None where it does neither.
    """

    def __init__(self, stage: str, system: str | None = None) -> None:
        self.stage, self.system = stage, system
        self.started = datetime.datetime.now(datetime.UTC)
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def write(self, path: Path, **more: Any) -> None:
        """Writes the record.

        Args:
            path: The file of the record.
            more: Further fields of the record.
        """
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        made = {
            "stage": self.stage,
            **commit(),
            "fingerprint": of_this_process(self.stage, self.system),
            "started": self.started.isoformat(timespec="seconds"),
            "wall_seconds": round(time.perf_counter() - self.wall, 2),
            "cpu_seconds": round(time.process_time() - self.cpu, 2),  # of all threads
            "peak_memory_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
            "versions": versions(),
            "machine": machine(),
            **more,
        }
        write_json(path, {RECORD: [made]})


def unwrapped(content: Any) -> Any:
    """The record within the content of its file.

    Args:
        content: The parsed JSON. Earlier versions wrote the record without the list around it.
    """
    if isinstance(content, Mapping) and isinstance(content.get(RECORD), list) and len(content[RECORD]) == 1:
        return content[RECORD][0]

    return content


def versions() -> dict[str, str]:
    """The versions of Python, torch and the libraries of LIBRARIES that are installed."""
    torch = sys.modules.get("torch")
    found = {"python": platform.python_version()}
    if torch:
        found["torch"] = str(torch.__version__)  # with the build, such as +cpu
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue

    return found


def machine() -> dict[str, Any]:
    """The processor's name, the number of cores and the operating system; nothing that names the machine itself."""
    return {"processor": processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}


def processor() -> str:
    """The processor's name where the operating system tells it, and otherwise its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()

    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def commit(folder: Path = Path()) -> dict[str, Any]:
    """The commit of the source the process runs from, and whether anything there is uncommitted."""
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
    # Results and the lock change while the graph runs; what makes them is the rest.
    status = git("status", "--porcelain", "--", "src", "params.yaml", "dvc.yaml", "pipelines")

    return {"commit": head, "dirty": bool(status) if status is not None else None}
