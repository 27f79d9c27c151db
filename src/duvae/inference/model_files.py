"""A model as two files: `weights.safetensors`, and `model.json`, which says how to build what they belong to."""

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

from duvae import networks, systems
from duvae.config import Networks, Parts
from duvae.errors import UserError
from duvae.project.files import read_json, whole, write_json
from duvae.registry import HYPERPARAMETERS
from duvae.vae import VAE

DESCRIPTION = "description"
"""Where weights.safetensors says whose weights it holds."""

NETWORKS: TypeAdapter[Networks] = TypeAdapter(Networks)
"""From a description's sizes to those of text or of image networks: no two have the same keys."""


@dataclass(frozen=True)
class Description:
    """What a model is: enough to build it again.

    Attributes:
        system: The system's name.
        hyperparameters: Its hyperparameters.
        parts: What else its encoder is made of.
        networks: The sizes of its networks.
        words: Size of the vocabulary; 2 for images, whose pixels are bits.
        training: How it was trained: epochs, best_epoch, warmup_ended, stopped; None before it was.
    """

    system: str
    hyperparameters: dict[str, Any]
    parts: dict[str, Any]
    networks: dict[str, Any]
    words: int
    training: dict[str, Any] | None = None

    def build(self) -> tuple[VAE, systems.System[Any]]:
        """A model with fresh weights, and its system."""
        parts = Parts.model_validate(self.parts)
        sizes: Networks = NETWORKS.validate_python(self.networks)
        system = systems.system(self.system, HYPERPARAMETERS[self.system].model_validate(self.hyperparameters), parts)
        encoder, decoder = networks.build(sizes, self.words, parts.init)
        head = system.head(encoder.features, sizes.latent)
        for part in head.children():  # its own linear map; regularizers and a flow's networks begin as they say
            if isinstance(part, nn.Linear):
                networks.initialize(part, networks.initial(sizes, parts.init))
        model = VAE(encoder, head, decoder, system.objective(), system.refinement())
        if self.training and self.training["warmup_ended"]:
            model.start()

        return model, system


def save(folder: Path, model: VAE, description: Description) -> None:
    """Writes both files, each whole or not at all."""
    tensors = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    with whole(folder / "weights.safetensors") as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, {DESCRIPTION: json.dumps(vars(description))}))
    write_json(folder / "model.json", vars(description))


def load(
    folder: Path, again: str = "duvae train", system: str | None = None, words: int | None = None
) -> tuple[VAE, Description]:
    """A trained model in evaluation mode.

    Args:
        folder: With both files.
        again: The command that makes them, named where they are missing, broken or others than expected.
        system: The system that it must be of; None: any.
        words: The size of the vocabulary that it must have; None: any.

    Raises:
        UserError: Where it is not such a model.
    """
    named = folder / "model.json"
    try:
        description = Description(**read_json(named, again))
        model, _ = description.build()
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{named}: expected a model of this version ({why}). Run '{again}' again.") from error
    if system not in (None, description.system):
        raise UserError(
            f"{named}: expected a model of {system}; found one of {description.system}. Run '{again}' again."
        )
    if words not in (None, description.words):
        raise UserError(
            f"{named}: expected a vocabulary of {words} words, as the prepared data have; found one of"
            f" {description.words}. Run '{again}' again."
        )
    model.load_state_dict(_weights(folder / "weights.safetensors", model, description, again))

    return model.eval(), description


def digest(model: VAE) -> str:
    """The digest of a model's weights, which tells whether two results are of the same weights.

    Args:
        model: The VAE, on any device.

    Returns:
        16 hexadecimal digits.
    """
    return _digest({name: value.detach().cpu().numpy() for name, value in model.state_dict().items()})


def saved_digest(folder: Path) -> str | None:
    """The same digest of the weights in a folder that `save` wrote; None where no readable weights are there.

    Args:
        folder: The folder of a model.
    """
    try:
        return _digest(safetensors.numpy.load_file(folder / "weights.safetensors"))
    except (OSError, safetensors.SafetensorError):
        return None


def _digest(arrays: Mapping[str, "np.ndarray[Any, Any]"]) -> str:
    whole = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        whole.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        whole.update(np.ascontiguousarray(array).tobytes())

    return whole.hexdigest()[:16]


def _weights(path: Path, model: VAE, description: Description, again: str) -> dict[str, Tensor]:
    """The tensors of `path`, once they are seen to be the model's."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {}).get(DESCRIPTION, "null"))
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. '{again}' makes it.") from error
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: expected weights, but it cannot be read ({why}). Run '{again}' again.") from error
    wanted = model.state_dict()
    other = [name for name in sorted(wanted.keys() | tensors.keys()) if _shape(wanted, name) != _shape(tensors, name)]
    why = ""
    if isinstance(described, dict) and described != vars(description):
        why = f"they are of another training, of {described.get('system')}"
    elif other:
        name = other[0]
        why = f"{name} is {_shape(tensors, name)} where {_shape(wanted, name)} is expected"
    elif odd := [name for name, value in tensors.items() if not torch.isfinite(value).all()]:
        why = f"{odd[0]} is not finite"
    if why:
        raise UserError(
            f"{path}: expected the weights of the {description.system} that model.json describes, but {why}."
            f" Run '{again}' again."
        )

    return tensors


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return " x ".join(map(str, tensors[name].shape)) or "a number" if name in tensors else "missing"


def device() -> torch.device:
    """The GPU that the process may see, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
