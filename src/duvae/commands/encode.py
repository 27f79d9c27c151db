"""`duvae encode`: writes a table with mu, sigma and features of sentences or images.

mu and sigma are the parameters of q(z|x). The features are the input of the probes, which are linear classifiers of
labels. The features of an example are its mu, and for a flow also the code to which the flow maps mu.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from duvae.commands import model_io
from duvae.config import ImageDataset, Params
from duvae.data import user_images
from duvae.data.corpus import read_documents
from duvae.data.splits import Images
from duvae.errors import UserError
from duvae.inference.model import TrainedModel
from duvae.project.files import whole

STDIN = Path("-")


def run(
    params: Params,
    dataset: str,
    setting: str,
    seed: int,
    output: Path | None,
    sentences: Sequence[str],
    source: Path | None,
    ink: Literal["dark", "light"] | None,
    draw_seed: int,
    split: str | None = None,
    root: Path = Path(),
) -> None:
    """Writes a table with one row per example: label or name, number of unknown words, mu, sigma and features.

    An unknown word is not in the vocabulary of the model.

    Args:
        params: All parameters of params.yaml.
        dataset: The data set's name.
        setting: The setting's name; a setting is a system with its hyperparameters.
        seed: The seed of the training.
        output: The .parquet or .csv file to write; None: a .parquet file in `reports/generated`.
        sentences: Sentences to encode; empty: `source` or `split` is encoded.
        source: File of documents, or `-` for standard input. For images: a folder of pictures or an .npz file. None:
            `sentences` or `split` is encoded.
        ink: Shade of the drawn lines in images; None: the shade that params.yaml gives for the data set.
        draw_seed: The seed of the bits that are drawn from grey pixels.
        split: Name of a split of the prepared data set, such as `test`; None: `sentences` or `source` is encoded.
        root: The project's folder.

    Raises:
        UserError: If `output` has an unknown format, or if the examples cannot be read. Also if none or several of
            `sentences`, `source` and `split` are given.
    """
    job = params.job(dataset, setting, seed)
    path = output or root / model_io.FOLDER / f"{job.name}-codes.parquet"
    if path.suffix not in {".parquet", ".csv"}:
        raise UserError(
            f"--output {path}: expected a name that ends in .parquet or .csv, the two formats of the table."
        )
    inputs = {"--input": source is not None, "--sentence": bool(sentences), "--split": split is not None}
    given = [option for option, is_given in inputs.items() if is_given]
    if len(given) != 1:
        raise UserError(f"expected one of {', '.join(inputs)} to encode; found {' and '.join(given) or 'none'}.")
    trained, prepared = model_io.load(params, dataset, setting, seed, root)
    if split is not None:
        examples = prepared.split(split)
        frame = trained.codes(examples, draw_seed).frame()
        frame.insert(0, "label", examples.labels)
    elif trained.size is None:
        frame = codes_of_sentences(trained, sentences, source)
    elif source is None or source == STDIN:
        raise UserError("expected --input with a folder of pictures or an .npz, since the model was trained on images.")
    elif not source.exists():
        raise UserError(f"--input {source}: not there. Expected a folder of pictures or an .npz.")
    else:
        trained_on = params.dataset(dataset)
        ink_of_data = trained_on.source.ink if isinstance(trained_on, ImageDataset) else "dark"
        frame = codes_of_images(trained, source, ink or ink_of_data, draw_seed)
    with whole(path) as temporary:
        if path.suffix == ".csv":
            frame.to_csv(temporary, index=False)
        else:
            frame.to_parquet(temporary, index=False)
    print(f"{path}: {len(frame)} rows of {len(frame.columns)} columns, encoded by {job.name}")


def codes_of_sentences(trained: TrainedModel, sentences: Sequence[str], source: Path | None) -> pd.DataFrame:
    """Encodes sentences, or the documents of a file.

    Args:
        trained: The trained model.
        sentences: Sentences to encode if `source` is None.
        source: The file of documents, or `-` for standard input; None: `sentences` are encoded.

    Returns:
        A table with one row per example. It has a column `label` if the documents of the file have labels.
    """
    with model_io.printed_warnings():
        if source is None:
            return trained.codes(trained.to_split(sentences, "--sentence")).frame()
        raw = sys.stdin.buffer.read() if source == STDIN else None
        lines = read_documents(Path("standard input") if source == STDIN else source, raw=raw)
        for warning in lines.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        frame = trained.codes(trained.documents(lines)).frame()
    if lines.labels[0] >= 0:
        frame.insert(0, "label", lines.labels)

    return frame


def codes_of_images(trained: TrainedModel, source: Path, ink: Literal["dark", "light"], seed: int) -> pd.DataFrame:
    """Encodes the images in a folder or in an .npz file.

    Args:
        trained: The trained model.
        source: The folder of pictures, or the .npz file.
        ink: Shade of the drawn lines.
        seed: The seed of the bits that are drawn from grey pixels.

    Returns:
        A table with one row per image. Its column `image` has the name of each image.
    """
    drawings, names = user_images.read_images(source, int(trained.size or 0), ink)
    for warning in drawings.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    frame = trained.codes(Images.of(drawings.grey, drawings.labels, drawings.groups), seed).frame()
    frame.insert(0, "image", names)

    return frame.drop(columns="unknown")
