import hashlib
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from duvae.config import SyntheticSource, Truth
from duvae.data.splits import END, SPECIALS, START
from duvae.data.synthetic import Generator, log_prior, prepared_synthetic, sample, true_nll, weights
from duvae.errors import UserError
from duvae.quadrature import COARSE, _refined
from family import FULL_SIZE

FULL = FULL_SIZE.dataset("synthetic").source
MEANS = [[0.0, 0.0], [-2.0, -2.0], [-2.0, 2.0], [2.0, -2.0], [2.0, 2.0]]
SMALL = SyntheticSource(
    train=1500, valid=100, test=120, length=4, words=6, embedding=5, hidden=7,
    lstm_range=1.0, output_range=2.0, means=MEANS, variance=1.0, seed=3,
)  # fmt: skip
TRUTH = Truth(sentences=5, spacing=0.1, halfwidth=7.0)


def tiny(
    words: int = 3, length: int = 2, seed: int = 3, output_range: float = 2.0
) -> tuple[Generator, SyntheticSource]:
    source = SMALL.model_copy(
        update={"words": words, "length": length, "hidden": 4, "embedding": 3, "output_range": output_range}
    )

    return Generator.of(weights(source, np.random.default_rng(seed))), source


def every_sentence(source: SyntheticSource) -> np.ndarray:
    """All sentences that a synthetic source can generate, as word ids, shape (sentences, length)."""
    ids = range(len(SPECIALS), len(SPECIALS) + source.words)

    return np.array(list(itertools.product(ids, repeat=source.length)))


def likelihood(generator: Generator, sentence: np.ndarray, z: Tensor) -> Tensor:
    """The likelihood p(x|z) of one sentence x at each z, shape (number of z,)."""
    which, joint = generator.joint(torch.from_numpy(sentence), z, torch.zeros(len(z), dtype=z.dtype))
    assert len(which) == len(z)

    return joint.exp()


# ------------------------------------------------------------------------------------ the weights


def test_without_a_range_of_their_own_the_weights_of_z_are_drawn_as_the_others() -> None:
    """The default gives the bits of one range for the whole output map, drawn after all other weights but the bias."""
    source = FULL.model_copy(update={"words": 50})
    drawn, random = weights(source, np.random.default_rng(1)), np.random.default_rng(1)
    hidden, width = source.hidden, source.embedding
    random.standard_normal((54, width))
    for count in (2 * hidden, hidden, 4 * hidden * width, 4 * hidden * hidden, 2 * 4 * hidden):
        random.random(count)
    expected = random.uniform(-5.0, 5.0, (50, hidden + 2))

    assert source.latent_range is None
    assert drawn["output"].tobytes() == expected.tobytes()
    same = weights(source.model_copy(update={"latent_range": 5.0}), np.random.default_rng(1))
    assert all(same[name].tobytes() == value.tobytes() for name, value in drawn.items())


@pytest.mark.parametrize(("output_range", "latent_range"), [(1.0, 5.0), (4.0, 0.5)])
def test_the_weights_of_z_have_their_own_range(output_range: float, latent_range: float) -> None:
    source = FULL.model_copy(update={"output_range": output_range, "latent_range": latent_range})
    drawn = weights(source, np.random.default_rng(1))
    of_h, of_z = np.split(drawn["output"], [source.hidden], axis=1)
    plain = weights(source.model_copy(update={"latent_range": None}), np.random.default_rng(1))

    assert of_z.shape == (source.words, 2)
    for values, reach in ((of_h, output_range), (of_z, latent_range), (drawn["output_bias"], output_range)):
        assert 0.99 * reach < np.abs(values).max() <= reach
        assert values.std() == pytest.approx(reach / math.sqrt(3), rel=0.05)
    assert of_h.tobytes() == np.ascontiguousarray(plain["output"][:, : source.hidden]).tobytes()
    assert all(plain[name].tobytes() == value.tobytes() for name, value in drawn.items() if name != "output")


