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
from duvae.data.splits import Images, Split
from duvae.data.store import Prepared
from duvae.errors import UserError
from duvae.inference import decoding, generation
from duvae.inference.options import Decoding
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
    options: Decoding,
    sentences: Sequence[str] = (),
    root: Path = Path(),
) -> None:
    """Decodes points between the codes of two examples, for one or more pairs of examples, and writes the results.

    The two examples of a pair stand around the decoded points. Images become a PNG file with one row per pair.
    Sentences become a text file with one paragraph per pair, and are printed, too.

    Args:
        params: All parameters of params.yaml.
        dataset: The data set's name.
        setting: The setting's name; a setting is a system with its hyperparameters.
        seed: The seed of the training.
        output: The file to write; None: a file in `reports/generated`.
        pairs: Number of pairs of test examples to draw at random; not used if `sentences` are given.
        steps: Number of points per pair, both ends included.
        draw_seed: The seed of the choice of pairs and of the draws from p(x|z).
        options: The way in which each pixel or word is chosen.
        sentences: Two sentences to interpolate between; empty: pairs of test examples are drawn.
        root: The project's folder.

    Raises:
        UserError: If sentences are given for a model of images, or if there are fewer than two test examples.
    """
    job = params.job(dataset, setting, seed)
    trained, prepared = model_io.load(params, dataset, setting, seed, root)
    if sentences and trained.size is not None:
        raise UserError(
            "--from, --to: expected only for models of texts; this model was trained on images. Leave them out to"
            " interpolate between test images."
        )
    examples: Split
    if sentences:
        pairs = 1
        with model_io.printed_warnings():
            examples = trained.to_split(sentences, "--from, --to")
        ends = trained.posterior_means(examples)[None]
    else:
        examples = pairs_of_examples(prepared, pairs, draw_seed)
        ends = means_of_pairs(trained.model, examples, trained.device)
    x = decoding.interpolations(trained.model, ends, steps, draw_seed, options, trained.max_words)
    output, note = output or root / model_io.FOLDER / f"{job.name}-interpolations", ""
    if isinstance(examples, Images):
        first, last = examples.pixels[::2, None], examples.pixels[1::2, None]
        rows = np.concatenate([first, x[:, 0].unflatten(0, (pairs, steps)).cpu().numpy(), last], 1)
        path = model_io.write_grid(rows.reshape(-1, *rows.shape[2:]), output, steps + 2)
    else:
        texts = model_io.sentences(x, prepared)
        note = model_io.note_of_cuts(texts, trained.max_words)
        originals = [" ".join(prepared.words(examples.batch(np.array([n]))[0])) for n in range(2 * pairs)]
        path = model_io.write_lines(paragraphs(originals, texts, steps), output)
    print(f"{path}: {pairs} x {steps} interpolations of {job.name}, each between its two originals{note}")


def paragraphs(originals: Sequence[str], texts: Sequence[str], steps: int) -> list[str]:
    r"""Arranges decoded points between their originals, one paragraph per pair.

    A line has two columns, with a tab between them. The first column is `from` or `to` for an original, and t for the
    point $(1 - t) z_1 + t z_2$. An empty line ends each paragraph.

    Args:
        originals: The first and the second sentence of each pair, one pair after the other.
        texts: The decoded points, `steps` of them for each pair.
        steps: Number of points per pair.
    """
    lines = []
    for pair, start in enumerate(range(0, len(texts), steps)):
        points = [f"{n / (steps - 1):.3g}\t{text}" for n, text in enumerate(texts[start : start + steps])]
        lines += [f"from\t{originals[2 * pair]}", *points, f"to\t{originals[2 * pair + 1]}", ""]

    return lines


def pairs_of_examples(prepared: Prepared, count: int, seed: int) -> Split:
    """Draws pairs of test examples.

    Args:
        prepared: The data set with the test examples.
        count: Number of pairs.
        seed: The seed of the choice of pairs.

    Returns:
        The first and the second example of each pair, one pair after the other.

    Raises:
        UserError: If there are fewer than two test examples.
    """
    test = prepared.split("test")
    if len(test) < 2:
        raise UserError(f"data/prepared: expected two test examples or more to interpolate between; found {len(test)}.")

    return test.only(generation.pairs(count, len(test), seed).flatten())


def means_of_pairs(model: VAE, examples: Split, device: torch.device) -> Float[Tensor, "pairs 2 latent"]:
    """Computes the posterior mean of each example of a pair.

    For a flow, the function returns the codes to which the flow maps these means (see `generation.means`).

    Args:
        model: The trained VAE that encodes the examples; it does not change.
        examples: The first and the second example of each pair, one pair after the other.
        device: Device on which the weights of the model are.
    """
    batches = [tensor(examples, np.array([index]), device) for index in range(len(examples))]

    return generation.means(model, batches).unflatten(0, (-1, 2))
