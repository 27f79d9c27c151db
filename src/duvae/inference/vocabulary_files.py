"""Finds and reads the vocabulary of a model, and what its data set says of the length of sentences."""

from pathlib import Path

import numpy as np

from duvae.data.splits import SPECIALS
from duvae.errors import UserError
from duvae.inference.decoding import MAX_WORDS

VOCABULARY = "vocabulary.txt"
"""File name of a model's vocabulary, in the model's folder or in the folder of the prepared data set."""


def vocabulary_path(folder: Path, file: str | Path | None = None) -> Path:
    """Finds the file with the vocabulary of a model.

    Args:
        folder: The folder of the model.
        file: The file to use. None: one of the two files that the argument `vocabulary` of the function `load` in
            `duvae.inference.model` names.

    Raises:
        UserError: If there is no such file.
    """
    above = folder.resolve().parents  # the folders of the setting, of the data set, of all models, and of the project
    candidates = [Path(file)] if file is not None else [folder / VOCABULARY]
    if file is None and len(above) > 3:
        candidates.append(above[3] / "data" / "prepared" / above[1].name / VOCABULARY)
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise UserError(
            f"{folder}: expected the model's vocabulary, one word per line, in {' or '.join(map(str, candidates))}; it"
            " is not there. Copy it from data/prepared/<data set>."
        )

    return path


def longest_document(folder: Path) -> int:
    """Counts the words of the longest document of a prepared data set; `MAX_WORDS` if the folder has no documents.

    Args:
        folder: The folder of the data set, which has a file `<split>.offsets.npy` for each split.
    """
    try:
        offsets = [np.load(path, allow_pickle=False) for path in folder.glob("*.offsets.npy")]
        lengths = [int(np.diff(each).max(initial=0)) - 2 for each in offsets]
    except (OSError, ValueError, EOFError):
        return MAX_WORDS

    return max([1, *lengths]) if lengths else MAX_WORDS


def read_vocabulary(path: Path, count: int) -> list[str]:
    """Reads the vocabulary of a model, and checks its number of words.

    Args:
        path: The file with one word per line.
        count: The number of words that the model knows.

    Raises:
        UserError: If the file cannot be read, or if the vocabulary does not fit the model.
    """
    try:
        words = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read as UTF-8 text ({error}). Copy it from data/prepared/<data set>."
        ) from error
    if len(words) != count or tuple(words[: len(SPECIALS)]) != SPECIALS:
        raise UserError(
            f"{path}: expected the {count} words that the model knows, {', '.join(SPECIALS)} first; found {len(words)}."
            " The vocabulary belongs to another model."
        )

    return words
