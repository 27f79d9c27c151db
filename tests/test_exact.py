"""The exact NLL of models with a two-dimensional z, and the bias of the importance-weighted NLL."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from duvae.data.splits import Array, Documents
from duvae.errors import UserError
from duvae.metrics import exact as module
from duvae.metrics.encoding import encode
from duvae.metrics.exact import bias_curve, exact_measures, exact_nll
from duvae.metrics.likelihood import importance_weighted_nll
from duvae.metrics.statistics import standard_error
from duvae.networks.bodies import Decoder, Encoder
from duvae.objectives import ELBO
from duvae.posteriors import DiagonalGaussian
from duvae.quadrature import integrals
from duvae.vae import VAE
from family import CPU, NAMES, batch, build, documents, lively

DENSE = [name for name in NAMES if build(name)[0].posterior(batch()).density]

# ------------------------------------------------------------------------------- models whose NLL is known


def observed(x: Tensor) -> Tensor:
    """The two numbers y that the two words of each sentence stand for, shape (batch, 2)."""
    return 0.25 * (x[:, 1:3].double() - 40)


class Reader(Encoder):
    features = 2

    def forward(self, x: Tensor) -> Tensor:
        return observed(x).float()


class NearPosterior(nn.Module):
    """A Gaussian near p(z|y) for p(y|z) = N(z, noise^2 I): its mean is shifted, and its variance is scaled."""

    def __init__(self, noise: float, shift: float, scale: float) -> None:
        super().__init__()
        self.noise, self.shift, self.scale = noise, shift, scale

    def forward(self, features: Tensor) -> DiagonalGaussian:
        total = 1 + self.noise**2

        return DiagonalGaussian(
            features / total + self.shift, torch.full_like(features, self.scale * self.noise**2 / total)
        )


class Noisy(Decoder):
    """p(y|z) = N(z, noise^2 I), so that p(y) = N(0, (1 + noise^2) I)."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.noise = noise

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.distributions.Normal(z.double(), self.noise).log_prob(observed(x)).sum(-1).float()

    log_prob_samples = log_prob

    def units(self, x: Tensor) -> int:
        return len(x)

    def sample(self, z: Tensor, generator: torch.Generator | None = None, likely: bool = False) -> Tensor:
        raise AssertionError("the likelihood draws no x")


def toy(
    words: list[tuple[int, int]], noise: float, shift: float = 0.0, scale: float = 1.0
) -> tuple[VAE, Documents, Array]:
    """A model whose NLL is known, its sentences of two words, and their true NLL."""
    model = VAE(Reader(), NearPosterior(noise, shift, scale), Noisy(noise), ELBO())
    split = Documents.of([[1, *pair, 2] for pair in words], [0] * len(words))
    y = 0.25 * (np.array(words) - 40)
    total = 1 + noise**2

    return model, split, 0.5 * (y**2 / total + np.log(2 * np.pi * total)).sum(1)


def codes(model: VAE, split: Documents) -> Array:
    encoded = encode(model, split, CPU, seed=1)

    return np.stack([encoded.mean, encoded.z], 1)


NEAR = [(40, 40), (37, 45), (42, 36), (48, 41)]
FAR = [(72, 40), (10, 70)]
"""Words that stand for y = (8, 0) and (-7.5, 7.5)."""


@pytest.mark.parametrize("noise", [1.0, 0.3, 0.05])
@pytest.mark.parametrize("words", [NEAR, FAR])
def test_the_marginal_likelihood_of_a_linear_gaussian_model(words: list[tuple[int, int]], noise: float) -> None:
    """The posterior may be far from 0 or narrow. The lattice then becomes wider or finer."""
    model, split, truth = toy(words, noise)
    done: list[int] = []
    nll, twice = exact_nll(model, split, codes(model, split), 0.1, 4.0, CPU, done.append)

    np.testing.assert_allclose(nll, truth, atol=1e-4)
    assert np.abs(twice - nll).max() <= 0.01
    assert done == list(range(1, len(words) + 1))


def test_codes_that_tell_nothing_only_cost_time() -> None:
    """From codes at 0, the lattice still grows until it holds a posterior at 8."""
    model, split, truth = toy(FAR, 0.3)
    nll, _ = exact_nll(model, split, np.zeros((2, 1, 2), np.float32), 0.1, 6.5, CPU)

    np.testing.assert_allclose(nll, truth, atol=1e-4)


def test_a_lattice_that_stays_too_narrow_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    model, split, _ = toy(FAR, 0.3)
    with pytest.raises(UserError, match=r"test example 0 at the border.*Raise 'exact.halfwidth'"):
        exact_nll(model, split, np.zeros((2, 1, 2), np.float32), 0.1, 7.0, CPU)


def test_a_spacing_that_stays_too_wide_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a finer lattice, the sums with the spacing and with twice the spacing differ, and the file shows it."""
    model, split, truth = toy(NEAR, 0.1)
    fine = exact_nll(model, split, codes(model, split), 0.2, 6.5, CPU)
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    coarse = exact_nll(model, split, codes(model, split), 0.2, 6.5, CPU)

    assert abs(exact_measures(*fine, truth)["coarse_difference"] or 0) < 0.01
    assert abs(exact_measures(*coarse, truth)["coarse_difference"] or 0) > 0.1
    assert np.abs(coarse[0] - truth).max() > 0.005


def test_a_posterior_between_the_points_is_found_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A posterior much narrower than the first lattice is found on a finer one. Without finer ones, it is an error."""
    model, split, truth = toy(NEAR, 0.04)
    nll, _ = exact_nll(model, split, codes(model, split), 0.2, 6.5, CPU)
    np.testing.assert_allclose(nll, truth, atol=1e-4)
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    with pytest.raises(UserError, match=r"no point of the lattice.*Lower 'exact.spacing'"):
        exact_nll(model, split, codes(model, split), 0.2, 6.5, CPU)


