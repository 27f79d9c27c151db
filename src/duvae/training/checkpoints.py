"""The whole state of a training as one file, written atomically: killed at any moment, it goes on from the last one.

The file's name holds a hash of all that determines the run, so that a state never meets another run than its own.
It is safetensors with what is not a tensor as JSON in its header; nothing in it is ever executed.
"""

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from duvae.project import fingerprint
from duvae.project.files import scratch, whole


@dataclass(frozen=True)
class Snapshot:
    """A training between two steps.

    Attributes:
        tensors: Weights, best weights, moments, states of the random generators.
        values: Everything else, as JSON has it.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


class Checkpoint:
    """One file that holds a training's latest state.

    Args:
        path: The file.
        every: Seconds between two states inside an epoch; each epoch's end is kept too.
    """

    def __init__(self, path: Path, every: float) -> None:
        self.path, self.every = path, every
        self.last = time.monotonic()

    def due(self) -> bool:
        """Whether a state should be kept now."""
        return time.monotonic() - self.last >= self.every

    def keep(self, snapshot: Snapshot) -> None:
        """Writes the state in place of the one before, whole or not at all."""
        with scratch(self.path) as folder, whole(self.path) as temporary:
            tensors = {name: value.detach().contiguous() for name, value in snapshot.tensors.items()}
            try:  # to a file at once: as bytes it would stand in memory twice
                save_file(tensors, folder / "state", {"values": json.dumps(snapshot.values)})
            except SafetensorError as error:
                raise OSError(errno.EIO, str(error)) from error
            (folder / "state").replace(temporary)
        self.last = time.monotonic()

    def latest(self) -> Snapshot | None:
        """The state that was kept last; None where there is none that can be read.

        What a killed process had begun to write beside it is removed.
        """
        for begun in self.path.parent.glob(f".{self.path.name}.*"):
            if begun.is_dir():
                shutil.rmtree(begun, ignore_errors=True)
            else:
                begun.unlink(missing_ok=True)
        try:
            with safe_open(self.path, "pt") as file:
                return Snapshot(
                    {name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118 (not a mapping)
                    json.loads(file.metadata()["values"]),
                )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def remove(self) -> None:
        """Once the training's outputs are written."""
        self.path.unlink(missing_ok=True)


def determined(
    description: Mapping[str, Any],
    optimisation: Mapping[str, Any],
    active_threshold: float,
    seed: int,
    threads: int,
    device: torch.device,
) -> dict[str, Any]:
    """Everything outside data and code that a training's bits depend on, as JSON has it.

    Args:
        description: The model: system, hyperparameters, parts, networks and size of the vocabulary.
        optimisation: The optimiser, its schedule and its end.
        active_threshold: The variance from which a dimension of z counts as active in the history.
        seed: The training's seed.
        threads: CPU threads.
        device: The device of the training.
    """
    return {
        **description,
        "optimisation": dict(optimisation),
        "active_threshold": active_threshold,
        "seed": seed,
        "threads": threads,
        "device": str(device),
    }


def key(determines: Mapping[str, Any], data: Path) -> str:
    """A hash of everything that determines a training: parameters, prepared data, code and torch's version.

    Args:
        determines: What `determined` returns.
        data: The folder of the prepared data set.
    """
    digest = hashlib.sha256(json.dumps(determines, sort_keys=True).encode())
    digest.update(torch.__version__.encode())
    digest.update(fingerprint.of_this_process("train", determines["system"]).encode())
    for path in sorted(data.iterdir()):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())

    return digest.hexdigest()


def moments(name: str, optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimiser's moments as tensors: `<name>.<parameter>.<moment>`."""
    return {
        f"{name}.{parameter}.{moment}": value
        for parameter, found in optimizer.state_dict()["state"].items()
        for moment, value in found.items()
        if isinstance(value, Tensor)
    }


def restore_moments(name: str, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Gives an optimiser the moments that `moments` had taken."""
    state: dict[int, dict[str, Tensor]] = {}
    for place, value in tensors.items():
        if place.startswith(f"{name}."):
            _, parameter, moment = place.split(".")
            state.setdefault(int(parameter), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def generators(device: torch.device) -> dict[str, Tensor]:
    """The states of the random generators."""
    found = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["random.cuda"] = torch.cuda.get_rng_state(device)

    return found


def restore_generators(device: torch.device, tensors: Mapping[str, Tensor]) -> None:
    """Gives the random generators the states that `generators` had taken."""
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], device)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix.`, without it."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
