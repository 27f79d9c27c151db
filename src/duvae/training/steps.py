"""Training steps. A step computes the gradient of the loss of a batch, clips it, and updates encoder and decoder."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from duvae.errors import UserError
from duvae.objectives import Loss
from duvae.vae import VAE


class NotFinite(Exception):
    """Is raised when the norm of the gradient is not finite. The message names the first tensor that is not finite."""


@dataclass
class Updates:
    """The model and the optimisers that a `Loop` needs to turn a batch into updates of the parameters.

    Attributes:
        model: The VAE to train.
        encoder: The optimiser of phi, the parameters of the encoder and of the head.
        decoder: The optimiser of theta, the parameters of the decoder.
        clip: The largest allowed Euclidean norm of the gradient with respect to all parameters together.
        draw: Function that returns a random training batch.
        bfloat16: Whether PyTorch's autocast runs operations such as matrix products in bfloat16. The weights, the sums
            and the loss stay in single precision.
        loss: Function that computes the loss of each example from a batch and the weight of the KL term, such as the
            result of `compile_loss`; None: `model.loss`.
        deferred: Whether the check of the gradients is deferred, because reading a norm would make a GPU wait in each
            step. The optimisers then skip an update whose gradient is not finite, and `failed` remembers it. None:
            deferred if the model is on a GPU.
        parameters: All parameters of the model.
        failed: 1 if a gradient so far was not finite, otherwise 0, shape (); None if the check is not deferred.
    """

    model: VAE
    encoder: Optimizer
    decoder: Optimizer
    clip: float
    draw: Callable[[], Tensor]
    bfloat16: bool = False
    loss: Callable[[Tensor, float], Loss] | None = None
    deferred: bool | None = None
    parameters: list[nn.Parameter] = field(init=False)
    failed: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.parameters = list(self.model.parameters())
        deferred = self.parameters[0].is_cuda if self.deferred is None else self.deferred
        if deferred:
            self.failed = torch.zeros((), device=self.parameters[0].device)

    def gradients(self, x: Tensor, weight: float) -> Loss:
        """Computes the clipped gradient of the mean loss of a batch, and stores it in the `grad` of each parameter.

        Args:
            x: A batch of word ids, shape (batch, length), or of images, shape (batch, 1, height, width).
            weight: The weight of the KL term.

        Returns:
            The loss of each x and the parts of this loss, in nats, without an autograd graph.

        Raises:
            NotFinite: If the norm of the gradient is not finite, unless the check is deferred. In both cases no
                optimiser uses this gradient.
        """
        for parameter in self.parameters:
            parameter.grad = None
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss = (self.loss or self.model.loss)(x, weight)
        # This is the gradient of the mean over the batch. The mean itself is not computed, since nothing reads it.
        loss.total.backward(torch.full_like(loss.total, 1 / len(loss.total)))
        found = [parameter for parameter in self.parameters if parameter.grad is not None]
        norm = total_norm([parameter.grad for parameter in found if parameter.grad is not None])
        if self.failed is not None:
            skipped = norm.isfinite().logical_not().float()
            # PyTorch's fused optimisers read this attribute on the device, and skip the update if it is 1.
            self.encoder.found_inf = self.decoder.found_inf = skipped  # type: ignore[attr-defined]
            self.failed = torch.maximum(self.failed, skipped)
            nn.utils.clip_grads_with_norm_(found, self.clip, norm)
        elif not math.isfinite(value := float(norm)):  # clipping by this norm would make all gradients NaN or 0
            raise NotFinite(first_not_finite(self.model, x, weight))
        elif value > self.clip - 1e-5:  # at a smaller norm clipping changes nothing
            nn.utils.clip_grads_with_norm_(found, self.clip, norm)

        return Loss(*(part.detach() for part in loss))


class Loop(ABC):
    """The rule that turns a batch into updates of phi (encoder and head) and theta (decoder).

    A rule may keep values between batches. The method `state` returns these values, and the saved state of the training
    contains them.
    """

    encoder_steps: int = 0
    """The number of optimiser steps so far that updated the encoder alone."""

    @abstractmethod
    def step(self, updates: Updates, x: Tensor, weight: float) -> Loss:
        """Takes one training step on the batch x.

        Args:
            updates: The model and the optimisers.
            x: A batch of word ids, shape (batch, length), or of images, shape (batch, 1, height, width).
            weight: The weight of the KL term.

        Returns:
            The loss of each x and the parts of this loss, in nats. If the rule computes several gradients in a step,
            this is the loss of the last gradient.
        """

    @property
    def reads_information(self) -> bool:
        """Whether the method `epoch_ended` needs the mutual information after the current epoch."""
        return False

    def epoch_ended(self, mutual_information: float | None) -> None:
        """Receives the mutual information on the validation set after each epoch. The base class ignores it.

        Args:
            mutual_information: Mutual information of x and z within batches, in nats, as
                `duvae.metrics.geometry.information_in_batches` estimates it. None: it is unknown for the posterior, or
                `reads_information` is False.
        """

    def state(self) -> dict[str, Any]:
        """Returns the values that the loop keeps between batches, by name. Each value is a number or a boolean."""
        return {"encoder_steps": self.encoder_steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Sets the values of the loop to those that `state` returned."""
        for name, value in state.items():
            setattr(self, name, value)


