"""The parts of a rebuild: devices, the order of tasks, estimated durations, and printed tables."""

import io
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duvae import config
from duvae.errors import UserError
from pipelines import devices, display, durations
from pipelines.devices import Device, choose
from pipelines.failures import TaskFailedError
from pipelines.forecast import Forecast
from pipelines.launcher import TaskResult
from pipelines.scheduler import Progress, Scheduler
from pipelines.slots import Sharing
from pipelines.stage_graph import Stage, _ordered

# ---------------------------------------------------------------------------------- devices


def test_slots_follow_from_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cpus", lambda: list(range(8)))
    assert len(choose(1, None, "cpu")) == 8
    assert len(choose(3, None, "cpu")) == 2
    assert len(choose(16, None, "cpu")) == 1
    assert [device.visible for device in choose(4, 2, "cpu")] == ["", ""]
    with pytest.raises(UserError, match=r"--slots 3: 3 processes of 4 threads .* Expected at most 2"):
        choose(4, 3, "cpu")


def test_tasks_that_fill_the_machine_are_pinned_to_separate_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cpus", lambda: [1, 2, 3, 5, 8])
    assert [device.cpus for device in choose(1, None, "cpu")] == [(1,), (2,), (3,), (5,), (8,)]
    assert [device.cpus for device in choose(2, None, "cpu")] == [(1, 2), (3, 5)]
    assert [device.cpus for device in choose(1, 4, "cpu")] == [()] * 4
    assert [device.cpus for device in choose(5, None, "cpu")] == [()]
    assert [device.cpus for device in choose(1, 2, "0,1", check=False)] == [()] * 4


def test_a_process_is_pinned_to_its_cpus() -> None:
    last = max(os.sched_getaffinity(0))
    with subprocess.Popen(["sleep", "100"]) as process:
        Device("CPU", "").pin(process.pid)
        assert os.sched_getaffinity(process.pid) == os.sched_getaffinity(0)
        Device("CPU", "", 0, (last,)).pin(process.pid)
        assert os.sched_getaffinity(process.pid) == {last}
        process.kill()
    Device("CPU", "", 0, (last,)).pin(process.pid)  # no error, although the process has ended


# ---------------------------------------------------------------------------------- order


class FakeGraph:
    """Stands for the graph of a project's stages, without a project.

    Args:
        upstream: For each stage, the names of the stages that it depends on.
        up_to_date: Names of the stages that are up to date in the project.
        cached: Names of the stages whose outputs are in DVC's run cache.
        gathers: Names of the stages that only gather the results of other stages.
    """

    def __init__(
        self, upstream: dict[str, list[str]], up_to_date: set[str], cached: set[str], gathers: set[str]
    ) -> None:
        stages = {name: Stage(name, tuple(names), (), name in gathers) for name, names in upstream.items()}
        self.stages = _ordered(stages, stages)
        self.entries: dict[str, Any] = {}
        self.up_to_date: set[str] = set()
        self.in_project, self.cached, self.looked_up = up_to_date, cached, list[str]()

    def look_up(self, name: str) -> bool:
        assert all(upstream in self.entries for upstream in self.stages[name].upstream)
        assert name not in self.looked_up
        self.looked_up.append(name)
        if name in self.in_project:
            self.up_to_date.add(name)
        if name in self.in_project | self.cached:
            self.entries[name] = {}
        return name in self.entries

    def upstream_entries(self, name: str) -> dict[str, Any]:
        return {upstream: self.entries[upstream] for upstream in self.stages[name].upstream}


DIAMOND = {"data": [], "a": ["data"], "b": ["data"], "c": ["data"], "after_c": ["c"], "page": ["a", "b", "after_c"]}