def test_the_data_set_synthetic_kim_differs_from_synthetic_in_the_ranges_alone() -> None:
    kim, paper = FULL_SIZE.dataset("synthetic_kim"), FULL_SIZE.dataset("synthetic")
    ranges = {"output_range": 1.0, "latent_range": 5.0}

    assert kim == paper.model_copy(update={"source": paper.source.model_copy(update=ranges)})


# ------------------------------------------------------------------------------------ the data set


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    torch.manual_seed(1)
    (one, kept), (again, kept_again) = prepared_synthetic(SMALL), prepared_synthetic(SMALL)
    other, _ = prepared_synthetic(SMALL.model_copy(update={"seed": 4}))
    for name, split in one.splits.items():
        assert split.tokens.tobytes() == again.splits[name].tokens.tobytes()
        assert split.labels.tobytes() == again.splits[name].labels.tobytes()
        assert split.tokens.tobytes() != other.splits[name].tokens.tobytes()
    assert kept.keys() == kept_again.keys()
    assert all(kept[name].tobytes() == kept_again[name].tobytes() for name in kept)


def test_what_is_generated() -> None:
    prepared, kept = prepared_synthetic(SMALL)

    assert prepared.vocabulary == [*SPECIALS, "w0", "w1", "w2", "w3", "w4", "w5"]
    assert {name: len(split) for name, split in prepared.splits.items()} == {"train": 1500, "valid": 100, "test": 120}
    for name, split in prepared.splits.items():
        sentences = split.batch(np.arange(len(split)))
        assert sentences.shape == (len(split), SMALL.length + 2)
        assert (sentences[:, 0] == START).all()
        assert (sentences[:, -1] == END).all()
        assert sentences[:, 1:-1].min() >= len(SPECIALS)
        assert sentences[:, 1:-1].max() < len(SPECIALS) + SMALL.words
        assert kept[f"{name}.z"].shape == (len(split), 2)
    assert prepared.summary["splits"]["train"]["tokens"] == 1500 * 5
    assert sum(prepared.summary["splits"]["test"]["components"]) == 120
    assert {f"generator.{name}" for name in Generator.names()} < kept.keys()


def test_components_are_equally_likely_and_z_is_about_their_means() -> None:
    """The counts of the prior's components and the moments of each component's z are as the source states them.

    Counts, means, variances and correlations are within five standard errors.
    """
    source = SMALL.model_copy(update={"train": 20_000, "variance": 0.49})
    prepared, kept = prepared_synthetic(source)
    labels, z = prepared.split("train").labels, kept["train.z"]
    counts = np.bincount(labels, minlength=5)

    assert (np.abs(counts - 4000) < 5 * math.sqrt(20_000 * 0.2 * 0.8)).all()
    for c, mean in enumerate(MEANS):
        own = z[labels == c]
        assert (np.abs(own.mean(0) - mean) < 5 * 0.7 / math.sqrt(len(own))).all()
        assert (np.abs(own.var(0) - 0.49) < 5 * 0.49 * math.sqrt(2 / len(own))).all()
        assert abs(np.corrcoef(own.T)[0, 1]) < 5 / math.sqrt(len(own))


def test_the_weights_at_full_size() -> None:
    found = weights(FULL, np.random.default_rng(1))

    assert {name: array.shape for name, array in found.items()} == {
        "embedding": (1004, 100), "initial_weight": (100, 2), "initial_bias": (100,),
        "input": (400, 100), "recurrent": (400, 100), "lstm_bias": (400,),
        "output": (1000, 102), "output_bias": (1000,),
    }  # fmt: skip
    for name, reach in (("input", 1), ("recurrent", 1), ("output", 5), ("output_bias", 5)):
        assert np.abs(found[name]).max() <= reach
        assert found[name].std() == pytest.approx(reach / math.sqrt(3), rel=0.05)
    assert found["embedding"].std() == pytest.approx(1, rel=0.05)
    assert np.abs(found["initial_weight"]).max() <= 1 / math.sqrt(2)
    assert found["lstm_bias"].std() == pytest.approx(math.sqrt(2 / 3), rel=0.1)  # the sum of two uniform biases
    assert np.abs(found["lstm_bias"]).max() > 1


