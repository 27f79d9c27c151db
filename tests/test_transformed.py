"""Measures of the transformed code z^T = f(z^0; x) of flows, which are estimated from samples.

The measures are MPD, the diversity of the posteriors, and CE, their mean entropy.
"""

from itertools import chain

import numpy as np
import pytest
import torch

from duvae.metrics import encoding, transformed
from duvae.metrics.encoding import evaluating
from duvae.metrics.geometry import conditional_entropy, mutual_posterior_diversity
from duvae.metrics.transformed import ROUNDS, estimates, joint_posterior, transformed_measures
from duvae.posteriors import DiagonalGaussian
from family import CPU, NAMES, batch, build, documents, lively, same, state
from test_posteriors import flow

everyone = pytest.mark.parametrize("name", NAMES)
FLOWS = [name for name in NAMES if build(name)[0].posterior(batch()).transformed]


def gaussians(count: int, latent: int = 2, seed: int = 1) -> DiagonalGaussian:
    torch.manual_seed(seed)

    return DiagonalGaussian(
        torch.randn(count, latent, dtype=torch.float64), torch.rand(count, latent, dtype=torch.float64) + 0.3
    )


def off(values: np.ndarray, expected: float) -> float:
    """The distance between the mean of `values` and the expected value, in standard errors of the mean."""
    return abs(values.mean() - expected) / (values.std(ddof=1) / np.sqrt(len(values)))


# ------------------------------------------------------------------------------------ the estimates


@pytest.mark.parametrize("count", [2, 3, 30])
def test_of_gaussians_the_estimates_are_equations_3_and_5(count: int) -> None:
    """For Gaussian posteriors, the estimates of MPD and CE agree with the paper's equations 3 and 5.

    MPD is a mean over all N^2 ordered pairs. Without the pairs i = j, it would be N / (N - 1) times as large.
    """
    posterior = gaussians(count)
    mpd, ce = estimates(posterior, 1, rounds=3000)
    exactly = mutual_posterior_diversity(posterior.mean.numpy(), posterior.variance.numpy())

    assert off(mpd, exactly) < 5
    assert count > 3 or off(mpd, exactly * count / (count - 1)) > 5
    assert off(ce, conditional_entropy(posterior.variance.numpy())) < 5


def test_of_a_flow_they_are_the_means_over_all_pairs() -> None:
    posterior, draws = flow(6, 2), 4000
    mpd, ce = estimates(posterior, 1, rounds=600)
    z = posterior.rsample((draws,), torch.Generator().manual_seed(2))
    own = posterior.log_prob(z)
    pairs = torch.stack([(own - posterior.of(torch.tensor(6 * [j])).log_prob(z)) for j in range(6)])
    brute, error = float(pairs.mean()), float(pairs.mean((0, 2)).std()) / np.sqrt(draws)

    assert abs(mpd.mean() - brute) < 5 * np.hypot(error, mpd.std() / np.sqrt(600))
    assert off(ce, -float(own.mean())) < 6


def test_the_standard_error_is_what_the_estimates_spread_by() -> None:
    """The standard error of an estimate agrees with the standard deviation of 40 estimates with different seeds."""
    posterior = flow(40, 2)
    results = [estimates(posterior, seed) for seed in range(40)]
    for which in (0, 1):
        means = [one[which].mean() for one in results]
        errors = [one[which].std(ddof=1) / np.sqrt(ROUNDS) for one in results]
        assert 0.6 < np.std(means, ddof=1) / np.sqrt(np.mean(np.square(errors))) < 1.6


def test_a_single_posterior_has_no_diversity() -> None:
    mpd, ce = estimates(flow(1, 2), 1)

    assert (mpd == 0).all()
    assert np.isfinite(ce).all()


def test_each_document_is_drawn_once_a_round_and_none_is_its_own_partner(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one round, each document is drawn once and has another document as its partner, for any block size."""
    for rows in (1, 3, 100):
        monkeypatch.setattr(transformed, "ROWS", rows)
        asked: list[list[int]] = []

        class Watched(DiagonalGaussian):
            def of(self, indices: torch.Tensor) -> DiagonalGaussian:
                asked.append(indices.tolist())  # noqa: B023

                return DiagonalGaussian(self.mean[indices], self.variance[indices])

        plain = gaussians(7)
        estimates(Watched(plain.mean, plain.variance), 1, rounds=1)
        here, there = (list(chain.from_iterable(asked[n::2])) for n in (0, 1))

        assert sorted(here) == sorted(there) == list(range(7))
        assert all(one != other for one, other in zip(here, there, strict=True))
        assert max(map(len, asked)) <= rows


# ------------------------------------------------------------------------------------- measures of a model


@everyone
def test_only_what_is_transformed_has_them(name: str) -> None:
    model, split = lively(build(name)[0]), documents(23)
    model.start()
    before, random = state(model), torch.get_rng_state()
    measured, again = (transformed_measures(model, split, CPU, 1) for _ in range(2))

    assert measured == again
    assert list(measured) == ["mpd_t", "mpd_t_stderr", "ce_t", "ce_t_stderr"]
    assert all((value is None) != (name in FLOWS) for value in measured.values())
    assert same(before, state(model))
    assert torch.equal(random, torch.get_rng_state())
    assert model.training


@pytest.mark.parametrize("name", FLOWS)
def test_they_are_a_function_of_the_set_and_not_of_its_batches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measures do not depend on the size of the batches in which the set is encoded.

    The sentences have mixed lengths in no order, and the two sentences of a pair may lie in different batches.
    """
    model, split = lively(build(name)[0]), documents(23)
    model.start()
    model.loss(batch(), 1.0)
    results = []
    for at_once in (1, 4, 256):
        monkeypatch.setattr(encoding, "BATCH", at_once)
        results.append(transformed_measures(model, split, CPU, 1))
    for one in results[1:]:
        assert one == pytest.approx(results[0], rel=1e-3)


@everyone
def test_the_whole_set_is_in_its_own_order(name: str) -> None:
    model, split = lively(build(name)[0]).eval(), documents(23)
    with torch.no_grad():
        posterior = joint_posterior(model, split, CPU)
        for index in range(len(split)):
            alone = model.posterior(torch.from_numpy(split[index][None]).long())
            assert torch.allclose(posterior.features()[index], alone.features()[0], rtol=1e-4, atol=1e-6)


def test_what_cannot_be_inverted_in_floating_point_is_not_known() -> None:
    """MPD of z^T is None if an estimate is not finite.

    The inverse of a steep chain may overflow for a sample of another posterior.
    """
    model = lively(build("iaf_fb", latent=32)[0])
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.mul_(4)
    with evaluating(model):
        rounds = estimates(joint_posterior(model, documents(40), CPU), 1)[0]
    measured = transformed_measures(model, documents(40), CPU, 1)

    assert not np.isfinite(rounds).all()
    assert measured["mpd_t"] is None
    assert measured["mpd_t_stderr"] is None
