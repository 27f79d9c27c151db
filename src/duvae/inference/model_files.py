"""Saves and loads a model as two files: `weights.safetensors`, and `model.json` with a description of the model."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from duvae import devices, networks, systems
from duvae.config import Networks, Parts
from duvae.errors import UserError
from duvae.project.files import read_json, whole, write_json
from duvae.registry import HYPERPARAMETERS
from duvae.vae import VAE

DESCRIPTION = "description"
"""Key of the model's description in the metadata of weights.safetensors."""

WEIGHTS = "weights"
"""Key of the digest of the weights in model.json. Models of earlier versions have no digest."""

NETWORKS: TypeAdapter[Networks] = TypeAdapter(Networks)
"""Checks the sizes of the networks. The keys of the sizes show whether the networks are for text or for images."""


@dataclass(frozen=True)
class Description:
    """Everything that is needed to build a model again.

    Attributes:
        system: Name of the system, that is, of a method of the paper, such as `du_vae`.
        hyperparameters: The system's hyperparameters, by name.
        parts: The encoder options that every system has, by name; `duvae.config.Parts` describes them.
        networks: The sizes of the networks, with the keys of `datasets.*.networks` in params.yaml.
        words: Number of words in the vocabulary; 2 for images, because a pixel is a bit.
        training: Outcome of the training, with the keys `epochs`, `best_epoch`, `warmup_ended`, `stopped`, `decays` and
            `ending` (see `duvae.training.state.TrainingResult`). Models of earlier versions lack the last two keys.
            None: the model is not trained yet.
    """

    system: str
    hyperparameters: dict[str, Any]
    parts: dict[str, Any]
    networks: dict[str, Any]
    words: int
    training: dict[str, Any] | None = None

    def build(self) -> tuple[VAE, systems.System[Any]]:
        """Builds the model with new random weights.

        Returns:
            The model, and its system: an instance of a subclass of `System`.
        """
        parts = Parts.model_validate(self.parts)
        sizes: Networks = NETWORKS.validate_python(self.networks)
        system = systems.system(self.system, HYPERPARAMETERS[self.system].model_validate(self.hyperparameters), parts)
        encoder, decoder = networks.build(sizes, self.words, parts.init)
        head = system.head(encoder.features, sizes.latent)
        # The encoder and the decoder are initialized already. In the head, only the linear layers still need initial
        # weights, because regularizers and the networks of a flow initialize themselves.
        for part in head.children():
            if isinstance(part, nn.Linear):
                networks.initialize(part, networks.initial(sizes, parts.init))
        model = VAE(encoder, head, decoder, system.objective(), system.refinement())
        if self.training and self.training["warmup_ended"]:
            model.start()

        return model, system


def save(folder: Path, model: VAE, description: Description) -> None:
    """Writes both files of a model into `folder`; each file is written completely or not at all.

    `model.json` also holds the digest of the weights, so that `load` notices a changed bit.
    """
    tensors = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    with whole(folder / "weights.safetensors") as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, {DESCRIPTION: json.dumps(vars(description))}))
    write_json(folder / "model.json", {**vars(description), WEIGHTS: digest(model)})


def load(
    folder: Path, command: str = "duvae train", system: str | None = None, words: int | None = None
) -> tuple[VAE, Description]:
    """Loads a trained model, in evaluation mode.

    Args:
        folder: The folder with both files of the model.
        command: The command that writes the files. Error messages tell the user to run it again.
        system: Name of the system that the model must have; None: any system is accepted.
        words: Number of words that the vocabulary of the model must have; None: any number is accepted.

    Returns:
        The model on the CPU, and its description.

    Raises:
        UserError: If a file is missing or broken, or if the model does not have the required system or number of words.
    """
    path = folder / "model.json"
    try:
        content = read_json(path, command)
        recorded = content.pop(WEIGHTS, None) if isinstance(content, dict) else None
        description = Description(**content)
        model, _ = description.build()
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: expected a model of this version ({reason}). Run '{command}' again.") from error
    if system not in (None, description.system):
        raise UserError(
            f"{path}: expected a model of {system}; found one of {description.system}. Run '{command}' again."
        )
    if words not in (None, description.words):
        raise UserError(
            f"{path}: expected a vocabulary of {words} words, as the prepared data have; found one of"
            f" {description.words}. Run '{command}' again."
        )
    model.load_state_dict(_weights(folder / "weights.safetensors", model, description, command))
    if recorded not in (None, digest(model)):
        raise UserError(
            f"{folder / 'weights.safetensors'}: has changed since it was written (its digest is not the one in"
            f" model.json). Run '{command}' again."
        )

    return model.eval(), description


def digest(model: VAE) -> str:
    """Computes a digest of a model's weights. Two models with equal digests have equal weights.

    Args:
        model: The VAE, on any device.

    Returns:
        16 hexadecimal digits.
    """
    return _digest({name: value.detach().cpu().numpy() for name, value in model.state_dict().items()})


def saved_digest(folder: Path) -> str | None:
    """Computes the digest of the weights that `save` wrote into a folder.

    Args:
        folder: The folder of a model.

    Returns:
        The digest that `digest` computes for the same weights; None if the folder has no readable weights.
    """
    try:
        return _digest(safetensors.numpy.load_file(folder / "weights.safetensors"))
    except (OSError, safetensors.SafetensorError):
        return None


def _digest(arrays: Mapping[str, "np.ndarray[Any, Any]"]) -> str:
    result = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        result.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        result.update(np.ascontiguousarray(array).tobytes())

    return result.hexdigest()[:16]


def _weights(path: Path, model: VAE, description: Description, command: str) -> dict[str, Tensor]:
    """Reads the tensors of a weights file, and checks that they are finite and fit the model.

    If the metadata of the file hold a description of a model, the function checks that it equals `description`.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {}).get(DESCRIPTION, "null"))
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. '{command}' makes it.") from error
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: expected weights, but it cannot be read ({reason}). Run '{command}' again."
        ) from error
    expected = model.state_dict()
    names = sorted(expected.keys() | tensors.keys())
    differing = [name for name in names if _shape(expected, name) != _shape(tensors, name)]
    reason = ""
    if isinstance(described, dict) and described != vars(description):
        reason = f"they are of another training, of {described.get('system')}"
    elif differing:
        name = differing[0]
        reason = f"{name} is {_shape(tensors, name)} where {_shape(expected, name)} is expected"
    elif broken := [name for name, value in tensors.items() if not torch.isfinite(value).all()]:
        reason = f"{broken[0]} is not finite"
    if reason:
        raise UserError(
            f"{path}: expected the weights of the {description.system} that model.json describes, but {reason}."
            f" Run '{command}' again."
        )

    return tensors


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return " x ".join(map(str, tensors[name].shape)) or "a number" if name in tensors else "missing"


def device(precision: devices.Products = "ieee") -> torch.device:
    """Returns the GPU if the process can use one, and otherwise the CPU. Prepares a GPU (see `devices.prepare`).

    Args:
        precision: Precision of products of float32 numbers on a GPU.
    """
    return devices.prepare(devices.chosen(), precision)
