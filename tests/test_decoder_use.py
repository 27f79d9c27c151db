"""The use of z by the decoder: log p(x|z) minus log p(x|z') with the z' of another example."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from duvae.data.splits import Array, Documents
from duvae.metrics import decoder_use as module
from duvae.metrics.decoder_use import PERMUTATIONS, decoder_use, partners, use_measures
from duvae.metrics.encoding import encode
from duvae.networks.bodies import Decoder, Encoder
from duvae.objectives import ELBO
from duvae.posteriors import PointMass
from duvae.vae import VAE
from family import CPU, NAMES, build, documents, lively


class FirstWord(Encoder):
    features = 1

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 1:2].float()


class Point(nn.Module):
    def forward(self, features: Tensor) -> PointMass:
        return PointMass(features)


class Squares(Decoder):
    """A decoder with log p(x|z) = -slope (x_1 - z)^2 - length, where x_1 is the id of the first word."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        return -self.slope * (x[:, 1] - z[..., 0]).square() - x.shape[1]

    log_prob_samples = log_prob

    def units(self, x: Tensor) -> int:
        return len(x)

    def sample(self, z: Tensor, generator: torch.Generator | None = None, likely: bool = False) -> Tensor:
        raise AssertionError("the measure draws no x")


def use(split: Documents, slope: float = 1.0, seed: int = 1) -> Array:
    """The use of z of each sentence, under a model that encodes a sentence as the id of its first word."""
    model = VAE(FirstWord(), Point(), Squares(slope), ELBO())

    return decoder_use(model, split, encode(model, split, CPU, seed), CPU, seed)


def sentences(*words: tuple[int, int]) -> Documents:
    """Sentences, each given by the id of its first word and its length."""
    return Documents.of([[1, word, *[9] * (length - 3), 2] for word, length in words], [0] * len(words))


# ------------------------------------------------------------------------------------- the partners


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(3, 6), min_size=1, max_size=30), st.integers(0, 1000))
def test_partners_have_the_length_and_nobody_is_its_own(lengths: list[int], seed: int) -> None:
    given_lengths = np.array(lengths)
    found = partners(given_lengths, PERMUTATIONS, seed)
    alone = np.array([lengths.count(length) == 1 for length in lengths])

    assert found.shape == (PERMUTATIONS, len(lengths))
    assert ((found == -1) == alone).all()
    paired = np.flatnonzero(~alone)
    for permutation in found[:, paired]:
        assert sorted(permutation.tolist()) == paired.tolist()
        assert (permutation != paired).all()
        assert (given_lengths[permutation] == given_lengths[paired]).all()


def test_every_other_example_is_an_equally_likely_partner() -> None:
    """Counts of the partners of one of five examples, in 4,000 permutations, are within five standard errors."""
    found = partners(np.full(5, 7), 4000, seed=1)
    counts = np.bincount(found[:, 2], minlength=5)

    assert counts[2] == 0
    assert (np.abs(counts[[0, 1, 3, 4]] - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75)).all()


def test_the_permutations_are_the_seeds() -> None:
    lengths = np.full(50, 4)

    assert (partners(lengths, 5, 1) == partners(lengths, 5, 1)).all()
    assert (partners(lengths, 5, 1) != partners(lengths, 5, 2)).any()
    assert len(np.unique(partners(lengths, 5, 1), axis=0)) == 5


# --------------------------------------------------------------------------------------- the values


def test_hand_values_in_the_order_of_the_split() -> None:
    """Two sentences of a length are each other's partners. So the use of both is the squared distance of their z."""
    found = use(sentences((4, 5), (7, 3), (6, 5), (8, 4), (12, 3)))

    np.testing.assert_array_equal(found, [4.0, 25.0, 4.0, np.nan, 25.0])
    measured = use_measures(found)
    assert measured["use"] == 58 / 4
    assert measured["use_stderr"] == pytest.approx(np.std([4, 25, 4, 25], ddof=1) / 2)


def test_a_decoder_that_ignores_z_has_no_use_of_it() -> None:
    found = use(sentences(*((word, 3 + word % 3) for word in range(4, 60))), slope=0.0)

    assert (found == 0).all()
    assert use_measures(found) == {"use": 0.0, "use_stderr": 0.0}


def test_no_partner_no_value() -> None:
    found = use(sentences((4, 3), (5, 4), (6, 5)))

    assert np.isnan(found).all()
    assert use_measures(found) == {"use": None, "use_stderr": None}
    assert use_measures(np.array([2.5, np.nan])) == {"use": 2.5, "use_stderr": None}


def test_the_mean_is_that_over_all_pairs() -> None:
    """The mean over 400 sentences is near the mean over all pairs of different sentences, which is twice the variance.

    The distance is at most five standard errors.
    """
    words = np.random.default_rng(3).integers(4, 40, 400)
    measured = use_measures(use(sentences(*((int(word), 3) for word in words))))

    assert measured["use"] is not None
    assert measured["use_stderr"] is not None
    assert abs(measured["use"] - 2 * words.var(ddof=1)) < 5 * measured["use_stderr"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at_once", [3, 256])
def test_the_use_is_its_plain_form(name: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measure agrees with one example and one partner at a time, for every system and any size of batches."""
    monkeypatch.setattr(module, "BATCH", at_once)
    model, split = lively(build(name, dropout_in=0.5, dropout_out=0.5)[0]), documents(13, (5, 6, 9))
    model.start()
    encoded = encode(model, split, CPU, seed=1)
    done: list[int] = []
    found = decoder_use(model, split, encoded, CPU, 1, done.append)
    model.eval()
    others, z = partners(split.lengths, PERMUTATIONS, 1), torch.from_numpy(encoded.z)
    for index in range(len(split)):
        x = torch.from_numpy(split.batch(np.array([index])))
        with torch.no_grad():
            log_prob = {n: float(model.decoder.log_prob(x, z[n : n + 1])) for n in {index, *others[:, index].tolist()}}
        expected = log_prob[index] - np.mean([log_prob[n] for n in others[:, index].tolist()])

        assert found[index] == pytest.approx(expected, abs=2e-5)
    assert np.abs(found).max() > 0.01
    assert done == sorted(done)
    assert done[-1] == len(split)
