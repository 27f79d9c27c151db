"""The pool: assigns devices to tasks, and decides after each failure which devices are used from then on.

A task is one stage that a rebuild runs in a process of its own. A *place* is a GPU, an instance of a GPU in MIG mode,
or the CPU. A place has one or more slots, and each slot runs one task at a time.

| failure of a task | what happens |
|---|---|
| memory ran out | The task runs once more, and no other task runs on the same place meanwhile. |
| the GPU was lost | After `MOST_LOSSES` losses in a row on one GPU, no task starts there any more. |
| any other | The devices stay as they are. |
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from duvae.project.gpus import STAGES
from pipelines.devices import Device
from pipelines.failures import Failure, TaskFailedError

Result = TypeVar("Result")

MOST_LOSSES = 2
"""Number of times in a row that a GPU is lost before the pool stops using it."""

ADVICE = (
    "Lower the sizes in params.yaml (batch, networks, importance_samples), or use a device with more memory. Then run"
    " the same command again"
)
"""What the user should do about a task whose memory runs out although it runs alone."""

LOST_ADVICE = (
    "See what 'nvidia-smi' says, and reset the GPU or restart the machine. Then run the same command again: finished"
    " stages are kept. With '--devices cpu' it runs on the CPU"
)
"""What the user should do when no GPU is left."""


class Request:
    """A task's request for a device.

    Attributes:
        alone: Place on which the task must run alone; None: any free slot.
        device: Device that the task got; None: none so far.
    """

    def __init__(self, alone: str | None = None) -> None:
        self.alone = alone
        self.device: Device | None = None


class Slots:
    """The state of all slots: which are free, which places are reserved, and which GPUs are lost.

    The class waits for nothing and starts nothing, so that its decisions can be tested in any order.

    Args:
        devices: One `Device` for each slot.

    Attributes:
        usable: The slots of all places that are not lost.
        free: The usable slots that no task holds, in the order in which they became free.
        losses: How often in a row each GPU was lost, by place.
        reserved: The requests for a place alone, by place. From the reservation on, no other task starts there.
        last_loss: Description of the last loss.
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        self.usable, self.free = list(devices), list(devices)
        self.losses: Counter[str] = Counter()
        self.reserved: dict[str, Request] = {}
        self.last_loss = ""

    def take(self, request: Request) -> bool:
        """Tries to give a request its device. A task gets the GPU with the fewest losses, then with the fewest tasks.

        Returns:
            Whether the request has got a device. If not, try again after the next change.
        """
        if request.alone is None:
            open_slots = [device for device in self.free if device.place not in self.reserved]
            if not open_slots:
                return False
            tasks = Counter(device.place for device in self.usable)
            tasks.subtract(device.place for device in self.free)
            request.device = min(open_slots, key=lambda device: (self.losses[device.place], tasks[device.place]))
            self.free.remove(request.device)
            return True
        places = {device.place for device in self.usable}
        if request.alone not in places:  # that GPU was lost meanwhile
            request.alone = min(sorted(places), key=lambda place: (place in self.reserved, self.losses[place]))
        if self.reserved.setdefault(request.alone, request) is not request:
            return False
        slots = [device for device in self.usable if device.place == request.alone]
        if any(device not in self.free for device in slots):
            return False
        self.free = [device for device in self.free if device not in slots]
        request.device = slots[0]

        return True

    def give_back(self, request: Request, failure: Failure | None, uses_gpu: bool) -> str:
        """Ends a task: frees its slots, and stops using its GPU if the GPU was lost too often.

        Args:
            request: The request of the task, which has got a device.
            failure: Kind of the task's failure; None: the task succeeded.
            uses_gpu: Whether the task computes on a GPU. Only the success of such a task shows that its GPU works.

        Returns:
            A message for the user if the pool stops using a GPU; otherwise an empty text.
        """
        device = request.device
        assert device is not None
        place, request.device = device.place, None
        freed = [device]
        if request.alone is not None:
            self.reserved.pop(place, None)
            freed = [slot for slot in self.usable if slot.place == place]
        self.free += [slot for slot in freed if slot in self.usable]
        if failure is None and uses_gpu:
            self.losses[place] = 0
        if failure is not Failure.DEVICE or not device.cuda or device not in self.usable:
            return ""
        self.losses[place] += 1
        if self.losses[place] < MOST_LOSSES:
            return ""
        self.usable = [slot for slot in self.usable if slot.place != place]
        self.free = [slot for slot in self.free if slot.place != place]
        self.reserved.pop(place, None)
        left = ", ".join(dict.fromkeys(slot.name for slot in self.usable))

        return f"{device.name} was lost {MOST_LOSSES} times in a row and is no longer used; left: {left or 'none'}"


