"""How a batch is turned into updates: encoder and decoder together."""

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
    """A gradient or a loss that is not a finite number; its text names the first tensor that went wrong."""


@dataclass
class Updates:
    """What a loop needs to turn a batch into updates.

    Attributes:
        model: What is trained.
        encoder: The optimiser of phi.
        decoder: The optimiser of theta.
        clip: The norm that the gradient over all parameters is clipped at.
        draw: Gives a random training batch.
        bfloat16: Compute what may be in half precision; weights, sums and the loss stay single.
        parameters: All parameters of the model.
    """

    model: VAE
    encoder: Optimizer
    decoder: Optimizer
    clip: float
    draw: Callable[[], Tensor]
    bfloat16: bool = False
    parameters: list[nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = list(self.model.parameters())

    def gradients(self, x: Tensor, weight: float) -> Loss:
        """The clipped gradients of the batch's mean loss, for all parameters.

        Raises:
            NotFinite: Before anything is updated with them; not on a GPU, which it would make wait at each step.
        """
        for parameter in self.parameters:
            parameter.grad = None
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss = self.model.loss(x, weight)
        # The gradient of the mean over the batch, without the mean itself, which nothing reads.
        loss.total.backward(torch.full_like(loss.total, 1 / len(loss.total)))
        found = [parameter for parameter in self.parameters if parameter.grad is not None]
        norm = total_norm([parameter.grad for parameter in found if parameter.grad is not None])
        if norm.is_cuda:  # reading the norm would make the GPU wait at each step
            nn.utils.clip_grads_with_norm_(found, self.clip, norm)
        elif not math.isfinite(value := float(norm)):  # before clipping, which would spread it over all gradients
            raise NotFinite(first_not_finite(self.model, x, weight))
        elif value > self.clip - 1e-5:  # below, clipping multiplies every gradient by 1
            nn.utils.clip_grads_with_norm_(found, self.clip, norm)

        return Loss(*(part.detach() for part in loss))


class Loop(ABC):
    """From a batch to updates of phi and theta; what it remembers between batches is in its state."""

    encoder_steps: int = 0
    """Steps of the encoder alone so far."""

    @abstractmethod
    def step(self, updates: Updates, x: Tensor, weight: float) -> Loss:
        """One step of training on x; returns the loss it ended with."""

    def epoch_ended(self, mutual_information: float | None) -> None:
        """Told the validation set's mutual information after each epoch, in nats."""

    def state(self) -> dict[str, Any]:
        """What the loop remembers, as plain values."""
        return {"encoder_steps": self.encoder_steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Remembers again what `state` gave."""
        for name, value in state.items():
            setattr(self, name, value)


class JointLoop(Loop):
    """Encoder and decoder step together on each batch."""

    def step(self, updates: Updates, x: Tensor, weight: float) -> Loss:
        loss = updates.gradients(x, weight)
        updates.encoder.step()
        updates.decoder.step()
        updates.model.after_step()

        return loss


def total_norm(gradients: list[Tensor]) -> Tensor:
    """The norm of all gradients together, shape (); they lie on one device.

    These are the bits of `torch.nn.utils.get_total_norm`, which first groups the gradients by device.
    """
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


class SGD(Optimizer):
    """Stochastic gradient descent without momentum: the bits of `torch.optim.SGD`, without its bookkeeping.

    That bookkeeping costs more than the update of a small network. It includes the hooks around a step, which
    this class therefore never calls.

    Args:
        parameters: The parameters to update.
        learning_rate: The learning rate.
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

    step.hooked = True  # type: ignore[attr-defined]  # PyTorch then does not wrap the method in its hooks


def optimizer(parameters: list[nn.Parameter], name: str, learning_rate: float) -> Optimizer:
    """SGD without momentum, or Adam."""
    if name == "sgd":
        return SGD(parameters, learning_rate)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=learning_rate, foreach=True)
    raise UserError(f"unknown optimiser '{name}'; expected sgd or adam")


def first_not_finite(model: VAE, x: Tensor, weight: float) -> str:
    """Names the first tensor that is not finite: a parameter, a module's output in forward order, or a gradient."""

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
