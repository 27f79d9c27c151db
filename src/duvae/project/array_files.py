"""Arrays in a JSON file that git keeps beside a result.

Git keeps such a file, and DVC keeps its stage in the run cache only where the file is a metric or a plot. DVC refuses
binary metrics, and reports an error for binary plots. So the arrays are a compressed npz in base64, in a file of two
keys, `about` and `npz`, which hold lists: `dvc metrics show` skips lists, and shows none of it.
"""

import base64
import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from duvae.errors import UserError
from duvae.project.files import read_json, write_json

Arrays = Mapping[str, npt.NDArray[Any]]

WIDTH = 120
"""Characters of a line of base64."""


def write(path: Path, about: Mapping[str, Any], arrays: Arrays) -> None:
    """Writes the file; the same content gives the same bytes.

    Args:
        path: The file.
        about: What the arrays belong to, as JSON takes it.
        arrays: The arrays by name.
    """
    buffer = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez_compressed(buffer, **named)  # with a fixed date in place of the time
    text = base64.b64encode(buffer.getvalue()).decode()
    write_json(path, {"about": [dict(about)], "npz": textwrap.wrap(text, WIDTH)})


def read(path: Path, command: str) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Reads what `write` wrote.

    Args:
        path: The file.
        command: The command that makes the file.

    Raises:
        UserError: Where the file is missing or broken.
    """
    content = read_json(path, command)
    try:
        (about,) = content["about"]
        with np.load(io.BytesIO(base64.b64decode("".join(content["npz"]), validate=True)), allow_pickle=False) as file:
            return dict(about), {name: file[name] for name in file.files}
    except (ValueError, KeyError, TypeError, EOFError, OSError, BadZipFile) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: expected arrays, but {why}. Delete it and run '{command}' again.") from error
