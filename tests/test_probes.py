import json
import math
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duvae import config
from duvae.commands import probe as stage
from duvae.config import Probe
from duvae.data import store
from duvae.data.splits import SPECIALS, Documents
from duvae.data.store import Prepared
from duvae.errors import UserError
from duvae.inference import model_files
from duvae.metrics import probes
from duvae.metrics.encoding import encode
from duvae.metrics.probes import (
    Accuracy,
    Labelled,
    convergence,
    draw,
    draw_each,
    over_groups,
    probe,
    probe_groups,
)
from duvae.networks.lstm import LSTMDecoder
from family import CPU, WORDS, describe, documents, lively
from tiny import small

SETTINGS = Probe(draws=2, folds=3, inverse_penalties=[0.1, 10.0], seed=1)


def clusters(count: int, classes: int, apart: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws the features of each class around a corner of a cube; the corner's distance from 0 is `apart`.

    Returns:
        The features, shape (count, classes), and the labels, shape (count,).
    """
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes

    return apart * np.eye(classes)[labels] + random.standard_normal((count, classes)), labels


@pytest.mark.parametrize("classes", [2, 5])
def test_what_is_apart_is_told_apart(classes: int) -> None:
    subsets = [clusters(60, classes, 30.0, seed) for seed in (1, 2)]

    assert probe(subsets, clusters(500, classes, 30.0, 3), SETTINGS).draws == [100.0, 100.0]


@pytest.mark.parametrize("classes", [2, 5])
def test_random_labels_are_found_by_chance(classes: int) -> None:
    """With shuffled labels, the accuracy on 2,000 test documents is within five standard errors of chance."""
    random = np.random.default_rng(1)
    features, labels = clusters(200, classes, 30.0, 1)
    test = clusters(2000, classes, 30.0, 2)
    accuracy = probe([(features, random.permutation(labels))], (test[0], random.permutation(test[1])), SETTINGS).mean
    error = 100 * math.sqrt((1 - 1 / classes) / classes / 2000)

    assert abs(accuracy - 100 / classes) < 5 * error


def test_accuracy_does_not_depend_on_units() -> None:
    """Other units of the features leave the accuracy, since the labelled subset standardizes each feature."""
    features, labels = clusters(80, 3, 2.0, 1)
    test = clusters(400, 3, 2.0, 2)
    unit, offset = np.array([1e-4, 1.0, 1e4]), np.array([1e3, 0.0, -1e6])
    one = probe([(features, labels)], test, SETTINGS)
    other = probe([(features * unit + offset, labels)], (test[0] * unit + offset, test[1]), SETTINGS)

    assert one.draws == pytest.approx(other.draws, abs=0.6)
    assert one.penalties == other.penalties
    assert 40 < one.mean < 100


def test_only_the_labelled_subset_is_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scaler and the classifier are fitted on rows of the labelled subset alone.

    In cross-validation, each fit leaves out the rows on which it is scored.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    features, labels = clusters(60, 2, 3.0, 1)
    known = {row.tobytes(): label for row, label in zip(features, labels, strict=True)}
    scaled: list[int] = []
    learnt: list[int] = []
    scale, learn = StandardScaler.fit, LogisticRegression.fit

    def watch_scale(self, rows, *rest, **options):
        assert all(row.tobytes() in known for row in rows)
        scaled.append(len({row.tobytes() for row in rows}))
        return scale(self, rows, *rest, **options)

    def watch_learn(self, rows, targets, *rest, **options):
        learnt.append(len(targets))
        return learn(self, rows, targets, *rest, **options)

    monkeypatch.setattr(StandardScaler, "fit", watch_scale)
    monkeypatch.setattr(LogisticRegression, "fit", watch_learn)
    probe([(features, labels)], clusters(500, 2, 3.0, 2), SETTINGS)

    assert scaled == learnt == [40] * 6 + [60]  # 3 folds for each of 2 penalties, then the whole subset


def test_fits_that_did_not_converge_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "ITERATIONS", 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with convergence():
            probe([clusters(60, 2, 1.0, 1)], clusters(50, 2, 1.0, 2), SETTINGS)
            warnings.warn("another matter", stacklevel=1)
    assert [str(each.message).split(",")[0] for each in caught] == ["another matter", "7 fits of a probe"]

    monkeypatch.setattr(probes, "ITERATIONS", 1000)
    with warnings.catch_warnings(), convergence():
        warnings.simplefilter("error")
        probe([clusters(60, 2, 1.0, 1)], clusters(50, 2, 1.0, 2), SETTINGS)


def test_test_labels_choose_nothing() -> None:
    subset, (features, labels) = clusters(60, 2, 1.0, 1), clusters(500, 2, 1.0, 2)
    one, turned = (probe([subset], (features, test), SETTINGS) for test in (labels, 1 - labels))

    assert one.penalties == turned.penalties
    assert one.draws[0] + turned.draws[0] == pytest.approx(100)


def test_the_penalty_is_the_one_that_cross_validation_prefers() -> None:
    """The probe takes the penalty with the best score of scikit-learn's cross-validation.

    The penalty changes the score: there are 40 labels, one informative feature and 200 features of noise.
    """
    random = np.random.default_rng(1)
    labels = np.arange(40) % 2
    wide = np.concatenate(
        [labels[:, None] + 0.5 * random.standard_normal((40, 1)), random.standard_normal((40, 200))], 1
    )
    settings = SETTINGS.model_copy(update={"inverse_penalties": [1e-3, 1e3]})
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedKFold(3, shuffle=True, random_state=1)
    scores = {
        c: cross_val_score(
            make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)), wide, labels, cv=folds
        ).mean()
        for c in settings.inverse_penalties
    }
    result = probe([(wide, labels)], (wide, labels), settings)

    assert scores[1e-3] != scores[1e3]
    assert result.penalties == [max(scores, key=lambda c: scores[c])]


def test_a_single_penalty_is_the_one_that_is_used() -> None:
    """If only one penalty is given, the probe uses it.

    A penalty that keeps the weights near 0 predicts the larger class for every document.
    """
    features, labels = clusters(60, 2, 3.0, 1)
    some = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:20]])
    test = clusters(500, 2, 3.0, 2)
    tight, loose = (
        probe([(features[some], labels[some])], test, SETTINGS.model_copy(update={"inverse_penalties": [c]}))
        for c in (1e-8, 1.0)
    )

    assert (tight.penalties, loose.penalties) == ([1e-8], [1.0])
    assert tight.mean == 50
    assert loose.mean > 90


def test_small_classes_have_fewer_folds() -> None:
    features, labels = clusters(60, 2, 30.0, 1)
    few = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:2]])

    assert probe([(features[few], labels[few])], (features, labels), SETTINGS).mean > 90


def test_the_same_seed_gives_the_same_accuracy() -> None:
    subset, test = clusters(60, 4, 1.0, 1), clusters(300, 4, 1.0, 2)

    assert probe([subset], test, SETTINGS) == probe([subset], test, SETTINGS)


def test_mean_and_spread() -> None:
    assert Accuracy([80.0, 90.0, 100.0], [1.0, 1.0, 1.0]).mean == 90
    assert Accuracy([80.0, 90.0, 100.0], [1.0, 1.0, 1.0]).spread == pytest.approx(10)
    assert Accuracy([80.0], [1.0]).mean == 80
    assert Accuracy([80.0], [1.0]).spread is None


# ------------------------------------------------------------------------------------------ drawn subsets

all_labels = st.lists(st.integers(1, 40), min_size=1, max_size=6).map(
    lambda counts: np.random.default_rng(sum(counts)).permutation(np.repeat(np.arange(len(counts)), counts))
)


@given(all_labels, st.data(), st.integers(0, 1000))
def test_a_drawn_subset(labels: np.ndarray, data: st.DataObject, seed: int) -> None:
    """A drawn subset has the wanted size, no repetition, and each class at least twice if the size allows it.

    If the proportional share of every class is 2 or more, the class counts are in proportion to the data.
    """
    classes, counts = np.unique(labels, return_counts=True)
    size = data.draw(st.integers(len(classes), len(labels)))
    indices = draw(labels, size, (seed, size, 0))
    drawn = np.array([np.count_nonzero(labels[indices] == c) for c in classes])
    shares = size * counts / len(labels)

    assert len(indices) == size
    assert len(set(indices.tolist())) == size
    assert (drawn >= 1).all()
    if size >= np.minimum(2, counts).sum():
        assert (drawn >= np.minimum(2, counts)).all()
    if (shares >= 2).all():
        assert (np.abs(drawn - shares) < 1).all()
    assert indices.tolist() == draw(labels, size, (seed, size, 0)).tolist()


@pytest.mark.parametrize("size", [0, 2, 10])
def test_no_subset_is_drawn_without_one_of_each_class_or_with_more_than_there_are(size: int) -> None:
    with pytest.raises(ValueError, match=f"size must be from 3 to 9, got {size}"):
        draw(np.arange(9) % 3, size, (1,))


def test_draws_differ_with_their_seed() -> None:
    labels = np.arange(1000) % 5
    drawn = {tuple(draw(labels, 100, (1, 100, n)).tolist()) for n in range(5)}

    assert len(drawn) == 5


def test_every_document_of_a_class_is_as_likely() -> None:
    """Each draw takes 10 of the 50 documents of a class, so 400 draws take each document about 80 times.

    The counts lie within five binomial standard errors of 80.
    """
    labels = np.arange(100) % 2
    times = np.bincount(np.concatenate([draw(labels, 20, (1, 20, n)) for n in range(400)]), minlength=100)

    assert (np.abs(times - 80) < 5 * math.sqrt(400 * 0.2 * 0.8)).all()


# ------------------------------------------------------------------------------------------ groups


@given(all_labels, st.integers(1, 50), st.integers(0, 1000))
def test_as_many_of_each_label(labels: np.ndarray, count: int, seed: int) -> None:
    """The subset has `count` documents of each label and none twice; a rarer label gives all its documents."""
    indices = draw_each(labels, count, (seed,))

    assert len(set(indices.tolist())) == len(indices)
    for label, there in zip(*np.unique(labels, return_counts=True), strict=True):
        assert np.count_nonzero(labels[indices] == label) == min(count, there)
    assert indices.tolist() == draw_each(labels, count, (seed,)).tolist()


def test_each_group_is_as_if_it_were_alone() -> None:
    """The probe of one group (for images: an alphabet) uses no classes and no test examples of other groups."""
    features, labels = clusters(240, 6, 3.0, 1)
    groups = labels // 3
    training, test = Labelled(features, labels, groups), Labelled(*clusters(300, 6, 3.0, 2), np.arange(300) % 6 // 3)
    accuracies = probe_groups(training, test, 4, SETTINGS)

    assert list(accuracies) == [0, 1]
    for group, accuracy in accuracies.items():
        there, known = training.of(group)
        drawn = [draw_each(known, 4, (SETTINGS.seed, 4, n, group)) for n in range(SETTINGS.draws)]
        assert [len(indices) for indices in drawn] == [12, 12]
        assert accuracy == probe([(there[i], known[i]) for i in drawn], test.of(group), SETTINGS)
    assert over_groups(accuracies) == pytest.approx(np.mean([a.draws for a in accuracies.values()], 0).tolist())


def test_all_there_is_needs_one_draw() -> None:
    features, labels = clusters(40, 4, 30.0, 1)
    training = Labelled(features, labels, labels // 2)
    accuracies = probe_groups(training, training, 10, SETTINGS)

    assert [accuracy.draws for accuracy in accuracies.values()] == [[100.0], [100.0]]


def test_a_group_that_was_drawn_from_once_counts_in_each_draw() -> None:
    assert over_groups({0: Accuracy([10.0, 30.0], []), 1: Accuracy([50.0], [])}) == [30.0, 40.0]


# -------------------------------------------------------------------------------------- the stage `probe`


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Writes a prepared data set and a model with random weights; returns the project's folder.

    The data set has three labelled subsets, two of them of equal size.
    """
    splits = {
        "train": documents(60, seed=2),
        "valid": documents(30, seed=4),
        "test": documents(50, seed=3),
        **{name: documents(count, seed=n) for n, (name, count) in enumerate([("one", 20), ("two", 20), ("all", 40)])},
    }
    vocabulary = [*SPECIALS, *(f"word{n}" for n in range(WORDS - len(SPECIALS)))]
    store.write(tmp_path / "data/prepared/own", Prepared(vocabulary, splits, {}))
    description = describe("vae")
    model_files.save(tmp_path / "models/own/vae/1", lively(description.build()[0]), description)

    return tmp_path


def probed(project: Path, **of: Any) -> dict[str, Any]:
    """Runs the stage `probe` with `of` as the data set's key `probe`; returns the results by number of labels."""
    raw = small()
    raw["datasets"]["own"]["source"]["subsets"] = {name: [{"path": "x.txt"}] for name in ("one", "two", "all")}
    raw["datasets"]["own"]["probe"] = of
    stage.run(config.parse(raw), "own", "vae", 1, project)

    return json.loads((project / "results/own/vae/1/probe.json").read_text())["by_labels"]


def test_shipped_subsets_of_one_size_are_its_draws_and_one_alone_has_no_spread(project: Path) -> None:
    results = probed(project, subsets=["one", "two", "all"])
    alone = {name: probed(project, subsets=[name, name])["20"] for name in ("one", "two")}

    assert {size: len(of["draws"]) for size, of in results.items()} == {"20": 2, "40": 1}
    assert results["20"]["draws"] == [alone[name]["accuracy"] for name in ("one", "two")]
    assert results["20"]["spread"] == pytest.approx(np.std(results["20"]["draws"], ddof=1))
    assert results["40"]["spread"] is alone["one"]["spread"] is None
    assert [len(of["draws"]) for of in alone.values()] == [1, 1]


def test_labelled_documents_that_other_splits_have_too_are_counted(project: Path) -> None:
    prepared = store.read(project / "data/prepared/own")
    subset, splits = prepared.split("one"), dict(prepared.splits)
    assert isinstance(subset, Documents)
    repeated = [subset.tokens[start:end] for start, end in pairwise(subset.offsets.tolist())]
    for name, count in (("test", 3), ("valid", 7)):
        other = prepared.split(name)
        assert isinstance(other, Documents)
        own = [other.tokens[start:end] for start, end in pairwise(other.offsets.tolist())]
        kept = [each for each in own if each.tobytes() not in {words.tobytes() for words in repeated}]
        splits[name] = Documents.of([*kept, *repeated[:count]], np.arange(len(kept) + count) % 2)
    distinct = {words.tobytes() for words in repeated}
    assert len(distinct) == len(repeated), "the labelled documents differ"
    store.write(project / "data/prepared/own", Prepared(prepared.vocabulary, splits, {}))
    found = probed(project, subsets=["one"])["20"]

    assert (found["in_test"], found["in_valid"]) == ([3], [7])


def test_a_drawn_subset_counts_its_own_documents(project: Path) -> None:
    """With the training set as the test set, all drawn documents are counted."""
    prepared = store.read(project / "data/prepared/own")
    splits = {**prepared.splits, "test": prepared.split("train")}
    store.write(project / "data/prepared/own", Prepared(prepared.vocabulary, splits, {}))

    assert {n: set(each["in_test"]) for n, each in probed(project, labels=[10, 30]).items()} == {"10": {10}, "30": {30}}


def test_nothing_is_decoded_for_a_probe(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("log_prob", "log_prob_samples"):
        monkeypatch.setattr(LSTMDecoder, name, None)

    assert set(probed(project, labels=[10, 30], subsets=["all"])) == {"10", "30", "40"}


def test_a_probe_sees_the_features_of_the_posterior(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(stage, "probe", lambda *what: given.append(what) or Accuracy([1.0], [1.0]))
    probed(project, subsets=["all"])
    prepared, model = store.read(project / "data/prepared/own"), model_files.load(project / "models/own/vae/1")[0]
    ((((seen, labels),), test, _),) = given
    for (features, targets), split in (((seen, labels), "all"), (test, "test")):
        of = prepared.split(split)
        assert np.array_equal(features, encode(model, of, CPU, seed=1).mean)
        assert np.array_equal(targets, of.labels)


@pytest.mark.parametrize(
    ("size", "message"),
    [(61, "at most 60, the number of training examples"), (1, "at least 2, the number of different labels")],
)
def test_sizes_that_cannot_be_drawn(size: int, message: str, project: Path) -> None:
    with pytest.raises(UserError, match=rf"datasets\.own\.probe\.labels: expected {message}.*found {size}"):
        probed(project, labels=[size])