def scheduled(
    graph: FakeGraph, slots: int, fail: Callable[[str], bool] = lambda _: False, **options: Any
) -> tuple[list[str], Progress, int]:
    """Runs the stages of a graph with made-up tasks.

    Args:
        graph: The stages.
        slots: Number of tasks that may run at once.
        fail: Whether the task of a stage fails, by the stage's name.
        options: Further arguments of `Scheduler`.

    Returns:
        The names of the tasks in the order of their starts, the final progress, and the largest number of tasks that
        ran at once.
    """
    started, most = [], 0
    scheduler = Scheduler(graph, options.pop("estimates", {}), **options)  # type: ignore[arg-type]

    def submit(name: str, _: Any) -> Callable[[], TaskResult]:
        nonlocal most
        started.append(name)
        most = max(most, len(scheduler.progress.running))

        def wait() -> TaskResult:
            time.sleep(0.01)
            if fail(name):
                raise TaskFailedError(name, "bad")
            return TaskResult(name, {}, True, 0.01, "CPU 1")

        return wait

    scheduler.run(submit, lambda: slots)

    return started, scheduler.progress, most


def test_the_longest_chain_comes_first_and_no_more_run_than_may() -> None:
    graph = FakeGraph(DIAMOND, set(), set(), {"page"})
    started, progress, most = scheduled(graph, 2, estimates={"b": 5.0, "after_c": 7.0})
    assert started[:4] == ["data", "c", "b", "after_c"] or started[:4] == ["data", "c", "b", "a"]
    assert set(started) == set(DIAMOND) - {"page"}
    assert progress.deferred == ["page"]
    assert most == 2


def test_a_stage_of_unknown_duration_counts_as_the_longest_of_its_kind() -> None:
    """A stage of unknown duration starts early. Otherwise a long training could start after all others have ended."""
    upstream: dict[str, list[str]] = {"train@a": [], "train@new": [], "train@b": [], "probe@c": []}
    estimates = {"train@a": 9.0, "train@b": 5.0, "probe@c": 6.0}
    started, _, _ = scheduled(FakeGraph(upstream, set(), set(), set()), 1, estimates=estimates)
    assert started == ["train@a", "train@new", "probe@c", "train@b"]


def test_stages_that_are_up_to_date_or_cached_are_not_run() -> None:
    graph = FakeGraph(DIAMOND, {"data", "a"}, {"c"}, {"page"})
    started, progress, _ = scheduled(graph, 4)
    assert sorted(started) == ["after_c", "b"]
    assert sorted(progress.up_to_date) == ["a", "data"]
    assert progress.cached == ["c"]
    everything = FakeGraph(DIAMOND, set(DIAMOND), set(), {"page"})
    assert scheduled(everything, 4)[1].up_to_date == list(everything.stages)


@pytest.mark.parametrize(("keep_going", "expected"), [(True, {"data", "a", "b", "c"}), (False, {"data", "c"})])
def test_a_failure_and_what_needs_it(keep_going: bool, expected: set[str]) -> None:
    graph = FakeGraph(DIAMOND, set(), set(), {"page"})
    started, progress, _ = scheduled(graph, 1, lambda name: name == "c", keep_going=keep_going, estimates={"c": 9.0})
    assert set(started) == expected
    assert list(progress.failed) == ["c"]
    assert set(progress.skipped) == set(DIAMOND) - expected - {"page"}


def test_an_error_other_than_a_failed_task_ends_the_run() -> None:
    graph = FakeGraph(DIAMOND, set(), set(), set())
    scheduler = Scheduler(graph, {})  # type: ignore[arg-type]

    def submit(name: str, _: Any) -> Callable[[], TaskResult]:
        def wait() -> TaskResult:
            raise KeyError(name)

        return wait

    with pytest.raises(KeyError, match="data"):
        scheduler.run(submit, lambda: 1)


# ---------------------------------------------------------------------------------- estimates and tables


class RecordedGraph(FakeGraph):
    """A graph of stages that have written records, files with the stage's duration.

    Args:
        records: Maps each stage to the content of its record; None: the stage has no record.
    """

    def __init__(self, records: dict[str, Any]) -> None:
        super().__init__({name: [] for name in records}, set(), set(), set())
        self.dvc_stages, self.records = self.stages, records

    def outs(self, name: str) -> list[str]:
        return [f"{name}.run.json", "weights"]

    def read_output(self, path: str) -> Any:
        return self.records[path.removesuffix(".run.json")]


