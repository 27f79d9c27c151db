"""Compiled training: `torch.compile` turns the computation of the loss and of its gradient into machine code.

A training is compiled if its option `compiled` in params.yaml is true (see `duvae.config.Optimisation`). What is
compiled depends on the device:

- On a CPU the whole loss is compiled, once for each shape of batches, for at most `MOST_SHAPES` shapes.
- On a GPU only those parts are compiled that need no graph of their own for each shape. For texts this is the softmax
  over the vocabulary, whose rows are all words of a batch. cuDNN computes the LSTMs, which cannot be compiled. For
  images these are the encoder and the decoder, for any number of images.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from duvae.errors import UserError
from duvae.networks.lstm import LSTMDecoder
from duvae.networks.precision import single, single_precision
from duvae.objectives import Loss
from duvae.vae import VAE

Backend = str | Callable[..., Any]
"""The backend of `torch.compile`: a name, or a function of a graph and its inputs."""

MOST_SHAPES = 8
"""Largest number of different shapes of training batches that are compiled on a CPU.

PyTorch compiles the loss once for each shape, which takes about a minute. The batches of all other shapes are not
compiled.
"""

OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {
    "cpp_wrapper": True,  # also compiles the code that calls the operations; in Python this code would be slower
    "fallback_random": True,  # PyTorch's global generator gives the random numbers, and checkpoints save its state
}
"""Options of PyTorch's compiler on a CPU."""


def compile_loss(
    model: VAE, device: torch.device, shapes: Iterable[tuple[int, int]]
) -> Callable[[Tensor, float], Loss]:
    """Compiles the loss of a model.

    The compiled loss differs from `model.loss` in the last bits and in the random draws. The refinement of SA-VAE
    (gradient steps that improve q(z|x)) is never compiled.

    Args:
        model: The model to train. On a GPU, compiled functions replace methods of its parts.
        device: The device to train on.
        shapes: The number of examples and the number of values of an example, for each training batch.

    Returns:
        The function that computes the loss of each example from a batch and the weight of the KL term. PyTorch compiles
        the loss when this function is called: on a CPU, at the first call with each of the most frequent shapes.

    Raises:
        UserError: If the compiler does not work. On a GPU this is not checked.
    """
    if device.type != "cpu":
        compile_parts(model)
        return model.loss
    check()

    return compile_whole(model, shapes, options=OPTIONS)


def compile_whole(model: VAE, shapes: Iterable[tuple[int, int]], **options: Any) -> Callable[[Tensor, float], Loss]:
    """Compiles the whole loss for the `MOST_SHAPES` most frequent shapes of batches.

    Args:
        model: The model to train.
        shapes: The number of examples and the number of values of an example, for each training batch.
        options: Arguments of `torch.compile`.

    Returns:
        The function that computes the loss, as in `compile_loss`. It calls `model.loss` for all other shapes.
    """
    chosen = {shape for shape, _ in Counter(shapes).most_common(MOST_SHAPES)}
    torch._dynamo.config.allow_rnn = True  # lets compiled code read the weights of PyTorch's LSTM
    compiled: Callable[[Tensor, Any], Loss] = torch.compile(model.loss, dynamic=False, **options)

    def loss(x: Tensor, weight: float) -> Loss:
        if (len(x), x[0].numel()) not in chosen:
            return model.loss(x, weight)
        # The compiler treats a Python number as a constant, and would compile the loss again for each new weight. So
        # the function passes the weight as a tensor.
        return compiled(x, torch.tensor(weight))

    return loss


def compile_parts(model: VAE, backend: Backend = "inductor") -> None:
    """Compiles parts of a model for any number of examples. The compiled functions replace methods of the parts.

    Args:
        model: The model to train.
        backend: The backend of `torch.compile`.
    """
    if isinstance(model.decoder, LSTMDecoder):
        log_softmax, output = for_any_length(log_softmax_at, backend, varying=(0, 2)), model.decoder.output

        def forward(hidden: Tensor, words: Tensor) -> Tensor:
            with single_precision(hidden):
                found = log_softmax(single(hidden).flatten(0, -2), output.weight, words.flatten())
            return found.view(words.shape)

        replace(output, "forward", forward)
        return
    replace(model.encoder, "forward", for_any_length(model.encoder.forward, backend, varying=(0,)))
    replace(model.decoder, "log_prob", for_any_length(model.decoder.log_prob, backend, varying=(0, 1)))


def replace(part: nn.Module, name: str, function: Callable[..., Any]) -> None:
    """Replaces a method of one module by a function without the argument `self`."""
    setattr(part, name, function)


def for_any_length(
    function: Callable[..., Tensor], backend: Backend, varying: tuple[int, ...]
) -> Callable[..., Tensor]:
    """Compiles a function once for tensors of any length, instead of once for each length.

    Args:
        function: The function to compile. Its arguments are tensors.
        backend: The backend of `torch.compile`.
        varying: Positions of the arguments whose first dimension varies.

    Returns:
        The compiled function. For tensors of length 1, which a compiler treats as a case of its own, it calls
        `function`.
    """
    compiled = torch.compile(function, backend=backend)

    def call(*arguments: Tensor) -> Tensor:
        if len(arguments[varying[0]]) == 1:
            return function(*arguments)
        for position in varying:
            torch._dynamo.mark_dynamic(arguments[position], 0)
        return compiled(*arguments)

    return call


def log_softmax_at(hidden: Tensor, weight: Tensor, words: Tensor) -> Tensor:
    """Computes log p of one word for each row by PyTorch's own functions, which the compiler joins.

    Args:
        hidden: LSTM outputs, shape (rows, hidden).
        weight: Weights of the map to the vocabulary, shape (words, hidden).
        words: Id of the word of each row, shape (rows,).

    Returns:
        The log probabilities in nats, shape (rows,).
    """
    return -cross_entropy(linear(hidden, weight), words, reduction="none")


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
