"""A model as two files: `weights.safetensors`, and `model.json`, which says how to build what they belong to."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file

from duvae import networks, systems
from duvae.config import HYPERPARAMETERS, Parts, TextNetworks
from duvae.errors import UserError
from duvae.files import read_json, whole, write_json
from duvae.vae import VAE


@dataclass(frozen=True)
class Description:
    """What a model is: enough to build it again.

    Attributes:
        system: The system's name.
        hyperparameters: Its hyperparameters.
        parts: What else its encoder is made of.
        networks: The sizes of its networks.
        words: Size of the vocabulary.
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
        sizes = TextNetworks.model_validate(self.networks)
        system = systems.system(self.system, HYPERPARAMETERS[self.system].model_validate(self.hyperparameters), parts)
        encoder, decoder = networks.build(sizes, self.words, parts.init)
        head = system.head(encoder.features, sizes.latent)
        networks.initialize(head, parts.init)
        model = VAE(encoder, head, decoder, system.objective())
        if self.training and self.training["warmup_ended"]:
            model.start()

        return model, system


def save(folder: Path, model: VAE, description: Description) -> None:
    """Writes both files, each whole or not at all."""
    with whole(folder / "weights.safetensors") as temporary:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, temporary)
    write_json(folder / "model.json", vars(description))


def load(folder: Path, again: str = "duvae train") -> tuple[VAE, Description]:
    """A trained model in evaluation mode.

    Args:
        folder: With both files.
        again: The command that makes them, named where they are missing or broken.
    """
    try:
        description = Description(**read_json(folder / "model.json", again))
        model, _ = description.build()
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder / 'model.json'}: does not describe a model of this version ({error}). Run '{again}' again."
        ) from error
    path = folder / "weights.safetensors"
    try:
        model.load_state_dict(load_file(path))
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. '{again}' makes it.") from error
    except (safetensors.SafetensorError, RuntimeError, OSError, json.JSONDecodeError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{path}: expected the weights of {description.system} that model.json describes, but {why}."
            f" Run '{again}' again."
        ) from error

    return model.eval(), description


def device() -> torch.device:
    """The GPU that the process may see, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
