"""Kills a small rebuild again and again and compares what comes of it with one that nobody disturbed: `make torture`.

Each round kills in the middle of a training, of writing a training's state, of entering what was made, of writing
dvc.lock, and of the `dvc repro` that ends the recording, in an order and at moments that its seed gives. What is killed
in a training is the training itself, the job around it, or the rebuild; then the same command is started again.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml
from ruamel.yaml import YAML

import tiny
from end_to_end import Clone
from pipelines.workspaces import MARK

TARGETS = ("evaluate@synthetic-vae-1", "train@synthetic-du_vae-1")
HOWS = (("training", "checkpoint"), ("entering", "lock", "recording"))
"""What a round kills in: first while there is something to train, then while there is something to record."""

HERE = Path(__file__).parent
REBUILD = "import sys; from pathlib import Path; from small_project import rebuild\n"
REBUILD += "sys.exit(bool(rebuild(Path.cwd(), *sys.argv[1:], slots=1).failed))"
PATIENCE = 600.0
MOMENTS = {"training": 4.0, "entering": 3.0, "recording": 2.0}
"""Seconds after each began, in which it is killed at a random moment."""
WORDS = {"training": ("duvae", "train"), "entering": ("-m", "pipelines.lockfile"), "recording": ("dvc", "repro")}


def create(folder: Path) -> Clone:
    """A clone with small parameters, in which data are prepared and nothing is trained."""
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
    """The outputs of a plain `dvc repro`."""
    shutil.copytree(prepared, folder, symlinks=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder / "src")}
    subprocess.run(["dvc", "repro", "--quiet", *targets], cwd=folder, env=environment, check=True)

    return outputs(folder)


def outputs(folder: Path) -> dict[str, str]:
    """The hashes that dvc.lock has of all outputs; who made them, and when, apart."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    outs = [out for stage in stages.values() for out in stage.get("outs", ())]

    return {out["path"]: out["md5"] for out in outs if not out["path"].endswith(".run.json")}


class Round:
    """One rebuild that is killed.

    Args:
        prepared: What it begins with.
        folder: Where.
        seed: Of all that is left to chance.
        targets: What is rebuilt.
    """

    def __init__(self, prepared: Path, folder: Path, seed: int, targets: Sequence[str] = TARGETS) -> None:
        shutil.copytree(prepared, folder, symlinks=True)
        self.folder, self.chance, self.killed = folder, random.Random(seed), list[str]()
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

    def kill(self, how: str) -> None:
        """Starts the rebuild and kills it."""
        if how in {"checkpoint", "lock"}:
            # One job dies of a half-written state, and may be tried again; dvc.lock half-written ends the recording.
            write = self.chance.randint(1, 2 if how == "lock" else 60)
            process = self.start({"how": how, "write": write})
            process.wait(PATIENCE)
            if self.token.exists():
                self.killed.append(how)
            return
        process = self.start()
        found = self.wait(process, lambda: [p for p in started(process) if said(p, *WORDS[how])])
        if found:
            time.sleep(self.chance.uniform(0.0, MOMENTS[how]))
            victims = {"the process": found[0], "the rebuild": psutil.Process(process.pid)}
            if how == "training":
                victims["its job"] = found[0].parents()[0]
            name = self.chance.choice(sorted(victims))
            try:
                victims[name].kill()
                self.killed.append(f"{how} ({name})")
            except psutil.NoSuchProcess:
                pass
        process.wait(PATIENCE)

    def wait(self, process: subprocess.Popen[bytes], look: Callable[[], list[psutil.Process]]) -> list[psutil.Process]:
        ends = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < ends:
            if found := look():
                return found
            time.sleep(0.02)

        return []

    def finish(self) -> dict[str, str]:
        """Starts it once more, and lets it end."""
        code = self.start().wait(PATIENCE)
        if code:
            raise SystemExit(f"{self.folder}: the last start ended with {code}")
        if left := list((self.folder / ".dvc/tmp/rebuild/workspaces").iterdir()):
            raise SystemExit(f"{left} were left")
        if states := list((self.folder / "checkpoints").iterdir()):
            raise SystemExit(f"{states} were left")

        return outputs(self.folder)


def started(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """What the rebuild has started and still runs."""
    found = []
    for other in psutil.process_iter():
        try:
            if f"-{process.pid}-" in other.environ().get(MARK, "") and other.status() != psutil.STATUS_ZOMBIE:
                found.append(other)
        except (psutil.Error, OSError):
            continue

    return found


def said(process: psutil.Process, program: str, command: str) -> bool:
    """Whether a process is this command of this program."""
    try:
        line = process.cmdline()
    except psutil.Error:
        return False

    return any(Path(word).name == program for word in line[:2]) and command in line[1:4]


def torture(
    prepared: Path, expected: dict[str, str], folder: Path, seed: int, targets: Sequence[str] = TARGETS
) -> list[str]:
    """One round; returns what was killed.

    Raises:
        SystemExit: Where the outputs are other than expected.
    """
    this = Round(prepared, folder, seed, targets)
    for group in HOWS:
        for how in this.chance.sample(group, len(group)):
            this.kill(how)
    found = this.finish()
    if found != expected:
        other = sorted(path for path in found.keys() | expected if found.get(path) != expected.get(path))
        raise SystemExit(f"seed {seed}, after {this.killed}: other outputs than expected: {other}")

    return this.killed


def main() -> None:
    """Some rounds, and what was killed in them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, metavar="SEED")
    arguments = parser.parse_args()
    kills = 0
    with tempfile.TemporaryDirectory(prefix="duvae-") as place:
        prepared = Path(place) / "prepared"
        create(prepared)
        expected = undisturbed(prepared, Path(place) / "undisturbed")
        for seed in range(arguments.first, arguments.first + arguments.rounds):
            folder = Path(place) / f"round-{seed}"
            killed = torture(prepared, expected, folder, seed)
            kills += len(killed)
            print(f"seed {seed}: {', '.join(killed)}; {len(expected)} outputs as expected", flush=True)
            shutil.rmtree(folder)
    print(f"{arguments.rounds} rounds, {kills} kills, every output as in an undisturbed rebuild")


if __name__ == "__main__":
    main()
