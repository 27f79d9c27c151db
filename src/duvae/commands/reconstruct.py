"""`duvae reconstruct`: decodes sentences or test examples from their own posterior means."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Generator

from duvae.commands import model_io
from duvae.config import Params
from duvae.data.corpus import read_documents
from duvae.data.splits import Documents, Images, Split
from duvae.errors import UserError
from duvae.inference import decoding
from duvae.inference.options import Decoding


def run(
    params: Params,
    dataset: str,
    setting: str,
    seed: int,
    output: Path | None,
    sentences: Sequence[str],
    source: Path | None,
    count: int,
    draw_seed: int,
    options: Decoding,
    root: Path = Path(),
) -> None:
    """Writes each original with its reconstruction: lines of text, or a grid of images with two columns.

    Lines of text are printed, too.

    Args:
        params: All parameters of params.yaml.
        dataset: The data set's name.
        setting: The setting's name; a setting is a system with its hyperparameters.
        seed: The seed of the training.
        output: The file to write; None: a file in `reports/generated`.
        sentences: Sentences to reconstruct; empty: `source` or test examples are reconstructed.
        source: File of documents to reconstruct; None: `sentences` or test examples are reconstructed.
        count: Number of test examples to draw; not used if `sentences` or `source` is given.
        draw_seed: The seed of the choice of test examples and of the draws from p(x|z).
        options: The way in which each pixel or word is chosen.
        root: The project's folder.

    Raises:
        UserError: If text is given for a model of images, or if the text cannot be read.
    """
    job = params.job(dataset, setting, seed)
    trained, prepared = model_io.load(params, dataset, setting, seed, root)
    originals: Split
    if (sentences or source) and trained.size is not None:
        raise UserError(
            "--sentence, --input: expected only for models of texts; this model was trained on images. Leave them out"
            " to reconstruct test images."
        )
    with model_io.printed_warnings():
        if sentences:
            originals = trained.to_split(sentences, "--sentence")
        elif source is not None:
            originals = trained.documents(read_documents(source))
        else:
            test = prepared.split("test")
            indices = np.random.default_rng(draw_seed).choice(len(test), min(count, len(test)), replace=False)
            originals = test.only(np.sort(indices))
    z = trained.posterior_means(originals, draw_seed)
    generator = Generator(trained.device).manual_seed(draw_seed)
    x = decoding.decode(trained.model, z, options, generator, trained.max_words)
    note = ""
    path = output or root / model_io.FOLDER / f"{job.name}-reconstructions"
    if isinstance(originals, Images):
        images = x[:, 0].cpu().numpy()
        pairs = np.stack([np.asarray(originals.pixels, np.float32), images], 1).reshape(-1, *images.shape[1:])
        path = model_io.write_grid(pairs, path, 2)
    elif isinstance(originals, Documents):
        texts = [" ".join(prepared.words(originals[n])) for n in range(len(originals))]
        decoded = model_io.sentences(x, prepared)
        note = model_io.note_of_cuts(decoded, trained.max_words)
        lines = [line for pair in zip(texts, decoded, strict=True) for line in (*pair, "")]
        path = model_io.write_lines(lines[:-1], path)
    print(f"{path}: {len(originals)} reconstructions by {job.name}, each after its original{note}")
