"""Semi-amortized inference (Kim et al. 2018): gradient steps that refine the encoder's posterior for each sentence."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from duvae.data.splits import Documents
from duvae.metrics.encoding import encode, evaluating
from duvae.networks.lstm import LSTMDecoder
from duvae.objectives import Duration
from duvae.posteriors import DiagonalGaussian, PointMass
from duvae.refinement import SVI, Amortized, clip_norm, noise_from_data
from duvae.registry import HYPERPARAMETERS, SemiAmortized
from duvae.systems import SYSTEMS
from duvae.training.steps import NotFinite
from duvae.vae import VAE
from family import CPU, LATENT, NAMES, batch, build, lively, training

TINY = 1e-6
"""Number added to the norm of a gradient, which prevents a division by 0."""


def model(
    steps: int = 4,
    rate: float = 8.0,
    momentum: float = 0.5,
    clip: float = 5.0,
    batch: int = 8,
    decoder_clip: float = 1e9,
) -> VAE:
    made = lively(build("sa_vae")[0]).double()
    made.refinement = SVI(steps, rate, momentum, clip, batch, decoder_clip)

    return made


def unrolled(made: VAE, x: Tensor, weight: float, noise: Tensor) -> DiagonalGaussian:
    """The plain form of Algorithm 1 of Kim et al.: one sentence at a time, with all gradients by PyTorch.

    The backward pass goes through the steps. It clips each sentence's gradient with respect to a step's input. The
    bound is `clip` divided by the batch size, since the loss is a mean over the batch.
    """

    def back(gradient: Tensor) -> Tensor:
        norm, most = gradient.norm() + TINY, svi.clip / len(x)
        return gradient * most / norm if norm > most else gradient

    svi, decoder = made.refinement, made.decoder
    assert isinstance(svi, SVI)
    assert isinstance(decoder, LSTMDecoder)
    start = made.head(made.encoder(x))
    found = []
    for n in range(len(x)):
        mean, log_variance = start.mean[n], start.variance[n].log()
        speeds = [torch.zeros_like(mean), torch.zeros_like(mean)]
        for k in range(svi.steps):
            for start_of_step in (mean, log_variance):
                start_of_step.register_hook(back)
            mean, log_variance = mean.clone(), log_variance.clone()  # the step's gradients are for these copies
            z = mean + (log_variance / 2).exp() * noise[k, n]
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
            loss = -decoder.log_prob_plain(x[n : n + 1], z[None]).sum() + weight * kl
            gradients = torch.autograd.grad(loss, (mean, log_variance), create_graph=True)
            for i, gradient in enumerate(gradients):
                norm = gradient.norm() + TINY
                scaled = gradient * svi.clip / norm if norm > svi.clip else gradient
                speeds[i] = svi.momentum * speeds[i] - scaled
            mean = mean + svi.rate * speeds[0]
            log_variance = log_variance + svi.rate * speeds[1]
        found.append((mean, log_variance.exp()))
    means, variances = zip(*found, strict=True)

    return DiagonalGaussian(torch.stack(means), torch.stack(variances))


@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.5, 0.9]),
    st.sampled_from([0.3, 5.0, 1e6]),
    st.sampled_from([0.0, 0.3, 1.0]),
)
@settings(max_examples=15)
def test_the_steps_and_the_gradient_through_them(seed: int, momentum: float, clip: float, weight: float) -> None:
    """In double precision, the refined posterior and all parameters' gradients equal those of `unrolled`."""
    made = model(momentum=momentum, clip=clip)
    x = batch(3, 5, seed=seed)
    torch.manual_seed(seed)
    refined = made.posterior(x, weight)
    torch.manual_seed(seed)
    expected = unrolled(made, x, weight, torch.randn(4, 3, LATENT, dtype=torch.float64))
    parameters = [*made.inference_parameters(), *made.generative_parameters()]
    found = []
    for posterior in (refined, expected):
        value = posterior.mean.sin().sum() + posterior.variance.sum()
        found.append(torch.autograd.grad(value, parameters))

    assert torch.allclose(refined.mean, expected.mean, rtol=1e-9)
    assert torch.allclose(refined.variance, expected.variance, rtol=1e-9)
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-7, atol=1e-9)
        assert one.abs().max() > 0


