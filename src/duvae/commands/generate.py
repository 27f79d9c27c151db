"""`duvae generate`: draws samples from the prior of a trained model."""

from collections.abc import Sequence
from pathlib import Path

from duvae.commands import model_io
from duvae.config import Params
from duvae.inference import decoding
from duvae.inference.options import Decoding


def run(
    params: Params,
    dataset: str,
    setting: str,
    seed: int,
    output: Path | None,
    rows: int,
    columns: int,
    draw_seed: int,
    options: Decoding,
    root: Path = Path(),
) -> None:
    """Draws latent codes from the prior, decodes them, and writes the samples.

    Images become one PNG file, in which they form a grid. Sentences become a text file with one sentence per line, and
    are printed, too.

    Args:
        params: All parameters of params.yaml.
        dataset: The data set's name.
        setting: The setting's name; a setting is a system with its hyperparameters.
        seed: The seed of the training.
        output: The file to write; None: a file in `reports/generated`.
        rows: Number of rows of the grid. The number of samples is rows * columns, for images and for sentences.
        columns: Number of columns of the grid.
        draw_seed: The seed of the draws of z from the prior, and of the draws from p(x|z).
        options: The way in which each pixel or word is chosen.
        root: The project's folder.
    """
    job = params.job(dataset, setting, seed)
    trained, prepared = model_io.load(params, dataset, setting, seed, root)
    x = decoding.prior(trained.model, rows * columns, trained.latent, draw_seed, options, trained.max_words)
    output, note = output or root / model_io.FOLDER / f"{job.name}-samples", ""
    if trained.size is not None:
        path = model_io.write_grid(x[:, 0].cpu().numpy(), output, columns)
    else:
        texts = model_io.sentences(x, prepared)
        note = model_io.note_of_cuts(texts, trained.max_words)
        path = model_io.write_lines(paragraphs(texts, columns), output)
    print(f"{path}: {rows} x {columns} samples of {job.name}{note}")


def paragraphs(texts: Sequence[str], columns: int) -> list[str]:
    """Adds an empty line after each `columns` sentences. There is none for one column, or for one row of sentences."""
    if columns == 1 or len(texts) <= columns:
        return list(texts)

    return [line for start in range(0, len(texts), columns) for line in (*texts[start : start + columns], "")]
