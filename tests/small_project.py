"""Creates a small DVC project whose stages are shell commands, and rebuilds it in threads instead of by Prefect."""

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from pipelines import launcher, orchestration
from pipelines.launcher import TaskResult
from pipelines.orchestration import RebuildOptions, TaskContext
from pipelines.scheduler import Progress, Submit
from pipelines.stage_graph import Entry

PARAMS = {"a": 1, "b": 2, "c": 3, "after": 4}

EACH = "mkdir -p each results && echo $(cat base.txt) {0} > each/{0}.txt && echo '{{\"nll\": 1}}' > results/{0}.json"

GRAPH: dict[str, Any] = {
    "stages": {
        "base": {"cmd": "cat words.txt > base.txt", "deps": ["words.txt"], "outs": ["base.txt"]},
        "each": {
            "foreach": ["a", "b", "c"],
            "do": {
                "cmd": "sh each.sh ${item}",
                "deps": ["base.txt", "each.sh"],
                "params": ["${item}"],
                "outs": ["each/${item}.txt"],
                "metrics": [{"results/${item}.json": {"cache": False}}],
            },
        },
        "after": {
            "cmd": "cat each/a.txt results/a.json > after.txt",
            "deps": ["each/a.txt", "results/a.json"],
            "params": ["after"],
            "outs": ["after.txt"],
        },
        "all": {"cmd": "cat results/* > all.txt", "deps": ["results"], "outs": [{"all.txt": {"cache": False}}]},
    }
}

IGNORED = "/base.txt\n/each/\n/after.txt\n/checkpoints/\n"

LONG_REBUILD = """
import sys
from pathlib import Path
from pipelines import prefect_home

prefect_home.use(Path.cwd())  # as `rebuild.run_flow` does before it imports Prefect

from prefect import flow
from pipelines import flow as flows, flow_runs, rebuild
from pipelines import orchestration
from pipelines.orchestration import RebuildOptions

@flow(name="rebuild")
def long(**options):
    flow_runs.begin()
    orchestration.run(Path.cwd(), RebuildOptions(devices="cpu"), 1, flows.submit_here)

flows.rebuild = long
del sys.argv[1:]
rebuild.main()
"""
"""A program that rebuilds a project through Prefect, with a temporary server, until it is ended."""


def call(folder: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr

    return done


def commit(folder: Path, message: str = "all") -> None:
    call(folder, "git", "add", "--all")
    call(
        folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", message
    )


def create(folder: Path, script: str = EACH.format("$1")) -> Path:
    """Creates the project of GRAPH and commits it. Its stages `each@a`, `each@b` and `each@c` run the script `each.sh`.

    Args:
        folder: The folder of the new project.
        script: The content of `each.sh`. Its argument `$1` is `a`, `b` or `c`.
    """
    folder.mkdir()
    call(folder, "git", "init", "--quiet")
    call(folder, "dvc", "init", "--quiet")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(GRAPH, sort_keys=False))
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (folder / "words.txt").write_text("some words\n")
    (folder / "each.sh").write_text(script + "\n")
    (folder / ".gitignore").write_text(IGNORED)
    commit(folder)

    return folder


def change(folder: Path, **params: Any) -> None:
    known = yaml.safe_load((folder / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump({**known, **params}))


def lock(folder: Path) -> dict[str, Any]:
    """Reads dvc.lock. Returns the entry of each stage by the stage's name."""
    stages: dict[str, Any] = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]

    return stages


def threads(context: TaskContext) -> Submit:
    """Returns a function that runs a stage in a thread of this process.

    It stands in for the function of the project that gives a stage to Prefect.
    """
    executor = ThreadPoolExecutor(8)

    def task(name: str, entries: dict[str, Entry]) -> TaskResult:
        assert context.pool is not None
        return context.pool.run(name, partial(launcher.run, name, context.machine, context.snapshot, entries))

    def submit(name: str, entries: dict[str, Entry]) -> Callable[[], TaskResult]:
        return executor.submit(task, name, entries).result

    return submit


def rebuild(folder: Path, *targets: str, **options: Any) -> Progress:
    """Rebuilds the project on the CPU. Two stages run in parallel if the machine has at least two cores.

    Args:
        folder: Folder of the project.
        targets: Names of the stages to rebuild. Without names, all stages are rebuilt.
        options: Other values of `RebuildOptions`.
    """
    chosen = {"devices": "cpu", "slots": min(2, len(os.sched_getaffinity(0))), **options}

    return orchestration.run(folder, RebuildOptions(targets, **chosen), 1, threads)[0]
