"""Compiled training: `torch.compile` turns the loss and its gradient into machine code."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from duvae.errors import UserError
from duvae.objectives import Loss
from duvae.vae import VAE

MOST_SHAPES = 8
"""Largest number of shapes of training batches: PyTorch compiles each shape, which takes about a minute."""

OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {
    "cpp_wrapper": True,  # the calls between operations are also machine code
    "fallback_random": True,  # random numbers come from PyTorch's global generator, whose state checkpoints hold
}
"""Options of the compiler on a CPU."""


def compile_loss(model: VAE, device: torch.device, shapes: int) -> Callable[[Tensor, float], Loss]:
    """Compiles the loss of a model. Results differ in the last bits from those of `model.loss`, and so do random draws.

    On a CPU the whole loss is compiled, except the refinement of SA-VAE. On a GPU encoder and decoder are compiled.

    Args:
        model: The model to train.
        device: The device to train on.
        shapes: The number of different shapes of training batches.

    Returns:
        The function from a batch and the weight of the KL term to the loss of each example. PyTorch compiles it at the
        first call with each shape.

    Raises:
        UserError: If a CPU should train on batches of too many shapes, or if the compiler does not work.
    """
    if device.type != "cpu":
        for part, name in ((model.encoder, "forward"), (model.decoder, "log_prob")):
            setattr(part, name, torch.compile(getattr(part, name)))
        return model.loss
    if shapes > MOST_SHAPES:
        raise UserError(
            f"params.yaml: optimisation.compiled is true, but the training batches have {shapes} different shapes. "
            f"PyTorch compiles each shape for about a minute, so that at most {MOST_SHAPES} are allowed. "
            "Set compiled to false for this data set."
        )
    check()
    torch._dynamo.config.allow_rnn = True  # lets compiled code read the weights of PyTorch's LSTM
    compiled: Callable[[Tensor, Any], Loss] = torch.compile(model.loss, dynamic=False, options=OPTIONS)

    # A tensor, since the compiler takes a number for a constant of its code and would compile each weight anew.
    return lambda x, weight: compiled(x, torch.tensor(weight))


def check() -> None:
    """Compiles one addition.

    Raises:
        UserError: If that fails.
    """
    from torch._inductor.exc import InductorError  # loads the compiler, which other trainings do not need

    try:
        torch.compile(lambda x: x + 1, options=OPTIONS)(torch.zeros(8))
    except (InductorError, ImportError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"params.yaml: optimisation.compiled is true, but PyTorch's compiler does not work here: {reason}. "
            "Install g++ and Python's header files, or set compiled to false."
        ) from error
