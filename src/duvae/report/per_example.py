"""Reads the files that hold values of each single test example: the likelihood, and two-dimensional latent codes.

The latent codes are in a file only if the latent space has two dimensions. Git keeps the files, because the report
pages show the values.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duvae.config import Job
from duvae.errors import UserError
from duvae.metrics.statistics import standard_error
from duvae.project import array_files
from duvae.project.provenance import read_record
from duvae.report import expected
from duvae.report.results import Array, Result, require_files

FILE = "per_example.json"
"""Name of the files with the values of single test examples.

Such a file lies beside the metrics.json of each model. For a synthetic data set such a file also lies beside
truth.json, which has the mean NLL under the generator of the data set.
"""


@dataclass(frozen=True)
class PerExample:
    """Values of the test examples of one model.

    Attributes:
        documents: Number of examples in each split of the data set, by name of the split.
        index: Test-set indices of the examples whose likelihood was measured, ascending, shape (measured,).
        nll: Negative log-likelihoods of the examples in `index`, in nats, shape (measured,); None for a model that has
            no likelihood.
        means: Posterior means of all test examples, shape (test, 2); None unless the latent space has two dimensions.
        variances: Posterior variances of all test examples, shape (test, 2); None where each posterior is a single
            point, and where `means` is None.
        labels: Labels of all test examples, shape (test,); None where `means` is None.
        use: Use of z by the decoder in nats, of each example in `use_index`, shape (paired,); None in results of
            earlier versions, and where no example has a partner of its length.
        use_index: Test-set indices of the examples in `use`, ascending, shape (paired,); None where `use` is None.
        unseen: Whether the training set lacks the example, for each example in `index`, shape (measured,); None in
            results of earlier versions.
        exact: Exact negative log-likelihoods of the first test examples in nats, shape (sentences,); None where the
            exact NLL was not computed.
    """

    documents: Mapping[str, int]
    index: npt.NDArray[np.int64]
    nll: Array | None
    means: Array | None
    variances: Array | None
    labels: npt.NDArray[np.int64] | None
    use: Array | None = None
    use_index: npt.NDArray[np.int64] | None = None
    unseen: npt.NDArray[np.bool_] | None = None
    exact: Array | None = None


@dataclass(frozen=True)
class Space:
    """A two-dimensional latent space: the posteriors of test examples under one model, or their true z.

    Attributes:
        name: The name of the model, or `true z`.
        means: Means of q(z|x), shape (examples, 2); for `true z`, the z from which each sentence was generated.
        variances: Variances of q(z|x), shape (examples, 2); None where each q(z|x) is a single point, and for `true z`.
        labels: Label of each example, shape (examples,). For synthetic data, the index of the component of the mixture
            from which the sentence's z was drawn.
    """

    name: str
    means: Array
    variances: Array | None
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Floor:
    """The NLL (negative log-likelihood) of test sentences under the generator that produced the synthetic data.

    This NLL is the floor of every model's NLL: over many sentences, no model can have a lower mean.

    Attributes:
        summary: The content of truth.json, such as the mean of `nll`.
        nll: The generator's −log p(x) of each of the first test sentences in nats, shape (sentences,); None where
            per_example.json is missing, as in results of earlier versions.
        z: The true latent code of every test sentence, with the mixture component from which the code was drawn; None
            where `nll` is None.
    """

    summary: Mapping[str, Any]
    nll: Array | None = None
    z: Space | None = None

    def gap(self, model: PerExample) -> Array | None:
        """Computes the distances of a model's NLL from the floor, on the sentences whose floor is in `nll`.

        Args:
            model: The values of the model's test sentences.

        Returns:
            The model's NLL minus the floor for each sentence in nats, shape (sentences,). None where the model or the
            floor has no NLL of each single sentence.

        Raises:
            UserError: If the model's NLL was not measured on all sentences whose floor is in `nll`.
        """
        if self.nll is None or model.nll is None:
            return None
        count = len(self.nll)
        shared = int((model.index < count).sum())
        if shared < count:
            raise UserError(
                f"the true NLL is known for {count} sentences, but a model was evaluated on only {shared} of them:"
                " the two belong to different data. Run 'dvc repro' to compute both again."
            )

        return np.asarray(model.nll[:count] - self.nll, np.float64)


def file_path(job: Job, root: Path) -> Path:
    """The path of the file with the values of the test examples, for the model of one job (one training)."""
    return root / "results" / job.folder / FILE


def read(result: Result, root: Path = Path()) -> PerExample | None:
    """Reads the values of the test examples under one model.

    Args:
        result: Metrics and records of the trained model.
        root: The project's folder.

    Returns:
        The values; None where the file is missing, or belongs to other weights than the model's metrics do.

    Raises:
        UserError: If the file is broken.
    """
    job = result.job
    path = file_path(job, root)
    if not path.exists():
        return None
    command = f"duvae evaluate --dataset {job.dataset} --setting {job.setting} --seed {job.seed}"
    about, arrays = array_files.read(path, command)
    if about.get("weights") != result.metrics.get("weights"):
        return None
    try:
        index = np.cumsum(_array(arrays["steps"], 1, np.int64))
        nll, means, variances, use, exact = (
            _array(arrays[name], dimensions, np.float64) if name in arrays else None
            for name, dimensions in (("nll", 1), ("mean", 2), ("variance", 2), ("use", 1), ("exact", 1))
        )
        use_index = None if use is None else np.cumsum(_array(arrays["use_steps"], 1, np.int64))
        labels = _array(arrays["label"], 1, np.int64) if means is not None else None
        if nll is not None and len(nll) != len(index):
            raise ValueError(f"nll has {len(nll)} values for {len(index)} examples")
        if len({len(array) for array in (means, variances, labels) if array is not None}) > 1:
            raise ValueError("mean, variance and label are not of the same examples")
        unseen = _array(arrays["unseen"], 1, np.int64) if "unseen" in arrays else None
        if unseen is not None and len(unseen) != len(index):
            raise ValueError(f"unseen has {len(unseen)} values for {len(index)} examples")
        if unseen is not None and not np.isin(unseen, (0, 1)).all():
            raise ValueError("unseen has values other than 0 and 1")
        if use is not None and use_index is not None and len(use) != len(use_index):
            raise ValueError(f"use has {len(use)} values for {len(use_index)} examples")
        if variances is not None and not (variances >= 0).all():
            raise ValueError("variance has negative values")
        documents = {str(name): int(count) for name, count in about["documents"].items()}
        _require_indices(index, documents["test"], "steps")
        if use_index is not None:
            _require_indices(use_index, documents["test"], "use_steps")
        if means is not None and len(means) != documents["test"]:
            raise ValueError("mean is not of all test examples")
    except (KeyError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise UserError(f"{path}: expected arrays, but {error!r}. Run '{command}' again.") from error

    return PerExample(
        documents,
        index,
        nll,
        means,
        variances,
        labels,
        use,
        use_index,
        None if unseen is None else unseen.astype(np.bool_),
        exact,
    )


def floor(dataset: str, root: Path = Path()) -> Floor:
    """Reads the floor of a synthetic data set.

    Args:
        dataset: The data set's name.
        root: The project's folder.

    Raises:
        UserError: If truth.json is missing, or if truth.json or per_example.json is broken.
    """
    command = f"duvae truth --dataset {dataset}"
    summary, examples = root / "results" / dataset / "truth.json", root / "results" / dataset / FILE
    require_files({summary: command})
    content = expected.read(summary, command)
    read_record(summary.with_name("truth.run.json"), command, missing_ok=True)
    if not examples.exists():
        return Floor(content)
    _, arrays = array_files.read(examples, command)
    try:
        nll = _array(arrays["nll"], 1, np.float64)
        z = Space("true z", _array(arrays["z"], 2, np.float64), None, _array(arrays["label"], 1, np.int64))
        if not len(nll) <= len(z.means) == len(z.labels):
            raise ValueError("nll, z and label are not of the same examples")
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{examples}: expected arrays, but {error!r}. Run '{command}' again.") from error

    return Floor(content, nll, z)


def gaps(results: Sequence[Result], examples: Sequence[PerExample | None], floor: Floor) -> dict[str, list[Array]]:
    """Computes the distances of each setting's NLL from the floor. A setting is a system with hyperparameters.

    Args:
        results: Results of all models of one data set.
        examples: The values of each model's test examples, as `read` returns them.
        floor: The floor of this data set.

    Returns:
        The results of `Floor.gap`, one per seed, by setting. The list of a setting is empty if its models have no
        likelihood, or if the values of one of its seeds are missing.
    """
    gaps_of_settings: dict[str, list[Array]] = {result.job.setting: [] for result in results}
    for result, model in zip(results, examples, strict=True):
        gap = floor.gap(model) if model else None
        if gap is not None:
            gaps_of_settings[result.job.setting].append(gap)
    missing = {result.job.setting for result, model in zip(results, examples, strict=True) if model is None}

    return {setting: [] if setting in missing else gaps for setting, gaps in gaps_of_settings.items()}


def require_same_examples(results: Sequence[Result], examples: Sequence[PerExample | None]) -> None:
    """Checks that the models of several data sets were measured on the same test examples, by the examples' labels.

    Args:
        results: Results of the models.
        examples: The values of each model's test examples; None where they are missing. Only models with labels are
            checked.

    Raises:
        UserError: If the labels of two models differ.
    """
    known = [
        (result.job.dataset, values.labels)
        for result, values in zip(results, examples, strict=True)
        if values is not None and values.labels is not None
    ]
    for dataset, labels in known[1:]:
        if not np.array_equal(labels, known[0][1]):
            raise UserError(
                f"results of {known[0][0]} and {dataset}: expected the same test examples, since the two data sets have"
                " the same source but for source.further; found examples with other labels. Run 'dvc repro' to compute"
                " both again."
            )


def gap_over_seeds(gaps: Sequence[Array]) -> tuple[float, float, float]:
    """Averages the distances of one setting's NLL from the floor.

    All seeds are measured on the same sentences, so the errors of the seeds are not independent. The standard error is
    therefore that of the mean over the seeds, which has one value per sentence.

    Args:
        gaps: Model's NLL minus the floor in nats, one array of shape (sentences,) per seed.

    Returns:
        The mean, the standard deviation over the seeds, and the standard error over the sentences, in nats. A value is
        NaN where there is nothing to compute it from: no seed, a single seed, a single sentence.
    """
    if not gaps:
        return math.nan, math.nan, math.nan
    values = np.stack(gaps)
    means, error = values.mean(1), standard_error(values.mean(0))
    spread = float(means.std(ddof=1)) if len(means) > 1 else math.nan

    return float(means.mean()), spread, math.nan if error is None else error


def space(result: Result, model: PerExample) -> Space:
    """Builds the `Space` of a model with two latent dimensions.

    Args:
        result: Metrics and records of the trained model.
        model: The values of the model's test examples.

    Raises:
        UserError: If the model has another number of latent dimensions.
    """
    if model.means is None or model.labels is None or model.means.shape[1] != 2:
        raise UserError(
            f"results of {result.job.name}: a drawing needs two latent dimensions; found another number. Set"
            f" datasets.{result.job.dataset}.networks.latent in params.yaml to 2 and train again."
        )

    return Space(result.name, model.means, model.variances, model.labels)


def _require_indices(indices: npt.NDArray[np.int64], count: int, name: str) -> None:
    """Checks that indices of test examples are ascending, and that there are so many test examples.

    Raises:
        ValueError: If the indices are not ascending, or if an index is negative or too large.
    """
    if not (indices[0] >= 0 and (np.diff(indices) > 0).all() and indices[-1] < count):
        raise ValueError(f"{name} does not lead to ascending indices of test examples")


def _array(array: npt.NDArray[Any], dimensions: int, kind: Any) -> npt.NDArray[Any]:
    """Checks the number of dimensions and the values of an array, and converts it.

    Raises:
        ValueError: If the array is empty, has another number of dimensions, has values that are not finite, or has
            values of another kind, such as fractions or texts where whole numbers are expected.
    """
    if not np.can_cast(array.dtype, kind, "same_kind"):
        raise ValueError(f"an array has values of the type {array.dtype} where {np.dtype(kind)} is expected")
    if array.ndim != dimensions or not len(array):
        raise ValueError(f"an array has the shape {array.shape} where {dimensions} dimensions are expected")
    values = array.astype(kind)
    if not np.isfinite(values).all():
        raise ValueError("an array has values that are not finite")

    return values
