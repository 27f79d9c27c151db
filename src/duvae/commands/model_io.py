"""Functions for commands that use a trained model: they load the model, print warnings and write examples to files."""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from duvae.config import Params
from duvae.data import store
from duvae.data.splits import Array, Documents
from duvae.data.store import Prepared
from duvae.errors import UserError
from duvae.inference import collapse, generation, model_files
from duvae.inference.model import TrainedModel
from duvae.project.files import whole, write_text
from duvae.report import pictures

FOLDER = Path("reports/generated")
"""Folder into which the commands write if the user does not name a file."""


def load(params: Params, dataset: str, setting: str, seed: int, root: Path = Path()) -> tuple[TrainedModel, Prepared]:
    """Loads a trained model of a project, and the data set that it was trained on.

    The function also sets PyTorch's number of threads to `threads` in params.yaml. It warns on standard error if the
    model has collapsed.

    Args:
        params: All parameters of params.yaml.
        dataset: The data set's name.
        setting: The setting's name; a setting is a system with its hyperparameters.
        seed: The seed of the training.
        root: The project's folder.

    Raises:
        UserError: If the model or the prepared data set is missing or broken, or if they do not belong together.
    """
    job = params.job(dataset, setting, seed)
    prepared = store.read(root / "data/prepared" / dataset)
    train = f"duvae train --dataset {dataset} --setting {setting} --seed {seed}"
    model, description = model_files.load(
        root / "models" / job.folder, train, params.setting(setting).system, len(prepared.vocabulary)
    )
    torch.set_num_threads(params.threads)
    if warning := collapse.message(root / "models" / job.folder):
        print(f"warning: {warning}", file=sys.stderr)

    return TrainedModel(model, description, prepared.vocabulary), prepared


def max_length(prepared: Prepared) -> int:
    """The most word ids that a generated sentence may have: as many as the longest document has, but at least 100."""
    lengths = [int(split.lengths.max()) for split in prepared.splits.values() if isinstance(split, Documents)]

    return max([generation.LONGEST, *lengths])


@contextlib.contextmanager
def printed_warnings() -> Iterator[None]:
    """Collects the warnings of the `with` block, and prints them after the block, one line for each warning.

    The lines go to standard error. An example is the warning about unknown words.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)


def write_examples(x: Tensor, path: Path, prepared: Prepared, columns: int) -> Path:
    """Writes images into a PNG file, or sentences into a text file.

    Args:
        x: Images, shape (images, 1, height, width), or word ids, shape (sentences, words).
        path: Path of the file. A path without a suffix gets the suffix .png or .txt.
        prepared: The data set with the vocabulary of the word ids.
        columns: Number of images in one row of the picture. For sentences: number of sentences in one paragraph; 1: the
            file has no paragraphs.

    Returns:
        The path of the written file.

    Raises:
        UserError: If images are to be written under a name that does not end in .png.
    """
    if x.ndim == 4:
        return write_grid(x[:, 0].cpu().numpy(), path, columns)
    path = path if path.suffix else path.with_suffix(".txt")
    lines = [" ".join(prepared.words(sentence)) for sentence in x.cpu().numpy()]
    if columns > 1 and len(lines) > columns:
        lines = ["\n".join(lines[start : start + columns]) + "\n" for start in range(0, len(lines), columns)]
    write_text(path, "".join(f"{line}\n" for line in lines))

    return path


def write_grid(images: Array, path: Path, columns: int) -> Path:
    """Writes images side by side into a PNG file.

    Args:
        images: Values of the pixels from 0 (no ink) to 1 (full ink), shape (images, height, width).
        path: Path of the file. A path without a suffix gets the suffix .png.
        columns: Number of images in one row of the picture.

    Returns:
        The path of the written file.

    Raises:
        UserError: If the name does not end in .png.
    """
    path = path if path.suffix else path.with_suffix(".png")
    if path.suffix != ".png":
        raise UserError(f"--output {path}: expected a name that ends in .png, since the file is a PNG.")
    picture = pictures.png(pictures.grid(images, columns))
    with whole(path) as temporary:
        temporary.write_bytes(picture)

    return path
