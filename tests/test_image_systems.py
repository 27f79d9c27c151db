"""Every system on images: the same classes as for texts, with a small ResNet and PixelCNN."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from duvae.config import ImageNetworks
from duvae.inference import model_files
from duvae.inference.model_files import Description
from duvae.regularizers import MeanBatchNorm
from duvae.systems import System
from duvae.training.steps import Updates, optimizer
from duvae.vae import VAE
from family import LATENT, NAMES, check_gradients_of_a_step, describe, same, state

everyone = pytest.mark.parametrize("name", NAMES)
SIZES = ImageNetworks(
    size=6, channels=[4, 4], features=8, kernels=[3, 3, 3, 3], width=4, feature_maps=2, latent=LATENT
).model_dump()


def described(name: str) -> Description:
    text = describe(name)

    return Description(text.system, text.hyperparameters, text.parts, SIZES, 2)


def build(name: str, seed: int = 1) -> tuple[VAE, System[Any]]:
    torch.manual_seed(seed)

    return described(name).build()


def batch(count: int = 6, seed: int = 1) -> Tensor:
    return (torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


@everyone
@pytest.mark.parametrize("started", [False, True])
def test_losses_have_a_figure_an_image_and_a_gradient_for_every_parameter(name: str, started: bool) -> None:
    model, _ = build(name)
    if started:
        model.start()
    for x in (batch(1), batch(6)):
        loss = model.loss(x, 1.0)
        for part in loss:
            assert part.shape == (len(x),)
            assert torch.isfinite(part).all()
    loss.total.mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key
    assert model.decoder.units(batch(6)) == 6


@everyone
def test_the_gradient_is_the_slope_of_the_loss(name: str) -> None:
    model = build(name)[0].double()
    model.start()
    x, parameters = batch(5).double(), list(model.parameters())
    direction = [torch.randn_like(parameter) for parameter in parameters]

    def value() -> Tensor:
        torch.manual_seed(7)
        return model.loss(x, 0.7).total.mean()

    value().backward()
    slope = sum(float((parameter.grad * d).sum()) for parameter, d in zip(parameters, direction, strict=True))
    ends = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for parameter, d in zip(parameters, direction, strict=True):
                parameter.add_(step * d)
        ends.append(float(value().detach()))

    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-4)


@everyone
def test_a_step_has_the_gradients_of_the_mean_loss_to_the_bit(name: str) -> None:
    check_gradients_of_a_step([build(name)[0] for _ in range(2)], batch(7))


@everyone
def test_steps_lower_the_loss(name: str) -> None:
    """Uses Adam at the learning rate of images, on one batch."""
    model, made = build(name)
    encoder, decoder = (
        optimizer(list(parameters), "adam", 0.01)
        for parameters in (model.inference_parameters(), model.generative_parameters())
    )
    updates = Updates(model, encoder, decoder, 5.0, batch)
    loop = made.loop()
    losses = [float(loop.step(updates, batch(20), 0.1).reconstruction.mean()) for _ in range(40)]

    assert np.mean(losses[-5:]) < 0.8 * losses[0]


@everyone
def test_evaluation_changes_nothing(name: str) -> None:
    model, _ = build(name)
    model.loss(batch(), 1.0)
    before = state(model)
    model.eval()
    with torch.no_grad():
        one, again = (model.loss(batch(), 1.0, torch.Generator().manual_seed(1)).total for _ in range(2))

    assert torch.equal(one, again)
    assert same(before, state(model))


@pytest.mark.parametrize("name", [name for name in NAMES if any("scale" in k for k in state(build(name)[0].head))])
def test_at_step_0_the_means_have_the_scale_gamma(name: str) -> None:
    model, made = build(name)
    (norm,) = (part for part in model.modules() if isinstance(part, MeanBatchNorm))
    spread = model.posterior(batch(50)).mean.std(0, unbiased=False)

    assert torch.allclose(spread, torch.full_like(spread, made.hyperparameters.gamma), rtol=0.01)
    beta = getattr(made.hyperparameters, "beta", 0.0)
    assert torch.equal(norm.shift, torch.full((LATENT,), beta))


@everyone
def test_a_model_of_images_is_kept_and_loaded(name: str, tmp_path: Path) -> None:
    model, _ = build(name)
    model_files.save(tmp_path, model, described(name))
    loaded, description = model_files.load(tmp_path, system=described(name).system, words=2)

    assert description == described(name)
    assert same(state(model), state(loaded))
    with torch.no_grad():
        assert torch.equal(model.eval().posterior(batch()).mean, loaded.posterior(batch()).mean)


@everyone
def test_half_precision_has_nearly_the_gradients(name: str) -> None:
    """Weights and losses stay in single precision. Forms that are only for a CPU in single precision are not used."""
    found = []
    for bfloat16 in (False, True):
        model, _ = build(name)
        updates = Updates(
            model,
            *(optimizer(list(p), "sgd", 1.0) for p in (model.inference_parameters(), model.generative_parameters())),
            1e9,
            batch,
            bfloat16,
        )
        torch.manual_seed(3)
        loss = updates.gradients(batch(30), 1.0)
        assert loss.total.dtype == torch.float32
        assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())
        found.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))

    assert not torch.equal(*found)
    assert float(torch.cosine_similarity(*found, dim=0)) > 0.95