class Plain(nn.Module):
    """A module whose call is the plain form of the decoder's log p(x|z)."""

    def __init__(self, decoder: LSTMDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.decoder.log_prob_plain(x, z)


@pytest.mark.parametrize("decoder_clip", [1e-4, 3e-2, 1e9])
def test_each_steps_contribution_to_the_decoders_gradient_is_clipped(decoder_clip: float) -> None:
    """The contributions come from a plain computation, in which each step has a copy of the decoder's parameters.

    The value depends on the decoder through the steps alone, so its gradient is the sum of the contributions.
    """
    made, x, weight = model(3, momentum=0.5, clip=1e9, decoder_clip=decoder_clip), batch(4, 5), 0.7
    svi, decoder = made.refinement, made.decoder
    assert isinstance(svi, SVI)
    assert isinstance(decoder, LSTMDecoder)
    names = [f"decoder.{name}" for name, _ in decoder.named_parameters()]
    copies = [[value.detach().clone().requires_grad_() for value in decoder.parameters()] for _ in range(svi.steps)]
    start = made.head(made.encoder(x))
    torch.manual_seed(1)
    noise = torch.randn(svi.steps, len(x), LATENT, dtype=torch.float64)
    parts = [start.mean, start.variance.log()]
    speeds = [torch.zeros_like(start.mean), torch.zeros_like(start.mean)]
    for k, values in enumerate(copies):
        mean, log_variance = parts
        z = mean + (log_variance / 2).exp() * noise[k]
        likelihood = torch.func.functional_call(Plain(decoder), dict(zip(names, values, strict=True)), (x, z)).sum()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        gradients = torch.autograd.grad(weight * kl - likelihood, parts, create_graph=True)
        speeds = [svi.momentum * v - g for v, g in zip(speeds, gradients, strict=True)]
        parts = [part + svi.rate * v for part, v in zip(parts, speeds, strict=True)]
    expected = [torch.zeros_like(value) for value in copies[0]]
    norms = []
    for values in copies:
        contribution = torch.autograd.grad(parts[0].sin().sum() + parts[1].exp().sum(), values, retain_graph=True)
        norms.append(math.sqrt(sum(float(part.square().sum()) for part in contribution)))
        factor = min(1.0, decoder_clip / norms[-1])
        expected = [total + factor * part for total, part in zip(expected, contribution, strict=True)]
    torch.manual_seed(1)
    refined = made.posterior(x, weight)
    found = torch.autograd.grad(refined.mean.sin().sum() + refined.variance.sum(), list(decoder.parameters()))

    assert min(norms) > 3e-2
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-12)


def test_both_ways_of_a_gradient_are_clipped_alone() -> None:
    gradient = torch.tensor([[[3.0, 4.0], [0.3, 0.4]], [[0.0, 0.0], [-30.0, 40.0]]])
    expected = torch.tensor([[[0.6, 0.8], [0.3, 0.4]], [[0.0, 0.0], [-0.6, 0.8]]])

    assert torch.allclose(clip_norm(gradient, 1.0), expected)
    assert torch.equal(clip_norm(gradient, 100.0), gradient)


def test_on_the_way_back_it_is_clipped_where_it_would_grow() -> None:
    """The clip of the backward pass bounds the encoder's gradient, which grows in each step without the clip.

    The decoder is so steep that the steps overshoot.
    """
    found = []
    for clip in (1.0, 1e9):
        made, x = model(steps=20, rate=1.0, batch=1), batch(8)
        with torch.no_grad():
            made.decoder.output.weight.mul_(8)
        assert isinstance(made.refinement, SVI)
        made.refinement.clip = clip
        seen: list[Tensor] = []

        def watch(_: object, __: object, output: Tensor, seen: list[Tensor] = seen) -> None:
            output.register_hook(seen.append)

        made.head.linear.register_forward_hook(watch)
        made.loss(x, 1.0).total.mean().backward()
        found.append(float(seen[0].view(8, 2, LATENT).norm(dim=-1).max()))

    assert found[0] <= 1 / 8 + 1e-9
    assert found[1] > 100


def test_without_a_rate_it_is_amortized() -> None:
    made = model(rate=1e-12)
    refined, plain = made.posterior(batch()), made.head(made.encoder(batch()))

    assert torch.allclose(refined.mean, plain.mean, atol=1e-10)
    assert torch.allclose(refined.variance, plain.variance, atol=1e-10)
    for name in NAMES:
        assert isinstance(build(name)[0].refinement, SVI if name == "sa_vae" else Amortized)


def negative_elbo(made: VAE, posterior: DiagonalGaussian, x: Tensor) -> float:
    z = posterior.rsample((4000,), torch.Generator().manual_seed(9))

    return float((posterior.kl().sum(-1) - made.decoder.log_prob_samples(x, z).mean(0)).mean())


