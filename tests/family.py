"""Every system at a small size with its own hyperparameters. The mathematical tests run over all of them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import tiny
from duvae import config
from duvae.config import Parts, TextNetworks
from duvae.data.splits import END, SPECIALS, START, Documents
from duvae.inference.model_files import Description
from duvae.systems import SYSTEMS, System
from duvae.training.loop import Progress, Training
from duvae.training.steps import Updates, optimizer
from duvae.vae import VAE

PARAMS = tiny.params()
FULL_SIZE = config.load(Path(__file__).parents[1] / "params.yaml")
NAMES = sorted(SYSTEMS)
CPU = torch.device("cpu")
WORDS, LATENT = 12, 3
LENGTHS = (3, 5, 6, 9)


def setting(system: str) -> str:
    """The first setting of params.yaml with this system."""
    return next(name for name, entry in FULL_SIZE.settings.items() if entry.system == system)


def describe(system: str, words: int = WORDS, parts: Parts | None = None, **networks: Any) -> Description:
    """The description of a small model of a system. Dropout is off unless `networks` sets it."""
    sizes = {"embedding": 6, "hidden": 8, "latent": LATENT, "dropout_in": 0.0, "dropout_out": 0.0, **networks}
    name = setting(system)

    return Description(
        system,
        PARAMS.hyperparameters(name, "synthetic").model_dump(),
        (parts or PARAMS.setting(name).parts).model_dump(),
        TextNetworks.model_validate(sizes).model_dump(),
        words,
    )


def build(system: str, seed: int = 1, **changed: Any) -> tuple[VAE, System[Any]]:
    """A small model of a system with fresh weights, in training mode, and the system."""
    torch.manual_seed(seed)

    return describe(system, **changed).build()


def lively(model: VAE, seed: int = 1) -> VAE:
    """The model with larger weights, as after a long training, so that every output depends on every input."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in (*model.encoder.parameters(), *model.decoder.parameters()):
            parameter.uniform_(-0.7, 0.7)
        for part in model.head.modules():
            if isinstance(part, nn.Linear):
                part.weight.uniform_(-0.7, 0.7)

    return model


def documents(count: int, lengths: Sequence[int] = LENGTHS, words: int = WORDS, seed: int = 1) -> Documents:
    """Random sentences of mixed lengths, in no order. The lengths include `<s>` and `</s>`."""
    random = np.random.default_rng(seed)
    drawn = [random.integers(len(SPECIALS), words, random.choice(lengths) - 2) for _ in range(count)]

    return Documents.of([np.array([START, *sentence, END]) for sentence in drawn], random.integers(0, 2, count))


def batch(count: int = 6, length: int = 6, words: int = WORDS, seed: int = 1) -> Tensor:
    """A batch of random sentences of one length."""
    return torch.from_numpy(documents(count, (length,), words, seed).batch(np.arange(count))).long()


def training(
    system: str,
    seed: int = 1,
    train: Documents | None = None,
    valid: Documents | None = None,
    parts: Parts | None = None,
    progress: Progress | None = None,
    dropout: float = 0.5,
    decay: dict[str, Any] | None = None,
    **optimisation: Any,
) -> Training:
    """A small training: 3 epochs, the first of which is the warm-up, with 8 sentences per batch, unless changed."""
    model, made = build(system, seed, parts=parts, dropout_in=dropout, dropout_out=dropout)
    base = PARAMS.dataset("synthetic").optimisation
    changes = {"batch": 8, "decay": base.decay.model_copy(update=decay or {}), **optimisation}

    return Training(
        model,
        made.schedule,
        made.loop(),
        train or documents(40, seed=2),
        valid or documents(20, seed=3),
        base.model_copy(update=changes),
        PARAMS.evaluation,
        seed,
        progress=progress,
    )


def updates(model: VAE, learning_rate: float = 1.0, clip: float = 5.0) -> Updates:
    """The updates of random batches by SGD, as a loop needs them."""
    encoder, decoder = (
        optimizer(list(parameters), "sgd", learning_rate)
        for parameters in (model.inference_parameters(), model.generative_parameters())
    )

    return Updates(model, encoder, decoder, clip, batch)


def check_gradients_of_a_step(models: Sequence[VAE], x: Tensor) -> None:
    """Checks that `Updates.gradients` gives the gradients of the mean loss to the bit.

    Args:
        models: Two models with the same weights.
        x: The batch.
    """
    for model in models:
        model.train()
    torch.manual_seed(3)
    updates(models[0], clip=1e9).gradients(x, 0.7)
    torch.manual_seed(3)
    models[1].loss(x, 0.7).total.mean().backward()
    found = [[parameter.grad for parameter in model.parameters()] for model in models]

    assert any(bool(gradient.any()) for gradient in found[0] if gradient is not None)
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two copies of a model's state are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def changed(params: config.Params, dataset: str, **optimisation: Any) -> config.Params:
    """The parameters with changed optimisation values of one data set."""
    old = params.dataset(dataset)
    new = old.model_copy(update={"optimisation": old.optimisation.model_copy(update=optimisation)})

    return params.model_copy(update={"datasets": {**params.datasets, dataset: new}})


def trained(description: Description, ended: bool = True) -> Description:
    """The description with the fields that a training writes into it."""
    return dataclasses.replace(
        description, training={"epochs": 3, "best_epoch": 2, "warmup_ended": ended, "stopped": "after 3 epochs"}
    )
