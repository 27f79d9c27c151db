"""Reads and writes the samples and interpolations of a trained model, and the test examples shown beside them.

A sample is an example that the model decodes from a z drawn from the prior. An interpolation is a row of examples that
the model decodes from points between the latent codes of two test examples.

The command `duvae samples` writes two files per model: an npz archive, and the samples file. The archive holds word ids
or pixels, and the indices of test examples. The samples file holds texts or pixels, and the test examples themselves.
For a data set that may be private, it holds no examples at all. Git keeps only the samples file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duvae.config import Job
from duvae.data.splits import Array, Images
from duvae.data.store import Prepared
from duvae.errors import UserError
from duvae.project import array_files

PREFIXES = ("samples_", "between_")
"""Prefixes of array names: the first for samples of the prior, the second for interpolations.

The prefix is followed by the name of the decoding, such as `drawn` (see `Samples`).
"""


@dataclass(frozen=True)
class Samples:
    """Samples and interpolations of one model.

    An example is a line of text, or an image of shape (height, width) whose pixels are shares of ink from 0 to 1. The
    keys of `prior` and `interpolations` are decodings. With the decoding `drawn`, words or pixels are drawn from
    p(x|z). With the decoding `likeliest`, each word has its likeliest value. With the decoding `mean`, each pixel has
    its probability of ink, given z. An earlier version of duvae wrote `likeliest` images, too.

    Attributes:
        are_images: Whether the examples are images.
        columns: Number of images in one row of a figure of samples.
        prior: Examples decoded from draws of the prior, shape (samples,) for each decoding; empty if the system has no
            prior.
        interpolations: Examples decoded from points between the codes of two test examples, shape (pairs, steps) for
            each decoding.
        test: Test examples to show beside the samples, shape (examples,).
        endpoints: The two test examples at the ends of each interpolation, shape (pairs, 2).
        weights: The digest of the model's weights; None: an earlier version of duvae wrote the file, without a digest.
    """

    are_images: bool
    columns: int
    prior: Mapping[str, Any]
    interpolations: Mapping[str, Any]
    test: Any
    endpoints: Any
    weights: str | None


def file_path(job: Job, root: Path) -> Path:
    """The path of the samples file of a job. A job is one training of a model.

    The file does not lie in the folder of the job's metrics, because the stage `figure1` of DVC depends on that folder.
    A new samples file in that folder would make the stage run again.
    """
    return root / "results" / job.folder.parent / "samples" / f"{job.seed}.json"


def from_arrays(arrays: Mapping[str, Any], prepared: Prepared) -> Samples:
    """Joins the arrays of an archive with the test examples to which the indices in the arrays refer.

    Args:
        arrays: The arrays of the archive that `duvae samples` writes, by name.
        prepared: The data set that the model was trained on.

    Raises:
        ValueError: If there are no interpolations, or if an index is too large for the test examples of the data set.
        KeyError: If an array is missing.
    """
    prior, interpolations = (_by_decoding(arrays, prefix) for prefix in PREFIXES)
    if not interpolations:
        raise ValueError("there is nothing between_ two examples")
    split = prepared.split("test")
    largest = max(int(arrays["pairs"].max()), int(arrays["examples"].max(initial=0)))
    if largest >= len(split):
        raise ValueError(f"the data set has {len(split)} test examples where {largest + 1} or more are needed")
    are_images = isinstance(split, Images)

    def decoded(array: Array) -> Any:
        if are_images:
            return array
        return [decoded(row) for row in array] if array.ndim > 1 else " ".join(prepared.words(array))

    def examples(indices: Array) -> Any:
        if are_images:
            return prepared.images("test").pixels[indices]
        documents = prepared.documents("test")
        lines = [" ".join(prepared.words(documents[index])) for index in indices.flatten().tolist()]
        return lines if indices.ndim == 1 else [lines[n : n + 2] for n in range(0, len(lines), 2)]

    return Samples(
        are_images,
        int(arrays["columns"]),
        {decoding: decoded(array) for decoding, array in prior.items()},
        {decoding: decoded(array) for decoding, array in interpolations.items()},
        examples(arrays["examples"]),
        examples(arrays["pairs"]),
        str(arrays["weights"]) if "weights" in arrays else None,
    )


def read_archive(path: Path, prepared: Prepared, command: str) -> Samples:
    """Reads the archive that `duvae samples` wrote.

    Args:
        path: The archive.
        prepared: The data set that the model was trained on.
        command: The command that writes the archive, for error messages.

    Raises:
        UserError: If the archive is missing or broken, or belongs to another data set.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return from_arrays({name: file[name] for name in file.files}, prepared)
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. '{command}' makes it.") from error
    except array_files.UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: expected samples, but {reason}. Delete it and run '{command}' again.") from error


def write(path: Path, samples: Samples, apart: bool) -> None:
    """Writes the samples file, which git keeps.

    Args:
        path: The file to write.
        samples: Samples and interpolations to write.
        apart: Whether the data set may be private, because its kind is in `config.APART`. The file of such a data set
            holds no examples.
    """
    about: dict[str, Any] = {"weights": samples.weights, "apart": apart}
    arrays: dict[str, Array] = {}
    if not apart:
        about |= {"pictures": samples.are_images, "columns": samples.columns}
        parts = {
            **{f"samples_{decoding}": examples for decoding, examples in samples.prior.items()},
            **{f"between_{decoding}": examples for decoding, examples in samples.interpolations.items()},
            "test": samples.test,
            "ends": samples.endpoints,
        }
        if samples.are_images:
            arrays = parts
        else:
            about |= {"lines": parts}
    array_files.write(path, about, arrays)


def read(path: Path, command: str) -> Samples | None:
    """Reads a samples file, which the function `write` wrote.

    Args:
        path: The file to read.
        command: The command that writes the file, for error messages.

    Returns:
        The samples; None if the file holds no examples, because the data set may be private.

    Raises:
        UserError: If the file is missing or broken.
    """
    about, arrays = array_files.read(path, command)
    try:
        if about["apart"]:
            return None
        parts: Mapping[str, Any] = arrays if about["pictures"] else about["lines"]
        prior, interpolations = (_by_decoding(parts, prefix) for prefix in PREFIXES)
        return Samples(
            bool(about["pictures"]),
            int(about["columns"]),
            prior,
            interpolations,
            parts["test"],
            parts["ends"],
            about["weights"],
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UserError(f"{path}: expected samples, but {error!r}. Run '{command}' again.") from error


def _by_decoding(parts: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Selects the entries of `parts` whose names start with a prefix.

    Returns:
        The selected entries. The key of an entry is its decoding, that is, its name without the prefix.
    """
    return {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}