@pytest.mark.parametrize("seed", range(4))
def test_it_improves_the_elbo_in_evaluation(seed: int) -> None:
    """The steps lower the negative ELBO of a model with random weights, whose encoder has learned nothing.

    Number and size of the steps are those of Kim et al. With these weights, the decoder depends strongly on z.
    """
    made = lively(build("sa_vae")[0], seed).eval()
    made.refinement = SVI(steps=20, learning_rate=1.0, momentum=0.5, clip=5.0, batch=32, decoder_clip=5.0)
    x = batch(16, seed=seed)
    with torch.no_grad():
        before = negative_elbo(made, made.head(made.encoder(x)), x)
        after = negative_elbo(made, made.posterior(x), x)

    assert after < before - 0.05


def test_in_evaluation_a_posterior_is_a_function_of_x() -> None:
    """A sentence's posterior does not depend on the other sentences of the batch, on their order or on any seed.

    Computing the posterior leaves PyTorch's global generator as it was.
    """
    made, x = model().eval(), batch(6)
    with torch.no_grad():
        together = made.posterior(x)
        random = torch.get_rng_state()
        again = made.posterior(x)
        alone = [made.posterior(x[n : n + 1]) for n in range(6)]
        turned = made.posterior(x.flip(0))

    assert torch.equal(together.mean, again.mean)
    assert torch.equal(together.variance, again.variance)
    assert torch.equal(random, torch.get_rng_state())
    assert torch.allclose(torch.cat([one.mean for one in alone]), together.mean, rtol=1e-10)
    assert torch.allclose(turned.mean.flip(0), together.mean, rtol=1e-10)
    split = Documents.of([x[n].numpy() for n in range(6)], np.zeros(6, np.int64))
    for seed in (1, 2):
        assert np.allclose(encode(made, split, CPU, seed).mean, together.mean.numpy(), rtol=1e-10)


def test_the_noise_of_x_is_standard_normal_and_independent() -> None:
    x = torch.arange(6000).view(2000, 3)
    noise = noise_from_data(x, (5,), torch.zeros(2000, 4)).double()

    assert noise.shape == (5, 2000, 4)
    assert torch.equal(noise_from_data(x[7:9], (5,), torch.zeros(2, 4)).double(), noise[:, 7:9])
    assert abs(float(noise.mean())) < 5 / math.sqrt(noise.numel())
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    together = torch.corrcoef(noise.permute(0, 2, 1).flatten(0, 1)) - torch.eye(20)
    assert float(together.abs().max()) < 5 / math.sqrt(2000)


def test_in_training_the_weight_and_the_global_generator_count_in_evaluation_neither() -> None:
    made, x = model(), batch()

    def mean(weight: float, seed: int = 1) -> Tensor:
        torch.manual_seed(seed)
        return made.posterior(x, weight).mean

    assert torch.equal(mean(1.0), mean(1.0))
    assert not torch.allclose(mean(0.2), mean(1.0))
    assert not torch.allclose(mean(1.0, 2), mean(1.0))
    made.eval()
    assert torch.equal(mean(0.2, 2), mean(1.0))


def test_nothing_is_kept_of_the_steps_in_evaluation() -> None:
    made = model()
    with evaluating(made):
        refined = made.posterior(batch())

    assert refined.mean.grad_fn is None
    assert refined.variance.grad_fn is None
    assert all(parameter.grad is None for parameter in made.parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_not_finite_is_named(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    run = training("sa_vae")
    slope = run.model.decoder.slope
    monkeypatch.setattr(run.model.decoder, "slope", lambda x: lambda z: slope(x)(z) * value)

    with pytest.raises(NotFinite, match=r"^the output of refinement$"):
        run.loop.step(run.updates, batch(), 1.0)


def test_what_is_no_gaussian_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a diagonal Gaussian to refine, got a PointMass"):
        model().refinement(PointMass(torch.zeros(2, LATENT)), batch(2), model().decoder, 1.0)


def test_the_papers_values_are_the_defaults() -> None:
    """The default hyperparameters of SA-VAE are those of Kim et al. (2018).

    They use 20 steps, learning rate 1, momentum 0.5, gradients clipped at 5, batches of 32, and a first KL weight of
    0.1.
    """
    assert SemiAmortized() == SemiAmortized(
        kl_start=0.1, steps=20, learning_rate=1.0, momentum=0.5, clip=5.0, batch=32, decoder_clip=5.0
    )
    assert HYPERPARAMETERS["sa_vae"] is SemiAmortized
    made = SYSTEMS["sa_vae"](SemiAmortized(), build("sa_vae")[1].parts)
    assert made.schedule(Duration(10, 5, 100))(0) == 0.1
    svi = made.refinement()
    assert isinstance(svi, SVI)
    assert (svi.steps, svi.rate, svi.momentum, svi.clip) == (20, 1 / 32, 0.5, 5.0)
