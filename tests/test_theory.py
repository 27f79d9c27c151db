"""The paper's equations on the diversity and the uncertainty of posteriors, and on the effect of DU-VAE on these.

docs/theory.md lists the equations. S11 to S20 are equations of the paper's supplement. The diversity is the mutual
posterior diversity (MPD), and the uncertainty is the conditional entropy (CE).
"""

import itertools
import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.distributions import Normal, kl_divergence
from torch.optim.optimizer import register_optimizer_step_post_hook

from duvae.metrics.geometry import conditional_entropy, mutual_posterior_diversity
from duvae.regularizers import ALPHA, MeanBatchNorm, VarianceDropout
from duvae.training.steps import SGD
from family import NAMES, build, training

PAGE = (Path(__file__).parents[1] / "docs/theory.md").read_text(encoding="utf-8")

SIGMAS = 5
COPIES = 512
keeps = st.floats(0.1, 0.95)

Posteriors = tuple[np.ndarray, np.ndarray]
"""Means and variances of a few Gaussian posteriors, each of shape (posteriors, latent)."""


@st.composite
def parameters(draw: st.DrawFn, floor: float = 0.0, least: int = 1) -> Posteriors:
    """Draws a few posteriors whose variances exceed `floor` by at least 0.02.

    Args:
        draw: Hypothesis's function that draws values.
        floor: Lower bound of the variances.
        least: Smallest number of posteriors.
    """
    shape = draw(st.integers(least, 6)), draw(st.integers(1, 4))
    mean = draw(hnp.arrays(np.float64, shape, elements=st.floats(-5, 5)))
    variance = draw(hnp.arrays(np.float64, shape, elements=st.floats(0.02, 4)))

    return mean, variance + floor


floored = parameters(ALPHA, least=2)


def gaussians(mean: np.ndarray, variance: np.ndarray) -> list[Normal]:
    return [Normal(torch.from_numpy(m), torch.from_numpy(v).sqrt()) for m, v in zip(mean, variance, strict=True)]


# ------------------------------------------------------------------------- diversity and uncertainty


@given(parameters())
def test_s11(posteriors: Posteriors) -> None:
    mean, variance = posteriors
    for i, j in itertools.product(range(len(mean)), repeat=2):
        a, b = gaussians(mean[[i, j]], variance[[i, j]])
        ratio = variance[i] / variance[j]
        closed = (mean[i] - mean[j]) ** 2 * (1 / variance[i] + 1 / variance[j]) + ratio + 1 / ratio - 2
        symmetric = 0.5 * (kl_divergence(a, b) + kl_divergence(b, a))

        np.testing.assert_allclose(4 * symmetric.numpy(), closed, rtol=1e-9, atol=1e-9)


@given(parameters())
def test_equation_3_is_the_mean_over_all_ordered_pairs(posteriors: Posteriors) -> None:
    """MPD is the mean of the symmetric KL divergence (equation 2) over all N^2 pairs of posteriors, including i = j."""
    pairs = list(itertools.product(gaussians(*posteriors), repeat=2))
    divergences = [float(0.5 * (kl_divergence(a, b) + kl_divergence(b, a)).sum()) for a, b in pairs]

    assert len(divergences) == len(posteriors[0]) ** 2
    assert mutual_posterior_diversity(*posteriors) == pytest.approx(np.mean(divergences), rel=1e-9, abs=1e-9)


def test_equation_3_has_its_minus_one_in_every_dimension() -> None:
    """Equal posteriors have an MPD of 0.

    The paper prints one -1 after the sum over the n dimensions. With n = 5, equal posteriors would then have an MPD of
    2, so the -1 belongs inside the sum.
    """
    mean, variance = np.zeros((4, 5)), np.full((4, 5), 0.3)

    assert mutual_posterior_diversity(mean, variance) == pytest.approx(0, abs=1e-12)


