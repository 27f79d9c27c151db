"""What a trained model draws or writes, ready to be shown beside real test examples: pictures, or lines of text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from duvae.config import Job
from duvae.data.store import Array, Images, Prepared
from duvae.errors import UserError
from duvae.project import array_files

KINDS = ("samples_", "between_")


@dataclass(frozen=True)
class Drawn:
    """Samples and interpolations of one model.

    An example is an image of shape (height, width), its ink from 0 to 1, or a line of text.

    Attributes:
        pictures: Whether the examples are images.
        columns: Images in one row of a picture.
        samples: Samples of the prior, drawn and likeliest, (samples,) examples each; empty where there is no prior.
        between: Interpolations, drawn and likeliest, (pairs, steps) examples each.
        test: Test examples to show beside the samples, (examples,) of them.
        ends: Test examples that the interpolations lie between, (pairs, 2) of them.
        weights: The digest of the model's weights; None where it is not known.
    """

    pictures: bool
    columns: int
    samples: Mapping[str, Any]
    between: Mapping[str, Any]
    test: Any
    ends: Any
    weights: str | None


def place(job: Job, root: Path) -> Path:
    """The file of a job that git keeps; outside of the folder of the job's numbers, which Figure 1 depends on."""
    return root / "results" / job.folder.parent / "samples" / f"{job.seed}.json"


def of(arrays: Mapping[str, Any], prepared: Prepared) -> Drawn:
    """Takes samples together with the test examples that belong to them.

    Args:
        arrays: The content of the archive that `duvae samples` writes.
        prepared: The data set that the model was trained on.

    Raises:
        ValueError: Where the arrays are not such a content, or belong to a larger data set.
        KeyError: Where an array is missing.
    """
    ways = {
        kind: {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
        for kind in KINDS
    }
    if not ways["between_"]:
        raise ValueError("there is nothing between_ two examples")
    split = prepared.split("test")
    largest = max(int(arrays["pairs"].max()), int(arrays["examples"].max(initial=0)))
    if largest >= len(split):
        raise ValueError(f"the data set has {len(split)} test examples where {largest + 1} or more are needed")
    pictures = isinstance(split, Images)

    def shown(array: Array) -> Any:
        if pictures:
            return array
        return [shown(row) for row in array] if array.ndim > 1 else " ".join(prepared.words(array))

    def real(indices: Array) -> Any:
        if pictures:
            return prepared.images("test").pixels[indices]
        documents = prepared.documents("test")
        lines = [" ".join(prepared.words(documents[index])) for index in indices.flatten().tolist()]
        return lines if indices.ndim == 1 else [lines[n : n + 2] for n in range(0, len(lines), 2)]

    return Drawn(
        pictures,
        int(arrays["columns"]),
        {way: shown(array) for way, array in ways["samples_"].items()},
        {way: shown(array) for way, array in ways["between_"].items()},
        real(arrays["examples"]),
        real(arrays["pairs"]),
        str(arrays["weights"]) if "weights" in arrays else None,
    )


def archive(path: Path, prepared: Prepared, command: str) -> Drawn:
    """Reads the archive that `duvae samples` wrote.

    Args:
        path: The archive.
        prepared: The data set that the model was trained on.
        command: The command that makes the archive.

    Raises:
        UserError: Where the archive is missing, broken, or belongs to other data.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return of({name: file[name] for name in file.files}, prepared)
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. '{command}' makes it.") from error
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: expected samples, but {why}. Delete it and run '{command}' again.") from error


def write(path: Path, drawn: Drawn, apart: bool) -> None:
    """Writes what git keeps of it.

    Args:
        path: The file.
        drawn: Samples and interpolations.
        apart: Whether the data set is of a kind in `config.APART`: the file then says so, and holds no examples.
    """
    about: dict[str, Any] = {"weights": drawn.weights, "apart": apart}
    arrays: dict[str, Array] = {}
    if not apart:
        about |= {"pictures": drawn.pictures, "columns": drawn.columns}
        parts = {
            **{f"samples_{way}": examples for way, examples in drawn.samples.items()},
            **{f"between_{way}": examples for way, examples in drawn.between.items()},
            "test": drawn.test,
            "ends": drawn.ends,
        }
        if drawn.pictures:
            arrays = parts
        else:
            about |= {"lines": parts}
    array_files.write(path, about, arrays)


def read(path: Path, command: str) -> Drawn | None:
    """Reads what `write` wrote; None where the data set is of a kind in `config.APART`.

    Args:
        path: The file.
        command: The command that makes the file.

    Raises:
        UserError: Where the file is missing or broken.
    """
    about, arrays = array_files.read(path, command)
    try:
        if about["apart"]:
            return None
        parts: Mapping[str, Any] = arrays if about["pictures"] else about["lines"]
        ways = {
            kind: {name.removeprefix(kind): value for name, value in parts.items() if name.startswith(kind)}
            for kind in KINDS
        }
        return Drawn(
            bool(about["pictures"]),
            int(about["columns"]),
            ways["samples_"],
            ways["between_"],
            parts["test"],
            parts["ends"],
            about["weights"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: expected samples, but {error!r}. Run '{command}' again.") from error
