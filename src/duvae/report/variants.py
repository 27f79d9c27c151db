"""Shows what the distance of a model's NLL from the floor is made of: one change of the training at a time.

The floor is the NLL under the generator of a synthetic data set. Two synthetic data sets are *variants* of each other
if they have the same generator and the same validation and test sentences. Their sources in params.yaml are then equal
but for `further`, the number of further training sentences. The *base* of such a group is its first data set in
params.yaml. A data set that equals the base in training sentences, networks and optimisation is no variant.

Models of one system, with the same hyperparameters and parts, are compared with each other. The *base model* is trained
on the base data set, with the networks and the optimisation that params.yaml has for this data set. If there is none,
it is the first such model on the base data set. All other models are *changes* of it. The parameters are those in the
records of the trainings, since params.yaml may have changed since. The number of training sentences is that of
params.yaml.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from duvae.config import Params, SyntheticDataset
from duvae.metrics.paired import CONFIDENCE, Interval
from duvae.report import comparison, convergence, per_example
from duvae.report.names import hyperparameter_text, label
from duvae.report.per_example import Floor, PerExample
from duvae.report.results import Array, Result

Differences = Mapping[str, tuple[Any, Any]]
"""Values of the base and of another training, for each parameter in which they differ.

The key of a parameter is that in params.yaml below the data set, such as `optimisation.decay.patience`. The number of
training sentences has the key `source.training`.
"""

PLAIN = ("vae", "beta_vae", "fb", "agg_vae")
"""Systems whose posterior is the same in training and in evaluation, so that the two losses can be compared."""

WITHOUT = ("dropout_in", "dropout_out")
"""Parameters that must be 0 before the loss in training is compared with that on validation."""


@dataclass(frozen=True)
class Training:
    """The trainings of one setting on one data set, with all seeds.

    Attributes:
        results: The result of each seed.
        examples: The values of the test examples of each seed; None where they are missing.
        sentences: Number of training sentences.
    """

    results: Sequence[Result]
    examples: Sequence[PerExample | None]
    sentences: int

    @property
    def key(self) -> str:
        """Data set and setting, such as `synthetic/vae`."""
        return f"{self.results[0].job.dataset}/{self.results[0].job.setting}"

    @property
    def name(self) -> str:
        """The paper's name of the system with its hyperparameters, such as `DU-VAE (γ 1, p 0.5)`."""
        values = hyperparameter_text(self.results[0].system, self.recorded["hyperparameters"])

        return label(self.results[0].system) + (f" ({values})" if values else "")

    @property
    def recorded(self) -> Mapping[str, Any]:
        """The parameters in the record of the training; empty in results of earlier versions."""
        return self.results[0].provenance.get("train", {}).get("parameters") or {}

    @property
    def comparable(self) -> bool:
        """Whether the parameters are known, and the system has an NLL."""
        return bool(self.recorded) and self.results[0].metrics["nll"] is not None

    @property
    def values(self) -> dict[str, Any]:
        """The parameters in which changes may differ from their base: training sentences, networks, optimisation."""
        return flat(self.sentences, self.recorded["networks"], self.recorded["optimisation"])

    def alike(self, other: "Training") -> bool:
        """Whether both have the same system, hyperparameters and parts."""
        same = all(self.recorded[name] == other.recorded[name] for name in ("hyperparameters", "parts"))

        return same and self.results[0].system == other.results[0].system

    def mean(self, key: str) -> tuple[float, float, float]:
        """Mean of a number in metrics.json, its standard deviation over seeds, and the mean of its standard errors."""
        values, errors = (
            [np.nan if (value := result.metrics.get(name)) is None else value for result in self.results]
            for name in (key, f"{key}_stderr")
        )

        return float(np.mean(values)), _spread(values), float(np.mean(errors))

    @property
    def overfitting(self) -> float | None:
        """Negative ELBO on validation minus that in training in nats, in the epoch whose weights were kept.

        None where the two cannot be compared: with dropout, before the end of the warm-up, and for systems that draw
        codes in another way in training.
        """
        networks = self.recorded["networks"]
        if self.results[0].system not in PLAIN or any(networks.get(name) for name in WITHOUT):
            return None
        gaps = []
        for result in self.results:
            kept = result.history[result.history["epoch"] == result.metrics["best_epoch"]]
            if len(kept) != 1 or float(kept["kl_weight"].iloc[0]) < 1:
                return None
            row = kept.iloc[0]
            gaps.append(float(row["valid_loss"] - row["train_reconstruction"] - row["train_kl"]))

        return float(np.mean(gaps))

    @property
    def converged(self) -> bool:
        """Whether the trainings of all seeds have converged."""
        return all(result.ending.converged for result in self.results)

    @property
    def ending(self) -> str:
        """How the trainings ended, in words."""
        return convergence.over_seeds([result.ending for result in self.results])


