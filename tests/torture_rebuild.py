"""Kills a small rebuild again and again, and compares its outputs with those of an undisturbed one.

A round of the first kind kills once in each of five phases: a training, a write of a training's state, the update of
dvc.lock, a write of dvc.lock, and the final `dvc repro`. During a training the round kills the training itself, its
task's process, or the rebuild.

A round of the second kind ends the command `python -m pipelines.rebuild` by signals. No process of the rebuild may be
left, not even Prefect's temporary server.

The round's seed gives the order and the moments. After each kill the round starts the same command again.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import psutil
import yaml
from ruamel.yaml import YAML

import tiny
from end_to_end import Clone
from pipelines.owners import OWNER_VARIABLE

TARGETS = ("evaluate@synthetic-vae-1", "train@synthetic-du_vae-1")
PHASES = (("training", "checkpoint"), ("lockfile", "lock", "recording"))
"""The phases in which a round kills: first the phases of training, then the phases of recording results."""

HERE = Path(__file__).parent
REBUILD = "import sys; from pathlib import Path; from small_project import rebuild\n"
REBUILD += "sys.exit(bool(rebuild(Path.cwd(), *sys.argv[1:], slots=1).failed))"
PATIENCE = 600.0
MOMENTS = {"training": 4.0, "lockfile": 3.0, "recording": 2.0}
"""For each phase, the greatest number of seconds between the start of the phase and the kill."""
COMMANDS = {"training": ("duvae", "train"), "lockfile": ("-m", "pipelines.lockfile"), "recording": ("dvc", "repro")}


def create(folder: Path) -> Clone:
    """Creates a clone of the project with small parameters and prepared data, and without trained models."""
    clone = Clone(folder)
    tiny.write(folder / "params.yaml", settings=["vae", "du_vae"])
    file = YAML()
    raw = file.load((folder / "params.yaml").read_text(encoding="utf-8"))
    raw["checkpoint_seconds"] = 0.0
    raw["datasets"]["synthetic"]["optimisation"]["epochs"] = 12
    with (folder / "params.yaml").open("w", encoding="utf-8") as opened:
        file.dump(raw, opened)
    clone.run("duvae", "graph")
    for command in (
        ["add", "--all"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "small"],
    ):
        clone.run("git", *command)
    clone.repro("validate@synthetic")

    return clone


def undisturbed(prepared: Path, folder: Path, targets: Sequence[str] = TARGETS) -> dict[str, str]:
    """Runs `dvc repro` without a kill in a copy of the clone; returns the hashes of all outputs."""
    shutil.copytree(prepared, folder, symlinks=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder / "src")}
    subprocess.run(["dvc", "repro", "--quiet", *targets], cwd=folder, env=environment, check=True)

    return outputs(folder)


def outputs(folder: Path) -> dict[str, str]:
    """The hashes of all outputs in dvc.lock, by path.

    Records (*.run.json) are left out, because they differ between identical runs.
    """
    stages = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    outs = [out for stage in stages.values() for out in stage.get("outs", ())]

    return {out["path"]: out["md5"] for out in outs if not out["path"].endswith(".run.json")}


class Round:
    """One rebuild that is killed several times.

    Args:
        prepared: The project to copy.
        folder: The folder of the copy.
        seed: Seed of the order and the moments of the kills.
        targets: Names of the stages to rebuild.
    """

    def __init__(self, prepared: Path, folder: Path, seed: int, targets: Sequence[str] = TARGETS) -> None:
        shutil.copytree(prepared, folder, symlinks=True)
        self.folder, self.random, self.killed = folder, random.Random(seed), list[str]()
        self.targets = targets
        self.token = folder.with_name(f"{folder.name}.token")

    def start(self, order: dict[str, Any] | None = None) -> subprocess.Popen[bytes]:
        paths = [str(path) for path in (self.folder / "src", HERE, HERE.parent)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if order is not None:
            self.token.unlink(missing_ok=True)
            path = self.folder.with_name(f"{self.folder.name}.order")
            path.write_text(json.dumps({**order, "token": str(self.token)}), encoding="utf-8")
            environment["DUVAE_DYING"] = str(path)
            paths.insert(0, str(HERE / "dying"))
        environment["PYTHONPATH"] = os.pathsep.join(paths)

        return subprocess.Popen([sys.executable, "-c", REBUILD, *self.targets], cwd=self.folder, env=environment)

    def kill(self, phase: str) -> None:
        """Starts the rebuild and kills one of its processes during a phase."""
        if phase in {"checkpoint", "lock"}:
            # The kill comes in the middle of a write. In a write of a state it ends only a task, which may be retried.
            # In a write of dvc.lock it ends the recording.
            write = self.random.randint(1, 2 if phase == "lock" else 60)
            process = self.start({"how": phase, "write": write})
            process.wait(PATIENCE)
            if self.token.exists():
                self.killed.append(phase)
            return
        process = self.start()
        processes = self.wait(process, lambda: [p for p in started(process) if runs(p, *COMMANDS[phase])])
        if processes:
            time.sleep(self.random.uniform(0.0, MOMENTS[phase]))
            victims = {"the process": processes[0], "the rebuild": psutil.Process(process.pid)}
            if phase == "training":
                victims["its task"] = processes[0].parents()[0]
            name = self.random.choice(sorted(victims))
            try:
                victims[name].kill()
                self.killed.append(f"{phase} ({name})")
            except psutil.NoSuchProcess:
                pass
        process.wait(PATIENCE)

    def wait(self, process: subprocess.Popen[bytes], find: Callable[[], list[psutil.Process]]) -> list[psutil.Process]:
        """Waits until `find` finds processes; returns them. Empty: the rebuild ended first, or took too long."""
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            if processes := find():
                return processes
            time.sleep(0.02)

        return []

    def finish(self) -> dict[str, str]:
        """Starts the rebuild once more without a kill; returns the hashes of its outputs."""
        code = self.start().wait(PATIENCE)
        if code:
            raise SystemExit(f"{self.folder}: the last start ended with {code}")
        if left := list((self.folder / ".dvc/tmp/rebuild/workspaces").iterdir()):
            raise SystemExit(f"{left} were left")
        if states := list((self.folder / "checkpoints").iterdir()):
            raise SystemExit(f"{states} were left")

        return outputs(self.folder)


def started(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The running processes that a rebuild started."""
    processes = []
    for other in psutil.process_iter():
        try:
            if f"-{process.pid}-" in other.environ().get(OWNER_VARIABLE, "") and other.status() != psutil.STATUS_ZOMBIE:
                processes.append(other)
        except (psutil.Error, OSError):
            continue

    return processes


