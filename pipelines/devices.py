"""The devices (GPUs or CPU cores) that tasks run on, and the pool that assigns devices to tasks.

A task is one stage that a rebuild runs in a process of its own. That process sees only the device of its task: the
environment variable `CUDA_VISIBLE_DEVICES` names the task's GPU, or is empty if the task runs on the CPU.
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
"""Seconds to wait for the answer of `nvidia-smi`, which asks the driver of the GPUs."""

MOST_LOSSES = 2
"""Number of lost tasks in a row after which the pool stops using a slot of a GPU (see `Pool`)."""


@dataclass(frozen=True)
class Device:
    """A slot on a GPU or on the CPU. A slot runs one task at a time; a GPU or the CPU may have several slots.

    Attributes:
        name: Name of the device in messages, such as `GPU 0`.
        visible: Value of `CUDA_VISIBLE_DEVICES` for the task; empty: the CPU.
        slot: Index of the slot on its GPU or on the CPU.
        cpus: Indices of the CPUs to which the task is pinned; empty: no pinning. Without pinning, the operating system
            moves tasks between the cores: two trainings at a time on two cores then take a third longer.
    """

    name: str
    visible: str
    slot: int = 0
    cpus: tuple[int, ...] = ()

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return bool(self.visible)

    def pin(self, pid: int) -> None:
        """Pins a process, and all processes that it starts from now on, to the device's CPUs.

        Args:
            pid: Id of the process.
        """
        if self.cpus and hasattr(os, "sched_setaffinity"):
            with suppress(OSError):  # the process has ended; or its CPUs are gone, and it runs unpinned
                os.sched_setaffinity(pid, self.cpus)


def cpus() -> list[int]:
    """The indices of the CPUs that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def gpus() -> list[str]:
    """The GPUs that `CUDA_VISIBLE_DEVICES` names; if the variable is not set, all GPUs that the driver lists.

    The function asks `nvidia-smi` for the driver's list, since importing torch would take seconds. If `nvidia-smi` does
    not answer, the function returns an empty list.
    """
    if (value := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return _names(value)
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return []

    return done.stdout.split()


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


def choose(threads: int, slots: int | None = None, requested: str | None = None) -> list[Device]:
    """Chooses the devices of a rebuild or of a study; returns one `Device` for each slot.

    Args:
        threads: Number of CPU threads of one process: the value of `threads` in params.yaml. The last bits of a result
            depend on this number. So the number is fixed, and the largest number of slots on the CPU follows from it.
        slots: Number of processes at a time on each GPU, or on the CPU. None: one process on each GPU; without a GPU,
            as many processes as the number of cores divided by `threads`.
        requested: `cpu`, or a list of GPUs in the format of `CUDA_VISIBLE_DEVICES`; None: all GPUs, or the CPU if
            there is no GPU.

    Raises:
        UserError: If `slots` or `requested` has a wrong value, or if the slots on the CPU need more threads than this
            machine has cores.
    """
    names = gpus() if requested is None else [] if requested == "cpu" else _names(requested)
    if requested is not None and requested != "cpu" and not names:
        raise UserError(f"--devices {requested!r}: expected 'cpu', or GPUs separated by commas, like 0,1.")
    if slots is not None and slots < 1:
        raise UserError(f"--slots {slots}: expected at least 1.")
    if names:
        return [Device(f"GPU {name}", name, slot) for slot in range(slots or 1) for name in names]
    cores = cpus()
    most = max(1, len(cores) // threads)
    if slots is not None and slots > most:
        raise UserError(
            f"--slots {slots}: {slots} processes of {threads} thread{'s' if threads > 1 else ''} (`threads` in"
            f" params.yaml) need more than the {len(cores)} cores of this machine. Expected at most {most}."
        )

    count = slots or most
    pinned = count == most > 1  # with fewer slots, pinned tasks would leave the other CPUs idle

    return [
        Device(f"CPU {n + 1}", "", n, tuple(cores[n * threads :][:threads]) if pinned else ()) for n in range(count)
    ]


class Pool:
    """Assigns devices to tasks. Any thread may ask for a device.

    A task is *lost* if it fails with an error that may not come again in another attempt. After several lost tasks in a
    row on one slot of a GPU, the pool stops using this slot, as long as another slot is left.

    Args:
        devices: One `Device` for each slot. A GPU or CPU with several slots is in the list several times.
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        self.devices, self.free = list(devices), list(devices)
        self.losses: Counter[Device] = Counter()
        self.changed = threading.Condition()

    @contextmanager
    def acquire(self) -> Iterator[Device]:
        """Waits for a free device, and yields the device to the `with` block.

        If an exception leaves the block, and its attribute `transient` is true, the task counts as lost on that device.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.free)
            device = self.free.pop(0)
        lost = False
        try:
            yield device
        except Exception as error:
            lost = bool(getattr(error, "transient", False))
            raise
        finally:
            with self.changed:
                self.losses[device] = self.losses[device] + 1 if lost else 0
                if self.losses[device] >= MOST_LOSSES and device.cuda and len(self.devices) > 1:
                    self.devices.remove(device)
                else:
                    self.free.append(device)
                self.changed.notify()

    def __len__(self) -> int:
        with self.changed:
            return len(self.devices)