@dataclass(frozen=True)
class Change:
    """A training that differs from its base.

    Attributes:
        training: The training.
        differences: The parameters in which it differs from the base.
        gaps: NLL minus the floor in nats, one array of shape (sentences,) per seed; empty: not known.
        change: Interval of its NLL minus that of the base, on the same test sentences. The intervals of all changes of
            a base have the confidence `CONFIDENCE` together. None: not known.
        parts: Number of other changes whose differences in data and networks this one has together; 0 for less than 2.
    """

    training: Training
    differences: Differences
    gaps: Sequence[Array]
    change: Interval | None = None
    parts: int = 0


@dataclass(frozen=True)
class Group:
    """A base model with its changes.

    Attributes:
        base: The base model, which differs from itself in nothing; None: it was not trained.
        changes: The changes.
        dataset: Name of the base data set.
    """

    base: Change | None
    changes: Sequence[Change]
    dataset: str


# ---------------------------------------------------------------------------------- the rule


def base_of(params: Params, dataset: str) -> str | None:
    """Finds the base of a variant.

    Args:
        params: All parameters of params.yaml.
        dataset: Name of a data set.

    Returns:
        Name of the base data set; None if the data set is no variant.
    """
    own = params.dataset(dataset)
    if not isinstance(own, SyntheticDataset):
        return None
    for name in params.datasets:
        other = params.dataset(name)
        if name == dataset:
            return None
        if isinstance(other, SyntheticDataset) and _sentences(other) == _sentences(own):
            return None if _own_values(other) == _own_values(own) else name

    return None


def split(params: Params, models: Sequence[Result]) -> tuple[list[Result], dict[str, list[Result]]]:
    """Separates the results of variants from those of data sets that have a section of their own.

    A variant has a section of its own if its base has no results or no floor.

    Args:
        params: All parameters of params.yaml.
        models: Results of all models.

    Returns:
        The results of data sets with a section, and the results of variants by name of their base.
    """
    known = {model.job.dataset for model in models}
    bases = {
        name: base
        for name in known
        if (base := base_of(params, name)) is not None and base in known and _has_floor(params, base)
    }
    variants: dict[str, list[Result]] = {}
    for model in models:
        if model.job.dataset in bases:
            variants.setdefault(bases[model.job.dataset], []).append(model)

    return [model for model in models if model.job.dataset not in bases], variants


def trainings(
    params: Params, models: Sequence[Result], examples: Sequence[PerExample | None]
) -> tuple[list[Training], list[Training]]:
    """Collects the trainings of each setting on each data set.

    Args:
        params: All parameters of params.yaml.
        models: Results of a base data set and of its variants.
        examples: The values of each model's test examples; None where they are missing.

    Returns:
        The trainings that can be compared, and those without a record of their parameters. Systems without an NLL are
        left out.
    """
    collected: dict[tuple[str, str], list[tuple[Result, PerExample | None]]] = {}
    for model, values in zip(models, examples, strict=True):
        collected.setdefault((model.job.dataset, model.job.setting), []).append((model, values))
    found = []
    for (name, _), pairs in collected.items():
        dataset = params.dataset(name)
        if isinstance(dataset, SyntheticDataset) and pairs[0][0].metrics["nll"] is not None:
            found.append(Training([pair[0] for pair in pairs], [pair[1] for pair in pairs], dataset.source.training))

    return [each for each in found if each.comparable], [each for each in found if not each.comparable]