RECORDS = {
    "train@synthetic-vae-1": {"device": "cpu", "cpu_seconds": 100.0, "threads": 2, "wall_seconds": 80.0},
    "train@synthetic-vae-2": None,
    "train@synthetic-ae-1": {
        "device": "cuda",
        "cpu_seconds": 60.0,
        "wall_seconds": 70.0,
        "seconds_per_epoch": [50, 40],
    },
    "train@yahoo-vae-1": "broken",
    "train@synthetic-fb-1": {  # resumed: the last part took half of the time
        "device": "cpu",
        "cpu_seconds": 30.0,
        "threads": 1,
        "wall_seconds": 40.0,
        "seconds_per_epoch": [50, 30],
    },
}


def test_estimates_come_from_records() -> None:
    graph = RecordedGraph(RECORDS)
    records = durations.records(graph)  # type: ignore[arg-type]
    of_cpu = {"train@synthetic-vae-1": 50.0, "train@synthetic-vae-2": 50.0, "train@synthetic-fb-1": 60.0}
    assert durations.estimates(graph, records) == of_cpu  # type: ignore[arg-type]
    assert durations.estimates(graph, records, cuda=True) == {"train@synthetic-ae-1": 90.0}  # type: ignore[arg-type]


def test_the_plan_has_tasks_and_hours_per_device() -> None:
    graph = RecordedGraph(RECORDS)
    scheduler = Scheduler(graph, {})  # type: ignore[arg-type]
    scheduler.progress.deferred = ["report"]
    estimates = {"train@synthetic-vae-1": 7200.0, "train@synthetic-vae-2": 7200.0}
    sharing = Sharing(choose(1, None, "0,1", check=False), "1 at a time on GPU 0, GPU 1: --slots", 1.5)
    ahead = Forecast(estimates, scheduler, sharing, "an H100")  # type: ignore[arg-type]
    text = display.plan(graph, ahead, verbose=True)  # type: ignore[arg-type]
    assert "train@synthetic-vae-1  2.0 h" in text
    assert "train@yahoo-vae-1  unknown" in text
    assert "5 tasks to run; 0 stages up to date, 0 in the run cache, 1 for the final dvc repro" in text
    assert "slots: 1 at a time on GPU 0, GPU 1: --slots\n" in text
    total = "estimated 4.00 hours of tasks, 3.00 hours from start to end on GPU 0, GPU 1"
    assert f"{total}, without 3 tasks of unknown duration" in text
    assert text.endswith("at the assumed speed of an H100.")
    short = display.plan(graph, ahead)  # type: ignore[arg-type]
    assert "train synthetic: 4 tasks, 4.0 h + 2 of unknown length\n" in short
    assert "train@" not in short
    assert [line for line in text.splitlines() if "@" not in line] == short.splitlines()[:-1]
    assert short.endswith("--verbose lists the tasks one by one.")
    many = RecordedGraph({f"train@yahoo-vae-{seed}": None for seed in range(100)})
    ahead = Forecast({}, Scheduler(many, {}), Sharing(choose(1, None, "cpu")))  # type: ignore[arg-type]
    text = display.plan(many, ahead)  # type: ignore[arg-type]
    assert "train yahoo: 100 tasks, 100 of unknown length" in text
    assert "slots" not in text
    assert "speed" not in text


def test_the_live_table(tmp_path: Path) -> None:
    from rich.console import Console

    progress = Progress(6, up_to_date=["data"], cached=["a"], deferred=["page"], waiting=["d"])
    progress.running = {"b": time.monotonic() - 100}
    table = display.LiveTable({"b": 400.0}, 2)
    table.update(progress)
    table.devices["b"] = "GPU 1"
    console = Console(width=120, file=(tmp_path / "text").open("w+"))
    console.print(table.draw())
    console.file.seek(0)
    text = console.file.read()
    console.file.close()
    assert "GPU 1" in text
    assert "5 min" in text
    assert "1 up to date, 1 in the run cache, 1 running, 1 waiting, 1 deferred" in text
    assert "left + 1 of unknown length" in text


