"""The regularizers of the posterior's means and variances, against the paper's equations.

The committed rate of delta-VAE is the smallest KL divergence that a dimension may have.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import lambertw
from torch import nn

from duvae.metrics.geometry import conditional_entropy
from duvae.posteriors import DiagonalGaussian
from duvae.regularizers import (
    ALPHA,
    LARGEST_LOG_VARIANCE,
    CommittedRate,
    MeanBatchNorm,
    VarianceDropout,
    VarianceFloor,
    bounded,
)
from duvae.vae import FlowHead, GaussianHead

SIGMAS = 5


# ------------------------------------------------------------------- batch normalization on the means


@pytest.mark.parametrize("learn", [True, False])
def test_equation_9(learn: bool) -> None:
    torch.manual_seed(1)
    normalize = MeanBatchNorm(3, gamma=0.6, learn_scale=learn, epsilon=1e-3)
    mean = torch.randn(16, 3) * torch.tensor([0.1, 1.0, 7.0]) + 2
    with torch.no_grad():
        normalize.shift.copy_(torch.tensor([0.5, 0.0, -1.0]))
        if learn:
            normalize.scale.copy_(torch.tensor([0.1, -0.4, 1.1]))
    batch_mean, batch_variance = mean.mean(0), mean.var(0, unbiased=False)
    expected = normalize.scale * (mean - batch_mean) / (batch_variance + 1e-3).sqrt() + normalize.shift

    assert torch.allclose(normalize(mean), expected, atol=1e-5)
    assert torch.allclose(normalize.running_mean, 0.1 * batch_mean)
    assert torch.allclose(normalize.running_variance, 0.9 + 0.1 * mean.var(0))

    normalize.eval()
    running = (normalize.running_variance + 1e-3).sqrt()
    expected = normalize.scale * (mean - normalize.running_mean) / running + normalize.shift
    assert torch.allclose(normalize(mean), expected, atol=1e-5)


def test_it_is_pytorchs_layer() -> None:
    torch.manual_seed(1)
    ours, theirs = MeanBatchNorm(4, gamma=1.0), nn.BatchNorm1d(4)
    for _ in range(5):
        mean = torch.randn(9, 4)
        assert torch.allclose(ours(mean), theirs(mean), atol=1e-6)
    ours.eval()
    theirs.eval()
    assert torch.allclose(ours(mean), theirs(mean), atol=1e-6)


@given(st.integers(2, 12), st.floats(0.1, 3), st.integers(0, 2**31 - 1))
@settings(max_examples=30)
def test_the_batchs_means_have_the_moments_beta_and_gamma(batch: int, gamma: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    normalize = MeanBatchNorm(5, gamma, epsilon=1e-12).double()
    normalized = normalize(torch.randn(batch, 5, generator=generator, dtype=torch.float64))

    assert torch.allclose(normalized.mean(0), torch.zeros(5, dtype=torch.float64), atol=1e-7)
    assert torch.allclose(normalized.var(0, unbiased=False).sqrt(), torch.tensor(gamma, dtype=torch.float64), rtol=1e-4)


@pytest.mark.parametrize("learn", [True, False])
def test_evaluation_and_a_batch_of_one_leave_the_running_statistics(learn: bool) -> None:
    torch.manual_seed(1)
    normalize = MeanBatchNorm(3, gamma=0.6, learn_scale=learn)
    normalize(torch.randn(16, 3) + 1)
    before = {name: value.clone() for name, value in normalize.state_dict().items()}
    lone = torch.randn(1, 3)
    in_training = normalize(lone)
    normalize.eval()
    in_evaluation = normalize(lone)
    normalize(torch.randn(16, 3))

    assert torch.equal(in_training, in_evaluation)
    assert torch.isfinite(in_training).all()
    assert all(torch.equal(value, before[name]) for name, value in normalize.state_dict().items())


@given(hnp.arrays(np.float64, 6, elements=st.floats(-4, 4)), st.floats(0.1, 3))
def test_rescaling_keeps_the_mean_square_and_the_proportions(scale: np.ndarray, gamma: float) -> None:
    """The method `rescale_`, line 9 of the paper's Algorithm 1, multiplies all gamma_d by one factor."""
    scale[0] = 1.0
    normalize = MeanBatchNorm(6, gamma)
    with torch.no_grad():
        normalize.scale.copy_(torch.from_numpy(scale))
    normalize.rescale_()
    rescaled = normalize.scale.detach().double().numpy()

    assert np.mean(rescaled**2) == pytest.approx(gamma**2, rel=1e-6)
    np.testing.assert_allclose(rescaled, rescaled[0] * scale, rtol=1e-5, atol=1e-30)
    assert normalize.scale.requires_grad
    assert normalize.scale.grad is None


