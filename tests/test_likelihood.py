import math
from types import MethodType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from duvae.data.splits import Array, Documents
from duvae.metrics import likelihood
from duvae.metrics.likelihood import importance_weighted_nll, perplexity, unseen_measures
from duvae.metrics.statistics import standard_error
from duvae.networks.bodies import Decoder, Encoder
from duvae.objectives import ELBO
from duvae.posteriors import DiagonalGaussian, Posterior, PosteriorSample
from duvae.vae import VAE
from family import CPU, NAMES, batch, build, documents, lively

DENSE = [name for name in NAMES if build(name)[0].posterior(batch()).density]
everyone = pytest.mark.parametrize("name", DENSE)


# ------------------------------------------------------------------------- against a plain form


class Spy:
    """Records the samples of z that the estimate draws for each sentence."""

    def __init__(self, model: VAE) -> None:
        self.posterior = model.posterior
        self.drawn: dict[bytes, list[Tensor]] = {}
        model.posterior = self  # type: ignore[method-assign]

    def __call__(self, x: Tensor) -> Posterior:
        posterior = self.posterior(x)
        draw = posterior.draw

        def watched(
            _: Posterior, samples: tuple[int, ...] = (), generator: torch.Generator | None = None
        ) -> PosteriorSample:
            drawn = draw(samples, generator)
            for n, sentence in enumerate(x):
                self.drawn.setdefault(sentence.numpy().tobytes(), []).append(drawn.z[:, n])
            return drawn

        object.__setattr__(posterior, "draw", MethodType(watched, posterior))

        return posterior


def plain_nll(model: VAE, sentence: Tensor, z: Tensor) -> float:
    """The NLL of one sentence, from one sample at a time and a plain sum of the weights."""
    with torch.no_grad():
        posterior = model.posterior(sentence[None])
        weights = []
        for sample in z:
            log_joint = float(model.decoder.log_prob(sentence[None], sample[None]))
            log_joint += float(torch.distributions.Normal(0.0, 1.0).log_prob(sample).sum())
            weights.append(log_joint - float(posterior.log_prob(sample[None])))
    shift = max(weights)

    return -shift - math.log(math.fsum(math.exp(weight - shift) for weight in weights) / len(weights))