def runs(process: psutil.Process, program: str, command: str) -> bool:
    """Whether a process runs the command `command` of the program `program`."""
    try:
        line = process.cmdline()
    except psutil.Error:
        return False

    return any(Path(word).name == program for word in line[:2]) and command in line[1:4]


def torture(
    prepared: Path, expected: dict[str, str], folder: Path, seed: int, targets: Sequence[str] = TARGETS
) -> list[str]:
    """Runs one round of the first kind; returns the phase of each kill and, during training, what was killed.

    Raises:
        SystemExit: The outputs differ from the expected outputs, or the last start failed or left files behind.
    """
    this = Round(prepared, folder, seed, targets)
    for group in PHASES:
        for phase in this.random.sample(group, len(group)):
            this.kill(phase)
    compare(this, expected, seed)

    return this.killed


def compare(this: Round, expected: dict[str, str], seed: int) -> None:
    """Ends the rebuild of a round without a kill, and compares its outputs with the expected ones.

    Raises:
        SystemExit: The outputs differ, or the last start failed or left files behind.
    """
    actual = this.finish()
    if actual != expected:
        paths = sorted(path for path in actual.keys() | expected if actual.get(path) != expected.get(path))
        raise SystemExit(f"seed {seed}, after {this.killed}: outputs differ from the expected ones: {paths}")


# ---------------------------------------------------------------------------------- signals


def ended_by_signals(
    prepared: Path,
    expected: dict[str, str],
    folder: Path,
    seed: int,
    targets: Sequence[str] = TARGETS,
    signals: Sequence[signal.Signals] | None = None,
) -> list[str]:
    """Runs one round of the second kind; returns the name of each signal that ended a rebuild.

    Args:
        prepared: The project to copy.
        expected: The hashes of the outputs of an undisturbed rebuild.
        folder: The folder of the copy.
        seed: Seed of the signals and the moments.
        targets: Names of the stages to rebuild.
        signals: The signals; None: SIGHUP and one of `OTHERS`, in any order.

    Raises:
        SystemExit: The outputs differ, the last start failed, or a process was left.
    """
    this = Round(prepared, folder, seed, targets)
    for number in signals or this.random.sample([signal.SIGHUP, this.random.choice(OTHERS)], 2):
        log = folder.with_name(f"{folder.name}.log")
        with log.open("wb") as output:
            process = start_command(folder, targets, output)
            end_by(this, process, number)
        if process.returncode == 0:  # the rebuild ended before the signal
            continue
        if process.returncode not in {-number, 128 + number, 130}:
            raise SystemExit(f"seed {seed}, {number.name}: exit status {process.returncode}\n{log.read_text()}")
        this.killed.append(number.name)
        if left := remaining(folder):
            raise SystemExit(f"seed {seed}: after {number.name} these processes were left: {left}")
    compare(this, expected, seed)

    return this.killed


def start_command(folder: Path, targets: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts `python -m pipelines.rebuild`, whose processes all carry the mark of their folder."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(str(path) for path in (folder / "src", HERE.parent)),
        MARK: str(folder),
    }
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "pipelines.rebuild", "--devices", "cpu", "--slots", "1", *targets]

    # In a session of its own, since a background process of a shell would ignore SIGINT.
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )


def end_by(this: Round, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Sends a signal to a rebuild at a random moment after the start of Prefect's server, and waits for its end.

    Most moments lie in a training, and the others in the start of the rebuild.
    """
    this.wait(process, lambda: [other for other in marked(this.folder) if runs_server(other)])
    if this.random.random() < 0.7:
        this.wait(process, lambda: [other for other in started(process) if runs(other, *COMMANDS["training"])])
    time.sleep(this.random.uniform(0.0, MOMENTS["training"]))
    if process.poll() is None:
        process.send_signal(number)
    process.wait(PATIENCE)


OTHERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
"""The signals that end a rebuild, besides SIGHUP."""

MARK = "DUVAE_TORTURE"
"""Environment variable of a rebuild that a round starts, and of every process below it. Its value is the folder."""

ENDING = 60.0
"""Greatest number of seconds between the end of a rebuild and the end of its last process."""


def marked(folder: Path) -> list[psutil.Process]:
    """The running processes of rebuilds in a folder."""
    processes = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
        except (psutil.Error, OSError):
            continue

    return processes


def runs_server(process: psutil.Process) -> bool:
    """Whether a process is a Prefect server."""
    try:
        return "uvicorn" in process.cmdline()
    except psutil.Error:
        return False


def remaining(folder: Path) -> list[str]:
    """Waits for the end of all processes of a rebuild that has ended; returns the commands of those that stay.

    The function kills these processes, so that they do not outlive the round.
    """
    deadline = time.monotonic() + ENDING
    while (processes := marked(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    left = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            left.append(" ".join(process.cmdline()))
            process.kill()

    return left