def test_a_fixed_scale_is_no_parameter_and_is_not_rescaled() -> None:
    normalize = MeanBatchNorm(6, 0.6, learn_scale=False)
    normalize.rescale_()

    assert {name for name, _ in normalize.named_parameters()} == {"shift"}
    assert "scale" in dict(normalize.named_buffers())
    assert torch.equal(normalize.scale, torch.full((6,), 0.6))
    assert torch.equal(normalize.shift, torch.zeros(6))


@pytest.mark.parametrize("gamma", [0.0, -1.0, math.nan])
def test_gamma_is_above_zero(gamma: float) -> None:
    with pytest.raises(ValueError, match="gamma must be above 0"):
        MeanBatchNorm(2, gamma)


# --------------------------------------------------------------------------------- variance floor


def test_alpha_is_the_variance_of_zero_entropy() -> None:
    assert 0.5 * math.log(2 * math.pi * math.e * ALPHA) == pytest.approx(0, abs=1e-12)
    assert conditional_entropy(np.full((3, 4), ALPHA)) == pytest.approx(0, abs=1e-12)


@given(hnp.arrays(np.float32, (3, 2), elements=st.floats(np.float32(1e-4), 4, width=32)))
def test_the_floor_makes_entropies_positive_whenever_it_has_started(variance: np.ndarray) -> None:
    floor, incoming = VarianceFloor(started=False), torch.from_numpy(variance)

    assert torch.equal(floor(incoming), incoming)
    floor.start()
    for training in (True, False):
        floor.train(training)
        assert torch.equal(floor(incoming), incoming + ALPHA)
        assert conditional_entropy(floor(incoming).numpy()) > 0


# ------------------------------------------------------------------------------- variance dropout


def test_each_variance_is_dropped_on_its_own() -> None:
    torch.manual_seed(1)
    p, shape = 0.8, (4000, 5)
    kept = (VarianceDropout(p)(torch.ones(shape)) > ALPHA).double()
    error = math.sqrt(p * (1 - p) / shape[0])

    assert ((kept.mean(0) - p).abs() < SIGMAS * error).all()
    together = torch.corrcoef(kept.T) - torch.eye(5)
    assert together.abs().max() < SIGMAS / math.sqrt(shape[0])


def test_dropout_acts_in_training_once_started() -> None:
    variance = torch.rand(50, 4) + ALPHA
    drop = VarianceDropout(0.5, started=False)

    assert torch.equal(drop(variance), variance)
    drop.start()
    assert not torch.equal(drop(variance), variance)
    drop.eval()
    assert torch.equal(drop(variance), variance)


def test_keeping_everything_changes_nothing() -> None:
    variance = torch.rand(50, 4) + ALPHA

    assert torch.allclose(VarianceDropout(1.0)(variance), variance)


def test_gradients_reach_what_is_kept_times_one_over_p() -> None:
    torch.manual_seed(1)
    variance = (torch.rand(50, 4) + ALPHA).requires_grad_()
    made = VarianceDropout(0.5)(variance)
    made.sum().backward()

    assert torch.equal(variance.grad, torch.where(made > 1.1 * ALPHA, 2.0, 0.0))
    assert 0 < (variance.grad == 0).sum() < 200


@pytest.mark.parametrize("p", [0.0, -0.1, 1.01, math.nan])
def test_p_is_a_probability_to_keep(p: float) -> None:
    with pytest.raises(ValueError, match="probability to keep"):
        VarianceDropout(p)


# ----------------------------------------------------------------------------------- committed rate


numbers = hnp.arrays(np.float64, (4, 2), elements=st.floats(-40, 40))


@given(st.floats(1e-3, 3), numbers, numbers)
def test_no_dimension_has_a_kl_under_delta(delta: float, m: np.ndarray, s: np.ndarray) -> None:
    mean, variance = CommittedRate(delta)(torch.from_numpy(m), torch.from_numpy(s))
    kl = DiagonalGaussian(mean, variance).kl()

    assert (kl >= delta - 1e-9).all()
    exact = torch.from_numpy(m) <= 0
    assert torch.allclose(kl[exact], torch.full_like(kl, delta)[exact], atol=1e-9)
    assert (kl[torch.from_numpy(m) > 1e-3] > delta).all()


@given(st.floats(1e-3, 3))
def test_the_scales_lie_between_the_roots_of_the_bound(delta: float) -> None:
    rate = CommittedRate(delta)
    low, high = rate.lowest**2, rate.highest**2

    assert low < 1 < high
    for root in (low, high):
        assert 2 * delta + 1 + math.log(root) - root == pytest.approx(0, abs=1e-9)
    ends = rate(torch.zeros(2), torch.tensor([-50.0, 50.0]))[1]
    assert ends.tolist() == pytest.approx([low, high], rel=1e-5)


