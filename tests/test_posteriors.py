"""The posteriors: Gaussians, point masses and flows. The tests check densities, samples, KL, entropy and gradients."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from duvae.metrics.geometry import conditional_entropy, mutual_posterior_diversity
from duvae.metrics.transformed import estimates
from duvae.networks.made import IAFChain
from duvae.posteriors import (
    DiagonalGaussian,
    InverseAutoregressiveFlow,
    PointMass,
    Posterior,
    joined,
    noise_like,
    normal_log_probs,
    standard_normal_log_prob,
)

SIGMAS = 5


def numbers(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(batch: int, latent: int) -> Posterior:
    mean = torch.randn(batch, latent, generator=numbers(1), dtype=torch.float64)
    variance = torch.rand(batch, latent, generator=numbers(2), dtype=torch.float64) + 0.1

    return DiagonalGaussian(mean, variance)


def point(batch: int, latent: int) -> Posterior:
    return PointMass(torch.randn(batch, latent, generator=numbers(1), dtype=torch.float64))


def flow(batch: int, latent: int, seed: int = 1, blocks: int = 2) -> InverseAutoregressiveFlow:
    """A flow posterior whose chain is far from the identity. Each x has its own context h, an input of the chain."""
    torch.manual_seed(seed)
    base = gaussian(batch, latent)
    chain = IAFChain(latent, 2, 8, blocks).double().requires_grad_(False)
    for parameter in chain.parameters():
        parameter.mul_(1.5)

    return InverseAutoregressiveFlow(base.mean, base.variance, torch.randn(batch, 2, dtype=torch.float64), chain)


Make = Callable[[int, int], Posterior]
FAMILY: dict[type[Posterior], Make] = {
    DiagonalGaussian: gaussian,
    PointMass: point,
    InverseAutoregressiveFlow: flow,
}
everyone = pytest.mark.parametrize("make", FAMILY.values(), ids=[c.__name__ for c in FAMILY])
dense = pytest.mark.parametrize(
    "make", [m for c, m in FAMILY.items() if c.density], ids=[c.__name__ for c in FAMILY if c.density]
)


def grid(reach: float, points: int, latent: int, batch: int) -> tuple[Tensor, float]:
    """Makes a lattice of z, which is the same for each posterior of a batch.

    Returns:
        The points z, shape (points^latent, batch, latent), and the volume of one cell.
    """
    axis = torch.linspace(-reach, reach, points, dtype=torch.float64)
    z = torch.cartesian_prod(*latent * [axis]).view(-1, 1, latent)

    return z.expand(-1, batch, -1), float(axis[1] - axis[0]) ** latent


def exact(posterior: Posterior) -> bool:
    """Whether a posterior's method `kl` is exact, that is, has the same value for two different samples of z."""
    one, other = (posterior.kl(posterior.draw(generator=numbers(seed))) for seed in (1, 2))

    return torch.equal(one, other)


