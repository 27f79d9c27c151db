"""Writes and reads arrays in a JSON file that git keeps.

A stage of dvc.yaml may write such a file as one of its results. DVC's run cache, which keeps the results of earlier
runs, stores such a stage only if the file is declared as a metric or a plot. But DVC refuses binary metrics, and
reports an error for binary plots. So the arrays are stored as text: a compressed npz file in base64. `dvc metrics show`
skips lists, so both keys of the JSON file, `about` and `npz`, hold lists.
"""

import base64
import io
import textwrap
import zlib
from collections.abc import Mapping
from lzma import LZMAError
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from duvae.errors import UserError
from duvae.project.files import read_json, write_json

Arrays = Mapping[str, npt.NDArray[Any]]
"""NumPy arrays by their names in the file."""

UNREADABLE = (
    *(OSError, EOFError, BadZipFile, zlib.error, LZMAError),  # of the archive
    *(ValueError, TypeError, KeyError, IndexError, SyntaxError, TokenError, OverflowError),  # of an array's header
    RuntimeError,  # for a password, and for a method of compression or encryption that Python does not have
)
"""Errors that NumPy and the modules below it raise for an npz file that is broken."""

WIDTH = 120
"""Characters per line of base64."""


def write(path: Path, about: Mapping[str, Any], arrays: Arrays) -> None:
    """Writes arrays and their description to a file. Equal arguments give files with equal bytes.

    Args:
        path: The file to write.
        about: Description of where the arrays come from, such as the digest of a model's weights. JSON must be able to
            hold its values.
        arrays: Arrays by name, of any shape.
    """
    buffer = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez_compressed(buffer, **named)  # equal arrays give equal bytes: NumPy writes a constant date
    text = base64.b64encode(buffer.getvalue()).decode()
    write_json(path, {"about": [dict(about)], "npz": textwrap.wrap(text, WIDTH)})


def read(path: Path, command: str) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Reads a file that `write` wrote.

    Args:
        path: The file to read.
        command: The command that writes the file, which error messages name.

    Returns:
        The description `about` of `write`, and the arrays by name.

    Raises:
        UserError: If the file is missing or broken.
    """
    content = read_json(path, command)
    try:
        (about,) = content["about"]
        with np.load(io.BytesIO(base64.b64decode("".join(content["npz"]), validate=True)), allow_pickle=False) as file:
            return dict(about), {name: file[name] for name in file.files}
    except UNREADABLE as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: expected arrays, but {why}. Delete it and run '{command}' again.") from error