@given(st.floats(1e-3, 20))
def test_lamberts_w_is_scipys(delta: float) -> None:
    z = -math.exp(-(2 * delta + 1))
    rate = CommittedRate(delta)
    for scale, branch in ((rate.lowest, 0), (rate.highest, -1)):
        assert scale == pytest.approx(math.sqrt(-lambertw(z, branch).real), rel=1e-14 / delta)


def test_the_papers_committed_rate_is_scipys_to_the_last_bit() -> None:
    rate = CommittedRate(0.1)

    assert [rate.lowest, rate.highest] == [math.sqrt(-lambertw(-math.exp(-1.2), branch).real) for branch in (0, -1)]


@pytest.mark.parametrize("delta", [1e-17, 1e-12])
def test_the_roots_meet_where_the_rate_vanishes(delta: float) -> None:
    rate = CommittedRate(delta)

    assert rate.lowest == pytest.approx(1, abs=2e-6)
    assert rate.highest == pytest.approx(1, abs=2e-6)


@pytest.mark.parametrize("s", [-200.0, -20.0, 0.0, 20.0, 200.0])
def test_gradients_of_the_committed_rate_are_finite_to_the_ends(s: float) -> None:
    m, at = torch.tensor([1.0], requires_grad=True), torch.tensor([s], requires_grad=True)
    mean, variance = CommittedRate(0.1)(m, at)
    (mean + variance).sum().backward()

    assert torch.isfinite(at.grad).all()
    assert m.grad.item() == 1


@pytest.mark.parametrize("delta", [0.0, -0.1, math.nan])
def test_a_committed_rate_is_above_0(delta: float) -> None:
    with pytest.raises(ValueError, match="delta, the committed rate, must be above 0"):
        CommittedRate(delta)


def test_a_shift_that_is_fixed_and_a_scale_that_is_free() -> None:
    """A variant in the paper's supplement F fixes beta_d and does not rescale the learned gamma_d."""
    torch.manual_seed(1)
    normalize = MeanBatchNorm(3, gamma=0.6, constrain=False, shift=0.7)
    with torch.no_grad():
        normalize.scale.copy_(torch.tensor([0.1, -0.4, 1.1]))
    normalize.rescale_()

    assert [name for name, _ in normalize.named_parameters()] == ["scale"]
    assert torch.equal(normalize.scale, torch.tensor([0.1, -0.4, 1.1]))
    assert torch.allclose(normalize(torch.randn(64, 3)).mean(0), torch.tensor(0.7), atol=1e-5)


# ------------------------------------------------------------------------- the bound on log variances


@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(-20, 20, width=32)))
def test_within_the_bound_values_and_gradients_keep_their_bits(values: np.ndarray) -> None:
    x = torch.from_numpy(values).requires_grad_()
    y = bounded(x, -20.0, 20.0)
    (gradient,) = torch.autograd.grad(y.exp().sum(), x)

    assert torch.equal(y, x)
    assert torch.equal(gradient, x.detach().exp())


@given(st.floats(20.5, 1e30), st.sampled_from([-1.0, 1.0]))
def test_beyond_the_bound_the_kl_term_draws_a_log_variance_back(size: float, sign: float) -> None:
    """The variance is that at the bound. A descent of the KL moves the log variance towards 0."""
    x = torch.full((1, 2), sign * size, requires_grad=True)
    variance = bounded(x, -LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE).exp()
    (gradient,) = torch.autograd.grad(DiagonalGaussian(torch.zeros(1, 2), variance).kl().sum(), x)

    assert torch.equal(variance, torch.full((1, 2), sign * LARGEST_LOG_VARIANCE).exp())
    assert torch.isfinite(gradient).all()
    assert (gradient.sign() == sign).all()


def test_a_value_that_is_not_a_number_stays_one() -> None:
    assert bounded(torch.tensor([math.nan]), -1.0, 1.0).isnan().all()


@pytest.mark.parametrize("kind", [GaussianHead, FlowHead])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e12])
def test_heads_keep_log_variances_within_the_bound(kind: type, scale: float) -> None:
    """At a scale of 1 the bound changes no bit. At larger scales the linear map gives values far beyond the bound."""
    torch.manual_seed(1)
    head = kind(5, 3, nn.Identity(), nn.Identity(), *((4, 2) if kind is FlowHead else ()))
    features = scale * torch.randn(50, 5)
    variance = head(features).variance
    raw = head.linear(features)[:, 3:6].contiguous()  # PyTorch's softplus has other last bits for another layout
    plain = raw.exp() if kind is GaussianHead else nn.functional.softplus(raw).square()

    assert torch.isfinite(variance).all()
    assert (variance.log().abs() <= LARGEST_LOG_VARIANCE + 1e-3).all()
    assert torch.equal(variance, plain) == (scale == 1)
    (gradient,) = torch.autograd.grad(variance.log().sum(), head.linear.weight)
    assert torch.isfinite(gradient).all()
    assert (gradient[3:6].abs().sum(1) > 0).all()
