"""The devices that jobs run on, and the pool that hands them out.

A job sees its device alone: `CUDA_VISIBLE_DEVICES` of its own process names it, and is empty for a job on the CPU.
"""

import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from duvae.errors import UserError

PATIENCE = 5.0
"""Seconds that the driver of a GPU may take to answer."""

LOSSES = 2
"""Jobs lost on a device in a row, after which it is given no more."""


@dataclass(frozen=True)
class Device:
    """What one job at a time runs on.

    Attributes:
        name: For the reader.
        visible: The value of CUDA_VISIBLE_DEVICES.
        slot: Which of the jobs at a time there.
        cpus: The CPUs that a job keeps to; none: any. Moved from one to another by the system, two trainings on two
            cores take a third longer each.
    """

    name: str
    visible: str
    slot: int = 0
    cpus: tuple[int, ...] = ()

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return bool(self.visible)

    def keep(self, process: int) -> None:
        """Keeps a process, and what it starts from now on, to the CPUs."""
        if self.cpus and hasattr(os, "sched_setaffinity"):
            with suppress(OSError):  # it has ended, or they were taken away
                os.sched_setaffinity(process, self.cpus)


def cpus() -> list[int]:
    """The CPUs that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def gpus() -> list[str]:
    """The GPUs: those that CUDA_VISIBLE_DEVICES names, or else those that the driver does."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    asked = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return []

    return done.stdout.split()


def choose(threads: int, slots: int | None = None, listed: str | None = None) -> list[Device]:
    """The devices of a rebuild.

    Args:
        threads: CPU threads of one job, `threads` in params.yaml: they are part of a result's last bits, so that the
            number of slots follows from them and never the other way round.
        slots: Jobs at a time on each GPU, or on the CPU; none: one a GPU, or what the cores give.
        listed: `cpu`, or GPUs as CUDA_VISIBLE_DEVICES takes them; none: all GPUs that are found, or else the CPU.

    Raises:
        UserError: Where more threads are asked for than there are cores.
    """
    names = gpus() if listed is None else [] if listed == "cpu" else [n.strip() for n in listed.split(",") if n.strip()]
    if listed is not None and listed != "cpu" and not names:
        raise UserError(f"--devices {listed!r}: expected 'cpu', or GPUs separated by commas, like 0,1.")
    if slots is not None and slots < 1:
        raise UserError(f"--slots {slots}: expected at least 1.")
    if names:
        return [Device(f"GPU {name}", name, slot) for slot in range(slots or 1) for name in names]
    there = cpus()
    fitting = max(1, len(there) // threads)
    if slots is not None and slots > fitting:
        raise UserError(
            f"--slots {slots}: {slots} jobs of {threads} thread{'s' if threads > 1 else ''} (`threads` in params.yaml)"
            f" are more than {len(there)} cores. Expected at most {fitting}."
        )

    wanted = slots or fitting
    own = wanted == fitting > 1  # with fewer, CPUs that nothing may move to would lie idle

    return [Device(f"CPU {n + 1}", "", n, tuple(there[n * threads :][:threads]) if own else ()) for n in range(wanted)]


class Pool:
    """Hands devices out, from any thread; one on which jobs keep being lost is given no more while others are left.

    Args:
        devices: What there is.
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        self.devices, self.free = list(devices), list(devices)
        self.lost: Counter[Device] = Counter()
        self.changed = threading.Condition()

    @contextmanager
    def lend(self) -> Iterator[Device]:
        """Yields a device that is free, once one is; a body that fails for what may pass counts against it."""
        with self.changed:
            self.changed.wait_for(lambda: self.free)
            device = self.free.pop(0)
        lost = False
        try:
            yield device
        except Exception as error:
            lost = bool(getattr(error, "passing", False))
            raise
        finally:
            with self.changed:
                self.lost[device] = self.lost[device] + 1 if lost else 0
                if self.lost[device] >= LOSSES and device.cuda and len(self.devices) > 1:
                    self.devices.remove(device)
                else:
                    self.free.append(device)
                self.changed.notify()

    def __len__(self) -> int:
        with self.changed:
            return len(self.devices)