def mean_kl(posterior: Posterior, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    """Estimates a posterior's KL, summed over dimensions, from samples of z.

    Returns:
        The mean over `draws` samples and its standard error, each of shape (batch,).
    """
    kl = torch.stack([posterior.kl(posterior.draw(generator=numbers(seed + n))).sum(-1) for n in range(draws)])

    return kl.mean(0), kl.std(0) / math.sqrt(draws)


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

    kl, error = mean_kl(posterior, 2 if exact(posterior) else 2000, 100)

    assert (error < 0.05).all()
    assert ((kl - integral).abs() < SIGMAS * error + 1e-7).all()


@dense
def test_kl_is_the_mean_over_samples(make: Make) -> None:
    """The KL agrees with the mean of log q(z|x) - log p(z) over 20,000 samples.

    They differ by at most five standard errors. A standard error of the samples is under 0.02 nats.
    """
    posterior, draws = make(4, 3), 20_000
    z = posterior.rsample((draws,), numbers(5))
    ratio = posterior.log_prob(z) - standard_normal_log_prob(z)
    error = ratio.std(0) / math.sqrt(draws)
    kl, of_kl = mean_kl(posterior, 2 if exact(posterior) else 2000, 100)

    assert (error < 0.02).all()
    assert ((ratio.mean(0) - kl).abs() < SIGMAS * (error + of_kl)).all()


@dense
@pytest.mark.parametrize("samples", [(), (5,), (2, 3)])
def test_the_density_of_what_was_drawn_is_that_of_any_z(make: Make, samples: tuple[int, ...]) -> None:
    posterior = make(4, 3)
    drawn = posterior.draw(samples, numbers(3))

    assert torch.allclose(posterior.log_prob_drawn(drawn), posterior.log_prob(drawn.z))
    if drawn.log_prob is not None:
        assert drawn.log_prob.shape == drawn.z.shape


@everyone
def test_some_of_them_and_all_of_several_batches(make: Make) -> None:
    posterior = make(5, 3)
    chosen = torch.tensor([3, 0, 0])
    some, again = posterior.of(chosen), joined([posterior.of(torch.arange(2)), posterior.of(torch.arange(2, 5))])

    assert torch.equal(some.mean, posterior.mean[chosen])
    assert torch.allclose(some.features(), posterior.features()[chosen])
    assert torch.allclose(again.rsample((3,), numbers(1)), posterior.rsample((3,), numbers(1)))
    if posterior.density:
        z = posterior.rsample((), numbers(1))
        assert torch.allclose(some.log_prob(z[chosen]), posterior.log_prob(z)[chosen])


@dense
def test_samples_follow_the_density(make: Make) -> None:
    """The share of the samples in an interval equals the integral of the density over the interval."""
    posterior, draws = make(3, 1), 40_000
    samples = posterior.rsample((draws,), numbers(6))[..., 0]
    z, cell = grid(12, 6001, 1, 3)
    density = posterior.log_prob(z).exp()
    for low, high in [(-9, -0.5), (-0.5, 0.3), (0.3, 0.8), (0.8, 9)]:
        inside = (z[..., 0] > low) & (z[..., 0] <= high)
        share = (density * inside).sum(0) * cell
        error = (share * (1 - share) / draws).sqrt() + 1e-3  # an interval's end may lie between two points

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
    """The gradients of z = mu + delta epsilon are dz/dmu = 1 and dz/d delta^2 = epsilon / (2 delta)."""
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


# ------------------------------------------------------------- flows: supplement D of the paper


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 10_000))
@settings(max_examples=30)
def test_a_flow_is_more_certain_than_its_base(latent: int, blocks: int, seed: int) -> None:
    """Equation S25 of the paper's supplement: H(z^0|x) > H(z^T|x) for a flow from z^0 to z^T.

    The reason is that log q(z^T|x) - log q(z^0|x) = -sum log sigma > 0 for each sample.
    """
    posterior = flow(3, latent, seed, blocks)
    noise = noise_like(posterior.mean, (50,), numbers(seed))
    before = normal_log_probs(
        posterior.mean + posterior.variance.sqrt() * noise, posterior.mean, posterior.variance
    ).sum(-1)
    after = posterior.log_prob(posterior.rsample((50,), numbers(seed)))

    assert (after > before).all()


@pytest.mark.parametrize("latent", [1, 3])
def test_the_entropy_of_a_flow(latent: int) -> None:
    """Equation S23: H(z^T|x) = H(z^0|x) + E sum_d,t log sigma^t_d. The two sides use different samples."""
    posterior, draws = flow(4, latent), 20_000
    start = posterior.mean + posterior.variance.sqrt() * noise_like(posterior.mean, (draws,), numbers(8))
    log_sigma = posterior.chain(start, posterior.context)[1].sum(-1)
    base = 0.5 * (2 * math.pi * math.e * posterior.variance).log().sum(-1)
    surprise = -posterior.log_prob(posterior.rsample((draws,), numbers(9)))
    error = (surprise.var(0) + log_sigma.var(0)).div(draws).sqrt()

    assert (log_sigma.mean(0) < -0.2).all()
    assert (error < 0.02).all()
    assert ((surprise.mean(0) - base - log_sigma.mean(0)).abs() < SIGMAS * error).all()