class JointLoop(Loop):
    """The plain rule: encoder and decoder step together on each batch, from one gradient."""

    def step(self, updates: Updates, x: Tensor, weight: float) -> Loss:
        loss = updates.gradients(x, weight)
        updates.encoder.step()
        updates.decoder.step()
        updates.model.after_step()

        return loss


def total_norm(gradients: list[Tensor]) -> Tensor:
    """Computes the Euclidean norm of all gradients together, shape (). All gradients must be on one device.

    `torch.nn.utils.get_total_norm` gives the same bits, but first groups the gradients by device, which costs time.
    """
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


class SGD(Optimizer):
    """Stochastic gradient descent without momentum. It computes the same bits as `torch.optim.SGD`, at a lower cost.

    `torch.optim.SGD` does bookkeeping around each step, which costs more time than the update of a small network. This
    class leaves out the bookkeeping, which includes the calls of hooks. Hooks on an `SGD` of this module never run.

    Args:
        parameters: The parameters to update.
        learning_rate: Learning rate of the following steps.
    """

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float) -> None:
        super().__init__(parameters, {"lr": learning_rate})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Subtracts the learning rate times the gradient from each parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:  # PyTorch's function refuses an empty list
                gradients = [parameter.grad for parameter in parameters]
                torch._foreach_add_(parameters, gradients, alpha=-group["lr"])

    step.hooked = True  # type: ignore[attr-defined]  # with this attribute, PyTorch does not wrap the method in calls of hooks


def optimizer(parameters: list[nn.Parameter], name: str, learning_rate: float, fused: bool | None = None) -> Optimizer:
    """Builds an optimiser: SGD without momentum, or Adam.

    Args:
        parameters: The parameters that the optimiser updates.
        name: "sgd" or "adam".
        learning_rate: Learning rate of the following steps.
        fused: Whether PyTorch's fused form is used, which can skip an update without a wait (see `Updates.deferred`).
            None: it is used on a GPU.

    Raises:
        UserError: If the name is neither "sgd" nor "adam".
    """
    fused = parameters[0].is_cuda if fused is None else fused
    if name == "sgd":
        return torch.optim.SGD(parameters, learning_rate, fused=True) if fused else SGD(parameters, learning_rate)
    if name == "adam":
        return torch.optim.Adam(parameters, learning_rate, foreach=None if fused else True, fused=fused or None)
    raise UserError(f"unknown optimiser '{name}'; expected sgd or adam")


def first_not_finite(model: VAE, x: Tensor, weight: float) -> str:
    """Finds the tensor that first became infinite or NaN in a step whose gradient is not finite.

    The function searches in this order: parameters, outputs of modules in the forward pass, parts of the loss,
    gradients. For this search it runs the forward pass again.

    Args:
        model: The VAE, whose parameters still have the gradients of the failed step.
        x: The batch of the failed step.
        weight: The weight of the KL term.

    Returns:
        The name of the tensor, such as "the output of encoder". If all these tensors are finite, the result is "the
        norm of the gradient".
    """

    def broken(value: object) -> bool:
        if isinstance(value, Tensor):
            return value.is_floating_point() and not bool(torch.isfinite(value).all())
        if isinstance(value, tuple | list):
            return any(broken(part) for part in value)
        return any(broken(part) for part in vars(value).values()) if hasattr(value, "__dict__") else False

    for name, parameter in model.named_parameters():
        if broken(parameter.detach()):
            return f"parameter {name}"
    found: list[str] = []
    hooks = [
        module.register_forward_hook(
            lambda _, __, output, name=name: found.append(f"the output of {name}") if broken(output) else None
        )
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            loss = model.loss(x, weight)
    finally:
        for hook in hooks:
            hook.remove()
    for part, value in zip(("total loss", "reconstruction", "KL"), loss, strict=True):
        if broken(value):
            found.append(f"the {part}")
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and broken(parameter.grad):
            found.append(f"the gradient of {name}")

    return found[0] if found else "the norm of the gradient"