@given(parameters())
def test_equation_5_is_the_mean_entropy(posteriors: Posteriors) -> None:
    entropies = [float(q.entropy().sum()) for q in gaussians(*posteriors)]

    assert conditional_entropy(posteriors[1]) == pytest.approx(np.mean(entropies), rel=1e-9, abs=1e-9)


@given(floored)
def test_s13(posteriors: Posteriors) -> None:
    """MPD is at least the variance of the means divided by the largest variance.

    If all variances are the same, MPD equals this bound.
    """
    mean, variance = posteriors
    bound = mean.var(0).sum() / variance.max()

    assert mutual_posterior_diversity(mean, variance) >= bound - 1e-9
    flat = np.full_like(variance, variance.max())
    assert mutual_posterior_diversity(mean, flat) == pytest.approx(bound, abs=1e-9)


# ------------------------------------------------------------------------------- dropout on variances


def outcomes(variance: np.ndarray, p: float) -> tuple[np.ndarray, np.ndarray]:
    """Finds the two possible outputs of the dropout for each variance, from 512 draws.

    The output is the smaller one if the variance is dropped (g = 0), and the larger one if the variance is kept
    (g = 1/p), since the variances are above alpha. For each p in this file, 512 draws miss one of the two outputs with
    a probability under 1e-11.

    Returns:
        The outputs for dropped variances and for kept variances.
    """
    made = VarianceDropout(p)(torch.from_numpy(variance).expand(COPIES, *variance.shape))
    dropped, kept = made.min(0).values, made.max(0).values
    assert ((made == dropped) | (made == kept)).all()

    return dropped.numpy(), kept.numpy()


class Expected(NamedTuple):
    """The expectations of equation S14: of a variance after the dropout, of its inverse and of its logarithm."""

    itself: np.ndarray
    inverse: np.ndarray
    logarithm: np.ndarray


def s14(variance: np.ndarray, p: float) -> Expected:
    raised = variance + (p - 1) * ALPHA

    return Expected(variance, p**2 / raised + (1 - p) / ALPHA, p * np.log(raised / (p * ALPHA)) + math.log(ALPHA))


@given(hnp.arrays(np.float64, (2, 3), elements=st.floats(0.07, 4)), keeps)
@settings(max_examples=50)
def test_equation_6(variance: np.ndarray, p: float) -> None:
    dropped, kept = outcomes(variance, p)

    np.testing.assert_allclose(dropped, ALPHA)
    np.testing.assert_allclose(kept, (variance - ALPHA) / p + ALPHA)


