"""On a GPU the check of the gradients is deferred: an update is skipped there, and no saved state has a trace of it.

These tests defer the check on a CPU, where PyTorch's fused optimisers skip updates in the same way.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

import family
from duvae.errors import UserError
from duvae.objectives import Loss
from duvae.training import loop
from duvae.training.checkpoints import Checkpoint
from duvae.training.loop import Training
from duvae.training.steps import Updates, optimizer
from duvae.vae import VAE


def deferred(model: VAE, name: str) -> Updates:
    encoder, decoder = (
        optimizer(list(parameters), name, 0.1, fused=True)
        for parameters in (model.inference_parameters(), model.generative_parameters())
    )

    return Updates(model, encoder, decoder, 5.0, family.batch, deferred=True)


def spoiled(model: VAE, wrong: Callable[[int], bool]) -> Callable[[Tensor, float], Loss]:
    """A loss that is always finite, but whose gradient is not finite in the steps that `wrong` chooses."""
    step = 0

    def loss(x: Tensor, weight: float) -> Loss:
        nonlocal step
        step += 1
        found = model.loss(x, weight)
        spoil = (
            (0 * model.decoder.initial.weight).sum().sqrt() if wrong(step) else 0
        )  # the slope of the root is 0 * inf
        return found._replace(total=found.total + spoil)

    return loss


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_an_update_whose_gradient_is_not_finite_is_skipped_and_remembered(name: str) -> None:
    model = family.lively(family.build("vae")[0])
    updates, rule = deferred(model, name), family.build("vae")[1].loop()
    updates.loss = spoiled(model, lambda step: step == 2)
    seen = [family.state(model)]
    for n in range(3):
        loss = rule.step(updates, family.batch(seed=n), 1.0)
        assert torch.isfinite(loss.total).all()
        assert updates.failed is not None
        assert bool(updates.failed) == (n > 0)
        seen.append(family.state(model))

    assert not family.same(seen[0], seen[1])
    assert family.same(seen[1], seen[2])
    assert not family.same(seen[2], seen[3])
    assert all(torch.isfinite(value).all() for value in seen[3].values())


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_deferred_step_is_the_usual_step(name: str) -> None:
    models = [family.lively(family.build("du_vae")[0]) for _ in range(2)]
    usual = Updates(
        models[1],
        *(
            optimizer(list(parameters), name, 0.1)
            for parameters in (models[1].inference_parameters(), models[1].generative_parameters())
        ),
        5.0,
        family.batch,
    )
    for model, updates in zip(models, (deferred(models[0], name), usual), strict=True):
        torch.manual_seed(3)
        for n in range(3):
            family.build("vae")[1].loop().step(updates, family.batch(seed=n), 1.0)
        assert (updates.failed is None) == (model is models[1])

    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_no_saved_state_has_a_gradient_that_is_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state is saved after each step. The training ends at the first bad gradient, and resumes from before it."""
    monkeypatch.setattr(loop, "Updates", partial(Updates, deferred=True))
    monkeypatch.setattr(loop, "optimizer", partial(optimizer, fused=True))

    def prepared(wrong: Callable[[int], bool]) -> Training:
        training = family.training("vae", epochs=2, warmup=0)
        training.checkpoint = Checkpoint(tmp_path / "state", 0.0)
        training.loss = training.updates.loss = spoiled(training.model, wrong)
        return training

    with pytest.raises(
        UserError, match=r"training stopped in epoch 1, by batch 3: a gradient is not finite\. No model"
    ):
        prepared(lambda step: step == 3).run()
    snapshot = Checkpoint(tmp_path / "state", 0.0).load()
    assert snapshot is not None
    assert snapshot.values["state"]["batch"] == 2
    assert all(torch.isfinite(value).all() for value in snapshot.tensors.values())

    assert len(prepared(lambda step: False).run().history) == 2


def test_the_last_step_of_an_epoch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a saved state the gradients are checked at the end of an epoch, before its weights can be the best."""
    monkeypatch.setattr(loop, "Updates", partial(Updates, deferred=True))
    monkeypatch.setattr(loop, "optimizer", partial(optimizer, fused=True))
    training = family.training("vae", epochs=2, warmup=0)
    last = training.steps_per_epoch
    training.updates.loss = spoiled(training.model, lambda step: step == last)
    with pytest.raises(UserError, match=f"epoch 1, by batch {last}: a gradient is not finite"):
        training.run()
    assert training.best_weights == {}
