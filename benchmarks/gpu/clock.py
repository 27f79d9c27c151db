"""Measures the time, the memory, the launches and the operations of a computation on a device."""

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

NO_WORK = {"gpu_user_annotation", "cuda_sync", "overhead"}
"""Kinds of events on a GPU in which the GPU does no work: names of sections of the code, waits, and the profiler."""

FREE = {"detach", "empty", "empty_like", "new_empty", "empty_strided", "_local_scalar_dense", "is_pinned"}
"""Operations of PyTorch that start no work on a device, besides views."""

MOST_CALLS = 1000
"""Largest number of calls of one measurement."""

OF_DRY_RUN = 0.05
"""Share of each time budget that a dry run takes."""


@dataclass(frozen=True)
class Work:
    """The work that a computation gives to a device.

    Attributes:
        launches: Number of kernels and copies that were started.
        busy: Seconds in which the device computed or copied. None: unknown.
    """

    launches: int
    busy: float | None


class Clock:
    """Measures computations on one device.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.share = device, 1.0 if device.type == "cuda" else OF_DRY_RUN

    def wait(self) -> None:
        """Waits until the device has done all work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], Any], budget: float = 0.7, rounds: int = 5) -> float:
        """Measures the wall time of a call: the median over several rounds.

        In a round, the call is repeated without a wait in between, as training repeats its steps. Before the first
        round, two calls warm up the device and its libraries.

        Args:
            call: The computation.
            budget: Seconds that the rounds may take together. At least one call is measured.
            rounds: Number of rounds.
        """
        call()
        once, budget = self.of_calls(call, 1), self.share * budget
        each = max(1, min(MOST_CALLS, int(budget / rounds / max(once, 1e-7))))
        some = max(1, min(rounds, int(budget / max(once * each, 1e-7))))

        return median(self.of_calls(call, each) / each for _ in range(some))

    def of_calls(self, call: Callable[[], Any], count: int) -> float:
        """Measures the seconds of `count` calls in a row, from an idle device to an idle device."""
        self.wait()
        started = time.perf_counter()
        for _ in range(count):
            call()
        self.wait()

        return time.perf_counter() - started

    def peak(self, call: Callable[[], Any]) -> float | None:
        """Measures the peak memory of tensors during a call, in MiB; None on a CPU."""
        if self.device.type != "cuda":
            call()
            return None
        gc.collect()  # a finished training is a cycle of references, whose tensors would count
        self.wait()
        torch.cuda.reset_peak_memory_stats(self.device)
        call()
        self.wait()

        return torch.cuda.max_memory_allocated(self.device) / 2**20

    def work(self, call: Callable[[], Any]) -> Work | None:
        """Counts the launches of a call, and measures how long the device is busy.

        On a CPU the operations of PyTorch take the place of launches.

        Returns:
            The work; None if the profiler cannot record this device.
        """
        if self.device.type != "cuda":
            return Work(started(call), None)
        self.wait()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            call()
            self.wait()

        return work_of(profiler.events())


def work_of(events: Iterable[Any]) -> Work | None:
    """Sums up the events of PyTorch's profiler.

    Args:
        events: The events, objects of the class `torch.autograd.profiler_util.FunctionEvent`. Each kernel and each copy
            is one event on the GPU.

    Returns:
        The work; None if no event is of a GPU.
    """
    intervals = [
        (event.time_range.start, event.time_range.end)  # in microseconds
        for event in events
        if event.device_type.name == "CUDA"
        and not getattr(event, "is_user_annotation", False)
        and getattr(event, "activity_type", None) not in NO_WORK
    ]

    return Work(len(intervals), 1e-6 * union(intervals)) if intervals else None


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """Measures the union of intervals, each given by its start and its end. Kernels may run at the same time."""
    total, last = 0.0, -float("inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, last))
        last = max(last, end)

    return total


class OperationCounter(TorchDispatchMode):
    """Counts the operations of PyTorch that compute something.

    Attributes:
        count: The number of operations so far. Views and new empty tensors do not count.
        reads: The number of times so far that Python read a value of a tensor.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0]
        self.reads += name == "_local_scalar_dense"
        self.count += not func.is_view and name not in FREE

        return func(*args, **(kwargs or {}))


def started(call: Callable[[], Any]) -> int:
    """Counts the operations of a call that compute something. Most of them start one kernel on a GPU."""
    with OperationCounter() as counter:
        call()

    return counter.count


def operations(call: Callable[[], Any]) -> int:
    """Counts the arithmetic operations of products and convolutions in a call, two for each multiplication.

    cuDNN's LSTMs are not counted (see `benchmarks.large_text.Text`).
    """
    with FlopCounterMode(display=False) as counter:
        call()

    return int(counter.get_total_flops())
