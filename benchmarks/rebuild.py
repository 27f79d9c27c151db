"""Compares a parallel rebuild with plain `dvc repro`: `python -m benchmarks.rebuild`.

`dvc repro` runs the stages that are out of date one after another. A rebuild (`python -m pipelines.rebuild`) runs
several of these stages at a time. Both commands train, evaluate and probe AE, VAE, BN-VAE and DU-VAE on the synthetic
data with two seeds, for fewer epochs than in the paper. Each command runs in a new clone of the project.

The benchmark compares wall times, so no other process should run. The title of the table shows the load of the machine.
The benchmark also measures trainings whose results are already in the run cache, DVC's store of earlier results.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
SETTINGS, SEEDS = ("ae", "vae", "bn_vae", "du_vae"), (1, 2)
TARGETS = [f"{kind}@synthetic-{s}-{n}" for kind in ("evaluate", "probe") for s in SETTINGS for n in SEEDS]
"""Names of the stages that both commands bring up to date, together with the stages on which these stages depend."""


def clone(folder: Path, epochs: int, samples: int, sentences: int | None) -> dict[str, str]:
    """Clones the project without its results, and writes the parameters of the benchmark into the clone.

    Args:
        folder: Folder of the clone.
        epochs: Number of epochs of each training.
        samples: Number of importance samples of each evaluated sentence.
        sentences: Number of training sentences; None: as many as in params.yaml.

    Returns:
        The environment variables for commands in the clone.
    """
    from pipelines.workspaces import ProjectSnapshot, git

    git(ROOT, "clone", "--quiet", "--no-checkout", "--", str(ROOT), str(folder))
    snapshot = ProjectSnapshot.take(ROOT)
    git(folder, "checkout", "--quiet", "--force", "--detach", snapshot.commit)
    snapshot.write(folder)
    raw: dict[str, Any] = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    raw["run"] = {"datasets": ["synthetic"], "settings": list(SETTINGS), "seeds": list(SEEDS)}
    raw["evaluation"]["importance_samples"] = samples
    raw["datasets"]["synthetic"]["optimisation"].update(epochs=epochs, warmup=1)
    if sentences is not None:
        raw["datasets"]["synthetic"]["source"].update(train=sentences, valid=sentences // 4, test=sentences // 4)
        raw["datasets"]["synthetic"]["expect"].update(max_shared_rate=1.0)
        raw["datasets"]["synthetic"]["probe"].update(labels=[sentences // 10])
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    (folder / "dvc.lock").unlink(missing_ok=True)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(folder)]),
        "PREFECT_HOME": str(folder.parent / "prefect"),
    }
    run(folder, environment, "duvae", "graph")

    return environment


def run(folder: Path, environment: dict[str, str], *command: str) -> float:
    """Runs a command in a folder, and returns its wall seconds. If the command fails, the benchmark ends."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr}\n'{' '.join(command)}' ended with {done.returncode}")

    return time.perf_counter() - started


def outputs(folder: Path) -> dict[str, str]:
    """Reads the MD5 hashes of the outputs of all stages from dvc.lock, by path of the output.

    The files `*.run.json` are left out. They record where and when a result was computed, so they differ in every run.
    """
    stages = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    outs = [out for stage in stages.values() for out in stage["outs"]]

    return {out["path"]: out["md5"] for out in outs if not out["path"].endswith(".run.json")}


CACHED = """
import json, sys, time
from pathlib import Path
from pipelines import launcher
from pipelines.stage_graph import StageGraph
from pipelines.launcher import Machine
from pipelines.workspaces import ProjectSnapshot

root = Path.cwd()
(root / "dvc.lock").rename(root / "dvc.lock.away")
graph = StageGraph(root)
looked, jobs = [], []
snapshot = ProjectSnapshot.take(root, graph.output_paths)
for name in list(graph.stages):
    if not graph.stages[name].gathers and all(upstream in graph.entries for upstream in graph.stages[name].upstream):
        started = time.perf_counter()
        found = graph.look_up(name)
        looked += [time.perf_counter() - started] if found else []
        if found and name.startswith("train@"):
            started = time.perf_counter()
            done = launcher.run(name, Machine(root, graph.cache), snapshot, graph.upstream_entries(name), None)
            assert not done.ran
            jobs.append(time.perf_counter() - started)
print(json.dumps([looked, jobs]))
(root / "dvc.lock.away").rename(root / "dvc.lock")
"""
"""Program that runs in the clone after the rebuild, while all results are in the run cache.

The program hides dvc.lock, so that no stage is up to date. It measures how long it takes to find each stage in the run
cache, and how long a whole task takes for each training found there. It prints both lists of wall seconds as JSON.
"""


def main() -> None:
    """Measures both commands, prints a table, and ends with exit status 1 if the outputs of the commands differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rebuild", description=__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each training; default: 5")
    parser.add_argument(
        "--samples", type=int, default=20, help="importance samples of each evaluated sentence; default: 20"
    )
    parser.add_argument("--sentences", type=int, help="number of training sentences; default: all")
    parser.add_argument("--slots", type=int, default=2, help="tasks at a time of the parallel rebuild; default: 2")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="duvae-") as place:
        plain, beside = Path(place) / "plain", Path(place) / "beside"
        environment = clone(plain, arguments.epochs, arguments.samples, arguments.sentences)
        one = run(plain, environment, "dvc", "repro", *TARGETS)
        environment = clone(beside, arguments.epochs, arguments.samples, arguments.sentences)
        rebuild = [sys.executable, "-m", "pipelines.rebuild", "--slots", str(arguments.slots), "--devices", "cpu"]
        two = run(beside, environment, *rebuild, *TARGETS)
        again = run(beside, environment, *rebuild, *TARGETS)
        equal = outputs(plain) == outputs(beside)
        done = subprocess.run(
            [sys.executable, "-c", CACHED], cwd=beside, env=environment, capture_output=True, text=True, check=True
        )
        looked, jobs = json.loads(done.stdout.splitlines()[-1])
    table = Table(
        "measurement", "value", "expected", title=f"{len(TARGETS)} targets, {arguments.epochs} epochs, load {load:.1f}"
    )
    table.add_row("dvc repro", f"{one:.0f} s", "")
    table.add_row(f"rebuild, {arguments.slots} slots", f"{two:.0f} s, {two / one:.2f} x", "<= 0.65 x")
    table.add_row("outputs", "identical" if equal else "DIFFERENT", "identical")
    table.add_row(
        "lookup of a stage in the run cache", f"{looked[len(looked) // 2]:.3f} s, at most {looked[-1]:.3f}", ""
    )
    cached_jobs = f"{jobs[len(jobs) // 2]:.1f} s, at most {jobs[-1]:.1f}"
    table.add_row("a job whose result is in the run cache", cached_jobs, "< 4 s")
    table.add_row("rebuild with nothing to do", f"{again:.1f} s", "")
    Console(width=100).print(table)
    sys.exit(not equal)


if __name__ == "__main__":
    main()
