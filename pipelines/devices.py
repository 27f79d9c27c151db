"""The devices that tasks run on: GPUs or CPU cores.

A task is one stage that a rebuild runs in a process of its own. That process sees only the device of its task: the
environment variable `CUDA_VISIBLE_DEVICES` names the task's GPU, or is empty if the task runs on the CPU.

A rebuild uses the CPU only if the user asks for it, or if the machine has no NVIDIA driver. If there are GPUs that
cannot be used, the rebuild ends with an error.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from duvae import streams
from duvae.errors import UserError
from duvae.project import gpus
from duvae.project.gpus import GPU, Inventory


@dataclass(frozen=True)
class Device:
    """A slot on a GPU or on the CPU. A slot runs one task at a time; a GPU or the CPU may have several slots.

    Attributes:
        name: Name of the device in messages, such as `GPU 0`.
        visible: Value of `CUDA_VISIBLE_DEVICES` for the task: a UUID, or an index if the UUID is not known; empty: the
            CPU.
        slot: Index of the slot on its GPU or on the CPU.
        cpus: Indices of the CPUs to which the task is pinned; empty: no pinning. Without pinning, the operating system
            moves tasks between the cores: two trainings at a time on two cores then take a third longer.
        model: Name of the GPU's model, such as `NVIDIA H100 80GB HBM3`; empty: not known, or the CPU.
        memory: Memory of the GPU in MiB; 0: not known, or the CPU. Model and memory of a MIG instance count as not
            known.
    """

    name: str
    visible: str
    slot: int = 0
    cpus: tuple[int, ...] = ()
    model: str = ""
    memory: float = 0.0

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return bool(self.visible)

    @property
    def place(self) -> str:
        """Key of the GPU, MIG instance or CPU that the slot belongs to. All its slots have the same key."""
        return self.visible

    @property
    def label(self) -> str:
        """Name of the GPU, MIG instance or CPU that the slot belongs to, for messages."""
        return self.name if self.cuda else "the CPU"

    def environment(self) -> dict[str, str]:
        """The environment variables that give the device to a process."""
        return {
            "CUDA_VISIBLE_DEVICES": self.visible,
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the order of nvidia-smi; by default, CUDA lists the fastest GPU first
            gpus.VARIABLE: self.name if self.cuda else gpus.CPU,
        }

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


def choose(
    threads: int, slots: int | None = None, requested: str | None = None, check: bool = True, tell: bool = True
) -> list[Device]:
    """Chooses the devices of a rebuild or of a study; returns one `Device` for each slot.

    A line on standard error says if the CPU is used because no GPU is visible, and if a GPU cannot be used.

    Args:
        threads: Number of CPU threads of one process: the value of `threads` in params.yaml. The last bits of a result
            depend on this number. So the number is fixed, and the largest number of slots on the CPU follows from it.
        slots: Number of processes at a time on each GPU, or on the CPU. None: one process on each GPU (a rebuild then
            chooses by `pipelines.slots`); without a GPU, as many processes as the number of cores divided by `threads`.
        requested: `cpu`, or a list of GPUs in the format of `CUDA_VISIBLE_DEVICES`; None: all GPUs, or the CPU if
            there is no GPU.
        check: Whether the GPUs in `requested` must exist. A plan may be for another machine.
        tell: Whether to write that line.

    Raises:
        UserError: If `slots` or `requested` has a wrong value, if the GPUs cannot be read or used, or if the slots on
            the CPU need more threads than this machine has cores.
    """
    if slots is not None and slots < 1:
        raise UserError(f"--slots {slots}: expected at least 1.")
    notes: list[str] = []
    if requested is not None and requested != gpus.CPU and not check:
        chosen = _unchecked(_names(requested))
        _require_different(chosen, f"--devices {requested!r}")
    else:
        chosen, notes = find(requested)
    for note in notes if tell else ():
        streams.say(f"devices: {note}")
    if chosen:
        return [replace(device, slot=slot) for slot in range(slots or 1) for device in chosen]
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


def of_worker() -> Device:
    """The device of a task on the worker of a cluster: the first GPU that the worker may use, or the CPU.

    Raises:
        UserError: If the GPUs of the machine cannot be read or used.
    """
    chosen, _ = find()

    return chosen[0] if chosen else Device("CPU", "")


def find(requested: str | None = None) -> tuple[list[Device], list[str]]:
    """Finds the GPUs to use.

    Args:
        requested: `cpu`, or a list of GPUs in the format of `CUDA_VISIBLE_DEVICES`. None: the GPUs in the environment
            variable `CUDA_VISIBLE_DEVICES`; if it is not set, all GPUs.

    Returns:
        One `Device` for each GPU or MIG instance, or none if the CPU should be used; and notes for the user.

    Raises:
        UserError: If the GPUs cannot be read or used, or if one of those in the list does not exist.
    """
    if requested == gpus.CPU:
        return [], []
    names, source = None, "GPUs"
    if requested is not None:
        names, source = _names(requested), f"--devices {requested!r}"
    elif (variable := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        names, source = _before_the_end(variable), f"CUDA_VISIBLE_DEVICES={variable!r}"
        if not names:
            return [], [f"{source} hides all GPUs, so the CPU is used"]
    found = gpus.inventory()
    if found.empty:
        if names is None:
            return [], ["no NVIDIA driver here (no nvidia-smi on the PATH, no /dev/nvidia*), so the CPU is used"]
        raise UserError(
            f"{source}: expected GPUs of this machine; it has no NVIDIA driver (no nvidia-smi on the PATH, no"
            " /dev/nvidia*). Install the driver, or use the CPU: --devices cpu."
        )
    if names is not None and not found.installed:
        devices, notes = _unchecked(names), [f"{source} cannot be checked: {found.problems[0]}"]
    else:
        devices, notes = _known(found, names, source), list(found.problems)
    _require_cuda(devices)
    _require_different(devices, source)

    return devices, notes


def _names(requested: str) -> list[str]:
    """The names in the value of the option `--devices`."""
    names = [name.strip() for name in requested.split(",") if name.strip()]
    if not names or gpus.CPU in names:
        raise UserError(f"--devices {requested!r}: expected 'cpu', or GPUs separated by commas, like 0,1.")

    return names


def _before_the_end(variable: str) -> list[str]:
    """The names in the value of `CUDA_VISIBLE_DEVICES`."""
    names = [name.strip() for name in variable.split(",")]
    end = next((place for place, name in enumerate(names) if name in gpus.HIDDEN), None)

    return [name for name in names[:end] if name]


def _unchecked(names: Sequence[str]) -> list[Device]:
    """Devices for names of GPUs that nothing is known about."""
    return [Device(f"GPU {name}", name) for name in names]


def _known(found: Inventory, names: Sequence[str] | None, source: str) -> list[Device]:
    """The GPUs and MIG instances with given names. None as names: all of them.

    Raises:
        UserError: If there are none, or if a name does not fit.
    """
    devices = [device for gpu in found.gpus for device in _of(gpu)]
    if names is not None and found.gpus:
        return [_named(name, found, source) for name in names]
    if not devices:
        raise UserError(
            f"{source}: expected GPUs that can be used, but {'; '.join(found.problems)}. Reset the GPU, reload the"
            " driver or restart the machine, or use the CPU: --devices cpu."
        )

    return devices


def _of(gpu: GPU) -> list[Device]:
    """The devices of a GPU: itself, or its instances in MIG mode."""
    if not gpu.mig:
        memory = float(gpu.memory) if gpu.memory.isdecimal() else 0.0  # a GPU may share the memory of the machine
        return [Device(f"GPU {gpu.index}", gpu.uuid, model=gpu.model, memory=memory)]

    return [Device(f"GPU {gpu.index} {instance.name}", instance.uuid) for instance in gpu.instances]


def _named(name: str, found: Inventory, source: str) -> Device:
    """The GPU or MIG instance with an index, a UUID or the beginning of a UUID.

    Raises:
        UserError: If there is none, if there are several, or if the GPU is in MIG mode.
    """
    prefix = name.lower() if name.lower().startswith(("gpu-", "mig-")) else "none"
    fitting: list[Device] = []
    for gpu in found.gpus:
        if gpu.index == name or gpu.uuid.lower().startswith(prefix):
            if gpu.mig:
                instances = ", ".join(instance.uuid for instance in gpu.instances) or "none so far"
                raise UserError(
                    f"{source}: GPU {gpu.index} is in MIG mode, so CUDA finds only its instances. Expected one of them:"
                    f" {instances}."
                )
            fitting += _of(gpu)
        elif gpu.mig:
            fitting += [device for device in _of(gpu) if device.visible.lower().startswith(prefix)]
    if len(fitting) == 1:
        return fitting[0]
    known = "; ".join(f"{device.name} ({device.visible})" for gpu in found.gpus for device in _of(gpu))
    problems = f" Not usable: {'; '.join(found.problems)}." if found.problems else ""
    raise UserError(
        f"{source}: {name!r} fits {len(fitting) or 'no'} GPU{'s' if fitting else ''} of this machine. Expected an index"
        f" or a UUID of: {known}.{problems} Correct the list, or use the CPU: --devices cpu."
    )


def _require_cuda(devices: Sequence[Device]) -> None:
    """Checks that the installed torch is built for CUDA.

    Raises:
        UserError: If it is not.
    """
    if torch := gpus.torch_without_cuda():
        names = ", ".join(device.name for device in devices)
        raise UserError(
            f"{names}: expected a torch that can use GPUs; the installed torch {torch} is built without CUDA. Install a"
            " build for CUDA (here: 'make clean', then 'make environment TORCH_INDEX=...'), or use the CPU:"
            " --devices cpu."
        )


def _require_different(devices: Sequence[Device], source: str) -> None:
    """Checks that no GPU is named twice: CUDA then finds no GPU at all.

    Raises:
        UserError: If one is.
    """
    for number, device in enumerate(devices):
        if device in devices[:number]:
            raise UserError(
                f"{source}: names {device.name} twice. Name each GPU once; --slots 2 runs two tasks at a time on it."
            )
