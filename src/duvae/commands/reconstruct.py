"""`duvae reconstruct`: decodes sentences or test examples from their own posterior means."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from duvae.commands import model_io
from duvae.config import Params
from duvae.data.corpus import read_documents
from duvae.data.splits import Documents, Images, Split
from duvae.errors import UserError
from duvae.project.files import write_text


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
    likely: bool,
    temperature: float,
    root: Path = Path(),
) -> None:
    """Writes each original with its reconstruction: lines of text, or a grid of images with two columns.

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
        likely: Whether to take the likeliest pixel or word each time instead of drawing one.
        temperature: The temperature of the draws of pixels or words.
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
    decoded = trained.decode(z, likely, temperature, draw_seed, model_io.max_length(prepared))
    path = output or root / model_io.FOLDER / f"{job.name}-reconstructions"
    if isinstance(originals, Images):
        images = np.asarray(decoded)
        pairs = np.stack([np.asarray(originals.pixels, np.float32), images], 1).reshape(-1, *images.shape[1:])
        path = model_io.write_grid(pairs, path, 2)
    elif isinstance(originals, Documents):
        path = path if path.suffix else path.with_suffix(".txt")
        texts = [" ".join(prepared.words(originals[n])) for n in range(len(originals))]
        write_text(path, "\n".join(f"{text}\n{again}\n" for text, again in zip(texts, decoded, strict=True)))
    print(f"{path}: {len(originals)} reconstructions by {job.name}, each after its original")
