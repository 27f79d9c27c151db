"""Saves the state of a training in one file, from which a training that was killed at any moment resumes.

The file is written atomically. The name of the file contains the start of a hash of everything that determines the
training (see `training_key`), so that another training never loads the file. The format is safetensors. The header of
the file holds all values that are not tensors, as JSON. Loading the file executes no code.
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
    """The state of a training between two steps.

    Attributes:
        tensors: The present weights, the best weights so far, the moments of the optimisers, and the states of the
            random generators, each under its own name.
        values: All other values, in the types of JSON, by name.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


class Checkpoint:
    """The file with the latest state of a training.

    Args:
        path: File of the state.
        interval: Time after which the state is saved again within an epoch, in seconds. The state at the end of each
            epoch is saved in any case.
    """

    def __init__(self, path: Path, interval: float) -> None:
        self.path, self.interval = path, interval
        self.last_saved = time.monotonic()

    def due(self) -> bool:
        """Whether the interval since the last saved state has passed."""
        return time.monotonic() - self.last_saved >= self.interval

    def save(self, snapshot: Snapshot) -> None:
        """Replaces the saved state, completely or not at all.

        Args:
            snapshot: State to save.

        Raises:
            UserError: If the file cannot be written.
        """
        with scratch(self.path) as folder, whole(self.path) as temporary:
            tensors = {name: value.detach().contiguous() for name, value in snapshot.tensors.items()}
            try:  # `save_file` writes to the disk directly: the whole file in memory would be as large as the tensors
                save_file(tensors, folder / "state", {"values": json.dumps(snapshot.values)})
            except SafetensorError as error:
                raise OSError(errno.EIO, str(error)) from error
            (folder / "state").replace(temporary)
        self.last_saved = time.monotonic()

    def load(self) -> Snapshot | None:
        """Loads the saved state, and removes unfinished files that a killed process left beside the file.

        Returns:
            The state; None if there is no file, or if the file cannot be read.
        """
        for unfinished in self.path.parent.glob(f".{self.path.name}.*"):
            if unfinished.is_dir():
                shutil.rmtree(unfinished, ignore_errors=True)
            else:
                unfinished.unlink(missing_ok=True)
        try:
            with safe_open(self.path, "pt") as file:
                return Snapshot(
                    {name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118 (not a mapping)
                    json.loads(file.metadata()["values"]),
                )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def remove(self) -> None:
        """Removes the file. Call this method after the outputs of the training have been written."""
        self.path.unlink(missing_ok=True)


def training_determinants(
    description: Mapping[str, Any],
    optimisation: Mapping[str, Any],
    active_threshold: float,
    seed: int,
    threads: int,
    device: torch.device,
) -> dict[str, Any]:
    """Collects all values that determine the bits of a training's result, except data and code, in the types of JSON.

    Args:
        description: System, hyperparameters, parts (`duvae.config.Parts`), networks and vocabulary size of the model,
            by key.
        optimisation: Values of `duvae.config.Optimisation` by key, such as the learning rate and the number of epochs.
        active_threshold: Variance of a posterior mean over the data, above which the training history counts a
            dimension of z as active.
        seed: Seed of the training.
        threads: Number of CPU threads.
        device: Device of the training.

    Returns:
        The items of `description`, and the other arguments under their own names.
    """
    return {
        **description,
        "optimisation": dict(optimisation),
        "active_threshold": active_threshold,
        "seed": seed,
        "threads": threads,
        "device": str(device),
    }


def training_key(determinants: Mapping[str, Any], data: Path) -> str:
    """Computes the hash of everything that determines a training: parameters, data, code and PyTorch's version.

    Args:
        determinants: Result of `training_determinants`.
        data: Folder of the prepared data set, whose files are hashed.
    """
    digest = hashlib.sha256(json.dumps(determinants, sort_keys=True).encode())
    digest.update(torch.__version__.encode())
    digest.update(fingerprint.of_this_process("train", determinants["system"]).encode())
    for path in sorted(data.iterdir()):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())

    return digest.hexdigest()


def moments(name: str, optimizer: Optimizer) -> dict[str, Tensor]:
    """The tensors in an optimiser's state, such as Adam's moments, under names of their own for the saved state.

    Args:
        name: Name of the optimiser, such as `encoder`.
        optimizer: The optimiser.

    Returns:
        The tensors by `<name>.<number of the parameter>.<moment>`.
    """
    return {
        f"{name}.{parameter}.{moment}": value
        for parameter, state in optimizer.state_dict()["state"].items()
        for moment, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_moments(name: str, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Sets the state of an optimiser to the tensors that `moments` returned. Tensors of other names are ignored."""
    state: dict[int, dict[str, Tensor]] = {}
    for path, value in tensors.items():
        if path.startswith(f"{name}."):
            _, parameter, moment = path.split(".")
            state.setdefault(int(parameter), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """The states of PyTorch's global random generators, by name: the CPU's, and if `device` is a GPU also the GPU's."""
    states = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["random.cuda"] = torch.cuda.get_rng_state(device)

    return states


def restore_generator_states(device: torch.device, tensors: Mapping[str, Tensor]) -> None:
    """Sets PyTorch's global random generators to the states that `generator_states` returned."""
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], device)


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Selects the tensors whose names begin with `<prefix>.`. The names in the result lack this prefix."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