def test_the_entropy_of_a_flow_of_one_dimension_is_its_integral() -> None:
    """With one dimension, sigma depends on the context h alone, so the expectation in S23 needs no samples."""
    posterior = flow(4, 1)
    z, cell = grid(12, 6001, 1, 4)
    q = posterior.log_prob(z)
    log_sigma = posterior.chain(posterior.mean, posterior.context)[1][:, 0]
    base = 0.5 * (2 * math.pi * math.e * posterior.variance[:, 0]).log()

    assert torch.allclose(-(q.exp() * q).sum(0) * cell, base + log_sigma, atol=1e-7)
    assert log_sigma.unique().numel() == 4


@pytest.mark.parametrize("latent", [1, 3])
def test_a_chain_that_ignores_h_leaves_the_diversity_as_it_is(latent: int) -> None:
    """Equation S28: MPD[z^0] = MPD[z^T] if the chain ignores the context h, for each pair (S26) and on average.

    The next test shows that the two differ if the chain uses h.
    """
    posterior = flow(40, latent)
    exactly = mutual_posterior_diversity(posterior.mean.numpy(), posterior.variance.numpy())
    for block in posterior.chain.blocks:
        block.made.of_context.weight.zero_()
    noise = noise_like(posterior.mean, (7,), numbers(1))
    start = posterior.mean + posterior.variance.sqrt() * noise
    z = posterior.rsample((7,), numbers(1))
    for shift in (1, 2, 3):
        other = posterior.of(torch.arange(40).roll(shift))
        ratio = posterior.log_prob(z) - other.log_prob(z)
        plain = normal_log_probs(start, posterior.mean, posterior.variance) - normal_log_probs(
            start, other.mean, other.variance
        )
        assert torch.allclose(ratio, plain.sum(-1), atol=1e-6)
    mpd, _ = estimates(posterior, 1, rounds=200)
    error = mpd.std(ddof=1) / math.sqrt(200)

    assert error < 0.05 * exactly
    assert abs(mpd.mean() - exactly) < SIGMAS * error


def test_a_chain_that_knows_h_changes_the_diversity() -> None:
    """If the chain uses the context h, the posteriors of z^T differ although all posteriors of z^0 are equal."""
    made = flow(40, 3)
    mean, variance = made.mean[:1].expand(40, -1), made.variance[:1].expand(40, -1)
    posterior = InverseAutoregressiveFlow(mean, variance, made.context, made.chain)
    mpd, ce = estimates(posterior, 1, rounds=200)

    assert mutual_posterior_diversity(mean.numpy(), variance.numpy()) == pytest.approx(0, abs=1e-12)
    assert mpd.mean() > 10 * mpd.std(ddof=1) / math.sqrt(200)
    assert ce.mean() < conditional_entropy(posterior.variance.numpy()) - 10 * ce.std(ddof=1) / math.sqrt(200)


def test_features_of_a_flow_are_the_mean_of_z0_and_what_becomes_of_it() -> None:
    posterior = flow(4, 3)
    without = InverseAutoregressiveFlow(
        posterior.mean, torch.full_like(posterior.variance, 1e-18), posterior.context, posterior.chain
    )

    assert torch.equal(posterior.features()[:, :3], posterior.mean)
    assert torch.allclose(posterior.features()[:, 3:], without.rsample(), atol=1e-7)


def test_gradients_reach_all_that_a_flow_is_made_of() -> None:
    made = flow(4, 3)
    parts = [made.mean, made.variance, made.context, *made.chain.parameters()]
    for part in parts:
        part.requires_grad_()
    drawn = made.draw(generator=numbers(3))
    made.kl(drawn).sum().backward()

    assert all(part.grad is not None and part.grad.abs().max() > 0 for part in parts)
    assert torch.autograd.gradcheck(
        lambda *parts: made.__class__(*parts, made.chain).log_prob(drawn.z.detach()), parts[:3]
    )