@pytest.mark.parametrize("width", [80, 60, 40])
def test_a_narrow_terminal_cuts_no_time(width: int) -> None:
    """The time left stands on the first line, so that a terminal with few lines does not cut it either."""
    from rich.console import Console

    progress = Progress(60, up_to_date=["x"] * 30, cached=["x"] * 20, deferred=["page"], waiting=["new", "d"])
    name = "train@synthetic_size_100-bn_vae_fixed_beta_01-1"
    progress.running = {name: time.monotonic() - 6000}
    table = display.LiveTable({name: 13200.0, "d": 7200.0}, 1)
    table.update(progress)
    table.devices[name] = "worker: GPU 0"
    console = Console(width=width, file=io.StringIO())
    console.print(table.draw())
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "about 4.0 h left + 1 of unknown length"
    assert max(map(len, lines)) <= width
    assert any(line.endswith("1.7 h  2.0 h") for line in lines)


@pytest.mark.parametrize("width", [80, 60])
def test_the_bar_of_a_training_cuts_no_time(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from duvae.project.progress import Bar

    bar = Bar("synthetic_size_100-bn_vae_fixed_beta_01-1", 120)
    bar.bar.update(bar.task, completed=60, note="loss 29.49  KL 12.00  MI 3.10  AU 2.00")
    console = Console(width=width, file=io.StringIO())
    console.print(bar.bar.get_renderable())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "60/120 0:00:00 -:--:--" in text
    for value in ("29.49", "12.00", "3.10", "2.00"):
        assert value in text


def test_without_a_terminal_each_finished_task_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(4, waiting=["c"])
    table = display.LiveTable({"c": 3600.0}, 1)
    table.update(progress)
    progress.done["a"] = TaskResult("a", {}, True, 120.0, "CPU 1")
    table.update(progress)
    progress.done["b"] = TaskResult("b", {}, False, 0.5, "CPU 2")
    progress.failed["d"] = TaskFailedError("d", "exited with 2")
    table.update(progress)
    assert capsys.readouterr().err.splitlines() == [
        "a: done in 2 min on CPU 1. 1 done, 1 waiting; about 60 min left",
        "b: in the run cache. 2 done, 1 failed, 1 waiting; about 60 min left",
        "d: failed. 2 done, 1 failed, 1 waiting; about 60 min left",
    ]


def test_the_summary_of_a_rebuild() -> None:
    progress = Progress(4, up_to_date=["data"], skipped=["d"])
    progress.done = {"a": TaskResult("a", {}, True, 2.0, "CPU 1"), "b": TaskResult("b", {}, False, 0.5, "CPU 2")}
    progress.failed = {"c": TaskFailedError("c", "exited with 2", log="one\ntwo")}
    assert display.summary(progress, 7200) == (
        "4 stages in 2.0 h: 1 up to date, 1 found in the run cache, 1 run, 1 failed, 1 not started"
    )
    assert display.failures(progress) == "failed: c: exited with 2\n    one\n    two\nnot started: d"
    assert [row["state"] for row in display.rows(progress)] == ["failed", "run", "in the run cache", "not started"]


def test_a_merge_conflict_in_the_durations_is_named(
    tmp_path: Path, tiny: config.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "durations.yaml"
    broken.write_text("datasets:\n<<<<<<< HEAD\n  a: 1\n=======\n  a: 2\n>>>>>>> other\n", encoding="utf-8")
    monkeypatch.setattr(durations, "DEFAULTS", broken)

    with pytest.raises(UserError, match=r"durations\.yaml: expected the durations of stages, in YAML"):
        durations.default_durations(tiny)