@everyone
@pytest.mark.parametrize(("samples", "rows"), [(1, 4096), (7, 4096), (7, 3), (20, 64), (20, 1), (20, 30)])
def test_the_estimate_is_its_plain_form(name: str, samples: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two forms agree for any number of samples K and any size of the blocks."""
    monkeypatch.setattr(likelihood, "ROWS", rows)
    model, split = lively(build(name, dropout_in=0.5, dropout_out=0.5)[0]), documents(13, (5, 6, 9))
    assert len(set(split.contents())) == 13
    model.start()
    spy = Spy(model)
    done: list[int] = []
    nll = importance_weighted_nll(model, split, samples, CPU, 1, done.append)
    model.posterior = spy.posterior  # type: ignore[method-assign]
    model.eval()
    for index in range(13):
        sentence = torch.from_numpy(split[index]).long()
        z = torch.cat(spy.drawn[sentence.numpy().tobytes()])

        assert len(z) == samples
        assert len(z.unique(dim=0)) == samples
        assert nll[index] == pytest.approx(plain_nll(model, sentence, z), abs=1e-4)
    assert done == sorted(done)
    assert done[-1] == 13


# ------------------------------------------------------------------------- where the truth is known

SLOPE, NOISE = 1.3, 0.6
"""A toy model with one 'word' y, p(z) = N(0, 1) and p(y|z) = N(SLOPE z, NOISE^2). p(z|y) and p(y) are Gaussian."""


def observed(x: Tensor) -> Tensor:
    return 0.25 * (x[:, 1].float() - 8)


class Reader(Encoder):
    features = 1

    def forward(self, x: Tensor) -> Tensor:
        return observed(x)[:, None]


class Exact(nn.Module):
    """p(z|y) with a shifted mean and a scaled variance."""

    def __init__(self, shift: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.shift, self.scale = shift, scale

    def forward(self, features: Tensor) -> DiagonalGaussian:
        total = SLOPE**2 + NOISE**2

        return DiagonalGaussian(
            features * SLOPE / total + self.shift, torch.full_like(features, self.scale * NOISE**2 / total)
        )


class Linear(Decoder):
    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.distributions.Normal(SLOPE * z[..., 0], NOISE).log_prob(observed(x))

    log_prob_samples = log_prob

    def units(self, x: Tensor) -> int:
        return len(x)

    def sample(self, z: Tensor, generator: torch.Generator | None = None, likely: bool = False) -> Tensor:
        raise AssertionError("the likelihood draws no x")


def toy(count: int, **head: float) -> tuple[VAE, Documents, Array]:
    """A toy model, its sentences, and their true negative log-likelihoods."""
    words = np.random.default_rng(1).integers(4, 13, count)
    split = Documents.of([np.array([1, word, 2]) for word in words], np.zeros(count, np.int64))
    y = 0.25 * (words - 8)
    total = SLOPE**2 + NOISE**2

    return VAE(Reader(), Exact(**head), Linear(), ELBO()), split, 0.5 * (y**2 / total + np.log(2 * np.pi * total))


@pytest.mark.parametrize("samples", [1, 2, 17, 500])
@pytest.mark.parametrize("rows", [4096, 5])
def test_with_the_true_posterior_it_is_exact_for_any_k(
    samples: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "ROWS", rows)
    model, split, truth = toy(9)

    np.testing.assert_allclose(importance_weighted_nll(model, split, samples, CPU, 1), truth, atol=2e-6)


def test_with_another_posterior_it_comes_down_to_the_truth_with_k() -> None:
    """The bound of K samples lies above the truth and falls as K grows. At 20,000 samples, it has reached the truth."""
    model, split, truth = toy(400, shift=0.3, scale=1.5)
    above = [importance_weighted_nll(model, split, samples, CPU, 1) - truth for samples in (1, 5, 50)]
    means = [float(gap.mean()) for gap in above]

    assert means[0] > means[1] > means[2] > -5 * standard_error(above[2])
    few = Documents.of([split[n] for n in range(5)], split.labels[:5])
    np.testing.assert_allclose(importance_weighted_nll(model, few, 20_000, CPU, 1), truth[:5], atol=0.05)


def test_one_sample_is_the_elbo() -> None:
    model, split, truth = toy(4000, shift=0.3, scale=1.5)
    nll = importance_weighted_nll(model, split, 1, CPU, 1)
    with torch.no_grad():
        posterior = model.posterior(torch.from_numpy(split.batch(np.arange(4000))).long())
    exact = divergence(posterior, model, split)

    assert abs(float((nll - truth).mean()) - exact) < 5 * standard_error(nll)


def divergence(posterior: Posterior, model: VAE, split: Documents) -> float:
    """KL[q(z|x) || p(z|x)]: the difference between the negative ELBO and -log p(x)."""
    true = Exact()(model.encoder(torch.from_numpy(split.batch(np.arange(len(split)))).long()))
    q, p = (torch.distributions.Normal(found.mean, found.variance.sqrt()) for found in (posterior, true))

    return float(torch.distributions.kl_divergence(q, p).sum(-1).mean())


@everyone
def test_the_seed_is_all_that_matters(name: str) -> None:
    model, split = lively(build(name, dropout_in=0.5)[0]), documents(13)
    one, again, other = (importance_weighted_nll(model, split, 6, CPU, seed) for seed in (1, 1, 2))

    assert (one == again).all()
    assert (one != other).all()
    assert np.isfinite(one).all()


# -------------------------------------------------------------------------------- what is counted


def test_what_is_counted_on_three_sentences() -> None:
    """The decoder's next word is uniform on 10 words. Each word and each </s> costs log 10; <s> and z cost nothing."""
    model, _ = build("vae", words=10)
    with torch.no_grad():
        model.decoder.output.weight.zero_()
        model.head.linear.weight.zero_()
    split = Documents.of([[1, 5, 2], [1, 4, 6, 7, 2], [1, 8, 8, 2]], [0, 0, 0])
    nll = importance_weighted_nll(model, split, 7, CPU, 1)

    np.testing.assert_allclose(nll, np.array([2, 4, 3]) * math.log(10), rtol=1e-6)
    assert perplexity(nll, split) == pytest.approx(10)
    assert float(nll.mean()) == pytest.approx(3 * math.log(10))


def test_perplexity_by_hand() -> None:
    split = Documents.of([[1, 5, 2], [1, 4, 6, 7, 2], [1, 8, 8, 2]], [0, 0, 0])

    assert perplexity(np.array([3.0, 11.0, 4.0]), split) == pytest.approx(math.exp(18 / 9))
    assert perplexity(np.zeros(3), split) == 1


def test_standard_error_by_hand() -> None:
    assert standard_error(np.array([1.0, 2.0, 3.0, 6.0])) == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3 / 4))
    assert standard_error(np.array([3.0])) is None


def test_the_likelihood_of_unseen_examples_by_hand() -> None:
    nll, new = np.array([1.0, 5.0, 7.0, 9.0]), np.array([True, False, True, True])
    measured = unseen_measures(nll, new)

    assert measured["unseen"] == 3
    assert measured["nll_unseen"] == pytest.approx(17 / 3)
    assert measured["nll_unseen_stderr"] == pytest.approx(standard_error(np.array([1.0, 7.0, 9.0])))
    assert unseen_measures(nll, np.zeros(4, bool)) == {"unseen": 0, "nll_unseen": None, "nll_unseen_stderr": None}
    undefined = unseen_measures(np.full(4, np.nan), new)  # an autoencoder has no likelihood
    assert undefined == {"unseen": 3, "nll_unseen": None, "nll_unseen_stderr": None}
    assert unseen_measures(nll, np.arange(4) == 2) == {"unseen": 1, "nll_unseen": 7.0, "nll_unseen_stderr": None}
