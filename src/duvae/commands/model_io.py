"""Functions for commands that use a trained model: they load the model, print warnings and write examples to files."""

import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from duvae.config import Params
from duvae.data import store
from duvae.data.splits import END, Array, Documents
from duvae.data.store import Prepared
from duvae.errors import UserError
from duvae.inference import collapse, model_files
from duvae.inference.model import TrainedModel
from duvae.project.files import whole, write_text
from duvae.report import pictures

FOLDER = Path("reports/generated")
"""Folder into which the commands write if the user does not name a file."""

PRINTED = 100
"""Largest number of lines of a text that a command prints. The file has all lines."""

CUT = "[…]"
"""Mark at the end of a sentence that the decoder has not ended within the largest number of words."""


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

    return TrainedModel(model, description, prepared.vocabulary, max_words(prepared)), prepared


def max_words(prepared: Prepared) -> int:
    """Counts the words of the longest document of a data set, which bounds the length of decoded sentences.

    In params.yaml, `length` of synthetic data or `max_words` of texts bounds the documents. For images the result is 1.
    """
    lengths = [split.lengths.max(initial=0) for split in prepared.splits.values() if isinstance(split, Documents)]

    return max([1, *(int(length) - 2 for length in lengths)])


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


def sentences(x: Int[Tensor, "sentences length"], prepared: Prepared) -> list[str]:
    """Converts word ids to sentences. A sentence without `</s>` was cut, and ends with the mark `CUT`.

    Args:
        x: Word ids, shape (sentences, length).
        prepared: The data set with the vocabulary of the word ids.
    """
    rows = x.cpu().numpy()

    return [" ".join([*prepared.words(row), *([] if END in row else [CUT])]) for row in rows]


def write_lines(lines: Sequence[str], path: Path) -> Path:
    """Writes lines into a text file, and prints them. Only the first `PRINTED` lines are printed.

    A character that the terminal cannot show, or that would change the terminal, is printed as an escape sequence.

    Args:
        lines: Content of the file, one string per line, without line feeds.
        path: Path of the file. A path without a suffix gets the suffix .txt.

    Returns:
        The path of the written file.
    """
    path = path if path.suffix else path.with_suffix(".txt")
    write_text(path, "".join(f"{line}\n" for line in lines))
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines[:PRINTED]:
        shown = "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in line)
        print(shown.encode(encoding, "backslashreplace").decode(encoding))
    if len(lines) > PRINTED:
        print(f"({len(lines) - PRINTED:,} more lines: {path})")

    return path


def note_of_cuts(texts: Sequence[str], most: int) -> str:
    """Counts the sentences that were cut, in words for the end of a message; empty if there are none.

    Args:
        texts: Sentences, as the function `sentences` returns them.
        most: Largest number of words of a sentence.
    """
    cut = sum(text.endswith(CUT) for text in texts)

    return f"; {cut} of {len(texts)} without an end after {most} words, marked {CUT}" if cut else ""


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
