import math
from itertools import chain
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from duvae import networks
from duvae.config import Parts
from duvae.data.batches import batches
from duvae.metrics.encoding import encode
from duvae.metrics.geometry import measures
from duvae.metrics.likelihood import importance_weighted_nll
from duvae.objectives import Duration
from duvae.posteriors import InverseAutoregressiveFlow
from duvae.registry import HYPERPARAMETERS, RECORDS
from duvae.regularizers import ALPHA, MeanBatchNorm, Staged, VarianceDropout, VarianceFloor
from duvae.systems import SYSTEMS, system
from duvae.vae import VAE
from family import (
    CPU,
    FULL_SIZE,
    LATENT,
    NAMES,
    PARAMS,
    batch,
    build,
    check_gradients_of_a_step,
    describe,
    documents,
    lively,
    same,
    setting,
    state,
    updates,
)

everyone = pytest.mark.parametrize("name", NAMES)


def regularizer(model: VAE, kind: type[nn.Module]) -> nn.Module | None:
    return next((part for part in model.modules() if isinstance(part, kind)), None)


HAVING = {
    kind: [name for name in NAMES if regularizer(build(name)[0], kind)]
    for kind in (MeanBatchNorm, VarianceFloor, VarianceDropout)
}
normalized = pytest.mark.parametrize("name", HAVING[MeanBatchNorm])
floored = pytest.mark.parametrize("name", HAVING[VarianceFloor])


# ---------------------------------------------------------------------------------- the parts of each system


def test_the_parts_of_the_papers_systems() -> None:
    """Each system of the paper has its own regularizers and no others."""
    assert set(HAVING[MeanBatchNorm]) >= {"bn_vae", "du_vae", "iaf_bn", "du_iaf"}
    assert set(HAVING[VarianceFloor]) >= {"du_vae", "du_iaf"}
    for plain in ("ae", "vae", "beta_vae", "sa_vae", "agg_vae", "fb", "delta_vae", "mae", "iaf_fb"):
        assert not any(plain in having for having in HAVING.values())
    assert not {"bn_vae", "iaf_bn"} & {*HAVING[VarianceFloor], *HAVING[VarianceDropout]}
    assert (
        HAVING[VarianceFloor] == HAVING[VarianceDropout] == sorted(name for name in NAMES if RECORDS[name].needs_floor)
    )


