"""Models, data and trainings for the check of a GPU: small ones of all systems, and those of the paper's sizes.

Weights and data are random, so that the check needs no files but params.yaml.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from benchmarks.large_text import SHORT_YELP, YAHOO, Text, draw
from duvae import systems
from duvae.config import ImageNetworks, Networks, Optimisation, Params, Parts, TextNetworks
from duvae.data.splits import END, START, Array, Documents, Images, Split
from duvae.inference.model_files import Description
from duvae.registry import HYPERPARAMETERS
from duvae.training.checkpoints import Checkpoint
from duvae.training.loop import Training
from duvae.training.state import Progress
from duvae.vae import VAE

Kind = Literal["text", "images"]
KINDS: tuple[Kind, ...] = ("text", "images")

COLUMNS = {"text": ("yahoo", "synthetic"), "images": ("omniglot", "yahoo", "synthetic")}
"""Columns of params.yaml whose hyperparameters a model takes: the first one that a setting of its system has."""

FEWER: dict[str, dict[str, Any]] = {"sa_vae": {"steps": 5}, "agg_vae": {"max_inner": 4, "window": 2}}
"""Hyperparameters with which a step of these systems takes less time. They replace those of params.yaml."""

WORDS, LENGTHS = 60, (6, 9, 12)
"""Number of words in the small vocabulary, and numbers of ids of the short documents."""

SMALL_TEXT = TextNetworks(embedding=16, hidden=32, latent=4, dropout_in=0.5, dropout_out=0.5)
SMALL_IMAGES = ImageNetworks(
    size=8, channels=[8, 8], features=16, kernels=[7, 5, 3, 3], width=12, feature_maps=2, latent=4
)
BLOCKS = 7
"""Rows and columns of blocks in a random picture."""

WEIGHTS = 2.0
"""Largest weight, times the square root of the number of features of the encoder."""


@dataclass(frozen=True)
class Size:
    """The sizes of a model and of its data.

    Attributes:
        networks: Sizes of the networks.
        words: Number of words in the vocabulary; 2 for images.
        lengths: Numbers of ids of a document, which include `<s>` and `</s>`; not used for images.
        batch: Number of examples in a training batch.
        optimiser: The optimiser.
        learning_rate: The learning rate.
    """

    networks: Networks
    words: int
    lengths: tuple[int, ...]
    batch: int
    optimiser: Literal["sgd", "adam"]
    learning_rate: float

    @property
    def kind(self) -> Kind:
        """Whether the data are texts or images."""
        return "text" if isinstance(self.networks, TextNetworks) else "images"

    @property
    def text(self) -> Text:
        """The sizes in the form that counts the operations of a text model."""
        assert isinstance(self.networks, TextNetworks)

        return Text(self.networks, self.words, self.lengths[0], self.batch)


SMALL = {
    "text": Size(SMALL_TEXT, WORDS, LENGTHS, 8, "sgd", 1.0),
    "images": Size(SMALL_IMAGES, 2, (), 8, "adam", 0.001),
}
"""The small sizes, by kind of data."""


def full(params: Params, dataset: str) -> Size:
    """The sizes of a data set of the paper, with documents of the typical length.

    Args:
        params: All parameters of params.yaml.
        dataset: `yahoo`, `short_yelp` or `omniglot`.
    """
    entry = params.dataset(dataset)
    options = entry.optimisation
    sizes = {"yahoo": YAHOO, "short_yelp": SHORT_YELP}
    words, lengths = (sizes[dataset].words, (sizes[dataset].ids,)) if dataset in sizes else (2, ())

    return Size(entry.networks, words, lengths, options.batch, options.optimiser, options.learning_rate)


def description(params: Params, system: str, size: Size, fewer: bool = True) -> Description:
    """Describes a model of a system, with the hyperparameters of its first setting in params.yaml.

    Args:
        params: All parameters of params.yaml.
        system: Name of the system.
        size: Sizes of the model.
        fewer: Whether the values of `FEWER` replace hyperparameters.
    """
    for column in COLUMNS[size.kind]:
        for setting in params.settings.values():
            if setting.system == system and column in setting.columns:
                values = {**setting.columns[column].model_dump(), **(FEWER.get(system, {}) if fewer else {})}
                return Description(system, values, setting.parts.model_dump(), size.networks.model_dump(), size.words)
    raise LookupError(f"params.yaml has no setting of {system} for {' or '.join(COLUMNS[size.kind])}")


def examples(size: Size, count: int, seed: int = 1) -> Split:
    """Draws random examples: documents of mixed lengths, or images of grey pixels.

    Args:
        size: Sizes of the data.
        count: Number of examples.
        seed: Seed of the draws.
    """
    random = np.random.default_rng(seed)
    if isinstance(size.networks, ImageNetworks):
        pictures = [blocks(size.networks.size, random) for _ in range(count)]
        return Images.of(np.stack(pictures), np.full(count, -1), np.full(count, -1))
    lengths = random.permutation(np.resize(size.lengths, count))
    words = random.permutation(draw(int(lengths.sum()), size.words))
    documents = [_document(part) for part in np.split(words, np.cumsum(lengths)[:-1])]

    return Documents.of(documents, np.full(count, -1))


def blocks(side: int, random: np.random.Generator) -> Array:
    """Draws a picture of dark and light blocks, as grey values of shape (side, side).

    Every part of a picture differs from picture to picture. Where all pictures are equal, as on the empty ground of
    drawings, batch normalization over the pictures would enlarge the rounding errors.
    """
    rough = random.uniform(0.0, 0.1, (BLOCKS, BLOCKS)) + 0.9 * (random.random((BLOCKS, BLOCKS)) < 0.5)
    places = np.arange(side) * BLOCKS // side

    return rough[places][:, places].astype(np.float32)


def _document(ids: Array) -> Array:
    """Turns random word ids into a document that begins with `<s>` and ends with `</s>`."""
    document = ids.copy()
    document[0], document[-1] = START, END

    return document


def bits(split: Split) -> Split:
    """Turns grey pixels into bits, as validation and test images of params.yaml's data sets have; texts stay."""
    if not isinstance(split, Images):
        return split

    return replace(split, pixels=(split.pixels > 0.5).astype(np.uint8))