def groups(params: Params, dataset: str, found: Sequence[Training], floor: Floor) -> list[Group]:
    """Finds the base models with their changes, and compares them.

    Args:
        params: All parameters of params.yaml.
        dataset: Name of the base data set.
        found: The trainings on the base data set and on its variants that can be compared.
        floor: The floor of the base data set, which is that of its variants, too.

    Returns:
        The groups that have a change, in the order of the trainings.
    """
    base_dataset = params.dataset(dataset)
    assert isinstance(base_dataset, SyntheticDataset)
    own = _own_values(base_dataset)
    rest, collected = list(found), []
    while rest:
        members = [each for each in rest if each.alike(rest[0])]
        rest = [each for each in rest if not each.alike(members[0])]
        at_home = [each for each in members if each.results[0].job.dataset == dataset]
        base = next((each for each in at_home if not _differences(own, each.values)), next(iter(at_home), None))
        changes = [
            Change(each, differences, _gaps(each, floor))
            for each in members
            if each is not base and (differences := _differences(base.values if base else own, each.values))
        ]
        if changes:
            first = Change(base, {}, _gaps(base, floor)) if base else None
            collected.append(_compared(Group(first, _with_parts(changes), dataset)))

    return collected


def _compared(group: Group) -> Group:
    """Adds the intervals of the changes. With k changes, each interval has the confidence 1 − (1 − CONFIDENCE) / k."""
    if group.base is None:
        return group
    members = [group.base.training, *(each.training for each in group.changes)]
    results = [result for each in members for result in each.results]
    examples = [values for each in members for values in each.examples]
    per_example.require_same_examples(results, examples)
    compared = comparison.compare(results, examples, key=lambda result: f"{result.job.dataset}/{result.job.setting}")
    level = 1 - (1 - CONFIDENCE) / len(group.changes)
    changes = [
        replace(each, change=compared.between(each.training.key, group.base.training.key, level))
        for each in group.changes
    ]

    return replace(group, changes=changes)


def _with_parts(changes: Sequence[Change]) -> list[Change]:
    """Counts for each change the others that it combines, by their differences in data and networks."""
    inner = [
        {key: values for key, values in each.differences.items() if not key.startswith("optimisation.")}
        for each in changes
    ]
    found = []
    for each, own in zip(changes, inner, strict=True):
        parts = [other for other in inner if other and other != own and other.items() <= own.items()]
        count = len({tuple(part.items()) for part in parts})
        found.append(replace(each, parts=count if count > 1 else 0))

    return found


def _sentences(dataset: SyntheticDataset) -> dict[str, Any]:
    """The parameters that determine the generator and the validation and test sentences."""
    return dataset.source.model_dump(exclude={"further"})


def _has_floor(params: Params, dataset: str) -> bool:
    return getattr(params.dataset(dataset), "truth", None) is not None


def _own_values(dataset: SyntheticDataset) -> dict[str, Any]:
    return flat(dataset.source.training, dataset.networks.model_dump(), dataset.optimisation.model_dump())


def flat(sentences: int, networks: Mapping[str, Any], optimisation: Mapping[str, Any]) -> dict[str, Any]:
    """Collects the parameters in which a training may differ from its base, in the form of `Differences`.

    Args:
        sentences: Number of training sentences.
        networks: The parameters of the networks, as in params.yaml.
        optimisation: The parameters of the optimisation, as in params.yaml.
    """
    values = {"source.training": sentences}
    for name, part in (("networks", networks), ("optimisation", optimisation)):
        values |= {f"{name}.{key}": value for key, value in part.items() if not isinstance(value, Mapping)}
    decay = optimisation.get("decay", {})

    return values | {f"optimisation.decay.{key}": value for key, value in decay.items()}


def _differences(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The values of both for the parameters that both have and in which they differ."""
    return {key: (base[key], other[key]) for key in base if key in other and base[key] != other[key]}


def _gaps(training: Training, floor: Floor) -> list[Array]:
    found = per_example.gaps(training.results, training.examples, floor)

    return found[training.results[0].job.setting]


def _spread(values: Sequence[float]) -> float:
    """Standard deviation over seeds; NaN for a single seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
