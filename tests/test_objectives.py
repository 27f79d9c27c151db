from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duvae.objectives import ELBO, FreeBits, Objective, Warmup
from duvae.posteriors import DiagonalGaussian, PointMass
from family import NAMES, build

everyone = pytest.mark.parametrize("system", NAMES)


def gaussian(batch: int = 5, latent: int = 3) -> DiagonalGaussian:
    torch.manual_seed(1)

    return DiagonalGaussian(torch.randn(batch, latent), torch.rand(batch, latent) + 0.2)


@given(st.floats(0, 1))
def test_the_elbo_is_equation_1(weight: float) -> None:
    posterior, reconstruction = gaussian(), torch.rand(5)
    loss = ELBO()(reconstruction, posterior, posterior.draw(), weight)
    kl = 0.5 * (posterior.mean**2 + posterior.variance - 1 - posterior.variance.log()).sum(1)

    assert torch.allclose(loss.total, reconstruction + weight * kl)
    assert torch.equal(loss.reconstruction, reconstruction)
    assert torch.allclose(loss.kl, kl)


def test_the_elbo_of_a_point_mass_is_its_reconstruction() -> None:
    posterior, reconstruction = PointMass(torch.randn(5, 3)), torch.rand(5)
    loss = ELBO()(reconstruction, posterior, posterior.draw(), 1.0)

    assert torch.equal(loss.total, reconstruction)
    assert torch.equal(loss.kl, torch.zeros(5))


@given(st.floats(0.01, 2), st.floats(0, 1))
def test_free_bits_are_paid_by_no_dimension_under_lambda(free_bits: float, weight: float) -> None:
    """The KL term by hand, and its gradient: exactly 0 in the dimensions whose mean KL lies under lambda."""
    mean = gaussian(latent=6).mean.requires_grad_()
    posterior, reconstruction = DiagonalGaussian(mean, gaussian(latent=6).variance), torch.rand(5)
    loss = FreeBits(free_bits)(reconstruction, posterior, posterior.draw(), weight)
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
    loss = objective(reconstruction, posterior, drawn, weight)

    assert loss.total.shape == (5,)
    assert torch.equal(loss.reconstruction, reconstruction)
    assert torch.allclose(loss.kl, posterior.kl(drawn).sum(-1))


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
@pytest.mark.parametrize("steps", [0, 1, 40])
def test_every_schedule_reaches_its_last_weight_with_the_step_after_the_warm_up(system: str, steps: int) -> None:
    weight = build(system)[1].schedule(steps)

    assert len({weight(step) for step in range(steps, steps + 100)}) == 1
    assert all(0 <= weight(step) < weight(steps) for step in range(steps))
