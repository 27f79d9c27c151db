"""Devices, order, estimates and tables of a rebuild."""

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from duvae.errors import UserError
from pipelines import devices, display, estimates
from pipelines.devices import Device, Pool, choose
from pipelines.graph import Stage, _ordered
from pipelines.launcher import Done, JobFailedError
from pipelines.scheduler import Engine, Progress

# ---------------------------------------------------------------------------------- devices


def test_slots_follow_from_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cpus", lambda: list(range(8)))
    assert len(choose(1, None, "cpu")) == 8
    assert len(choose(3, None, "cpu")) == 2
    assert len(choose(16, None, "cpu")) == 1
    assert [device.visible for device in choose(4, 2, "cpu")] == ["", ""]
    with pytest.raises(UserError, match=r"--slots 3: 3 jobs of 4 threads .* Expected at most 2"):
        choose(4, 3, "cpu")
    with pytest.raises(UserError, match="expected 'cpu', or GPUs"):
        choose(1, None, " , ")


def test_jobs_that_fill_the_machine_keep_to_cpus_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cpus", lambda: [1, 2, 3, 5, 8])
    assert [device.cpus for device in choose(1, None, "cpu")] == [(1,), (2,), (3,), (5,), (8,)]
    assert [device.cpus for device in choose(2, None, "cpu")] == [(1, 2), (3, 5)]
    assert [device.cpus for device in choose(1, 4, "cpu")] == [()] * 4
    assert [device.cpus for device in choose(5, None, "cpu")] == [()]
    assert [device.cpus for device in choose(1, 2, "0,1")] == [()] * 4


def test_a_process_is_kept_to_its_cpus() -> None:
    last = max(os.sched_getaffinity(0))
    with subprocess.Popen(["sleep", "100"]) as process:
        Device("CPU", "").keep(process.pid)
        assert os.sched_getaffinity(process.pid) == os.sched_getaffinity(0)
        Device("CPU", "", 0, (last,)).keep(process.pid)
        assert os.sched_getaffinity(process.pid) == {last}
        process.kill()
    Device("CPU", "", 0, (last,)).keep(process.pid)  # it has ended: nothing to keep


def test_gpus_are_found_or_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5f3a")
    assert [device.visible for device in choose(1)] == ["2", "GPU-5f3a"]
    assert [device.visible for device in choose(1, 2, "0,1")] == ["0", "1", "0", "1"]
    assert len(set(choose(1, 2, "0,1"))) == 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not choose(1)[0].cuda
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="0\n1\n"))
    assert [device.name for device in choose(1)] == ["GPU 0", "GPU 1"]


def test_a_device_has_one_job_at_a_time() -> None:
    pool = Pool(choose(1, None, "0,1,2"))
    held: list[Device] = []
    twice: list[Device] = []

    def work() -> None:
        for _ in range(20):
            with pool.lend() as device:
                twice.extend([device] if device in held else [])
                held.append(device)
                time.sleep(0.001)
                held.remove(device)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not twice
    assert sorted(device.name for device in pool.free) == ["GPU 0", "GPU 1", "GPU 2"]


def test_a_device_on_which_jobs_are_lost_gets_no_more() -> None:
    pool = Pool(choose(1, None, "0,1"))

    def lose(passing: bool) -> str:
        with pytest.raises(JobFailedError), pool.lend() as device:
            raise JobFailedError("train", "lost", passing)
        return device.name

    assert [lose(False) for _ in range(4)] == ["GPU 0", "GPU 1", "GPU 0", "GPU 1"]
    names = [lose(True) for _ in range(3)]
    assert names == ["GPU 0", "GPU 1", "GPU 0"]
    assert [device.name for device in pool.devices] == ["GPU 1"]
    lose(True)
    lose(True)
    assert len(pool) == 1  # the last one is kept


# ---------------------------------------------------------------------------------- order


class Pretended:
    """A graph whose stages are given, with what the project and the run cache have."""

    def __init__(self, upstream: dict[str, list[str]], fresh: set[str], cached: set[str], gathers: set[str]) -> None:
        stages = {name: Stage(name, tuple(needs), (), name in gathers) for name, needs in upstream.items()}
        self.stages = _ordered(stages, stages)
        self.known: dict[str, Any] = {}
        self.fresh: set[str] = set()
        self.has, self.cached, self.asked = fresh, cached, list[str]()

    def look_up(self, name: str) -> bool:
        assert all(upstream in self.known for upstream in self.stages[name].upstream)
        assert name not in self.asked
        self.asked.append(name)
        if name in self.has:
            self.fresh.add(name)
        if name in self.has | self.cached:
            self.known[name] = {}
        return name in self.known

    def inputs(self, name: str) -> dict[str, Any]:
        return {upstream: self.known[upstream] for upstream in self.stages[name].upstream}


DIAMOND = {"data": [], "a": ["data"], "b": ["data"], "c": ["data"], "after_c": ["c"], "page": ["a", "b", "after_c"]}


def scheduled(
    graph: Pretended, slots: int, fail: Callable[[str], bool] = lambda _: False, **options: Any
) -> tuple[list[str], Progress, int]:
    """The order in which jobs began, and the most that ran at a time."""
    began, most = [], 0
    engine = Engine(graph, options.pop("known", {}), **options)  # type: ignore[arg-type]

    def submit(name: str, _: Any) -> Callable[[], Done]:
        nonlocal most
        began.append(name)
        most = max(most, len(engine.progress.running))

        def wait() -> Done:
            time.sleep(0.01)
            if fail(name):
                raise JobFailedError(name, "bad")
            return Done(name, {}, True, 0.01, "CPU 1")

        return wait

    engine.run(submit, lambda: slots)

    return began, engine.progress, most