@given(hnp.arrays(np.float64, (2, 3), elements=st.floats(0.07, 4)), keeps)
@settings(max_examples=50)
def test_s14_by_enumeration(variance: np.ndarray, p: float) -> None:
    """The three expectations of S14 equal the exact sums over the two values 0 and 1/p of g."""
    dropped, kept = outcomes(variance, p)
    closed = s14(variance, p)
    for function, expected in ((np.array, closed.itself), (np.reciprocal, closed.inverse), (np.log, closed.logarithm)):
        np.testing.assert_allclose((1 - p) * function(dropped) + p * function(kept), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("variance", [0.07, 0.5, 3.0])
def test_s14_by_sampling(variance: float, p: float) -> None:
    """The means over 200,000 draws of the dropout are within five standard errors of the closed forms of S14."""
    torch.manual_seed(1)
    draws = VarianceDropout(p)(torch.full((200_000,), variance, dtype=torch.float64)).numpy()
    for sample, closed in zip((draws, 1 / draws, np.log(draws)), s14(np.array(variance), p), strict=True):
        error = sample.std() / math.sqrt(len(sample))

        assert abs(sample.mean() - closed) < SIGMAS * error


@given(st.floats(0.02, 4), st.floats(0.01, 0.97), st.floats(0.01, 1))
def test_s15_and_that_both_are_monotonous(above: float, p: float, less: float) -> None:
    """As p falls from 1 to 0, the expected inverse in S14 strictly rises and the expected logarithm strictly falls."""
    variance = np.array(ALPHA + above)
    more, fewer = s14(variance, p), s14(variance, p * (1 - 0.5 * less))

    assert 1 / ALPHA > fewer.inverse > more.inverse > 1 / variance
    assert math.log(ALPHA) < fewer.logarithm < more.logarithm < math.log(variance)


# ---------------------------------------------------------------------------------- Proposition 1


class Geometry(NamedTuple):
    """MPD (`diversity`) and CE (`entropy`) of posteriors under dropout, taken over x and the dropout's g together."""

    diversity: float
    entropy: float


def under_dropout(mean: np.ndarray, variance: np.ndarray, p: float) -> Geometry:
    """Computes MPD and CE for any p from the expectations of S14.

    Equations 3 and 5 depend on the variances only through these expectations (S20).
    """
    expected = s14(variance, p)
    squares = (mean[:, None] - mean[None]) ** 2  # of all pairs of posteriors
    spread = (squares * expected.inverse[:, None]).mean((0, 1))  # equation S18
    diversity = 0.5 * (spread + expected.itself.mean(0) * expected.inverse.mean(0) - 1).sum()

    return Geometry(float(diversity), float(0.5 * (math.log(2 * math.pi * math.e) + expected.logarithm.mean(0)).sum()))


def enumerated(mean: np.ndarray, variance: np.ndarray, kept: int, of: int) -> Geometry:
    """Computes MPD and CE by the package's functions, from all outputs of the dropout with p = kept / of.

    Each posterior occurs `of` times, and `kept` of these times with the kept variance. MPD and CE are sums over
    dimensions, so this function may use the same g in all dimensions.
    """
    gone, stays = outcomes(variance, kept / of)
    means, variances = np.concatenate([mean] * of), np.concatenate([stays] * kept + [gone] * (of - kept))
    np.testing.assert_allclose(variances.mean(0), variance.mean(0))  # the first line of equation 7

    return Geometry(mutual_posterior_diversity(means, variances), conditional_entropy(variances))


shares = st.integers(2, 6).flatmap(lambda of: st.tuples(st.integers(1, of - 1), st.just(of)))


@given(floored, shares)
def test_proposition_1_and_equation_8_as_measured(posteriors: Posteriors, share: tuple[int, int]) -> None:
    (mean, variance), (kept, of) = posteriors, share
    found = enumerated(mean, variance, kept, of)

    assert found == pytest.approx(under_dropout(mean, variance, kept / of), rel=1e-9, abs=1e-9)
    assert found.diversity > mutual_posterior_diversity(mean, variance)
    assert found.entropy < conditional_entropy(variance)
    assert found.diversity > (1 - kept / of) / ALPHA * mean.var(0).sum()


@given(floored, st.floats(0.001, 0.98))
def test_proposition_1_and_equation_8_for_any_p(posteriors: Posteriors, p: float) -> None:
    mean, variance = posteriors
    found = under_dropout(mean, variance, p)

    assert found.diversity > mutual_posterior_diversity(mean, variance)
    assert found.entropy < conditional_entropy(variance)
    assert found.diversity > (1 - p) / ALPHA * mean.var(0).sum()


@given(floored, st.lists(st.integers(1, 49), min_size=2, max_size=6, unique=True).map(sorted))
def test_the_gaps_of_proposition_1_grow_as_p_falls(posteriors: Posteriors, fiftieths: list[int]) -> None:
    mean, variance = posteriors
    found = [under_dropout(mean, variance, n / 50) for n in fiftieths]
    found.append(Geometry(mutual_posterior_diversity(mean, variance), conditional_entropy(variance)))

    for less, more in itertools.pairwise(found):
        assert less.diversity > more.diversity
        assert less.entropy < more.entropy


def test_dropout_that_keeps_everything_changes_neither() -> None:
    mean, variance = EXAMPLE

    assert under_dropout(mean, variance, 1.0) == pytest.approx(
        (mutual_posterior_diversity(mean, variance), conditional_entropy(variance))
    )


EXAMPLE = np.array([[-1.0], [0.0], [0.5], [2.0]]), np.array([[0.2], [0.9], [0.5], [0.3]])
"""Means and variances of the four posteriors in the example of docs/theory.md."""


def test_the_numbers_of_the_page() -> None:
    """In the table on Proposition 1 in docs/theory.md, each number is exact to its last digit.

    The columns are p, MPD, the bound of equation 8, and CE.
    """
    mean, variance = EXAMPLE
    rows = [[float(cell) for cell in row.split("|")] for row in re.findall(r"^\| (0\.\d \|.*) \|$", PAGE, re.MULTILINE)]
    whole = re.findall(r"^\| 1 \| ([\d.]+) \| 0 \| ([\d.]+) \|$", PAGE, re.MULTILINE)

    assert [row[0] for row in rows] == [0.9, 0.8, 0.7, 0.5, 0.3, 0.1]
    for p, diversity, bound, entropy in rows:
        found = enumerated(mean, variance, round(10 * p), 10)
        assert (diversity, entropy) == (round(found.diversity, 3), round(found.entropy, 3))
        assert bound == round((1 - p) / ALPHA * float(mean.var()), 3)
    assert [tuple(map(float, row)) for row in whole] == [
        (round(mutual_posterior_diversity(mean, variance), 3), round(conditional_entropy(variance), 3))
    ]


# ------------------------------------------------------------------------------------- Algorithm 1

REGULARIZED = [name for name in NAMES if any(isinstance(part, VarianceDropout) for part in build(name)[0].modules())]
"""The systems with dropout on the variances: DU-VAE, DU-IAF."""


def test_some_system_follows_algorithm_1() -> None:
    assert "du_vae" in REGULARIZED


@pytest.mark.parametrize(("kind", "rate"), [("sgd", 1.0), ("adam", 0.01)])
@pytest.mark.parametrize("name", REGULARIZED)
def test_line_9_after_every_optimiser_step(name: str, kind: str, rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the model uses the scales gamma_d, the mean of gamma_d^2 is gamma^2, with a relative error under 1e-6.

    Each optimiser step changes this mean, and line 9 of Algorithm 1 then restores it. The test covers a whole training:
    during and after the warm-up, after decays with new optimisers, and in validation.
    """
    decay = {"patience": 1, "not_before": 1, "at_most": 2}
    run = training(name, optimiser=kind, learning_rate=rate, epochs=6, warmup=2, decay=decay)
    (norm,) = (part for part in run.model.modules() if isinstance(part, MeanBatchNorm))
    stepped: list[float] = []
    used: list[float] = []

    def off() -> float:
        return abs(float(norm.scale.detach().double().square().mean()) / norm.gamma**2 - 1)

    def after_step(optimiser: torch.optim.Optimizer, *_: object) -> None:
        if any(parameter is norm.scale for group in optimiser.param_groups for parameter in group["params"]):
            stepped.append(off())

    plain = SGD.step

    def step(optimiser: SGD) -> None:  # replaces a hook: the project's SGD calls none
        plain(optimiser)
        after_step(optimiser)

    step.hooked = True  # type: ignore[attr-defined]
    monkeypatch.setattr(SGD, "step", step)
    hooks = [
        register_optimizer_step_post_hook(after_step),
        norm.register_forward_pre_hook(lambda *_: used.append(off())),
    ]
    try:
        done = run.run()
    finally:
        for hook in hooks:
            hook.remove()

    assert len(stepped) == done.history[-1]["steps"] > 20
    assert len(used) > len(stepped)
    assert max(used) < 1e-6
    assert off() < 1e-6
    assert np.mean(np.array(stepped) > 1e-6) > 0.9
    assert norm.scale.detach().std() > 1e-3
