"""`duvae interpolate`: decodes points between two sentences, or between pairs of test examples."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from duvae.commands import model_io
from duvae.config import Params
from duvae.data.batches import tensor
from duvae.data.store import Prepared
from duvae.errors import UserError
from duvae.inference import generation
from duvae.vae import VAE


def run(
    params: Params,
    dataset: str,
    setting: str,
    seed: int,
    output: Path | None,
    pairs: int,
    steps: int,
    draw_seed: int,
    likely: bool,
    temperature: float = 1.0,
    sentences: Sequence[str] = (),
    root: Path = Path(),
) -> None:
    """Decodes points between the codes of two examples, for one or more pairs of examples, and writes the results.

    Images become a PNG file with one row per pair. Sentences become a text file with one paragraph per pair.

    Args:
        params: All parameters of params.yaml.
        dataset: The data set's name.
        setting: The setting's name; a setting is a system with its hyperparameters.
        seed: The seed of the training.
        output: The file to write; None: a file in `reports/generated`.
        pairs: Number of pairs of test examples to draw at random; not used if `sentences` are given.
        steps: Number of points per pair, both ends included.
        draw_seed: The seed of the choice of pairs and of the draws from p(x|z).
        likely: Whether to take the likeliest pixel or word each time instead of drawing one.
        temperature: The temperature of the draws of pixels or words.
        sentences: Two sentences to interpolate between; empty: pairs of test examples are drawn.
        root: The project's folder.

    Raises:
        UserError: If sentences are given for a model of images, or if there are fewer than two test examples.
    """
    job = params.job(dataset, setting, seed)
    trained, prepared = model_io.load(params, dataset, setting, seed, root)
    longest = model_io.max_length(prepared)
    if sentences and trained.size is not None:
        raise UserError(
            "--from, --to: expected only for models of texts; this model was trained on images. Leave them out to"
            " interpolate between test images."
        )
    if sentences:
        pairs = 1
        with model_io.printed_warnings():
            ends = trained.posterior_means(trained.to_split(sentences, "--from, --to"))[None]
    else:
        ends = ends_of_pairs(trained.model, prepared, pairs, draw_seed, trained.device)
    x = generation.interpolations(trained.model, ends, steps, draw_seed, likely, temperature, longest)
    output = output or root / model_io.FOLDER / f"{job.name}-interpolations"
    path = model_io.write_examples(x, output, prepared, steps)
    print(f"{path}: {pairs} x {steps} interpolations of {job.name}")


def ends_of_pairs(
    model: VAE, prepared: Prepared, count: int, seed: int, device: torch.device
) -> Float[Tensor, "pairs 2 latent"]:
    """Draws pairs of test examples, and computes the posterior mean of each example.

    For a flow, the function returns the codes to which the flow maps these means (see `generation.means`).

    Args:
        model: The trained VAE.
        prepared: The data set with the test examples.
        count: Number of pairs.
        seed: The seed of the choice of pairs.
        device: The model's device.

    Raises:
        UserError: If there are fewer than two test examples.
    """
    test = prepared.split("test")
    if len(test) < 2:
        raise UserError(f"data/prepared: expected two test examples or more to interpolate between; found {len(test)}.")
    indices = generation.pairs(count, len(test), seed)
    means = generation.means(model, [tensor(test, np.array([index]), device) for index in indices.flatten()])

    return means.unflatten(0, (count, 2))
