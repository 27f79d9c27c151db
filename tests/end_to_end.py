"""`make smoke`: runs the whole pipeline at a reduced size, in a temporary clone of the project.

The clone contains the last commit and the uncommitted changes of the working tree. The program builds Figure 1 in the
clone without any earlier results. It rebuilds Figure 1 to check that no stage runs again, and writes the results to
MLflow. It then runs the stages for a folder of pictures. If the environment variable DUVAE_MIRROR names a copy of the
real data, it also runs the stages for real sentences.
"""

import json
import math
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import tiny

ROOT = Path(__file__).parents[1]
FIGURE1 = ("ae", "vae", "agg_vae", "bn_vae", "du_vae")
REAL = "short_yelp_resampled"


class Clone:
    """A clone of the project. The commands that `run` starts import the package from the clone's own `src`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        bin_ = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([bin_, os.environ.get("PATH", "")]),
            "PYTHONPATH": str(folder / "src"),
            "DO_NOT_TRACK": "true",
            "ITERATIVE_DO_NOT_TRACK": "1",
        }
        mirror = os.environ.get("DUVAE_MIRROR", "")
        if mirror and "://" not in mirror:
            self.environment["DUVAE_MIRROR"] = str(Path(mirror).resolve())
        git("clone", "--quiet", str(ROOT), str(folder))
        for name in git("ls-files", "-z", "--modified", "--others", "--exclude-standard").split("\0"):
            source, target = ROOT / name, folder / name
            if name and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
            elif name:
                target.unlink(missing_ok=True)
        # Git keeps results at full size. The clone must compute its own, smaller results from nothing.
        for made in ("results", "reports"):
            shutil.rmtree(folder / made, ignore_errors=True)
        (folder / "dvc.lock").unlink(missing_ok=True)

    def run(self, *command: str) -> str:
        """Runs a command in the clone, and returns its standard output. If the command fails, this program ends."""
        print(f"$ {' '.join(command)}", flush=True)
        started = time.perf_counter()
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{done.stdout}\n{done.stderr}\nfailed: '{' '.join(command)}' ended with {done.returncode}")
        print(f"  {time.perf_counter() - started:.1f} s", flush=True)

        return done.stdout

    def repro(self, *targets: str) -> list[str]:
        """Runs `dvc repro`, and returns the names of the stages that it ran."""
        return re.findall(r"Running stage '([^']+)'", self.run("dvc", "repro", *targets))

    def read(self, name: str) -> str:
        """Returns the text of a file of the clone. If the file does not exist, this program ends."""
        path = self.folder / name
        expect(path.is_file(), f"{name} is not there")

        return path.read_text(encoding="utf-8")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def expect(right: bool, said: str) -> None:
    if not right:
        sys.exit(f"failed: {said}")


def metrics(clone: Clone, dataset: str, setting: str) -> dict[str, Any]:
    """Reads the metrics of a model, and checks them.

    Each metric must be a finite number. The metrics that are not defined for AE must be null for AE, and only there.
    """
    found: dict[str, Any] = json.loads(clone.read(f"results/{dataset}/{setting}/1/metrics.json"))
    absent = {"nll", "nll_stderr", "perplexity", "kl", "mi", "mpd", "ce"} if setting == "ae" else set()
    for key in ("nll", "nll_stderr", "perplexity", "reconstruction", "kl", "mi", "au", "mpd", "ce"):
        value = found[key]
        expect((value is None) == (key in absent), f"{dataset}, {setting}: {key} is {value}")
        expect(value is None or math.isfinite(value), f"{dataset}, {setting}: {key} is {value}")

    return found


def page(clone: Clone, name: str, *said: str) -> None:
    """Checks that an HTML page needs no other file, and that it contains every text in `said`."""
    text = clone.read(name)
    for word in said:
        expect(word in text, f"{name} does not say '{word}'")
    outside = re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["'](?!data:|#)([^"']+)""", text)
    expect(not outside, f"{name} needs {outside}")
    print(f"  {name}: {len(text) // 1024} KiB")


def runs(clone: Clone) -> Iterator[str]:
    """Yields the ids of the runs in the clone's MLflow database. Deleted runs are left out."""
    with closing(sqlite3.connect(clone.folder / "mlflow.db")) as database:
        for (run,) in database.execute("select run_uuid from runs where lifecycle_stage = 'active'"):
            yield run


