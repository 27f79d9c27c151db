"""The objectives (training losses) of the systems, and the schedules of the KL weight."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duvae.objectives import ELBO, Context, Duration, FreeBits, MutualDivergence, Objective, Warmup, pairwise_kl
from duvae.posteriors import DiagonalGaussian, PointMass
from family import NAMES, build

everyone = pytest.mark.parametrize("system", NAMES)


def gaussian(batch: int = 5, latent: int = 3) -> DiagonalGaussian:
    torch.manual_seed(1)

    return DiagonalGaussian(torch.randn(batch, latent), torch.rand(batch, latent) + 0.2)


@given(st.floats(0, 1))
def test_the_elbo_is_equation_1(weight: float) -> None:
    posterior, reconstruction = gaussian(), torch.rand(5)
    loss = ELBO()(Context(reconstruction, posterior, posterior.draw(), weight))
    kl = 0.5 * (posterior.mean**2 + posterior.variance - 1 - posterior.variance.log()).sum(1)

    assert torch.allclose(loss.total, reconstruction + weight * kl)
    assert torch.equal(loss.reconstruction, reconstruction)
    assert torch.allclose(loss.kl, kl)


def test_the_elbo_of_a_point_mass_is_its_reconstruction() -> None:
    posterior, reconstruction = PointMass(torch.randn(5, 3)), torch.rand(5)
    loss = ELBO()(Context(reconstruction, posterior, posterior.draw(), 1.0))

    assert torch.equal(loss.total, reconstruction)
    assert torch.equal(loss.kl, torch.zeros(5))


@given(st.floats(0.01, 2), st.floats(0, 1))
def test_free_bits_are_paid_by_no_dimension_under_lambda(free_bits: float, weight: float) -> None:
    """The KL term equals the sum over dimensions of max(lambda, mean KL), computed in Python.

    Lambda is the free KL of each dimension, in nats. The gradient of the KL term is exactly 0 in the dimensions whose
    mean KL over the batch lies under lambda.
    """
    mean = gaussian(latent=6).mean.requires_grad_()
    posterior, reconstruction = DiagonalGaussian(mean, gaussian(latent=6).variance), torch.rand(5)
    loss = FreeBits(free_bits)(Context(reconstruction, posterior, posterior.draw(), weight))
    kl = posterior.kl()
    by_dimension = [max(free_bits, float(column.mean())) for column in kl.detach().T]

    assert torch.allclose(loss.total - reconstruction, torch.full((5,), weight * sum(by_dimension)), atol=1e-5)
    assert torch.allclose(loss.kl, kl.sum(1))
    loss.total.mean().backward()
    free = kl.mean(0) < free_bits
    assert (mean.grad[:, free] == 0).all()
    assert torch.allclose(mean.grad[:, ~free], weight * mean.detach()[:, ~free] / 5, atol=1e-6)


@everyone
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_every_objective_reports_the_unweighted_parts(system: str, weight: float) -> None:
    objective: Objective = build(system)[1].objective()
    posterior, reconstruction = gaussian(), torch.rand(5)
    drawn = posterior.draw()
    loss = objective(Context(reconstruction, posterior, drawn, weight))

    assert loss.total.shape == (5,)
    assert torch.equal(loss.reconstruction, reconstruction)
    assert torch.allclose(loss.kl, posterior.kl(drawn).sum(-1))


@given(st.floats(0.01, 3), st.integers(0, 1000))
def test_free_bits_cost_lambda_and_push_nowhere(free_bits: float, seed: int) -> None:
    """Each dimension whose mean KL lies under lambda costs lambda. Only in these dimensions is the gradient 0."""
    torch.manual_seed(seed)
    mean, log_variance = torch.randn(6, 8).mul_(0.5).requires_grad_(), torch.randn(6, 8).mul_(0.5).requires_grad_()
    posterior = DiagonalGaussian(mean, log_variance.exp())
    loss = FreeBits(free_bits)(Context(torch.zeros(6), posterior, posterior.draw(), 0.7))
    loss.total.mean().backward()
    of_dimension = posterior.kl().detach().mean(0)
    under = of_dimension < free_bits

    assert torch.allclose(loss.total, 0.7 * torch.where(under, free_bits, of_dimension).sum())
    for leaf in (mean, log_variance):
        assert torch.equal(leaf.grad.abs().amax(0) == 0, under)


def divergence(one: DiagonalGaussian, i: int, j: int) -> torch.Tensor:
    p, q = (torch.distributions.Normal(one.mean[n], one.variance[n].sqrt()) for n in (i, j))

    return torch.distributions.kl_divergence(p, q)


@given(st.integers(2, 7), st.floats(0.1, 3), st.floats(0, 2), st.floats(0, 1))
def test_maes_terms_are_those_of_all_pairs_one_by_one(batch: int, gamma: float, eta: float, weight: float) -> None:
    posterior, reconstruction = gaussian(batch), torch.rand(batch)
    loss = MutualDivergence(gamma, eta)(Context(reconstruction, posterior, posterior.draw(), weight))
    pairs = torch.stack([divergence(posterior, i, j) for i in range(batch) for j in range(batch) if i != j])
    mpd, whole = pairs.mean(0), pairs.sum(1)
    diversity = -torch.log(1 / (1 + torch.exp(-mpd))).sum()
    smoothness = (whole - whole.mean()).square().mean().sqrt()
    elbo = reconstruction + weight * posterior.kl().sum(-1)

    assert torch.allclose(pairwise_kl(posterior.mean, posterior.variance), pairs, atol=1e-5)
    assert torch.allclose(loss.total, elbo + gamma * diversity + eta * smoothness, rtol=1e-4)


def test_mae_has_a_finite_gradient_where_all_posteriors_are_alike_and_no_pairs_in_a_batch_of_one() -> None:
    mean = torch.zeros(4, 3, requires_grad=True)
    posterior = DiagonalGaussian(mean, torch.ones(4, 3))
    MutualDivergence(1.0, 0.2)(Context(torch.zeros(4), posterior, posterior.draw(), 1.0)).total.mean().backward()
    alone = DiagonalGaussian(torch.ones(1, 3), torch.ones(1, 3))
    loss = MutualDivergence(1.0, 0.2)(Context(torch.zeros(1), alone, alone.draw(), 1.0))

    assert torch.isfinite(mean.grad).all()
    assert torch.equal(loss.total, loss.kl)


def test_a_warm_up_that_ends_at_beta() -> None:
    weight = Warmup(4, end=0.4)

    assert [weight(step) for step in range(6)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.4])


@given(st.integers(1, 500), st.floats(0, 0.9))
def test_the_warm_up_is_linear_and_ends(steps: int, start: float) -> None:
    weight = Warmup(steps, start)
    weights = [weight(step) for step in range(steps + 3)]
    differences = [b - a for a, b in pairwise(weights)][:steps]

    assert weights[0] == start
    assert weights[steps:] == [1.0] * 3
    assert differences == pytest.approx([(1 - start) / steps] * steps, abs=1e-12)
    assert weights[steps - 1] < 1


def test_no_warm_up() -> None:
    assert [Warmup(0)(step) for step in (0, 1, 10)] == [1.0, 1.0, 1.0]


@everyone
@pytest.mark.parametrize("warmup", [0, 1, 40])
def test_every_schedule_reaches_its_greatest_weight_and_depends_on_the_step_alone(system: str, warmup: int) -> None:
    schedules = [build(system)[1].schedule(Duration(warmup, 10, 100)) for _ in range(2)]
    weights = [schedules[0](step) for step in range(100)]

    assert all(0 <= weight <= weights[-1] for weight in weights)
    assert weights == [schedules[1](step) for step in reversed(range(100))][::-1]
    if isinstance(schedules[0], Warmup):
        assert len(set(weights[warmup:])) == 1
        assert all(weight < weights[-1] for weight in weights[:warmup])


def test_the_context_draws_the_prior_from_its_generator() -> None:
    posterior, reconstruction = gaussian(4000), torch.rand(4000)
    contexts = [
        Context(reconstruction, posterior, posterior.draw(), 1.0, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    before = torch.get_rng_state()
    one, again, other = (context.draw_prior() for context in contexts)

    assert one.shape == (4000, 3)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, contexts[0].draw_prior())  # the same context draws new samples at each call
    assert torch.equal(before, torch.get_rng_state())
    assert torch.allclose(one.mean(0), torch.zeros(3), atol=0.1)
    assert torch.allclose(one.var(0), torch.ones(3), atol=0.1)