def test_a_lattice_of_few_points_is_an_error() -> None:
    model, split, _ = toy(NEAR, 1.0)
    with pytest.raises(UserError, match="leaves too few points"):
        exact_nll(model, split, codes(model, split), 0.5, 6.0, CPU)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.2, 1.5)), min_size=1, max_size=3),
    st.floats(-50, 50),
)
def test_mixtures_of_gaussians_have_their_total_mass(components: list[tuple[float, float, float]], mass: float) -> None:
    """The integral of e^mass times the mean of Gaussians is e^mass, wherever they are and however wide."""

    def log_joint(index: int, z: Tensor, floor: float, precise: bool) -> tuple[Tensor, Tensor]:
        parts = [
            torch.distributions.Normal(torch.tensor([a, b], dtype=z.dtype), s).log_prob(z).sum(-1)
            for a, b, s in components
        ]
        values = torch.stack(parts).logsumexp(0) - math.log(len(parts)) + mass
        kept = torch.nonzero(values > floor)[:, 0]
        return kept, values[kept]

    own = np.array([[[a, b] for a, b, _ in components]])
    found = integrals(log_joint, own, 0.1, 12.0)

    assert found.nll[0] == pytest.approx(-mass, abs=1e-6)
    assert found.twice[0] == pytest.approx(-mass, abs=1e-6)
    assert 0 <= found.border[0] < 1e-6


def test_the_share_at_the_border_by_hand() -> None:
    """Of a standard Gaussian on the lattice from -3.2 to 3.2 with coarse cells of 0.4, the border is beyond 2.8."""

    def log_joint(index: int, z: Tensor, floor: float, precise: bool) -> tuple[Tensor, Tensor]:
        values = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        kept = torch.nonzero(values > floor)[:, 0]
        return kept, values[kept]

    found = integrals(log_joint, np.zeros((1, 1, 2)), 0.1, 3.2)
    axis = np.arange(-36, 37) * 0.1  # the cells at the border reach one coarse cell beyond it
    weights = np.exp(-0.5 * axis**2)
    inside = weights[np.abs(axis) < 2.85].sum() / weights.sum()

    assert found.border[0] == pytest.approx(1 - inside**2, rel=1e-6)


# --------------------------------------------------------------------------------- the models of the project


@pytest.mark.parametrize("name", DENSE)
def test_the_exact_nll_is_the_sum_over_another_lattice(name: str) -> None:
    """The reference sums over all points of a lattice from -7 to 7, decoded by the decoder's other method."""
    model, split = lively(build(name, latent=2, dropout_in=0.5, dropout_out=0.5)[0]), documents(3)
    model.start()
    nll, _ = exact_nll(model, split, codes(model, split), 0.15, 6.0, CPU)
    axis = torch.arange(-50, 51, dtype=torch.float64) * 0.14
    z = torch.cartesian_prod(axis, axis)
    model.eval()
    for n, value in enumerate(nll):
        x = torch.from_numpy(split.batch(np.array([n]))).expand(len(z), -1)
        with torch.no_grad():
            joint = model.decoder.log_prob(x, z.float()).double()
        joint += torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)

        assert value == pytest.approx(-float(joint.logsumexp(0)) - 2 * math.log(0.14), abs=1e-4)


# ------------------------------------------------------------------------------------------------ the bias


def test_the_bias_falls_to_zero_with_the_samples() -> None:
    """The importance-weighted NLL approaches the exact NLL from above. Its bias with K = 1 is the posterior's KL."""
    random = np.random.default_rng(1)
    words = [(int(a), int(b)) for a, b in random.integers(34, 47, (200, 2))]
    model, split, truth = toy(words, 0.6, shift=0.3, scale=1.5)
    nll, _ = exact_nll(model, split, codes(model, split), 0.2, 6.5, CPU)
    done: list[int] = []
    curve = bias_curve(model, split, nll, [1, 5, 25, 4000], CPU, 1, done.append)
    bias = [point["bias"] for point in curve]
    variance = 0.6**2 / (1 + 0.6**2)
    divergence = 2 * 0.5 * (1.5 + 0.3**2 / variance - 1 - math.log(1.5))

    np.testing.assert_allclose(nll, truth, atol=1e-4)
    assert [point["samples"] for point in curve] == [1, 5, 25, 4000]
    assert bias[0] > bias[1] > bias[2] > bias[3]
    assert abs(bias[0] - divergence) < 5 * curve[0]["bias_stderr"]
    assert abs(bias[3]) < 5 * curve[3]["bias_stderr"] < 0.05
    assert done == sorted(done)
    assert done[-1] == 200 * (1 + 5 + 25 + 4000)
    again = importance_weighted_nll(model, split, 25, CPU, 1)
    assert curve[2]["nll"] == pytest.approx(again.mean())
    assert curve[2]["bias_stderr"] == pytest.approx(standard_error(again - nll))


def test_measures_by_hand() -> None:
    found = exact_measures(np.array([1.0, 2.0, 6.0]), np.array([1.5, 2.0, 6.25]), np.array([1.0, 3.0, 8.0]))

    assert found["sentences"] == 3
    assert found["nll"] == 3.0
    assert found["nll_stderr"] == pytest.approx(math.sqrt(7 / 3))
    assert found["coarse_difference"] == 0.25
    assert found["importance_nll"] == 4.0
    assert found["bias"] == 1.0
    assert found["bias_stderr"] == pytest.approx(math.sqrt(1 / 3))