def figure1(clone: Clone) -> None:
    """Builds Figure 1 without earlier results, rebuilds it, and writes its results to MLflow twice.

    The second rebuild must run no stage. The second `duvae track` must add no run.
    """
    tiny.write(clone.folder / "params.yaml")
    clone.run("duvae", "graph")
    ran = clone.repro("figure1")
    expect({f"train@synthetic-{s}-1" for s in FIGURE1} < set(ran), f"only {ran} ran")
    for setting in FIGURE1:
        found = metrics(clone, "synthetic", setting)
        print(
            f"  {setting}: " + ", ".join(f"{k} {found[k]}" for k in ("nll", "kl", "mi", "au") if found[k] is not None)
        )
        clone.read(f"results/synthetic/{setting}/1/history.csv")
        clone.read(f"results/synthetic/{setting}/1/probe.json")
    clone.read("results/synthetic/truth.json")
    page(clone, "reports/figure1.html", "AE", "VAE", "Agg-VAE", "BN-VAE", "DU-VAE")
    expect((clone.folder / "reports/figure1.png").stat().st_size > 10_000, "reports/figure1.png is empty")

    expect(clone.repro("figure1") == [], "a second 'dvc repro figure1' ran something")
    expect("synthetic" in clone.run("dvc", "metrics", "show"), "'dvc metrics show' shows nothing")

    clone.run("duvae", "track")
    first = set(runs(clone))
    expect(len(first) >= len(FIGURE1), f"MLflow has {len(first)} runs")
    clone.run("duvae", "track")
    expect(set(runs(clone)) == first, "a second 'duvae track' changed the runs")
    print(f"  {len(first)} runs in MLflow")


def pictures(clone: Clone) -> None:
    """Runs all stages for a folder of the user's own pictures. The models of the synthetic data must not be retrained.

    A second `dvc repro` must only run `own_files`, the stage that looks for changes in the user's files.
    """
    tiny.pictures(clone.folder, 80)
    own = {**tiny.small()["datasets"]["pictures"], "nll_examples": 5, "probe": {"per_character": [2]}}
    tiny.write(clone.folder / "params.yaml", {"pictures": own}, datasets=["pictures"], settings=["du_vae"])
    clone.run("duvae", "graph")
    ran = clone.repro()
    chain = ("train", "evaluate", "probe", "samples")
    expect({"binarize@pictures", *(f"{stage}@pictures-du_vae-1" for stage in chain)} < set(ran), f"only {ran} ran")
    expect(not [name for name in ran if "train@synthetic" in name], f"{ran} ran again")
    found = metrics(clone, "pictures", "du_vae")
    expect(found["nll_examples"] == 5, f"NLL on {found['nll_examples']} images")
    page(
        clone,
        "reports/index.html",
        "test images (NLL on a random 5 of them, the rest on all), per image",
        "images a character",
    )
    page(clone, "reports/examples/pictures.html", "DU-VAE", "Interpolations", "data:image/png")
    expect(not clone.run("git", "status", "--porcelain", "reports/examples", "generated"), "git would keep examples")
    again = clone.repro()
    expect(again == ["own_files"], f"a second 'dvc repro' looks at the files and does nothing more; {again} ran")


def real(clone: Clone) -> None:
    """Runs all stages for real sentences. No stage of the synthetic data may run again."""
    tiny.write(clone.folder / "params.yaml", datasets=["synthetic", REAL], settings=["vae", "du_vae"])
    clone.run("duvae", "graph")
    ran = clone.repro()
    expect({f"train@{REAL}-{setting}-1" for setting in ("vae", "du_vae")} < set(ran), f"only {ran} ran")
    expect(not [name for name in ran if "@synthetic" in name], f"{ran} ran again")
    for setting in ("vae", "du_vae"):
        metrics(clone, REAL, setting)
    page(clone, "reports/index.html", REAL, "VAE", "DU-VAE")
    page(clone, f"reports/examples/{REAL}.html", "DU-VAE", "Interpolations")
    expect(clone.repro() == ["own_files"], "a second 'dvc repro' ran something")


def main() -> None:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="duvae-") as folder:
        clone = Clone(Path(folder) / "duvae")
        figure1(clone)
        pictures(clone)
        if os.environ.get("DUVAE_MIRROR"):
            real(clone)
        else:
            print("DUVAE_MIRROR names no data: real sentences are left out")
    print(f"done in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