HEADS = {
    "ae": ({"linear.weight": (LATENT, 8)}, set()),
    **dict.fromkeys(
        ("vae", "beta_vae", "sa_vae", "agg_vae", "fb", "delta_vae", "mae"), ({"linear.weight": (2 * LATENT, 8)}, set())
    ),
    "bn_vae_fixed_beta": (
        {"linear.weight": (2 * LATENT, 8), "means.scale": (LATENT,)},
        {"means.shift", "means.running_mean", "means.running_variance"},
    ),
    "bn_vae": (
        {"linear.weight": (2 * LATENT, 8), "means.shift": (LATENT,)},
        {"means.scale", "means.running_mean", "means.running_variance"},
    ),
    "du_vae": (
        {"linear.weight": (2 * LATENT, 8), "means.scale": (LATENT,), "means.shift": (LATENT,)},
        {"means.running_mean", "means.running_variance"},
    ),
    "iaf_fb": ({"linear.weight": (4 * LATENT, 8)}, set()),
    "iaf_bn": (
        {"linear.weight": (4 * LATENT, 8), "means.shift": (LATENT,)},
        {"means.scale", "means.running_mean", "means.running_variance"},
    ),
    "du_iaf": (
        {"linear.weight": (4 * LATENT, 8), "means.scale": (LATENT,), "means.shift": (LATENT,)},
        {"means.running_mean", "means.running_variance"},
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_what_a_head_learns_and_what_it_keeps(name: str) -> None:
    """A head, which makes the posterior from the encoder's features, has the parameters and buffers in `HEADS`.

    For example, AE's head computes no variances, and the scale in BN-VAE's head is a buffer. tests/test_made.py tests
    the chains of the flows.
    """
    head = build(name)[0].head
    learns, keeps = HEADS[name]
    own = {key: tuple(value.shape) for key, value in head.named_parameters() if not key.startswith("chain.")}

    assert own == learns
    assert {key for key, _ in head.named_buffers() if key in head.state_dict()} == keeps


@everyone
def test_encoder_and_decoder_parameters_are_all_parameters_each_once(name: str) -> None:
    model, _ = build(name)
    inference, generative = (
        [id(parameter) for parameter in parameters]
        for parameters in (model.inference_parameters(), model.generative_parameters())
    )

    assert sorted(inference + generative) == sorted(id(parameter) for parameter in model.parameters())
    assert not set(inference) & set(generative)


# ---------------------------------------------------------------------------- loss and gradients


@everyone
@pytest.mark.parametrize("started", [False, True])
def test_losses_have_a_figure_a_sentence(name: str, started: bool) -> None:
    model, _ = build(name)
    if started:
        model.start()
    for x in (batch(6), batch(1), batch(2, length=3)):
        for part in model.loss(x, 0.5):
            assert part.shape == (len(x),)
            assert torch.isfinite(part).all()
        assert model.posterior(x).mean.shape == (len(x), LATENT)


@everyone
@pytest.mark.parametrize("started", [False, True])
def test_a_gradient_reaches_every_parameter_and_the_rows_of_the_words_that_occur(name: str, started: bool) -> None:
    model = lively(build(name)[0])
    if started:
        model.start()
    x = batch(8)
    model.loss(x, 1.0).total.mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key
    for embedding, words in ((model.encoder.embedding, x), (model.decoder.embedding, x[:, :-1])):
        reached = embedding.weight.grad.abs().sum(1) > 0
        assert set(torch.nonzero(reached)[:, 0].tolist()) == set(words.flatten().tolist())
    head = model.head.linear.weight.grad
    assert (head.abs().max(1).values > 0).all()
    assert not any(buffer.requires_grad for buffer in model.buffers())


@everyone
def test_the_gradient_is_the_slope_of_the_loss(name: str) -> None:
    """Along a random direction, the gradient equals the difference quotient of the loss, in double precision.

    Both ends of the step have the same noise of z and the same dropout. The step is so small that no unit is likely to
    cross the kink of its ReLU.
    """
    model = lively(build(name)[0]).double()
    model.start()
    x, parameters = batch(5), list(model.parameters())
    direction = [torch.randn_like(parameter) for parameter in parameters]

    def value() -> Tensor:
        torch.manual_seed(7)
        return model.loss(x, 0.7).total.mean()

    value().backward()
    slope = sum(float((parameter.grad * d).sum()) for parameter, d in zip(parameters, direction, strict=True))
    ends = []
    for step in (1e-7, -2e-7):
        with torch.no_grad():
            for parameter, d in zip(parameters, direction, strict=True):
                parameter.add_(step * d)
        ends.append(float(value().detach()))

    assert (ends[0] - ends[1]) / 2e-7 == pytest.approx(slope, rel=1e-5)


@everyone
def test_a_step_has_the_gradients_of_the_mean_loss_to_the_bit(name: str) -> None:
    check_gradients_of_a_step([build(name)[0] for _ in range(2)], batch(7))


@everyone
def test_the_weight_acts_on_the_kl_alone(name: str) -> None:
    model, _ = build(name)
    model.eval()
    x = batch()
    without, half, whole = (model.loss(x, weight, torch.Generator().manual_seed(1)) for weight in (0.0, 0.5, 1.0))

    assert torch.equal(without.reconstruction, whole.reconstruction)
    assert torch.allclose(half.total, (without.total + whole.total) / 2)
    assert bool((whole.kl != 0).all()) == model.posterior(x).density


def test_an_autoencoder_has_no_noise_and_no_kl() -> None:
    model = lively(build("ae")[0])
    one, other = model.loss(batch(), 0.0), model.loss(batch(), 1.0)

    assert torch.equal(one.total, other.total)
    assert torch.equal(one.kl, torch.zeros(6))
    encoded = encode(model, documents(20), CPU, seed=1)
    assert encoded.variance is None
    assert {key: value for key, value in measures(encoded, 0.01).items() if value is not None}.keys() == {"au"}


# ----------------------------------------------------------------------------------- regularizers


@normalized
def test_the_scale_after_every_step(name: str) -> None:
    """After every training step, the scales gamma_d and shifts beta_d of the normalized means obey the system's rule.

    - DU-VAE: the mean of gamma_d^2 stays gamma^2, while each gamma_d changes.
    - BN-VAE: gamma_d stays gamma.
    - The variants of the paper's supplement F: gamma_d changes freely, and beta_d stays fixed.
    """
    model, made = build(name)
    norm = regularizer(model, MeanBatchNorm)
    gamma, learns = made.hyperparameters.gamma, "scale" in dict(norm.named_parameters())
    model = lively(model)
    model.start()
    loop, doing = made.loop(), updates(model)
    seen, first = [norm.scale.detach().clone()], norm.shift.detach().clone()
    free, fixed = learns and not norm.constrained, "shift" in dict(norm.named_buffers())

    assert torch.equal(seen[0], torch.full((LATENT,), gamma))
    assert torch.equal(first, torch.full((LATENT,), getattr(made.hyperparameters, "beta", 0.0)))
    for n in range(10):
        loop.step(doing, batch(seed=n), 1.0)
        seen.append(norm.scale.detach().clone())
        assert (float(seen[-1].double().square().mean()) != pytest.approx(gamma**2, rel=1e-6)) == free
        assert torch.equal(seen[-1], seen[-2]) != learns
    assert torch.equal(norm.shift.detach(), first) == fixed


@normalized
@pytest.mark.parametrize(("dataset", "words", "off"), [("synthetic", 1004, 0.01), ("short_yelp", 8411, 0.01)])
def test_at_step_0_the_means_have_the_scale_gamma(name: str, dataset: str, words: int, off: float) -> None:
    """With initial weights and networks of full size, the posterior means of a batch have the standard deviation gamma.

    A small difference comes from the normalization's epsilon. For flows, the released initial weights make the means
    before normalization so alike that the difference is large.
    """
    torch.manual_seed(1)
    chosen, entry = FULL_SIZE.dataset(dataset), FULL_SIZE.setting(setting(name))
    made = system(name, FULL_SIZE.hyperparameters(setting(name), dataset), entry.parts)
    encoder = networks.build(chosen.networks, words, entry.parts.init)[0]
    head = made.head(encoder.features, chosen.networks.latent)
    networks.initialize(head.linear, entry.parts.init)
    with torch.no_grad():
        features = encoder(batch(chosen.optimisation.batch, 12, words))
        spread = head(features).mean.std(0, unbiased=False)
        raw = head.linear(features)[:, : chosen.networks.latent].var(0, unbiased=False)
    gamma = torch.tensor(made.hyperparameters.gamma)

    if entry.parts.init == "torch":
        assert torch.allclose(spread, gamma, rtol=off)
    else:
        assert name in ("iaf_bn", "du_iaf")
        assert ((spread > 0.1 * gamma) & (spread < gamma)).all()
    assert torch.allclose(spread, gamma * (raw / (raw + entry.parts.epsilon)).sqrt(), rtol=1e-3)


@normalized
def test_with_the_papers_initial_weights_they_would_have_far_less(name: str) -> None:
    """With the paper's initial weights, the means before normalization vary far less than epsilon.

    Systems with batch normalization and without a flow therefore start from PyTorch's default weights.
    """
    torch.manual_seed(1)
    chosen = FULL_SIZE.dataset("synthetic")
    parts = Parts(init="paper", epsilon=1e-5)
    made = system(name, FULL_SIZE.hyperparameters(setting(name), "synthetic"), parts)
    encoder = networks.build(chosen.networks, 1004, "paper")[0]
    head = made.head(encoder.features, chosen.networks.latent)
    networks.initialize(head, "paper")
    norm = regularizer(head, MeanBatchNorm)
    x = batch(chosen.optimisation.batch, 12, 1004)
    with torch.no_grad():
        raw = head.linear(encoder(x))[:, : chosen.networks.latent]

    assert float(raw.var(0).max()) < norm.epsilon / 10


@normalized
def test_a_lone_sentence_leaves_the_running_statistics(name: str) -> None:
    model, _ = build(name)
    model.loss(batch(), 1.0)
    before = state(model)
    loss = model.loss(batch(1), 1.0)

    assert torch.isfinite(loss.total).all()
    assert same(before, state(model))


@floored
def test_floor_and_dropout_wait_for_the_start(name: str) -> None:
    model = lively(build(name)[0])
    parts = [part for part in model.modules() if isinstance(part, Staged)]
    x = batch()
    model.eval()
    unfloored = model.posterior(x).variance

    assert not any(part.started for part in parts)
    assert torch.equal(model.train().posterior(x).variance, unfloored)
    model.start()
    assert all(part.started for part in parts)
    assert torch.allclose(model.eval().posterior(x).variance, unfloored + ALPHA)
    p = next(part.p for part in parts if isinstance(part, VarianceDropout))
    dropped = model.train().posterior(x).variance
    kept = unfloored / p + ALPHA
    at_alpha, at_kept = (torch.isclose(dropped, to, rtol=1e-4) for to in (torch.tensor(ALPHA), kept))
    assert (at_alpha | at_kept).all()
    assert at_alpha.any()
    assert at_kept.any()


@floored
def test_floor_and_dropout_at_once(name: str) -> None:
    entry = PARAMS.setting(setting(name)).parts.model_copy(update={"start": "at_once"})
    model, _ = build(name, parts=entry)

    assert all(part.started for part in model.modules() if isinstance(part, Staged))
    assert (model.eval().posterior(batch()).variance > ALPHA).all()


@given(st.sampled_from(HAVING[VarianceFloor]), st.integers(0, 10_000))
@settings(max_examples=25)
def test_started_floors_keep_every_entropy_positive(name: str, seed: int) -> None:
    model = lively(build(name)[0], seed)
    model.start()
    posterior = model.eval().posterior(batch(seed=seed))

    assert (0.5 * (2 * math.pi * math.e * posterior.variance).log() > 0).all()


# ------------------------------------------------------------------------------------- evaluation


@everyone
@pytest.mark.parametrize("mode", [True, False])
def test_evaluation_has_no_dropout_and_changes_nothing(name: str, mode: bool) -> None:
    """Two evaluations of a model agree to the last bit, and change neither the model nor the global random state.

    The model may be in training mode or in evaluation mode before.
    """
    model = lively(build(name, dropout_in=0.5, dropout_out=0.5)[0])
    model.start()
    model.loss(batch(), 1.0)
    model.train(mode)
    before, split = state(model), documents(30)
    random = torch.get_rng_state()
    one, again = (encode(model, split, CPU, seed=1) for _ in range(2))
    if one.density:
        nlls = [importance_weighted_nll(model, split, 5, CPU, seed=1) for _ in range(2)]
        assert (nlls[0] == nlls[1]).all()
    for key, value in vars(one).items():
        assert value is None or np.array_equal(value, getattr(again, key)), key

    assert same(before, state(model))
    assert torch.equal(random, torch.get_rng_state())
    assert all(part.training == mode for part in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    lonely = encode(model.train(not mode), split, CPU, seed=1)
    assert (lonely.reconstruction == one.reconstruction).all()


@everyone
def test_a_description_builds_the_same_model_again(name: str) -> None:
    description = describe(name)
    torch.manual_seed(3)
    one, _ = description.build()
    torch.manual_seed(3)
    other, _ = description.build()

    assert same(state(one), state(other))
    assert type(description.build()[1]) is SYSTEMS[name]


def test_batches_of_the_tests_have_all_words() -> None:
    """A batch of these tests lacks some of the twelve words.

    The gradient tests therefore also cover the embedding rows of words that do not occur.
    """
    x = batch(8)
    occurring = set(x.flatten().tolist())

    assert len(occurring) < 12
    assert {1, 2} <= occurring
    assert len(list(chain.from_iterable(batches(documents(40).lengths, 8)))) == 40


@pytest.mark.parametrize("init", ["torch", "paper"])
@normalized
def test_gamma_and_beta_start_where_algorithm_1_says(name: str, init: Literal["torch", "paper"]) -> None:
    """Line 1 of the paper's Algorithm 1: gamma_mu = gamma and beta_mu = 0 at the start.

    In the variants of supplement F, beta_mu starts at beta. The initial weights of the linear maps change nothing.
    """
    parts = PARAMS.settings[setting(name)].parts.model_copy(update={"init": init})
    description = describe(name, parts=parts)
    model, _ = description.build()
    (normalize,) = (part for part in model.modules() if isinstance(part, MeanBatchNorm))
    beta = description.hyperparameters.get("beta", 0.0)

    assert torch.equal(normalize.scale, torch.full_like(normalize.scale, description.hyperparameters["gamma"]))
    assert torch.equal(normalize.shift, torch.full_like(normalize.shift, beta))


@pytest.mark.parametrize(("hyperparameters", "start"), [({}, 0.0), ({"kl_start": 0.1}, 0.1)])
def test_the_kl_weight_of_a_vae_starts_at_its_hyperparameter(hyperparameters: dict[str, float], start: float) -> None:
    values = HYPERPARAMETERS["vae"].model_validate(hyperparameters)
    weight = system("vae", values, Parts(init="paper")).schedule(Duration(10, 5, 100))

    assert [weight(step) for step in (0, 5, 10, 99)] == pytest.approx([start, (1 + start) / 2, 1.0, 1.0])


@pytest.mark.parametrize("name", ["iaf_fb", "iaf_bn", "du_iaf"])
def test_flows_start_from_the_released_weights(name: str) -> None:
    """The encoder and the head's map are uniform on +-0.01, and biases of the encoder's LSTM are 0.

    Embeddings, the chain and the decoder are not concerned.
    """
    model, _ = build(name)
    for key, parameter in model.encoder.named_parameters():
        most = float(parameter.detach().abs().max())
        assert most == 0 if "bias" in key else 0.05 < most <= 0.1 if "embedding" in key else 0.005 < most <= 0.01, key
    assert 0.005 < float(model.head.linear.weight.detach().abs().max()) <= 0.01
    assert float(model.head.chain.blocks[0].made.of_context.weight.detach().abs().max()) > 0.05
    assert all(bool(value.any()) for key, value in model.decoder.named_parameters() if "bias" in key)


@pytest.mark.parametrize("name", ["iaf_fb", "iaf_bn", "du_iaf"])
def test_the_context_of_a_flow_is_twice_as_wide_as_z(name: str) -> None:
    model = lively(build(name)[0]).eval()
    posterior = model.posterior(batch(5))

    assert isinstance(posterior, InverseAutoregressiveFlow)
    assert posterior.mean.shape == posterior.variance.shape == (5, LATENT)
    assert posterior.context.shape == (5, 2 * LATENT)
    assert torch.equal(posterior.context, model.head.linear(model.encoder(batch(5)))[:, 2 * LATENT :])