class Pool:
    """Assigns devices to tasks. Any thread may run a task.

    Args:
        devices: One `Device` for each slot. A GPU or CPU with several slots is in the list several times.
        report: Function that shows a message to the user.
    """

    def __init__(self, devices: Sequence[Device], report: Callable[[str], object] = lambda message: None) -> None:
        self.slots, self.report = Slots(devices), report
        self.changed = threading.Condition()

    @property
    def devices(self) -> list[Device]:
        """The slots of all devices that are not lost."""
        with self.changed:
            return list(self.slots.usable)

    @property
    def no_device(self) -> str:
        """Reason why no device is left, and what the user should do; empty if a device is left."""
        with self.changed:
            return "" if self.slots.usable else f"no GPU is left. {self.slots.last_loss}. {LOST_ADVICE}"

    def run(self, stage: str, work: Callable[[Device], Result]) -> Result:
        """Runs a task on a free device. If its memory runs out, runs it once more, alone on that device.

        Args:
            stage: Name of the stage, such as `train@synthetic-vae-1`.
            work: Function that runs the task on a device, and raises a `TaskFailedError` if the task fails.

        Raises:
            TaskFailedError: If the task fails, or if no GPU is left.
        """
        alone: str | None = None
        while True:
            try:
                return self._run_once(stage, work, Request(alone))
            except _Again as again:
                alone = again.device.place
                self.report(
                    f"{stage}: memory ran out on {again.device.label}. The task runs again, alone on"
                    f" {again.device.label}, as soon as the other tasks there have ended"
                )

    def _run_once(self, stage: str, work: Callable[[Device], Result], request: Request) -> Result:
        """Runs a task once, on the device that a request gets.

        Raises:
            _Again: If the memory ran out, and the task has not run alone yet.
        """
        device = self._wait_for(stage, request)
        alone = request.alone is not None
        failure: Failure | None = Failure.FINAL
        try:
            result = work(device)
            failure = None
        except TaskFailedError as error:
            failure = error.failure
            if failure is not Failure.MEMORY:
                raise
            if not alone:
                raise _Again(device) from error
            reason = f"{error.reason}, although no other task ran on {device.label}. {ADVICE}"
            raise TaskFailedError(stage, reason, Failure.FINAL, error.log) from error
        finally:
            with self.changed:
                message = self.slots.give_back(request, failure, stage.partition("@")[0] in STAGES)
                self.slots.last_loss = message or self.slots.last_loss
                self.changed.notify_all()
            if message:
                self.report(message)

        return result

    def _wait_for(self, stage: str, request: Request) -> Device:
        """Waits until a request has got its device.

        Raises:
            TaskFailedError: If no GPU is left.
        """
        with self.changed:
            self.changed.wait_for(lambda: not self.slots.usable or self.slots.take(request))
            if request.device is not None:
                return request.device
        raise TaskFailedError(stage, self.no_device)

    def __len__(self) -> int:
        with self.changed:
            return len(self.slots.usable)


class _Again(Exception):
    """Is raised when a task should run once more, alone on a device."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.device = device
