r"""Measures how the cost of commands grows with the size of the project: `make bench ARGS="--only scale"`.

The benchmark measures each command at several sizes: lines of text, stages of DVC, and trained models. It runs the
commands of a user in temporary projects, one process for each measurement. Two kinds of bounds must hold:

- The figure at the largest size.
- The growth $\log(c_2 / c_1) / \log(n_2 / n_1)$ between two sizes $n_1$ and $n_2$ with the costs $c_1$ and $c_2$. A
  growth of 1 means that twice the size costs twice as much. Costs that do not depend on the size, such as imports, make
  the growth smaller. Both costs belong to the same run of the benchmark, so the growth depends little on the machine.
"""

import math
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from benchmarks import browser, many_results, many_runs, measure
from benchmarks.large_text import draw
from benchmarks.many_results import ROOT
from benchmarks.measure import Row
from duvae.data.splits import SPECIALS
from duvae.project import job_list

GROWTH = 1.3
"""Upper bound of the growth. A cost that grows with the square of the size has a growth near 2."""

DUVAE = """
import sys
from pathlib import Path
from duvae.__main__ import main

try:
    main()
finally:
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    print("VmHWM:", next((line.split()[1] for line in lines if line.startswith("VmHWM:")), "nan"))
"""
"""Program that runs a command of `duvae`, and then prints the peak memory of the process in KiB, after `VmHWM:`."""


@dataclass(frozen=True)
class ScaleSize:
    """The sizes at which the commands are measured, in ascending order.

    Attributes:
        lines: Numbers of lines of a text file.
        words: Number of words of which the lines consist.
        stages: Numbers of settings in the list of stages; each setting has `seeds` seeds.
        settings: Numbers of settings in the report; each setting has `seeds` seeds.
        seeds: Number of seeds of each setting.
        runs: Numbers of settings whose runs MLflow has; each setting has `seeds` seeds.
        tracked: Number of settings whose runs `duvae track` writes; the other runs are copies of these runs.
    """

    lines: Sequence[int] = (250_000, 500_000, 1_000_000)
    words: int = 20_000
    stages: Sequence[int] = (24, 49, 98)
    settings: Sequence[int] = (50, 100, 200)
    seeds: int = 5
    runs: Sequence[int] = (50, 100, 200)
    tracked: int = 4


TINY = ScaleSize((200, 400), 50, (1, 2), (2, 4), 1, (4, 8), 4)
"""The sizes with `--tiny`, which only tests the code of the benchmark."""


class Cost(NamedTuple):
    """The cost of a command.

    Attributes:
        seconds: CPU seconds of the command and its child processes.
        wall: Wall seconds.
        memory: Peak memory of the whole process in MiB; NaN where it is not known.
        output: The output, with the error output after it.
    """

    seconds: float
    wall: float
    memory: float
    output: str


def run(folder: Path, *command: str) -> Cost:
    """Runs a command in a project, and measures its cost. If the command fails, the benchmark ends.

    Args:
        folder: Folder of the project.
        command: The command and its arguments. The memory is measured only if the command is `duvae`.
    """
    ours = command[0] == "duvae"
    seconds, wall, status, output = measure.run(
        [sys.executable, "-c", DUVAE, *command[1:]] if ours else command, folder
    )
    if status:
        raise SystemExit(f"{output}\n'{' '.join(command)}' ended with {status}")
    return Cost(seconds, wall, peak_memory(output) if ours else float("nan"), output)


def peak_memory(output: str) -> float:
    """Returns the peak memory in MiB that `DUVAE` printed; NaN if the system does not tell it.

    Args:
        output: The output of `DUVAE`. Error messages of the command may follow the memory.
    """
    return float(re.findall(r"^VmHWM: (\S+)$", output, re.MULTILINE)[-1]) / 2**10


