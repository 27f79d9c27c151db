"""Saves the state of a training in a file. A training that was killed at any moment resumes from this file.

Each save replaces the whole file at once, so the file is always complete. Its format is safetensors. The header of the
file holds all values that are not tensors, as JSON. Loading the file executes no code.

The function `training_key` computes a hash of everything that determines a training. `duvae train` puts the start of
this hash into the name of the file, so that no other training loads the file.
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

from duvae import devices
from duvae.config import Precision
from duvae.project import fingerprint
from duvae.project.files import scratch, whole


@dataclass(frozen=True)
class Snapshot:
    """The state of a training between two steps.

    Attributes:
        tensors: The present weights, the best weights so far, the tensors of the optimisers' states (such as Adam's
            moments), and the states of the random generators, each under its own name.
        values: All other values of the state, by name. JSON has types for all these values.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


class Checkpoint:
    """The file with the latest saved state of a training.

    Args:
        path: Path of the file.
        interval: Within an epoch, the training saves its state again if the last save is at least this number of
            seconds ago. The state at the end of each epoch is saved in any case.
    """

    def __init__(self, path: Path, interval: float) -> None:
        self.path, self.interval = path, interval
        self.last_saved = time.monotonic()

    def due(self) -> bool:
        """Returns whether the last save, or the creation of this object, was at least `interval` seconds ago."""
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
            # `save_file` writes the tensors to the disk directly. A copy of the file in memory would need as much
            # memory as all the tensors.
            try:
                save_file(tensors, folder / "state", {"values": json.dumps(snapshot.values)})
            except SafetensorError as error:
                raise OSError(errno.EIO, str(error)) from error
            (folder / "state").replace(temporary)
        self.last_saved = time.monotonic()

    def load(self) -> Snapshot | None:
        """Loads the saved state. Also removes unfinished files that a killed process left beside the saved file.

        Returns:
            The state; None if there is no saved file, or if the file cannot be read.
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
    precision: Precision,
) -> dict[str, Any]:
    """Collects all values that determine the bits of a training's result, except data, code and PyTorch's version.

    JSON has types for all these values, so that `training_key` can hash them.

    Args:
        description: System, hyperparameters, parts (options of the encoder, see `duvae.config.Parts`), networks and
            vocabulary size of the model, by key.
        optimisation: Values of `duvae.config.Optimisation` by key, such as the learning rate and the number of epochs.
        active_threshold: Variance of the posterior mean over the data, above which the training history counts a
            dimension of z as active.
        seed: Seed of the training.
        threads: Number of CPU threads.
        device: Device of the training.
        precision: Precision of products on a GPU.

    Returns:
        The items of `description`, and the remaining arguments under the names of the arguments. For a GPU also its
        card and the versions of its driver and libraries, under the name `gpu`. For a CPU `precision` is left out.
    """
    return {
        **description,
        "optimisation": dict(optimisation),
        "active_threshold": active_threshold,
        "seed": seed,
        "threads": threads,
        "device": str(device),
        **devices.determinants(device, precision.model_dump()),
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
    """Returns the tensors in an optimiser's state, such as Adam's moments, with the names that a `Snapshot` uses.

    Args:
        name: Name of the optimiser, such as `encoder`.
        optimizer: The optimiser of the encoder or of the decoder.

    Returns:
        The tensors, by names of the form `<name>.<number of the parameter>.<moment>`, such as `encoder.0.exp_avg`.
    """
    return {
        f"{name}.{parameter}.{moment}": value
        for parameter, state in optimizer.state_dict()["state"].items()
        for moment, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_moments(name: str, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Sets the state of an optimiser to the tensors that `moments` returned.

    Args:
        name: Name of the optimiser, as in the call of `moments`.
        optimizer: The optimiser of the encoder or of the decoder.
        tensors: Tensors of a snapshot. Those whose names do not begin with `<name>.` are ignored.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for path, value in tensors.items():
        if path.startswith(f"{name}."):
            _, parameter, moment = path.split(".")
            state.setdefault(int(parameter), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """Returns the state of PyTorch's global random generator of the CPU, by name.

    If `device` is a GPU, the result also has the state of the GPU's generator.
    """
    states = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["random.cuda"] = torch.cuda.get_rng_state(device)

    return states


def restore_generator_states(device: torch.device, tensors: Mapping[str, Tensor]) -> None:
    """Sets PyTorch's global random generators to the states that `generator_states` returned.

    Args:
        device: Device of the training. If it is a GPU, the GPU's generator is set, too.
        tensors: Tensors of a snapshot, which contain these states.
    """
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], device)


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Selects the tensors whose names begin with `<prefix>.`, and removes this prefix from the names."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
