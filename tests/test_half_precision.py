"""Training in bfloat16, computed on a CPU, is close to training in float32 for texts and for images."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import family
import test_image_systems as images
from duvae.errors import UserError
from duvae.networks.fast.tokens import FastSoftmaxOutput
from duvae.networks.lstm import SoftmaxOutput
from duvae.objectives import Loss
from duvae.training.steps import Updates, optimizer
from duvae.vae import VAE

KINDS: dict[str, Callable[[str], tuple[VAE, Any]]] = {
    "text": lambda name: (family.lively(family.build(name)[0]), family.batch(30)),
    "images": lambda name: (images.build(name)[0], images.batch(30)),
}


def step(kind: str, name: str, bfloat16: bool) -> tuple[Loss, Tensor]:
    """Computes the losses of a batch, and the gradient of their mean with respect to all parameters."""
    model, x = KINDS[kind](name)
    model.start()
    optimisers = [
        optimizer(list(parameters), "sgd", 1.0)
        for parameters in (model.inference_parameters(), model.generative_parameters())
    ]
    updates = Updates(model, optimisers[0], optimisers[1], 1e9, family.batch, bfloat16)
    torch.manual_seed(3)
    loss = updates.gradients(x, 1.0)
    assert all(parameter.grad is None or parameter.grad.dtype == torch.float32 for parameter in model.parameters())

    return loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", family.NAMES)
def test_losses_and_gradients_are_nearly_those_of_float32(kind: str, name: str) -> None:
    (expected, slope), (found, half_slope) = (step(kind, name, bfloat16) for bfloat16 in (False, True))

    for part, value in zip(found, expected, strict=True):
        assert part.dtype == torch.float32
        assert float(part.mean()) == pytest.approx(float(value.mean()), rel=0.01, abs=0.002)
    assert not torch.equal(slope, half_slope), "nothing was computed in bfloat16"
    assert float(torch.cosine_similarity(slope, half_slope, dim=0)) > 0.999


@pytest.mark.parametrize("form", [SoftmaxOutput, FastSoftmaxOutput])
@pytest.mark.parametrize("hidden", [16, 200])
def test_the_log_probability_of_a_word_keeps_single_precision(form: type[SoftmaxOutput], hidden: int) -> None:
    """Logits near 10, which bfloat16 rounds to multiples of 1/16."""
    torch.manual_seed(1)
    output, words = form(hidden, 2000), torch.randint(2000, (40,))
    with torch.no_grad():
        output.weight.mul_(10)
    states = torch.randn(40, hidden).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = output(states, words)
    expected = -cross_entropy(states.double() @ output.weight.double().T, words, reduction="none")

    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


def test_the_logits_of_pixels_keep_single_precision() -> None:
    decoder = images.build("vae")[0].decoder
    with torch.autocast("cpu", torch.bfloat16):
        assert decoder.logits(images.batch(4), torch.randn(4, family.LATENT)).dtype == torch.float32


def test_a_cpu_cannot_compile_half_precision() -> None:
    with pytest.raises(UserError, match=r"optimisation\.compiled and optimisation\.bfloat16 are both true"):
        family.training("vae", compiled=True, bfloat16=True)
