"""Linear probes: how much of a label a linear classifier finds in the representation."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from duvae.config import Probe
from duvae.data.store import Array

ITERATIONS = 1000
"""Of the optimizer, at most."""


@dataclass(frozen=True)
class Accuracy:
    """Test accuracy of a probe, in percent.

    Attributes:
        draws: Of each labelled subset.
        penalties: The inverse penalty that cross-validation chose for each.
    """

    draws: list[float]
    penalties: list[float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.draws))

    @property
    def spread(self) -> float | None:
        """Standard deviation over the draws (n - 1); None for a single one, which tells nothing of it."""
        return float(np.std(self.draws, ddof=1)) if len(self.draws) > 1 else None


def probe(subsets: list[tuple[Array, Array]], test: tuple[Array, Array], settings: Probe) -> Accuracy:
    """Trains a one-layer classifier on each labelled subset and tests it.

    Multinomial logistic regression on standardized features; its penalty is chosen by stratified
    cross-validation inside the labelled subset, never on other labels.

    Args:
        subsets: Features and labels of each draw, with shapes (n, features) and (n,).
        test: Features and labels of the test set.
        settings: Folds and penalties.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    draws, penalties = [], []
    for features, labels in subsets:
        folds = min(settings.folds, int(np.bincount(labels)[np.unique(labels)].min()))
        classifier = make_pipeline(
            StandardScaler(), LogisticRegression(C=settings.inverse_penalties[0], max_iter=ITERATIONS)
        )
        if folds >= 2 and len(settings.inverse_penalties) > 1:
            classifier = GridSearchCV(
                classifier,
                {"logisticregression__C": settings.inverse_penalties},
                cv=StratifiedKFold(folds, shuffle=True, random_state=settings.seed),
            )
        classifier.fit(features, labels)
        draws.append(100 * float(classifier.score(*test)))
        best = getattr(classifier, "best_params_", {"logisticregression__C": settings.inverse_penalties[0]})
        penalties.append(float(best["logisticregression__C"]))

    return Accuracy(draws, penalties)


@contextmanager
def convergence() -> Iterator[None]:
    """One warning that counts the fits inside that did not converge, in place of one for each."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield
    others = [each for each in caught if not issubclass(each.category, ConvergenceWarning)]
    for other in others:
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    if len(caught) > len(others):
        said = f"{len(caught) - len(others)} fits of a probe, those of cross-validation counted, had not converged"
        warnings.warn(f"{said} after {ITERATIONS} iterations; their accuracies count as they are", stacklevel=3)


@dataclass(frozen=True)
class Labelled:
    """Features with their labels, in groups such as alphabets; each array a row an example."""

    features: Array
    labels: Array
    groups: Array

    def of(self, group: int) -> tuple[Array, Array]:
        """Features and labels of one group."""
        here = self.groups == group

        return self.features[here], self.labels[here]


def probe_groups(training: Labelled, test: Labelled, count: int, settings: Probe) -> dict[int, Accuracy]:
    """A classifier for each group on its own, from `count` examples of each of its labels: Table 3.

    Args:
        training: What is drawn from. A label with fewer examples gives all it has.
        test: All of a group's count in its accuracy.
        count: Examples a label.
        settings: Draws, folds and penalties.

    Returns:
        The accuracy of each group. Where there is nothing to choose, a single draw has all.
    """
    found = {}
    for group in np.unique(training.groups).tolist():
        features, labels = training.of(group)
        everything = np.unique(labels, return_counts=True)[1].max() <= count
        drawn = [
            draw_each(labels, count, (settings.seed, count, n, group))
            for n in range(1 if everything else settings.draws)
        ]
        found[group] = probe([(features[i], labels[i]) for i in drawn], test.of(group), settings)

    return found


def over_groups(accuracies: Mapping[int, Accuracy]) -> list[float]:
    """The mean accuracy over groups of each draw; a group that was drawn from once counts with that in each."""
    draws = max(len(accuracy.draws) for accuracy in accuracies.values())
    columns = [accuracy.draws * (draws if len(accuracy.draws) == 1 else 1) for accuracy in accuracies.values()]

    return [float(np.mean(draw)) for draw in zip(*columns, strict=True)]


def draw_each(labels: Array, count: int, seed: tuple[int, ...]) -> Array:
    """Indices of `count` examples of each label, or of all that it has.

    Args:
        labels: All labels to draw from, with shape (examples,).
        count: How many of each.
        seed: Determines which.
    """
    generator = np.random.default_rng(list(seed))

    return np.concatenate([generator.permutation(np.flatnonzero(labels == c))[:count] for c in np.unique(labels)])


def draw(labels: Array, size: int, seed: tuple[int, ...]) -> Array:
    """Indices of exactly `size` labelled documents, each class in proportion to its share.

    Small classes get two documents, which cross-validation needs, where they have them and the size allows it
    for all; never none.

    Args:
        labels: All labels to draw from, with shape (documents,).
        size: How many to draw: from one for each class to all.
        seed: Determines which.
    """
    generator = np.random.default_rng(list(seed))
    classes, counts = np.unique(labels, return_counts=True)
    if not len(classes) <= size <= len(labels):
        raise ValueError(f"size must be from {len(classes)} to {len(labels)}, got {size}")
    two = np.minimum(2, counts)
    least = two if two.sum() <= size else np.ones_like(counts)
    wanted = size * counts / counts.sum()
    shares = np.maximum(least, np.floor(wanted).astype(int))
    while shares.sum() < size:
        shares[np.argmax(np.where(shares < counts, wanted - shares, -np.inf))] += 1
    while shares.sum() > size:
        shares[np.argmax(np.where(shares > least, shares - wanted, -np.inf))] -= 1

    return np.concatenate(
        [generator.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, shares, strict=True)]
    )
