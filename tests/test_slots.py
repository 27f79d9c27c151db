"""How many tasks share a GPU: the rule, its reasons, and what a rebuild and its plan do with it."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from duvae import config
from duvae.config import Params
from duvae.project import provenance
from made_up_gpus import LISTED, nvidia_smi, row
from pipelines import devices, durations, slots
from pipelines.devices import Device, choose
from pipelines.failures import Failure
from pipelines.forecast import forecast
from pipelines.gpu_times import RATES, Time, card, read
from pipelines.pool import Request, Slots
from pipelines.slots import MEMORY, Demand, demands, on_one, share
from test_rebuild_parts import RecordedGraph

ROOT = Path(__file__).parents[1]
H100 = 81_559.0
STAGE = "train@omniglot-vae-1"


@pytest.fixture(scope="module")
def paper() -> Params:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))

    return config.parse({**raw, "run": "paper"})


def gpus(count: int, *memory: float) -> list[Device]:
    sizes = memory or (H100,) * count

    return [Device(f"GPU {n}", f"GPU-{n}", model="NVIDIA H100", memory=sizes[n]) for n in range(count)]


def demand(memory: float | None = 4096.0, busy: float | None = 0.4, seconds: float = 100.0, **more: Any) -> Demand:
    time = None if busy is None else Time(seconds, busy * seconds)

    return Demand(**{"stage": STAGE, "memory": memory, "time": time, **more})


# ---------------------------------------------------------------------------------- the rule

DEMANDS = st.lists(
    st.builds(demand, st.floats(1, 1e5), st.floats(0.05, 1), st.floats(0.1, 1e6)), min_size=1, max_size=6
)


@given(DEMANDS, st.floats(1000, 200_000), st.integers(1, 64))
def test_one_more_task_would_exceed_memory_time_or_cores_and_the_chosen_number_exceeds_none(
    tasks: list[Demand], memory: float, cores: int
) -> None:
    count, _ = on_one(memory, tasks, cores)
    need = max(task.memory or 0 for task in tasks)
    times = [task.time or Time() for task in tasks]
    busy = sum(time.busy for time in times) / sum(time.seconds for time in times)

    def fits(number: int) -> bool:
        return number * need <= MEMORY * memory and number * busy <= 1 + 1e-6 and number <= cores

    assert count == 1 or fits(count)
    assert not fits(count + 1) or math.isclose((count + 1) * need, MEMORY * memory, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("tasks", "memory", "cores", "count", "reason"),
    [
        ([demand()], H100, 16, 2, "memory allows 15 .* needs 4.0 of 80 GiB, estimated.*, time 2 .* for 40%.*cores 16"),
        ([demand(measured=True)], H100, 16, 2, "GiB, measured"),
        ([demand(30_000.0)], H100, 16, 2, "memory allows 2 "),
        ([demand(40_000.0)], H100, 16, 1, "memory allows 1 "),
        ([demand(90_000.0)], H100, 16, 1, "memory allows 0 "),
        ([demand(busy=1 / 3)], H100, 16, 3, "time 3 "),
        ([demand(busy=1 / 3)], H100, 2, 2, "the cores 2"),
        ([demand(busy=1.0)], H100, 16, 1, "time 1 "),
        # The mean counts: a short task with a busy GPU does not outweigh a long one that leaves its GPU idle.
        ([demand(busy=1.0, seconds=1.0), demand(busy=0.4, seconds=99.0)], H100, 16, 2, "for 41%"),
        ([demand(), demand(None, stage="search@x")], H100, 16, 1, "the memory that search@x needs is not known"),
        ([demand(busy=None)], H100, 16, 1, "share of the time .* is not known"),
        ([demand()], 0.0, 16, 1, "the memory of the GPU is not known"),
        ([], H100, 16, 1, "no task waits"),
    ],
)
def test_the_number_and_its_reason(tasks: list[Demand], memory: float, cores: int, count: int, reason: str) -> None:
    found, said = on_one(memory, tasks, cores)
    assert found == count
    assert re.search(reason, said), said


def test_each_gpu_has_the_slots_for_its_memory_and_the_cores_are_divided() -> None:
    shared = share(gpus(2, H100, 9000.0), [demand()], 1, cores=64)
    assert [(device.name, device.slot) for device in shared.devices] == [("GPU 0", 0), ("GPU 1", 0), ("GPU 0", 1)]
    assert shared.reason.startswith("2 at a time on GPU 0: memory allows 15")
    assert "; 1 at a time on GPU 1: memory allows 1 " in shared.reason
    assert len(share(gpus(8), [demand()], 1, cores=64).devices) == 16
    assert len(share(gpus(8), [demand()], 1, cores=15).devices) == 8
    assert len(share(gpus(8), [demand()], 8, cores=64).devices) == 8


def test_slots_of_the_user_overrule_and_the_cpu_stays_as_it_is() -> None:
    forced = share(gpus(2), [demand(90_000.0, 1.0)], 1, slots=3, cores=1)
    assert [device.slot for device in forced.devices] == [0, 0, 1, 1, 2, 2]
    assert forced.reason == "3 at a time on GPU 0, GPU 1: --slots"
    assert forced.slowdown == 3
    cpu = [Device("CPU 1", "", 0), Device("CPU 2", "", 1)]
    assert share(cpu, [demand()], 1).devices == cpu
    assert share(cpu, [demand()], 1).reason == ""


@given(DEMANDS, st.integers(1, 8))
def test_tasks_slow_each_other_down_only_if_they_want_more_than_the_whole_gpu(tasks: list[Demand], number: int) -> None:
    assert share(gpus(1), tasks, 1, cores=64).slowdown == pytest.approx(1)
    times = [task.time or Time() for task in tasks]
    busy = sum(time.busy for time in times) / sum(time.seconds for time in times)
    assert share(gpus(1), tasks, 1, slots=number).slowdown == pytest.approx(max(1, number * busy))


def test_the_machine_gives_model_and_memory_but_not_of_an_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(monkeypatch, tmp_path / "bin", row(0), row(1, memory="[N/A]"), row(2, "Enabled"), listed=LISTED)
    found = choose(1, None, "0,1")
    assert {device.model for device in found} == {"NVIDIA H100 80GB HBM3"}
    assert [device.memory for device in found] == [H100, 0.0]
    nvidia_smi(monkeypatch, tmp_path / "mig", row(0, "Enabled"), listed=LISTED)
    instances = choose(1)
    assert {device.memory for device in instances} == {0.0}
    assert len(share(instances, [demand()], 1, cores=64).devices) == len(instances)


# ---------------------------------------------------------------------------------- demands


def test_only_stages_that_compute_on_a_gpu_have_demands_and_a_record_comes_before_an_estimate() -> None:
    names = ["train@a", "evaluate@a", "probe@a", "samples@a", "search@a", "prepare@a", "report"]
    found = demands(names, {"train@a": 1.0}, {"train@a": 2.0, "evaluate@a": 3.0}, {"train@a": Time(5, 4)})
    assert [each.stage for each in found] == names[:5]
    assert [(each.memory, each.measured) for each in found[:3]] == [(1.0, True), (3.0, False), (None, False)]
    assert [each.time for each in found[:2]] == [Time(5, 4), None]


def test_recorded_memory_is_that_of_a_gpu_with_any_seed() -> None:
    context = read(RATES)["context_mib"]
    graph = RecordedGraph(
        {
            "train@a-1": {"device": "cuda", "gpu_memory_mib": 100},
            "train@a-2": {"device": "cuda", "gpu_memory_mib": 300},
            "train@a-3": None,
            "train@b-1": {"device": "cpu", "gpu_memory_mib": 900},
            "train@c-1": {"device": "cuda"},
            "train@d-1": {"device": "cuda", "gpu_memory_mib": "much"},
        }
    )
    found = durations.recorded_memory(graph, durations.records(graph))  # type: ignore[arg-type]
    assert found == {f"train@a-{n}": size + context for n, size in ((1, 100), (2, 300), (3, 300))}


def test_a_record_has_the_memory_of_the_gpu_that_the_process_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert provenance.gpu_memory() == {}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 5 * 2**30)
    assert provenance.gpu_memory() == {"gpu_memory_mib": 5120}
    monkeypatch.setattr(provenance, "machine", dict)
    provenance.Stopwatch("train", "vae").write(tmp_path / "train.run.json", device="cuda")
    assert provenance.read_record(tmp_path / "train.run.json", "")["gpu_memory_mib"] == 5120


def waiting(**records: Any) -> RecordedGraph:
    """The stages of two jobs, which wait. Some may have run before on a GPU with another seed."""
    names = [f"{kind}@omniglot-{job}" for kind in ("train", "evaluate", "probe") for job in ("vae-1", "du_vae-1")]

    return RecordedGraph({**dict.fromkeys(names), **records})


def test_a_forecast_uses_counts_where_no_stage_has_run_and_records_where_one_has(
    paper: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "cpus", lambda: list(range(64)))
    ahead = forecast(waiting(), paper, gpus(2))  # type: ignore[arg-type]
    count = len(ahead.sharing.devices) // 2
    times = [durations.gpu_times(paper, card(name))[stage] for name in ("H100",) for stage in ahead.seconds]
    assert count == max(1, math.floor(sum(each.seconds for each in times) / sum(each.busy for each in times)))
    assert "GiB, estimated" in ahead.sharing.reason
    assert ahead.sharing.slowdown == 1
    assert ahead.card == "an H100"
    assert 0 < ahead.makespan < sum(ahead.seconds.values())

    record = {"device": "cuda", "wall_seconds": 3600.0, "gpu_memory_mib": 50_000}
    more = forecast(waiting(**{"train@omniglot-vae-2": record}), paper, gpus(2))  # type: ignore[arg-type]
    assert more.seconds["train@omniglot-vae-1"] == 3600
    assert more.seconds["train@omniglot-du_vae-1"] == ahead.seconds["train@omniglot-du_vae-1"]
    assert "train@omniglot-vae-1 needs 49.4 of 80 GiB, measured" in more.sharing.reason
    assert len(more.sharing.devices) == 2


def test_a_forecast_for_another_card_or_for_the_cpu_says_so(paper: Params) -> None:
    other = [replace(device, model="NVIDIA L4") for device in gpus(1)]
    assert forecast(waiting(), paper, other).card == "an H100, since pipelines/gpu_rates.yaml lacks NVIDIA L4"  # type: ignore[arg-type]
    cpu = forecast(waiting(), paper, [Device("CPU 1", "")])  # type: ignore[arg-type]
    assert (cpu.card, cpu.sharing.reason) == ("", "")
    assert forecast(waiting(), None, gpus(1)).sharing.reason.startswith("1 at a time on GPU 0: the memory that train@")  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------- the pool


def test_a_task_goes_to_the_gpu_with_the_fewest_tasks() -> None:
    pool = Slots([replace(device, slot=slot) for slot in range(2) for device in gpus(2)])
    first, second, third = (Request() for _ in range(3))
    assert pool.take(first)
    assert pool.take(second)
    pool.give_back(second, None, True)
    assert pool.take(third)
    assert [request.device.name for request in (first, third) if request.device] == ["GPU 0", "GPU 1"]


def test_a_task_avoids_a_gpu_with_a_loss_even_if_that_gpu_is_idle() -> None:
    pool = Slots([replace(device, slot=slot) for slot in range(2) for device in gpus(2)])
    first = Request()
    assert pool.take(first)
    pool.give_back(first, Failure.DEVICE, True)
    later = [Request(), Request()]
    assert all(pool.take(request) for request in later)
    assert [request.device.name for request in later if request.device] == ["GPU 1", "GPU 1"]


def test_the_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "cpus", lambda: [0, 1])
    monkeypatch.setattr(devices, "cpus", lambda: [0, 1])
    assert len(share(gpus(1), [demand(busy=0.3)], 1).devices) == 2
    assert len(share(gpus(1), [demand(busy=0.3)], 2).devices) == 1
