"""What git keeps of single test examples: likelihoods, and latent spaces of two dimensions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duvae.config import Job
from duvae.errors import UserError
from duvae.project import array_files
from duvae.report import expected
from duvae.report.results import Array, Result, need

FILE = "per_example.json"
"""The file beside metrics.json, and beside truth.json."""


@dataclass(frozen=True)
class PerExample:
    """The test examples of one model.

    Attributes:
        documents: Number of documents of each split of the data set.
        index: Indices in the test set of the examples whose likelihood was measured, ascending, shape (measured,).
        nll: Their negative log-likelihoods in nats, shape (measured,); None where the model has no likelihood.
        means: Posterior means of all test examples, shape (test, 2); None where the latent space is not drawn.
        variances: Posterior variances, shape (test, 2); None for point masses, or where the space is not drawn.
        labels: Labels of all test examples, shape (test,); None where the latent space is not drawn.
    """

    documents: Mapping[str, int]
    index: npt.NDArray[np.int64]
    nll: Array | None
    means: Array | None
    variances: Array | None
    labels: npt.NDArray[np.int64] | None


@dataclass(frozen=True)
class Space:
    """A two-dimensional latent space.

    Attributes:
        name: The name of the model.
        means: Means of q(z given x), shape (sentences, 2).
        variances: The diagonal of its covariance, shape (sentences, 2); None for point masses.
        labels: The component that each sentence came from, shape (sentences,).
    """

    name: str
    means: Array
    variances: Array | None
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Floor:
    """The generator's own negative log-likelihood, in nats a sentence.

    Attributes:
        summary: The content of truth.json.
        nll: The likelihoods of the first test sentences, shape (sentences,); None where git does not keep them yet.
        z: The latent code and the component of every test sentence; None where git does not keep them yet.
    """

    summary: Mapping[str, Any]
    nll: Array | None = None
    z: Space | None = None

    def gap(self, model: PerExample) -> tuple[float, float] | None:
        """How far a model's NLL lies above the floor on the floor's own sentences.

        Args:
            model: The test sentences of the model.

        Returns:
            The mean of the paired differences and its standard error; None where the model has no likelihood.
        """
        if self.nll is None or model.nll is None:
            return None
        count = len(self.nll)
        both = int((model.index < count).sum())
        if both < count:
            raise UserError(
                f"the floor has {count} sentences, of which a model was evaluated on {both}:"
                " they come from different data. Run 'dvc repro' to make them again."
            )
        difference = model.nll[:count] - self.nll

        return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(count))


def place(job: Job, root: Path) -> Path:
    """The file of a job."""
    return root / "results" / job.folder / FILE


def read(result: Result, root: Path = Path()) -> PerExample | None:
    """Reads the test examples of a model.

    Args:
        result: The model's result.
        root: The project's folder.

    Returns:
        The test examples; None where git does not keep them yet, or keeps those of other weights.

    Raises:
        UserError: Where the file is broken.
    """
    job = result.job
    path = place(job, root)
    if not path.exists():
        return None
    command = f"duvae evaluate --dataset {job.dataset} --setting {job.setting} --seed {job.seed}"
    about, arrays = array_files.read(path, command)
    if about.get("weights") != result.metrics.get("weights"):
        return None
    try:
        index = np.cumsum(_array(arrays["steps"], 1, np.int64))
        nll, means, variances = (
            _array(arrays[name], dimensions, np.float64) if name in arrays else None
            for name, dimensions in (("nll", 1), ("mean", 2), ("variance", 2))
        )
        labels = _array(arrays["label"], 1, np.int64) if means is not None else None
        if nll is not None and len(nll) != len(index):
            raise ValueError(f"nll has {len(nll)} values for {len(index)} examples")
        if len({len(array) for array in (means, variances, labels) if array is not None}) > 1:
            raise ValueError("mean, variance and label are not of the same examples")
        documents = {str(name): int(count) for name, count in about["documents"].items()}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: expected arrays, but {error!r}. Run '{command}' again.") from error

    return PerExample(documents, index, nll, means, variances, labels)


def floor(dataset: str, root: Path = Path()) -> Floor:
    """The true negative log-likelihood of a synthetic data set."""
    command = f"duvae truth --dataset {dataset}"
    summary, examples = root / "results" / dataset / "truth.json", root / "results" / dataset / FILE
    need({summary: command})
    content = expected.read(summary, command)
    if not examples.exists():
        return Floor(content)
    _, arrays = array_files.read(examples, command)
    try:
        nll = _array(arrays["nll"], 1, np.float64)
        z = Space("true z", _array(arrays["z"], 2, np.float64), None, _array(arrays["label"], 1, np.int64))
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{examples}: expected arrays, but {error!r}. Run '{command}' again.") from error

    return Floor(content, nll, z)


def gaps(
    results: Sequence[Result], examples: Sequence[PerExample | None], floor: Floor
) -> dict[str, list[tuple[float, float]]]:
    """The gaps of each setting to the floor.

    Args:
        results: Models of one data set.
        examples: The test examples of each model; None where git does not keep them.
        floor: The floor.

    Returns:
        By setting a gap for each seed (`Floor.gap`); none where there is no likelihood, or some seed is not kept.
    """
    found: dict[str, list[tuple[float, float]]] = {result.job.setting: [] for result in results}
    for result, model in zip(results, examples, strict=True):
        gap = floor.gap(model) if model else None
        if gap:
            found[result.job.setting].append(gap)
    missing = {result.job.setting for result, model in zip(results, examples, strict=True) if model is None}

    return {setting: [] if setting in missing else of for setting, of in found.items()}


def space(result: Result, model: PerExample) -> Space:
    """The latent space of a model with two latent dimensions."""
    if model.means is None or model.labels is None or model.means.shape[1] != 2:
        raise UserError(
            f"results of {result.job.name}: expected two latent dimensions, to draw; found others. Give"
            f" datasets.{result.job.dataset}.networks.latent in params.yaml the value 2 and train again."
        )

    return Space(result.name, model.means, model.variances, model.labels)


def _array(array: npt.NDArray[Any], dimensions: int, kind: Any) -> npt.NDArray[Any]:
    """The array in a known type, once it is seen to have so many dimensions and no missing numbers."""
    if array.ndim != dimensions or not len(array):
        raise ValueError(f"an array has the shape {array.shape} where {dimensions} dimensions are expected")
    found = array.astype(kind)
    if not np.isfinite(found).all():
        raise ValueError("an array has numbers that are not finite")

    return found
