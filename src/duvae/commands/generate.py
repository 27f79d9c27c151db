"""`duvae generate`: draws samples from the prior of a trained model."""

from pathlib import Path

from duvae.commands import model_io
from duvae.config import Params
from duvae.inference import generation


def run(
    params: Params,
    dataset: str,
    setting: str,
    seed: int,
    output: Path | None,
    rows: int,
    columns: int,
    draw_seed: int,
    likely: bool,
    temperature: float = 1.0,
    root: Path = Path(),
) -> None:
    """Draws latent codes from the prior, decodes them, and writes the samples.

    Images become one PNG file, in which they form a grid. Sentences become a text file with one sentence per line.

    Args:
        params: All parameters of params.yaml.
        dataset: The data set's name.
        setting: The setting's name; a setting is a system with its hyperparameters.
        seed: The seed of the training.
        output: The file to write; None: a file in `reports/generated`.
        rows: Number of rows of the grid. The number of samples is rows * columns, for images and for sentences.
        columns: Number of columns of the grid.
        draw_seed: The seed of the draws of z from the prior, and of the draws from p(x|z).
        likely: Whether to take the likeliest pixel or word each time instead of drawing one.
        temperature: The temperature of the draws of pixels or words.
        root: The project's folder.
    """
    job = params.job(dataset, setting, seed)
    trained, prepared = model_io.load(params, dataset, setting, seed, root)
    longest = model_io.max_length(prepared)
    x = generation.prior(trained.model, rows * columns, trained.latent, draw_seed, likely, temperature, longest)
    output = output or root / model_io.FOLDER / f"{job.name}-samples"
    path = model_io.write_examples(x, output, prepared, columns)
    print(f"{path}: {rows} x {columns} samples of {job.name}")
