"""Small models and small trainings of every system, for the mathematical tests.

A system is a kind of model, such as `vae` or `du_vae`. A setting is an entry of params.yaml: a system with its parts
and hyperparameters.
"""

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
from duvae.training.loop import Training
from duvae.training.state import Progress
from duvae.training.steps import Updates, optimizer
from duvae.vae import VAE

PARAMS = tiny.params()
FULL_SIZE = config.load(Path(__file__).parents[1] / "params.yaml")
NAMES = sorted(SYSTEMS)
CPU = torch.device("cpu")
WORDS, LATENT = 12, 3
LENGTHS = (3, 5, 6, 9)


def setting(system: str) -> str:
    """Returns the name of the first setting of params.yaml that has this system."""
    return next(name for name, entry in FULL_SIZE.settings.items() if entry.system == system)


def describe(system: str, words: int = WORDS, parts: Parts | None = None, **networks: Any) -> Description:
    """Describes a small model of a system, with the hyperparameters of the system's first setting.

    Args:
        system: Name of the system.
        words: Size of the vocabulary.
        parts: Parts of the model. None: those of the system's first setting.
        networks: Sizes and dropout rates of the networks that replace the small default ones. Without them, there is
            no dropout.
    """
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
    """Builds a small model of a system with initial weights, in training mode. Returns the model and the system.

    Args:
        system: Name of the system.
        seed: Seed of the initial weights.
        changed: Arguments for `describe`.
    """
    torch.manual_seed(seed)

    return describe(system, **changed).build()


def lively(model: VAE, seed: int = 1) -> VAE:
    """Replaces the model's weights by larger random ones, so that every output depends on every input.

    Weights after a long training are as large.
    """
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in (*model.encoder.parameters(), *model.decoder.parameters()):
            parameter.uniform_(-0.7, 0.7)
        for part in model.head.modules():
            if isinstance(part, nn.Linear):
                part.weight.uniform_(-0.7, 0.7)

    return model


def documents(count: int, lengths: Sequence[int] = LENGTHS, words: int = WORDS, seed: int = 1) -> Documents:
    """Draws random sentences of mixed lengths, not sorted by length. The lengths include `<s>` and `</s>`."""
    random = np.random.default_rng(seed)
    drawn = [random.integers(len(SPECIALS), words, random.choice(lengths) - 2) for _ in range(count)]

    return Documents.of([np.array([START, *sentence, END]) for sentence in drawn], random.integers(0, 2, count))


def batch(count: int = 6, length: int = 6, words: int = WORDS, seed: int = 1) -> Tensor:
    """Draws a batch of random sentences of one length, shape (count, length)."""
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
    """Prepares a small training of a system: 8 sentences per batch, and the optimisation of the reduced params.yaml.

    Args:
        system: Name of the system.
        seed: Seed of the initial weights and of the training.
        train: Training sentences. None: 40 random sentences.
        valid: Validation sentences. None: 20 random sentences.
        parts: Parts of the model. None: those of the system's first setting.
        progress: Display of the progress. None: the default of `Training`.
        dropout: Dropout probability on the decoder's word embeddings and outputs.
        decay: Values of the learning rate's decay that replace the default ones, or all values of another rule. None:
            no change.
        optimisation: Other values of the optimisation that replace the default ones.
    """
    model, made = build(system, seed, parts=parts, dropout_in=dropout, dropout_out=dropout)
    base = PARAMS.dataset("synthetic").optimisation
    changed = base.changed({"decay": decay or {}}) if decay else base

    return Training(
        model,
        made.schedule,
        made.loop(),
        train or documents(40, seed=2),
        valid or documents(20, seed=3),
        changed.model_copy(update={"batch": 8, **optimisation}),
        PARAMS.evaluation,
        seed,
        progress=progress,
    )


def updates(model: VAE, learning_rate: float = 1.0, clip: float = 5.0) -> Updates:
    """Returns the `Updates` object with which a training loop updates the model by SGD on random batches."""
    encoder, decoder = (
        optimizer(list(parameters), "sgd", learning_rate)
        for parameters in (model.inference_parameters(), model.generative_parameters())
    )

    return Updates(model, encoder, decoder, clip, batch)


def check_gradients_of_a_step(models: Sequence[VAE], x: Tensor) -> None:
    """Checks that `Updates.gradients` computes the same bits as the gradient of the mean loss by autograd.

    Args:
        models: Two models with the same weights. The first computes by `Updates.gradients`, the second by autograd.
        x: The batch of examples.
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
    """Copies all parameters and buffers of a model."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Returns whether two copies of a model's parameters and buffers are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def changed(params: config.Params, dataset: str, **optimisation: Any) -> config.Params:
    """Copies the parameters of params.yaml, and changes values of the optimisation of one data set."""
    old = params.dataset(dataset)
    new = old.model_copy(update={"optimisation": old.optimisation.model_copy(update=optimisation)})

    return params.model_copy(update={"datasets": {**params.datasets, dataset: new}})


def trained(description: Description, ended: bool = True) -> Description:
    """Copies a model's description, and adds the fields that a training writes into it.

    Args:
        description: Description of the untrained model.
        ended: Whether the warm-up of the training ended.
    """
    return dataclasses.replace(
        description,
        training={
            "epochs": 3,
            "best_epoch": 2,
            "warmup_ended": ended,
            "stopped": "after 3 epochs",
            "decays": 0,
            "ending": "epochs",
        },
    )
