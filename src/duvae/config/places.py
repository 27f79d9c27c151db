"""Reads files of parameters, and names the file and the line of each key in messages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from duvae.errors import UserError
from duvae.messages import show

Key = tuple[str, ...]
"""Path of a key in params.yaml, such as `("settings", "vae", "columns")`."""
Mistake = tuple[Key, str]
"""The key of params.yaml that has a mistake, and the message about the mistake."""


class Place(NamedTuple):
    """Where a part of the parameters is written.

    Attributes:
        name: Name of the file, or the option of the command line, for messages.
        above: Number of keys above this part that `name` leaves out. For example, a file with one data set leaves out
            the two keys `datasets` and the name of the data set.
        line_numbers: Line number of each key in the file, for messages; None: messages without line numbers.
    """

    name: str
    above: int = 0
    line_numbers: Mapping[Key, int] | None = None


def read_file(path: Path, names: Sequence[str]) -> tuple[dict[str, Any], dict[Key, int]]:
    """Reads a YAML file that holds a mapping, such as params.yaml.

    Args:
        path: Path of the file.
        names: Keys that the mapping can have, for the message if the file holds no mapping.

    Returns:
        The content of the file, and the line number of each key.

    Raises:
        UserError: If the file cannot be read, or is no mapping.
    """
    import yaml  # imported here, so that a program can load a trained model without this library

    from duvae.config import yaml_text

    try:
        with path.open("rb") as file:
            content = file.read(yaml_text.LARGEST_FILE + 1)
        if len(content) > yaml_text.LARGEST_FILE:
            raise UserError(
                f"{path}: expected parameters of at most {yaml_text.LARGEST_FILE:,} bytes; found more. Give the file"
                " of parameters, params.yaml."
            )
        text = content.decode("utf-8")
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: not there. duvae reads the params.yaml of the current folder: "
            "change to the project's folder, or give --params."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read as UTF-8 text ({error}). Convert the file, or make it readable."
        ) from error
    try:
        raw, line_numbers = yaml_text.read(text)
    except yaml.YAMLError as error:
        line, why = yaml_text.describe(error)
        where = path if line is None else f"{path}, line {line}"
        raise UserError(f"{where}: not valid YAML: {why}. Correct the file.") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected a mapping with the keys {', '.join(names)}; found {show(raw)}")

    return raw, line_numbers


def place_of(key: Key, main: Place, places: Mapping[Key, Place]) -> Place:
    """The place where a key is written: that of the smallest part with this key, or `main`."""
    parts = [key[:length] for length in range(len(key), 0, -1)]

    return next((places[part] for part in parts if part in places), main)