# ----------------------------------------------------------------------------------- the data set's equations


def test_the_generator_is_pytorchs_lstm() -> None:
    generator, source = tiny(words=6, length=4)
    cell = nn.LSTMCell(3, 4).double()
    with torch.no_grad():
        cell.weight_ih.copy_(generator.input)
        cell.weight_hh.copy_(generator.recurrent)
        cell.bias_ih.copy_(generator.lstm_bias)
        cell.bias_hh.zero_()
    z = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sentence = np.array([6, 9, 4, 4])
    hidden = z @ generator.initial_weight.T + generator.initial_bias
    memory, total = torch.zeros_like(hidden), torch.zeros(5, dtype=torch.float64)
    with torch.no_grad():
        for before, word in itertools.pairwise([START, *sentence]):
            hidden, memory = cell(generator.embedding[before].expand(5, -1), (hidden, memory))
            logits = torch.cat([hidden, z], 1) @ generator.output.T + generator.output_bias
            total += logits.log_softmax(1)[:, word - len(SPECIALS)]

    assert torch.allclose(likelihood(generator, sentence, z).log(), total)
    assert source.words == 6


@pytest.mark.parametrize(("words", "length"), [(3, 1), (3, 3), (5, 2)])
def test_all_sentences_together_have_probability_one(words: int, length: int) -> None:
    generator, source = tiny(words, length)
    z = torch.from_numpy(np.array([*MEANS, [0.3, -1.1]]))
    total = sum(likelihood(generator, sentence, z) for sentence in every_sentence(source))

    assert torch.allclose(total, torch.ones(6, dtype=torch.float64))


def test_sentences_come_up_as_often_as_they_are_likely() -> None:
    """A chi-square test compares the counts of 27 sentences in 30,000 draws at one z with p(x|z)."""
    generator, source = tiny(3, 3)
    z, draws = np.array([0.4, -0.9]), 30_000
    words = sample(generator, np.tile(z, (draws, 1)), np.random.default_rng(1).random((3, draws)))
    codes, every = words @ [100, 10, 1], every_sentence(source)
    at = torch.from_numpy(z[None])
    expected = draws * np.array([float(likelihood(generator, sentence, at)) for sentence in every])
    observed = np.array([np.count_nonzero(codes == sentence @ [100, 10, 1]) for sentence in every])
    likely = expected > 5

    assert observed.sum() == draws
    assert likely.sum() > 5
    freedom = int(likely.sum())
    assert (((observed - expected) ** 2 / expected)[likely]).sum() < freedom + 5 * math.sqrt(2 * freedom)


def test_uniforms_at_both_ends_give_words() -> None:
    generator, source = tiny(6, 2)
    z = np.zeros((2, 2))
    words = sample(generator, z, np.array([[0.0, np.nextafter(1, 0)]] * 2))

    assert words.min() >= len(SPECIALS)
    assert words.max() < len(SPECIALS) + source.words


