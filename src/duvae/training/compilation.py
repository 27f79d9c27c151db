"""Compiled training: `torch.compile` turns the computation of the loss and of its gradient into machine code.

A training is compiled if its option `compiled` in params.yaml is true (see `duvae.config.Optimisation`).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from duvae.errors import UserError
from duvae.objectives import Loss
from duvae.vae import VAE

MOST_SHAPES = 8
"""Largest number of different shapes of training batches that compiled training on a CPU accepts.

PyTorch compiles the loss once for each shape, which takes about a minute.
"""

OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {
    "cpp_wrapper": True,  # also compiles the code that calls the operations; in Python this code would be slower
    "fallback_random": True,  # PyTorch's global generator gives the random numbers, and checkpoints save its state
}
"""Options of PyTorch's compiler on a CPU."""


def compile_loss(model: VAE, device: torch.device, shapes: int) -> Callable[[Tensor, float], Loss]:
    """Compiles the loss of a model.

    The compiled loss differs from `model.loss` in the last bits and in the random draws.

    On a CPU, the whole loss is compiled, except the refinement of SA-VAE (gradient steps that improve q(z|x)). On a
    GPU, only two methods are compiled: `forward` of the encoder and `log_prob` of the decoder. The compiled functions
    replace these two methods in `model`.

    Args:
        model: The model to train.
        device: The device to train on.
        shapes: The number of different shapes of training batches.

    Returns:
        The function that computes the loss of each example from a batch and the weight of the KL term. PyTorch compiles
        the loss when this function is called: on a CPU, at the first call with each shape of batch.

    Raises:
        UserError: If there are more than `MOST_SHAPES` shapes, or if the compiler does not work. On a GPU, neither is
            checked.
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

    # The compiler treats a Python number as a constant, and would compile the loss again for each new weight. So the
    # function passes the weight as a tensor.
    return lambda x, weight: compiled(x, torch.tensor(weight))


def check() -> None:
    """Checks that PyTorch's compiler works on this CPU, by compiling one addition.

    Raises:
        UserError: If the compilation fails, for example because the machine has no C++ compiler.
    """
    from torch._inductor.exc import InductorError  # imported here: it loads the compiler, which most trainings skip

    try:
        torch.compile(lambda x: x + 1, options=OPTIONS)(torch.zeros(8))
    except (InductorError, ImportError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"params.yaml: optimisation.compiled is true, but PyTorch's compiler does not work here: {reason}. "
            "Install g++ and Python's header files, or set compiled to false."
        ) from error
