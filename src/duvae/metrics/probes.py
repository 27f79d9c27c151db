"""Linear probes: linear classifiers that predict the labels of examples.

A probe reads the features of an example, which come from its posterior q(z|x) (see
`duvae.posteriors.Posterior.features`). The test accuracy of a probe measures what these features tell about the label.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from duvae.config import Probe
from duvae.data.splits import Array

ITERATIONS = 1000
"""Largest number of iterations of the optimiser that fits a classifier."""


@dataclass(frozen=True)
class Accuracy:
    """Test accuracies of the classifiers that were trained on randomly drawn subsets of the training set.

    Attributes:
        draws: Test accuracy in percent, one number per drawn subset.
        penalties: Inverse of the penalty on the classifier's weights, one number per drawn subset.
    """

    draws: list[float]
    penalties: list[float]

    @property
    def mean(self) -> float:
        """Mean accuracy over the drawn subsets, in percent."""
        return float(np.mean(self.draws))

    @property
    def spread(self) -> float | None:
        """Standard deviation of the accuracy over the n drawn subsets (divisor n - 1), in percent; None if n is 1."""
        return float(np.std(self.draws, ddof=1)) if len(self.draws) > 1 else None


def probe(subsets: list[tuple[Array, Array]], test: tuple[Array, Array], settings: Probe) -> Accuracy:
    """Trains a one-layer classifier on each labelled subset, and measures its accuracy on the test set.

    The classifier is multinomial logistic regression on standardized features. Stratified cross-validation inside the
    labelled subset chooses the penalty on the classifier's weights, so no labels outside the subset are used. If there
    is nothing to choose from, or a label has a single example in the subset, the first given penalty is used.

    Args:
        subsets: Features and labels of each drawn subset, shapes (n, features) and (n,).
        test: Features and labels of the test set, shapes (n, features) and (n,).
        settings: Number of folds of the cross-validation, seed of the folds, and inverse penalties to choose from.

    Returns:
        Test accuracies and chosen inverse penalties, in the order of the subsets.
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
    """Replaces all convergence warnings that scikit-learn gives inside the `with` block by one warning.

    The new warning says how many fits have not converged. Other warnings pass unchanged.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield
    others = [each for each in caught if not issubclass(each.category, ConvergenceWarning)]
    for other in others:
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    if len(caught) > len(others):
        warnings.warn(
            f"{len(caught) - len(others)} fits of a probe, including fits of cross-validation, had not converged after"
            f" {ITERATIONS} iterations; their accuracies are used nevertheless",
            stacklevel=3,
        )


@dataclass(frozen=True)
class Labelled:
    """Features and labels of examples that belong to groups, such as alphabets.

    Attributes:
        features: Features, shape (examples, features).
        labels: Labels, shape (examples,).
        groups: Number of the group of each example, shape (examples,).
    """

    features: Array
    labels: Array
    groups: Array

    def of(self, group: int) -> tuple[Array, Array]:
        """Features and labels of one group, shapes (n, features) and (n,)."""
        members = self.groups == group

        return self.features[members], self.labels[members]


def probe_groups(training: Labelled, test: Labelled, count: int, settings: Probe) -> dict[int, Accuracy]:
    """Trains one classifier for each group, on `count` examples of each label in the group (Table 3 of the paper).

    Args:
        training: Examples to draw from. If a label has fewer than `count` examples, the draw takes all of them.
        test: Test examples.
        count: Number of examples per label.
        settings: Number of drawn subsets per group, number of folds of the cross-validation, seed, and inverse
            penalties to choose from.

    Returns:
        Accuracy by the number of the group. If all labels of a group have at most `count` examples, the only possible
        subset is the whole group, so the group has a single draw.
    """
    accuracies = {}
    for group in np.unique(training.groups).tolist():
        features, labels = training.of(group)
        everything = np.unique(labels, return_counts=True)[1].max() <= count
        draws = [
            draw_each(labels, count, (settings.seed, count, n, group))
            for n in range(1 if everything else settings.draws)
        ]
        accuracies[group] = probe([(features[i], labels[i]) for i in draws], test.of(group), settings)

    return accuracies


def over_groups(accuracies: Mapping[int, Accuracy]) -> list[float]:
    """Computes the mean accuracy over all groups, in percent, once for each draw.

    A group with a single draw contributes the accuracy of that draw to every mean.

    Args:
        accuracies: Accuracy by the number of the group, from `probe_groups`.
    """
    draws = max(len(accuracy.draws) for accuracy in accuracies.values())
    columns = [accuracy.draws * (draws if len(accuracy.draws) == 1 else 1) for accuracy in accuracies.values()]

    return [float(np.mean(draw)) for draw in zip(*columns, strict=True)]


def draw_each(labels: Array, count: int, seed: tuple[int, ...]) -> Array:
    """Draws `count` examples of each label, or all examples of a label that has fewer.

    Args:
        labels: Labels of the examples to draw from, shape (examples,).
        count: Largest number of examples to draw per label.
        seed: Seed of the draw, as a tuple of integers.

    Returns:
        Indices of the drawn examples, shape (drawn examples,).
    """
    generator = np.random.default_rng(list(seed))

    return np.concatenate([generator.permutation(np.flatnonzero(labels == c))[:count] for c in np.unique(labels)])


def draw(labels: Array, size: int, seed: tuple[int, ...]) -> Array:
    """Draws exactly `size` labelled documents. A class is the set of all documents with the same label.

    The number of documents that are drawn from a class is nearly proportional to the size of the class, but at least
    one. Cross-validation needs two documents of each class. If `size` is large enough, at least two documents are
    therefore drawn from each class that has two.

    Args:
        labels: Labels of the documents to draw from, shape (documents,).
        size: Number of documents to draw, from the number of classes to the number of documents.
        seed: Seed of the draw, as a tuple of integers.

    Returns:
        Indices of the drawn documents, shape (size,).

    Raises:
        ValueError: If `size` is less than the number of classes or more than the number of documents.
    """
    generator = np.random.default_rng(list(seed))
    classes, counts = np.unique(labels, return_counts=True)
    if not len(classes) <= size <= len(labels):
        raise ValueError(f"size must be from {len(classes)} to {len(labels)}, got {size}")
    two = np.minimum(2, counts)
    least = two if two.sum() <= size else np.ones_like(counts)
    exact = size * counts / counts.sum()
    shares = np.maximum(least, np.floor(exact).astype(int))
    while shares.sum() < size:
        shares[np.argmax(np.where(shares < counts, exact - shares, -np.inf))] += 1
    while shares.sum() > size:
        shares[np.argmax(np.where(shares > least, shares - exact, -np.inf))] -= 1

    return np.concatenate(
        [generator.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, shares, strict=True)]
    )