def build(described: Description, seed: int = 1) -> VAE:
    """Builds a model on the CPU, with larger weights than those of a new model, in training mode after the warm-up.

    Weights after a long training are as large. With them, every output depends on every input, but the gates of an LSTM
    are not saturated.
    """
    torch.manual_seed(seed)
    model, _ = described.build()
    largest = WEIGHTS / math.sqrt(model.encoder.features)
    with torch.no_grad():
        if described.words > 2:
            for parameter in (*model.encoder.parameters(), *model.decoder.parameters()):
                parameter.uniform_(-largest, largest)
        for part in model.head.modules():
            if isinstance(part, nn.Linear):
                part.weight.uniform_(-largest, largest)
    model.start()

    return model


def training(
    params: Params,
    model: VAE,
    system: str,
    size: Size,
    device: torch.device,
    count: int,
    epochs: int,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    fewer: bool = True,
    **changes: Any,
) -> Training:
    """Prepares a training on random examples, with the loop and the schedule of the system.

    Args:
        params: All parameters of params.yaml.
        model: The model, which moves to the device.
        system: Name of the system.
        size: Sizes of the model and of the data.
        device: Device of the training.
        count: Number of training examples.
        epochs: Number of epochs, without a warm-up.
        progress: Object that may stop the training; None: it is not stopped.
        checkpoint: File of the training's state; None: no file.
        fewer: Whether the values of `FEWER` replace hyperparameters.
        changes: Other values of `duvae.config.Optimisation`.
    """
    described = description(params, system, size, fewer)
    values = HYPERPARAMETERS[system].model_validate(described.hyperparameters)
    made = systems.system(system, values, Parts.model_validate(described.parts))
    base = params.dataset("synthetic").optimisation
    rates = {"optimiser": size.optimiser, "learning_rate": size.learning_rate, "batch": size.batch}
    options: Optimisation = base.changed({**rates, "epochs": epochs, "warmup": 0, **changes})

    return Training(
        model,
        made.schedule,
        made.loop(),
        examples(size, count, seed=4),
        bits(examples(size, 2 * size.batch, seed=5)),
        options,
        params.evaluation,
        1,
        device,
        progress,
        checkpoint,
    )