def test_the_longest_chain_comes_first_and_no_more_run_than_may() -> None:
    graph = Pretended(DIAMOND, set(), set(), {"page"})
    began, progress, most = scheduled(graph, 2, known={"b": 5.0, "after_c": 7.0})
    assert began[:4] == ["data", "c", "b", "after_c"] or began[:4] == ["data", "c", "b", "a"]
    assert set(began) == set(DIAMOND) - {"page"}
    assert progress.left == ["page"]
    assert most == 2


def test_what_nothing_is_known_of_counts_as_the_longest_of_its_kind() -> None:
    """Else a training of an hour that is new would begin when all others have ended."""
    needs: dict[str, list[str]] = {"train@a": [], "train@new": [], "train@b": [], "probe@c": []}
    known = {"train@a": 9.0, "train@b": 5.0, "probe@c": 6.0}
    began, _, _ = scheduled(Pretended(needs, set(), set(), set()), 1, known=known)
    assert began == ["train@a", "train@new", "probe@c", "train@b"]


def test_what_is_known_is_not_run() -> None:
    graph = Pretended(DIAMOND, {"data", "a"}, {"c"}, {"page"})
    began, progress, _ = scheduled(graph, 4)
    assert sorted(began) == ["after_c", "b"]
    assert sorted(progress.fresh) == ["a", "data"]
    assert progress.cached == ["c"]
    everything = Pretended(DIAMOND, set(DIAMOND), set(), {"page"})
    assert scheduled(everything, 4)[1].fresh == list(everything.stages)


@pytest.mark.parametrize(("keep_going", "tried"), [(True, {"data", "a", "b", "c"}), (False, {"data", "c"})])
def test_a_failure_and_what_needs_it(keep_going: bool, tried: set[str]) -> None:
    graph = Pretended(DIAMOND, set(), set(), {"page"})
    began, progress, _ = scheduled(graph, 1, lambda name: name == "c", keep_going=keep_going, known={"c": 9.0})
    assert set(began) == tried
    assert list(progress.failed) == ["c"]
    assert set(progress.skipped) == set(DIAMOND) - tried - {"page"}


def test_what_is_no_failure_of_a_job_ends_it() -> None:
    graph = Pretended(DIAMOND, set(), set(), set())
    engine = Engine(graph, {})  # type: ignore[arg-type]

    def submit(name: str, _: Any) -> Callable[[], Done]:
        def wait() -> Done:
            raise KeyError(name)

        return wait

    with pytest.raises(KeyError, match="data"):
        engine.run(submit, lambda: 1)


# ---------------------------------------------------------------------------------- estimates and tables


class Recorded(Pretended):
    """Stages, each with a record of its making where one is given."""

    def __init__(self, records: dict[str, Any]) -> None:
        super().__init__({name: [] for name in records}, set(), set(), set())
        self.found, self.records = self.stages, records

    def outs(self, name: str) -> list[str]:
        return [f"{name}.run.json", "weights"]

    def recorded(self, path: str) -> Any:
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
}


def test_estimates_are_of_what_was_recorded() -> None:
    graph = Recorded(RECORDS)
    assert estimates.estimates(graph) == {"train@synthetic-vae-1": 50.0, "train@synthetic-vae-2": 50.0}  # type: ignore[arg-type]
    assert estimates.estimates(graph, cuda=True) == {"train@synthetic-ae-1": 90.0}  # type: ignore[arg-type]


def test_the_plan_says_jobs_and_hours_a_device() -> None:
    graph = Recorded(RECORDS)
    run, known = list(RECORDS), {"train@synthetic-vae-1": 7200.0, "train@synthetic-vae-2": 7200.0}
    said = estimates.plan(graph, run, ["report"], known, choose(1, None, "0,1"))  # type: ignore[arg-type]
    assert "train@synthetic-vae-1  2.0 h" in said
    assert "train@yahoo-vae-1  unknown" in said
    assert "4 jobs to run; 0 stages up to date, 0 in the run cache, 1 run when all is recorded" in said
    assert "estimated 2.00 hours a device on 2 (GPU 0, GPU 1), without 2 jobs of unknown length" in said
    many = Recorded({f"train@yahoo-vae-{seed}": None for seed in range(100)})
    assert "train yahoo: 100 jobs, 100 of unknown length" in estimates.plan(many, list(many.stages), [], {}, choose(1))  # type: ignore[arg-type]


def test_what_is_shown(tmp_path: Path) -> None:
    from rich.console import Console

    progress = Progress(6, fresh=["data"], cached=["a"], left=["page"], waiting=["d"])
    progress.running = {"b": time.monotonic() - 100}
    shown = display.Board({"b": 400.0}, 2)
    shown.look(progress)
    shown.places["b"] = "GPU 1"
    console = Console(width=120, file=(tmp_path / "said").open("w+"))
    console.print(shown.draw())
    console.file.seek(0)
    said = console.file.read()
    console.file.close()
    assert "GPU 1" in said
    assert "5 min" in said
    assert "1 up to date, 1 in the run cache, 1 running, 1 waiting, 1 for the end" in said
    assert "and 1 of unknown length" in said

    progress = Progress(4, fresh=["data"], skipped=["d"])
    progress.done = {"a": Done("a", {}, True, 2.0, "CPU 1"), "b": Done("b", {}, False, 0.5, "CPU 2")}
    progress.failed = {"c": JobFailedError("c", "exited with 2", log="one\ntwo")}
    assert display.summary(progress, 7200) == (
        "4 stages in 2.0 h: 1 up to date, 1 found in the run cache, 1 made, 1 failed, 1 not tried"
    )
    assert display.failures(progress) == "failed: c: exited with 2\n    one\n    two\nnot tried: d"
    assert [row["state"] for row in display.rows(progress)] == ["failed", "made", "in the run cache", "not tried"]
