"""Who made a result: commit, machine, time. Kept beside the results, since it differs between identical runs."""

import datetime
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from duvae.files import write_json


class Stopwatch:
    """Measures a stage from its start and writes what it took.

    Args:
        stage: The stage's name.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.started = datetime.datetime.now(datetime.UTC)
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def write(self, path: Path, **more: Any) -> None:
        """Writes commit, seconds of wall and CPU time (all threads), peak memory, versions, and what else is given."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        torch = sys.modules.get("torch")
        write_json(
            path,
            {
                "stage": self.stage,
                **commit(),
                "started": self.started.isoformat(timespec="seconds"),
                "wall_seconds": round(time.perf_counter() - self.wall, 2),
                "cpu_seconds": round(time.process_time() - self.cpu, 2),
                "peak_memory_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
                "python": platform.python_version(),
                "torch": str(torch.__version__) if torch else None,
                "duvae": version("duvae"),
                **more,
            },
        )


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
