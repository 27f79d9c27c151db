import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from duvae.posteriors import DiagonalGaussian, PointMass, Posterior, noise_like, standard_normal_log_prob

SIGMAS = 5


def numbers(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(batch: int, latent: int) -> Posterior:
    mean = torch.randn(batch, latent, generator=numbers(1), dtype=torch.float64)
    variance = torch.rand(batch, latent, generator=numbers(2), dtype=torch.float64) + 0.1

    return DiagonalGaussian(mean, variance)


def point(batch: int, latent: int) -> Posterior:
    return PointMass(torch.randn(batch, latent, generator=numbers(1), dtype=torch.float64))


Make = Callable[[int, int], Posterior]
FAMILY: dict[type[Posterior], Make] = {DiagonalGaussian: gaussian, PointMass: point}
everyone = pytest.mark.parametrize("make", FAMILY.values(), ids=[c.__name__ for c in FAMILY])
dense = pytest.mark.parametrize(
    "make", [m for c, m in FAMILY.items() if c.density], ids=[c.__name__ for c in FAMILY if c.density]
)


def grid(reach: float, points: int, latent: int, batch: int) -> tuple[Tensor, float]:
    """A lattice of z, the same for each of the batch, and the volume of its cells."""
    axis = torch.linspace(-reach, reach, points, dtype=torch.float64)
    z = torch.cartesian_prod(*latent * [axis]).view(-1, 1, latent)

    return z.expand(-1, batch, -1), float(axis[1] - axis[0]) ** latent


def test_every_posterior_is_tested_here() -> None:
    assert {c for c in Posterior.__subclasses__() if c.__module__ == "duvae.posteriors"} == set(FAMILY)


@everyone
@pytest.mark.parametrize("samples", [(), (1,), (5,), (2, 3)])
def test_shapes(make: Make, samples: tuple[int, ...]) -> None:
    posterior = make(4, 3)
    z = posterior.rsample(samples, numbers(3))

    assert z.shape == (*samples, 4, 3)
    assert posterior.kl(posterior.draw()).shape == (4, 3)
    assert len(posterior.features()) == 4
    assert posterior.mean.shape == (4, 3)
    if posterior.density:
        assert posterior.log_prob(z).shape == (*samples, 4)
    else:
        with pytest.raises(ValueError, match="no density"):
            posterior.log_prob(z)


@everyone
def test_a_generator_determines_the_samples(make: Make) -> None:
    posterior = make(4, 3)
    one, again, other = (posterior.rsample((7,), numbers(seed)) for seed in (3, 3, 4))

    assert torch.equal(one, again)
    assert torch.equal(one, other) != posterior.density


@dense
@pytest.mark.parametrize(("latent", "reach", "points"), [(1, 12, 6001), (2, 8, 401)])
def test_densities_integrate_to_one(make: Make, latent: int, reach: float, points: int) -> None:
    posterior = make(4, latent)
    z, cell = grid(reach, points, latent, 4)

    assert torch.allclose(posterior.log_prob(z).exp().sum(0) * cell, torch.ones(4, dtype=torch.float64), atol=1e-7)


@pytest.mark.parametrize(("latent", "reach", "points"), [(1, 12, 6001), (2, 8, 401)])
def test_the_prior_integrates_to_one(latent: int, reach: float, points: int) -> None:
    z, cell = grid(reach, points, latent, 1)

    assert float(standard_normal_log_prob(z).exp().sum()) * cell == pytest.approx(1, abs=1e-7)


@dense
def test_kl_is_the_integral(make: Make) -> None:
    posterior = make(4, 1)
    z, cell = grid(12, 6001, 1, 4)
    q, p = posterior.log_prob(z), standard_normal_log_prob(z)
    integral = (q.exp() * (q - p)).sum(0) * cell

    assert torch.allclose(posterior.kl(posterior.draw()).sum(-1), integral, atol=1e-7)


@dense
def test_kl_is_the_mean_over_samples(make: Make) -> None:
    """Within five standard errors of 20,000 samples, about 0.05 nats."""
    posterior, draws = make(4, 3), 20_000
    z = posterior.rsample((draws,), numbers(5))
    ratio = posterior.log_prob(z) - standard_normal_log_prob(z)
    error = ratio.std(0) / math.sqrt(draws)
    kl = torch.stack([posterior.kl(posterior.draw(generator=numbers(n))).sum(-1) for n in range(100)]).mean(0)

    assert (error < 0.02).all()
    assert ((ratio.mean(0) - kl).abs() < SIGMAS * error).all()


@dense
def test_samples_follow_the_density(make: Make) -> None:
    """The share of the samples in an interval is the density's integral over it."""
    posterior, draws = make(3, 1), 40_000
    samples = posterior.rsample((draws,), numbers(6))[..., 0]
    z, cell = grid(12, 6001, 1, 3)
    density = posterior.log_prob(z).exp()
    for low, high in [(-9, -0.5), (-0.5, 0.3), (0.3, 0.8), (0.8, 9)]:
        inside = (z[..., 0] > low) & (z[..., 0] <= high)
        share = (density * inside).sum(0) * cell
        error = (share * (1 - share) / draws).sqrt() + 1e-3  # the ends of the interval between two points

        assert (((samples > low) & (samples <= high)).double().mean(0) - share).abs().lt(SIGMAS * error).all()


@dense
def test_entropy_is_the_integral_of_its_log_density(make: Make) -> None:
    posterior = make(4, 1)
    z, cell = grid(12, 6001, 1, 4)
    q = posterior.log_prob(z)
    entropy = -(q.exp() * q).sum(0) * cell
    samples = posterior.rsample((20_000,), numbers(7))
    estimate = -posterior.log_prob(samples)

    assert ((estimate.mean(0) - entropy).abs() < SIGMAS * estimate.std(0) / math.sqrt(20_000)).all()
    if isinstance(posterior, DiagonalGaussian):
        assert torch.allclose(entropy, 0.5 * (2 * math.pi * math.e * posterior.variance[:, 0]).log(), atol=1e-7)


arrays = hnp.arrays(np.float64, (3, 2), elements=st.floats(-6, 6))


@given(arrays, arrays, arrays)
def test_a_gaussian_is_pytorchs(mean: np.ndarray, log_variance: np.ndarray, z: np.ndarray) -> None:
    mu, var, at = torch.from_numpy(mean), torch.from_numpy(log_variance).exp(), torch.from_numpy(z)
    posterior, plain = DiagonalGaussian(mu, var), Normal(mu, var.sqrt())

    assert torch.allclose(posterior.log_prob(at), plain.log_prob(at).sum(-1))
    assert torch.allclose(posterior.kl(), kl_divergence(plain, Normal(torch.zeros(2), torch.ones(2)).expand((3, 2))))
    assert torch.allclose(standard_normal_log_prob(at), Normal(0, 1).log_prob(at).sum(-1))
    assert (posterior.kl() >= -1e-12).all()


def test_a_gaussian_that_is_the_prior_has_no_kl() -> None:
    assert torch.equal(DiagonalGaussian(torch.zeros(2, 3), torch.ones(2, 3)).kl(), torch.zeros(2, 3))


def test_gradients_of_a_gaussian_sample() -> None:
    """z = mu + delta epsilon: dz/dmu = 1, dz/d delta^2 = epsilon / (2 delta)."""
    mean = torch.randn(4, 3, generator=numbers(1), requires_grad=True)
    variance = (torch.rand(4, 3, generator=numbers(2)) + 0.1).requires_grad_()
    DiagonalGaussian(mean, variance).rsample(generator=numbers(3)).sum().backward()
    epsilon = noise_like(mean, generator=numbers(3))

    assert torch.equal(mean.grad, torch.ones(4, 3))
    assert torch.allclose(variance.grad, epsilon / (2 * variance.detach().sqrt()))


def test_a_point_mass_is_one_point() -> None:
    mean = torch.randn(4, 3, requires_grad=True)
    posterior = PointMass(mean)

    assert torch.equal(posterior.rsample((5,)), mean.expand(5, 4, 3))
    assert torch.equal(posterior.features(), mean)
    assert torch.equal(posterior.kl(), torch.zeros(4, 3))
    posterior.rsample((5,)).sum().backward()
    assert torch.equal(mean.grad, torch.full((4, 3), 5.0))
