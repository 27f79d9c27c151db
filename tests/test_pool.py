"""The pool of devices: which task gets which device, and what happens after each kind of failure."""

import faulthandler
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.devices import Device
from pipelines.failures import Failure, TaskFailedError
from pipelines.pool import MOST_LOSSES, Pool, Request, Slots

STAGE = "train@synthetic-vae-1"

Outcome = Failure | None
"""How an attempt of a task ends: the kind of its failure, or None for success."""


@pytest.fixture(autouse=True)
def guard() -> Iterator[None]:
    """Ends the program if a test waits forever, since a task that never ends is the fault that these tests look for."""
    faulthandler.dump_traceback_later(600, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def machine(gpus: int, slots: int = 1) -> list[Device]:
    """The slots of a machine with some GPUs; without a GPU, those of its CPU."""
    names = [(f"GPU {n}", f"GPU-{n}") for n in range(gpus)] or [("CPU", "")]

    return [Device(name, visible, slot) for slot in range(slots) for name, visible in names]


def names(devices: Sequence[Device]) -> list[str]:
    return [device.name for device in devices]


def attempts(*outcomes: Outcome, used: list[str] | None = None) -> Callable[[Device], str]:
    """A task whose attempts end as given, and which then succeeds."""
    left = list(outcomes)

    def work(device: Device) -> str:
        if used is not None:
            used.append(device.name)
        failure = left.pop(0) if left else None
        if failure is not None:
            raise TaskFailedError(STAGE, f"reason {failure.name}", failure, "the log")
        return device.name

    return work


def waiters(pool: Pool) -> int:
    """Number of tasks that wait for a device."""
    return len(pool.changed._waiters)  # type: ignore[attr-defined]


def fail(pool: Pool, failure: Failure, stage: str = STAGE) -> str:
    used: list[str] = []
    with pytest.raises(TaskFailedError):
        pool.run(stage, attempts(*[failure] * 9, used=used))

    return used[-1]


# ---------------------------------------------------------------------------------- decisions


def test_seven_tasks_without_enough_memory_cost_no_gpu() -> None:
    messages: list[str] = []
    pool = Pool(machine(4), messages.append)
    for _ in range(7):
        fail(pool, Failure.MEMORY)
    assert sorted(names(pool.devices)) == ["GPU 0", "GPU 1", "GPU 2", "GPU 3"]
    assert len(messages) == 7
    assert all("memory ran out on GPU" in message for message in messages)


def test_a_task_without_enough_memory_runs_once_more_on_the_same_gpu() -> None:
    used: list[str] = []
    pool = Pool(machine(3))
    assert pool.run(STAGE, attempts(Failure.MEMORY, used=used)) == "GPU 0"
    assert used == ["GPU 0", "GPU 0"]


def test_a_task_without_enough_memory_even_alone_fails_with_advice() -> None:
    used: list[str] = []
    with pytest.raises(TaskFailedError) as caught:
        Pool(machine(2, 2)).run(STAGE, attempts(*[Failure.MEMORY] * 9, used=used))
    assert caught.value.failure is Failure.FINAL
    assert "reason MEMORY, although no other task ran on GPU 0. Lower the sizes in params.yaml" in caught.value.reason
    assert caught.value.log == "the log"
    assert used == ["GPU 0", "GPU 0"]


@pytest.mark.parametrize("failure", [Failure.FINAL, Failure.TEMPORARY, Failure.KILLED])
def test_other_failures_cost_no_gpu_and_are_not_tried_again_here(failure: Failure) -> None:
    pool = Pool(machine(2))
    used: list[str] = []
    for _ in range(4):
        with pytest.raises(TaskFailedError, match=failure.name):
            pool.run(STAGE, attempts(failure, used=used))
    assert used == ["GPU 0", "GPU 1", "GPU 0", "GPU 1"]
    assert len(pool) == 2


def test_a_gpu_that_is_lost_twice_in_a_row_is_left_with_all_its_slots() -> None:
    """After the first loss, tasks go to the other GPU as long as it has a free slot."""
    messages: list[str] = []
    pool = Pool(machine(2, 3), messages.append)
    assert fail(pool, Failure.DEVICE) == "GPU 0"
    assert pool.run(STAGE, attempts()) == "GPU 1"
    assert len(pool) == 6
    assert fail(pool, Failure.DEVICE) == "GPU 1"
    assert fail(pool, Failure.DEVICE) in {"GPU 0", "GPU 1"}
    assert len(pool) == 3
    (message,) = messages
    assert "was lost 2 times in a row and is no longer used; left: GPU" in message
    assert len(set(names(pool.devices))) == 1


def test_losses_in_several_slots_of_a_gpu_count_together() -> None:
    slots = Slots(machine(1, 2))
    first, second = Request(), Request()
    assert slots.take(first)
    assert slots.take(second)
    assert slots.give_back(first, Failure.DEVICE, True) == ""
    assert "left: none" in slots.give_back(second, Failure.DEVICE, True)
    assert slots.usable == slots.free == []


@pytest.mark.parametrize(
    ("stage", "outcome", "kept"),
    [(STAGE, None, True), (STAGE, Failure.FINAL, False), ("fetch@yahoo", None, False)],
)
def test_only_success_on_the_gpu_ends_a_row_of_losses(stage: str, outcome: Outcome, kept: bool) -> None:
    """A program may fail before it reaches the GPU, and a download never reaches it."""
    pool = Pool(machine(1))
    fail(pool, Failure.DEVICE)
    if outcome is None:
        pool.run(stage, attempts())
    else:
        fail(pool, outcome, stage)
    fail(pool, Failure.DEVICE)
    assert bool(len(pool)) == kept


def test_without_a_gpu_left_every_task_ends_with_an_error() -> None:
    pool = Pool(machine(1))
    waiting: list[TaskFailedError] = []

    def lose(device: Device) -> None:
        thread.start()
        while not waiters(pool):
            time.sleep(0.001)
        raise TaskFailedError(STAGE, "lost", Failure.DEVICE)

    def wait() -> None:
        try:
            pool.run(STAGE, attempts())
        except TaskFailedError as error:
            waiting.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    fail(pool, Failure.DEVICE)
    with pytest.raises(TaskFailedError, match="lost"):
        pool.run(STAGE, lose)
    thread.join(60)
    assert not thread.is_alive()
    assert len(pool) == 0
    assert "no GPU is left. GPU 0 was lost 2 times in a row" in waiting[0].reason
    assert "--devices cpu" in waiting[0].reason
    assert waiting[0].failure is Failure.FINAL


def test_the_cpu_is_never_lost() -> None:
    pool = Pool(machine(0, 2))
    for _ in range(5):
        fail(pool, Failure.DEVICE)
    assert len(pool) == 2


def test_errors_that_are_no_failure_of_a_task_free_the_device() -> None:
    pool = Pool(machine(1))

    def broken(device: Device) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.run(STAGE, broken)
    assert pool.run(STAGE, attempts()) == "GPU 0"


def test_a_reserved_gpu_gets_no_other_task_and_the_other_gpu_does() -> None:
    slots = Slots(machine(2, 2))
    running, alone, other, more = Request(), Request("GPU-0"), Request(), Request()
    assert slots.take(running)
    assert running.device == Device("GPU 0", "GPU-0", 0)
    assert not slots.take(alone)  # it waits for the running task
    assert slots.take(other)
    assert slots.take(more)
    assert [request.device.name for request in (other, more) if request.device] == ["GPU 1", "GPU 1"]
    assert not slots.take(Request())
    assert not slots.take(Request("GPU-0"))  # a second task that wants to be alone waits for the first
    slots.give_back(running, None, True)
    assert slots.take(alone)
    assert slots.free == []
    slots.give_back(alone, None, True)
    assert names(slots.free) == ["GPU 0", "GPU 0"]


def test_a_task_that_waits_to_be_alone_on_a_lost_gpu_goes_to_another() -> None:
    slots = Slots(machine(2))
    running, alone = Request(), Request("GPU-0")
    assert slots.take(running)
    assert not slots.take(alone)
    slots.losses["GPU-0"] = MOST_LOSSES - 1
    slots.give_back(running, Failure.DEVICE, True)
    assert slots.take(alone)
    assert alone.device is not None
    assert alone.device.name == "GPU 1"
    assert slots.reserved == {"GPU-1": alone}


def test_every_task_that_waits_learns_of_every_change() -> None:
    """Were only one of them woken, the end of the last task could wake one that still has to wait."""
    pool = Pool(machine(1, 3))
    ends = [threading.Event(), threading.Event()]
    done: list[str] = []

    def start(name: str, work: Callable[[Device], object]) -> threading.Thread:
        def run() -> None:
            pool.run(name, work)
            done.append(name)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        return thread

    def until(condition: Callable[[], bool]) -> None:
        while not condition():
            time.sleep(0.001)

    running = [start(f"running {n}", lambda _, end=end: end.wait()) for n, end in enumerate(ends)]  # type: ignore[misc]
    until(lambda: len(pool.slots.free) == 1)
    waiting = [start("alone", attempts(Failure.MEMORY))]
    until(lambda: waiters(pool) == 1)
    waiting.append(start("other", attempts()))
    until(lambda: waiters(pool) == 2)
    for end, thread in zip(ends, running, strict=True):
        end.set()
        thread.join()
        until(lambda: waiters(pool) == 2 or len(done) == 4)
    for thread in waiting:
        thread.join(60)

    assert done[2:] == ["alone", "other"]


# ---------------------------------------------------------------------------------- any order

MACHINES = st.builds(machine, st.integers(0, 3), st.integers(1, 3))
OUTCOMES = st.lists(st.sampled_from([None, *Failure]), max_size=4)


def check(slots: Slots, running: Sequence[Request], everything: Sequence[Device]) -> None:
    """No slot is lost or held twice, and a task that runs alone shares its GPU with no other."""
    held = [request.device for request in running if request.device is not None]
    whole = [request.device.place for request in running if request.alone is not None and request.device is not None]
    assert len(held) == len(set(held)) == len(running)
    assert len(slots.free) == len(set(slots.free))
    assert not set(slots.free) & set(held)
    assert set(slots.free) <= set(slots.usable) <= set(everything)
    taken = {slot for slot in slots.usable if slot in held or slot.place in whole}
    assert set(slots.free) | taken == set(slots.usable)
    assert all(count == 1 for place, count in Counter(device.place for device in held).items() if place in whole)


@given(devices=MACHINES, jobs=st.lists(OUTCOMES, min_size=1, max_size=8), data=st.data())
@settings(max_examples=150)
def test_in_any_order_no_slot_is_lost_and_all_tasks_end(
    devices: list[Device], jobs: list[list[Outcome]], data: st.DataObject
) -> None:
    slots = Slots(devices)
    waiting = [(Request(), list(job)) for job in jobs]
    running: list[tuple[Request, list[Outcome]]] = []
    lost: Counter[str] = Counter()
    while waiting or running:
        if not slots.usable and not running:  # the rebuild ends
            break
        for entry in data.draw(st.permutations(waiting)) if slots.usable else ():
            if slots.take(entry[0]):
                waiting.remove(entry)
                running.append(entry)
                check(slots, [request for request, _ in running], devices)
        assert running, "no task can start, although none runs"
        request, left = running.pop(data.draw(st.integers(0, len(running) - 1)))
        failure = left.pop(0) if left else None
        assert request.device is not None
        place, alone = request.device.place, request.alone
        lost[place] += failure is Failure.DEVICE
        slots.give_back(request, failure, True)
        check(slots, [each for each, _ in running], devices)
        if failure is Failure.MEMORY and alone is None:
            waiting.append((Request(place), left))
        elif failure is not None and failure.may_pass:
            waiting.append((Request(), left))

    gone = {device.place for device in devices} - {device.place for device in slots.usable}
    assert all(place and lost[place] >= MOST_LOSSES for place in gone)
    assert sorted(slots.free, key=repr) == sorted(slots.usable, key=repr)
    assert slots.reserved == {}


@given(devices=MACHINES, jobs=st.lists(OUTCOMES, min_size=1, max_size=8), pauses=st.lists(st.booleans(), min_size=9))
@settings(max_examples=30)
def test_tasks_in_threads_all_end_and_share_only_what_they_may(
    devices: list[Device], jobs: list[list[Outcome]], pauses: list[bool]
) -> None:
    pool, lock = Pool(devices), threading.Lock()
    busy: list[tuple[Device, bool]] = []
    faults: list[str] = []
    ends: list[object] = []

    def run(number: int, outcomes: Iterator[Outcome]) -> None:
        memory_ran_out = False

        def work(device: Device) -> None:
            nonlocal memory_ran_out
            alone = memory_ran_out
            with lock:
                for other, other_alone in busy:
                    if other == device or (other.place == device.place and (alone or other_alone)):
                        faults.append(f"{other} and {device}")
                busy.append((device, alone))
            time.sleep(0.001 if pauses[number] else 0)
            failure = next(outcomes, None)
            memory_ran_out = failure is Failure.MEMORY
            with lock:
                busy.remove((device, alone))
            if failure is not None:
                raise TaskFailedError(STAGE, failure.name, failure)

        end: object = None
        for _ in range(5):
            try:
                end = pool.run(STAGE, work)
            except TaskFailedError as error:
                end = error
                memory_ran_out = False
                if error.failure.may_pass:
                    continue
            break
        ends.append(end)

    threads = [threading.Thread(target=run, args=(n, iter(job)), daemon=True) for n, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not any(thread.is_alive() for thread in threads)
    assert len(ends) == len(jobs)
    assert faults == []
    assert set(pool.slots.free) == set(pool.devices)
    if not any(Failure.DEVICE in job for job in jobs):
        assert set(pool.devices) == set(devices)