def test_the_prior_integrates_to_one_and_is_the_mixture() -> None:
    axis = torch.linspace(-9, 9, 361, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    source = SMALL.model_copy(update={"variance": 0.5})
    density = log_prior(z, source).exp()
    plain = sum(
        torch.distributions.Normal(torch.tensor(mean), math.sqrt(0.5)).log_prob(z).sum(1).exp() for mean in MEANS
    )

    assert float(density.sum()) * 0.05**2 == pytest.approx(1, abs=1e-9)
    assert torch.allclose(density, plain / 5, atol=1e-9)


def test_what_lies_under_the_floor_is_given_up() -> None:
    generator, source = tiny(6, 4)
    z = torch.randn(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2
    prior, sentence = log_prior(z, source), torch.tensor([4, 7, 9, 5])
    _, everything = generator.joint(sentence, z, prior)
    floor = float(everything.median())
    which, above = generator.joint(sentence, z, prior, floor)

    assert which.tolist() == torch.nonzero(everything > floor)[:, 0].tolist()
    assert torch.allclose(above, everything[which])
    assert len(which) == 100


# ------------------------------------------------------------------------------ the true likelihood


def dense(generator: Generator, source: SyntheticSource, sentence: np.ndarray, spacing: float) -> float:
    """Computes -log p(x) of one sentence as a sum over a lattice of z, from -8 to 8 in each dimension."""
    half = round(8 / spacing)
    axis = torch.arange(-half, half + 1, dtype=torch.float64) * spacing
    z = torch.cartesian_prod(axis, axis)

    return -float((likelihood(generator, sentence, z).log() + log_prior(z, source)).logsumexp(0)) - 2 * math.log(
        spacing
    )


def prepared(count: int = 4) -> tuple[Generator, SyntheticSource, np.ndarray, np.ndarray]:
    """Prepares a small synthetic data set.

    Returns:
        The generator, its source, the first `count` test sentences, and the z of each of these sentences.
    """
    made, kept = prepared_synthetic(SMALL)
    generator = Generator.of({name: kept[f"generator.{name}"] for name in Generator.names()})

    return generator, SMALL, made.split("test").batch(np.arange(count))[:, 1:-1], kept["test.z"][:count]


def test_the_true_nll_is_the_integral() -> None:
    generator, source, words, own = prepared()
    done: list[int] = []
    nll, twice = true_nll(generator, source, words, own, TRUTH, done.append)
    expected = [dense(generator, source, sentence, 0.08) for sentence in words]

    np.testing.assert_allclose(nll, expected, atol=1e-6)
    np.testing.assert_allclose(twice, nll, atol=1e-4)
    assert done == [1, 2, 3, 4]


def test_the_true_nll_by_importance_sampling() -> None:
    """The true p(x) agrees with the mean of p(x|z) over 200,000 samples of z from the prior.

    They differ by at most five standard errors. Each standard error is under 1 % of p(x).
    """
    generator, source, words, own = prepared(2)
    random = np.random.default_rng(1)
    draws = 200_000
    z = np.asarray(MEANS)[random.integers(5, size=draws)] + random.standard_normal((draws, 2))
    nll, _ = true_nll(generator, source, words, own, TRUTH)
    for sentence, value in zip(words, nll, strict=True):
        weights_ = likelihood(generator, sentence, torch.from_numpy(z)).numpy()
        error = weights_.std() / math.sqrt(draws)

        assert error < 0.01 * weights_.mean()
        assert abs(weights_.mean() - math.exp(-value)) < 5 * error


@pytest.mark.parametrize("output_range", [0.5, 5.0])
def test_the_true_likelihoods_of_all_sentences_sum_to_one(output_range: float) -> None:
    generator, source = tiny(3, 3, output_range=output_range)
    every = every_sentence(source)
    own = np.zeros((len(every), 2))  # `own` only sets the bound below which `true_nll` neglects values
    nll, twice = true_nll(generator, source, every, own, TRUTH)

    assert np.exp(-nll).sum() == pytest.approx(1, abs=1e-5)
    assert np.exp(-twice).sum() == pytest.approx(1, abs=1e-3)


def test_at_full_size_no_cell_that_matters_is_missed() -> None:
    """`true_nll` is at most the negative logarithm of a sum over all lattice points near the sentence's z.

    The likelihood of the paper's generator is jagged, so `true_nll` could miss a cell of the lattice that matters.
    The reference sums the points within 80 spacings of the z that the sentence came from.
    """
    source, truth = FULL.model_copy(update={"train": 1, "valid": 1, "test": 2}), FULL_SIZE.dataset("synthetic").truth
    made, kept = prepared_synthetic(source)
    generator = Generator.of({name: kept[f"generator.{name}"] for name in Generator.names()})
    words, own = made.split("test").batch(np.arange(2))[:, 1:-1], kept["test.z"]
    nll, twice = true_nll(generator, source, words, own, truth)
    reach = torch.arange(-80, 81, dtype=torch.float64)
    for sentence, at, value in zip(torch.from_numpy(words), torch.from_numpy(own), nll, strict=True):
        middle = (at / truth.spacing).round()
        z = torch.cartesian_prod(middle[0] + reach, middle[1] + reach) * truth.spacing
        parts = [
            generator.joint(sentence, part, log_prior(part, source), -value - 40)[1].logsumexp(0)
            for part in z.split(512)
        ]

        assert value <= -float(torch.stack(parts).logsumexp(0)) - 2 * math.log(truth.spacing) + 1e-6
    assert np.abs(twice - nll).max() < 0.5


def test_a_lattice_that_is_too_coarse_is_a_mistake() -> None:
    generator, source, words, own = prepared(1)
    with pytest.raises(UserError, match=r"spacing 0.3 of a lattice leaves too few points.*at most 0.219"):
        true_nll(generator, source, words, own, TRUTH.model_copy(update={"spacing": 0.3}))


def test_a_refined_lattice_has_each_point_once() -> None:
    kept = COARSE * torch.tensor([[0, 0], [1, 0], [-3, 5]])
    points = [tuple(point) for point in _refined(kept).tolist()]
    around = {
        (int(a) + da, int(b) + db)
        for a, b in kept
        for da in range(-COARSE, COARSE + 1)
        for db in range(-COARSE, COARSE + 1)
    }

    assert len(points) == len(set(points))
    assert set(points) == around


# ------------------------------------------------------------------------------------ further training sentences


def test_further_sentences_are_appended_and_change_no_other_bit() -> None:
    (plain, kept), (larger, with_further) = (
        prepared_synthetic(SMALL.model_copy(update={"further": further})) for further in (None, 700)
    )
    assert plain.splits.keys() == larger.splits.keys()
    assert kept.keys() == with_further.keys()
    for name in ("valid", "test"):
        assert larger.splits[name].tokens.tobytes() == plain.splits[name].tokens.tobytes()
        assert larger.splits[name].labels.tobytes() == plain.splits[name].labels.tobytes()
        assert larger.summary["splits"][name] == plain.summary["splits"][name]
    first, more = plain.splits["train"], larger.splits["train"]
    assert (len(first), len(more)) == (1500, 2200)
    assert more.only(np.arange(1500)).tokens.tobytes() == first.tokens.tobytes()
    assert more.labels[:1500].tobytes() == first.labels.tobytes()
    assert with_further["train.z"][:1500].tobytes() == kept["train.z"].tobytes()
    assert with_further["train.z"].shape == (2200, 2)
    assert all(with_further[name].tobytes() == kept[name].tobytes() for name in kept if name != "train.z")
    assert larger.summary["splits"]["train"]["documents"] == 2200
    assert larger.summary["splits"]["train"]["components"] == np.bincount(more.labels, minlength=5).tolist()
    assert len(set(map(tuple, with_further["train.z"]))) == 2200  # drawn anew, not repeated


def test_the_further_sentences_belong_to_their_codes() -> None:
    """The labels are those of the nearest means about as often as for the first sentences."""
    prepared, kept = prepared_synthetic(SMALL.model_copy(update={"further": 1500, "variance": 0.1}))
    distances = ((kept["train.z"][:, None] - np.array(MEANS)) ** 2).sum(-1)
    right = distances.argmin(-1) == prepared.splits["train"].labels

    assert right[:1500].mean() > 0.95
    assert right[1500:].mean() > 0.95


def test_without_the_key_the_bits_are_those_of_earlier_versions() -> None:
    prepared, kept = prepared_synthetic(SMALL)
    digest = hashlib.sha256()
    for name in ("train", "valid", "test"):
        digest.update(prepared.splits[name].tokens.tobytes() + kept[f"{name}.z"].tobytes())

    assert digest.hexdigest() == "b8a72401ee00bf590e478cc002f03820ba2c39218e447efb9e7ad6dd728f712a"