def growth(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """Computes the growth of a cost between the smallest and the largest size; the module defines the growth."""
    return math.log(costs[-1] / costs[0]) / math.log(sizes[-1] / sizes[0])


def rows(
    name: str,
    sizes: Sequence[int],
    costs: Sequence[float],
    unit: str,
    must: float,
    aim: float | None = None,
    note: str = "",
) -> list[Row]:
    """Returns two rows for a command: its cost at the largest size, and its growth. The notes have all costs.

    Args:
        name: Name of the measurement.
        sizes: The sizes, ascending.
        costs: The cost at each size.
        unit: Unit of the costs.
        must: Upper bound that the cost at the largest size must keep.
        aim: Upper bound that this cost should keep; None: no such bound.
        note: Remark on the cost.
    """
    rate = measure.rate()
    each = ", ".join(f"{size}: {measure.number(cost)}" for size, cost in zip(sizes, costs, strict=True))

    return [
        Row(name, costs[-1], unit, rate, must, aim, note=note),
        Row(f"{name}, growth", growth(sizes, costs), "", rate, GROWTH, note=f"{each} {unit}"),
    ]


class ScaleBench:
    """The measurements of commands at growing sizes. Each group of rows in the table has a method of its own."""

    def __init__(self, size: ScaleSize) -> None:
        self.size = size

    def __call__(self) -> Iterator[Row]:
        """Measures and yields all rows."""
        for group in (self.text, self.stages, self.track, self.report):
            with tempfile.TemporaryDirectory(prefix="duvae-bench-") as folder:
                yield from group(Path(folder))

    def text(self, folder: Path) -> Iterator[Row]:
        """Yields the rows on preparing and validating a text file of the user."""
        sizes = self.size.lines
        prepared, validated = [], []
        for lines in sizes:
            place = folder / str(lines)
            write_text_project(place, lines, self.size.words)
            run(place, "duvae", "fetch", "--dataset", "lines")
            prepared.append(run(place, "duvae", "prepare", "--dataset", "lines"))
            validated.append(run(place, "duvae", "validate", "--dataset", "lines"))
        what = f"{sizes[-1]} lines of text"
        note = "imports included; " + WORDS_OF_LINES
        yield from rows(f"preparing {what}", sizes, [cost.seconds for cost in prepared], "s", 20, 10, note)
        yield from rows(f"preparing {what}, memory", sizes, [cost.memory for cost in prepared], "MiB", 1024, 600, PEAK)
        yield from rows(f"validating {what}", sizes, [cost.seconds for cost in validated], "s", 16, 8, note)
        yield from rows(
            f"validating {what}, memory", sizes, [cost.memory for cost in validated], "MiB", 2048, 1024, PEAK
        )

    def stages(self, folder: Path) -> Iterator[Row]:
        """Yields the rows on commands that read the whole graph of stages."""
        commands = {
            "duvae graph": ("duvae", "graph"),
            "rebuild --plan": (sys.executable, "-m", "pipelines.rebuild", "--plan"),
            "dvc status": ("dvc", "status"),
        }
        bounds = {"duvae graph": (0.8, None), "rebuild --plan": (18, 9), "dvc status": (42, 21)}
        sizes: list[int] = []
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        clone(folder / "project")
        for settings in self.size.stages:
            project = folder / "project"
            many_results.write_params(project, settings, self.size.seeds)
            sizes.append(stage_count(project))
            for name, command in commands.items():
                costs[name].append(run(project, *command))
        for name, (must, aim) in bounds.items():
            wall = f"{costs[name][-1].wall:.1f} s wall; no stage is up to date"
            seconds = [cost.seconds for cost in costs[name]]
            yield from rows(f"{name} of {sizes[-1]} stages", sizes, seconds, "s", must, aim, wall)

    def track(self, folder: Path) -> Iterator[Row]:
        """Yields the rows on `duvae track`: its first call, and calls when all runs are up to date."""
        seeds, tracked = self.size.seeds, self.size.tracked
        params = many_results.write_params(folder, tracked, seeds)
        many_results.write_results(folder, params, params.run_jobs())
        nothing = run(folder, "duvae", "--help").seconds
        first, known = run(folder, "duvae", "track"), params.run_jobs()
        yield Row(
            "track, each new run",
            (first.seconds - nothing) / len(known),
            "s",
            measure.rate(),
            must=4,
            note=f"{len(known)} runs with figures, models and a new store",
        )
        costs = []
        for settings in self.size.runs:
            params = many_results.write_params(folder, settings, seeds)
            many_results.write_results(folder, params, params.run_jobs())
            many_runs.copy_runs(folder, params, known)
            run(folder, "duvae", "track")  # writes the runs of settings and the registered model
            cost = run(folder, "duvae", "track")
            if f"{len(params.run_jobs())} unchanged" not in cost.output or " added" in cost.output:
                raise SystemExit(f"{cost.output}\nExpected {len(params.run_jobs())} unchanged runs.")
            costs.append(cost)
        sizes = [settings * seeds for settings in self.size.runs]
        name, note = f"track of {sizes[-1]} unchanged runs", f"{costs[-1].wall:.1f} s wall; imports included"
        yield from rows(name, sizes, [cost.seconds for cost in costs], "s", 20, note=note)
        yield from rows(f"{name}, memory", sizes, [cost.memory for cost in costs], "MiB", 2048, note=PEAK)

    def report(self, folder: Path) -> Iterator[Row]:
        """Yields the rows on the report page: the time to write it, its size, and whether a browser opens it."""
        seeds = self.size.seeds
        costs, megabytes, page = [], [], folder / "reports" / "index.html"
        for settings in self.size.settings:
            params = many_results.write_params(folder, settings, seeds)
            many_results.write_results(folder, params, params.run_jobs())
            costs.append(run(folder, "duvae", "report"))
            megabytes.append(page.stat().st_size / 1e6)
        sizes = [settings * seeds for settings in self.size.settings]
        name = f"report of {self.size.settings[-1]} settings x {seeds} seeds"
        note = f"{costs[-1].wall:.1f} s wall; imports included"
        yield from rows(name, sizes, [cost.seconds for cost in costs], "s", 120, note=note)
        yield from rows(f"{name}, size", sizes, megabytes, "MB", 15)
        yield from rows(f"{name}, memory", sizes, [cost.memory for cost in costs], "MiB", 2048, note=PEAK)
        opened = browser.open_page(page)
        yield Row(f"{name}, opened by a browser", opened.wall, "s wall", measure.rate(), note=opened.version)
        yield Row(
            f"{name}, faults in the browser",
            len(opened.faults),
            "",
            measure.rate(),
            must=0,
            note="; ".join(opened.faults) or "its script compares two settings",
        )


PEAK = "peak of the whole process"
WORDS_OF_LINES = "4 to 16 words a line"


def write_text_project(folder: Path, lines: int, words: int) -> None:
    """Writes a project whose only data set is a text file of the user, with random lines of 4 to 16 words.

    Args:
        folder: Folder of the project.
        lines: Number of lines.
        words: Number of words of which the lines consist.
    """
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["datasets"]["lines"] = {
        **raw["datasets"]["short_yelp"],
        "source": {
            "train": [{"path": "lines.txt"}],
            "split": {"valid": 0.05, "test": 0.05, "seed": 1},
            "build": {"most": words, "at_least": 1},
            "max_words": 20,
        },
        "expect": {"max_unknown_rate": 1.0, "max_shared_rate": 1.0},
        "probe": {"labels": []},
    }
    raw["datasets"]["lines"].pop("paper", None)
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    lexicon = np.array([f"w{number}" for number in range(words - len(SPECIALS))])
    lengths = np.random.default_rng(2).integers(4, 17, lines)
    ends = np.cumsum(lengths).tolist()
    corpus = lexicon[draw(ends[-1], words) - len(SPECIALS)].tolist()
    with (folder / "lines.txt").open("w", encoding="utf-8") as file:
        for end, length in zip(ends, lengths.tolist(), strict=True):
            file.write(" ".join(corpus[end - length : end]) + "\n")


def clone(folder: Path) -> None:
    """Clones the project, with its uncommitted changes and without the results of dvc.lock."""
    from pipelines.workspaces import ProjectSnapshot, git

    git(ROOT, "clone", "--quiet", "--no-checkout", "--", str(ROOT), str(folder))
    snapshot = ProjectSnapshot.take(ROOT)
    git(folder, "checkout", "--quiet", "--force", "--detach", snapshot.commit)
    snapshot.write(folder)
    (folder / "dvc.lock").unlink(missing_ok=True)


def stage_count(folder: Path) -> int:
    """Counts the stages of a project: those of dvc.yaml, each as often as the list of jobs says."""
    stages = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    lists = yaml.safe_load((folder / job_list.JOBS).read_text(encoding="utf-8"))

    return sum(len(lists[stage["foreach"][2:-1]]) if "foreach" in stage else 1 for stage in stages.values())
