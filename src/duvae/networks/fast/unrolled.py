"""An LSTM and a softmax for compiled training on a CPU, in which `torch.compile` compiles the training loss.

`torch.compile` cannot compile PyTorch's own LSTM, so this module computes an LSTM step by step. The tensors of this
LSTM have the batch as their last dimension, so that the values of each gate form one block of memory.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from duvae.networks.fast.elementwise import LOG2E
from duvae.networks.fast.tokens import numerators


class UnrolledLSTM(torch.autograd.Function):
    r"""The outputs of an LSTM, computed step by step, with a gradient that is written by hand.

    $$(i, f, g, o)_t = a_t + W h_{t-1}, \quad c_t = \sigma(f_t) \, c_{t-1} + \sigma(i_t) \tanh g_t, \quad
      h_t = \sigma(o_t) \tanh c_t$$

    $a_t$ is the sum of the terms of the input and of the biases in the gates of step t. The backward pass computes the
    gradient with respect to W by one matrix product over all steps. Autograd would compute one product per step.

    Args:
        inputs: Terms $a_t$ of all steps, shape (gates, length, batch). The four gates i, f, g and o lie one after the
            other along the dimension `gates`, so it has four times the size of the dimension `hidden`.
        weight: Recurrent weights W, shape (gates, hidden).
        hidden: First hidden state $h_0$, shape (hidden, batch).
        cell: First cell state $c_0$, shape (hidden, batch).

    Returns:
        Outputs $h_t$ of all steps, shape (hidden, length, batch).
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Float[Tensor, "gates length batch"],
        weight: Float[Tensor, "gates hidden"],
        hidden: Float[Tensor, "hidden batch"],
        cell: Float[Tensor, "hidden batch"],
    ) -> Float[Tensor, "hidden length batch"]:
        h, c = hidden, cell
        states, outputs = [], []
        for share in inputs.unbind(1):
            i, f, g, o = (share + weight @ h).chunk(4)
            i, f, g, o = i.sigmoid(), f.sigmoid(), tanh(g), o.sigmoid()
            c = f * c + i * g
            h = o * tanh(c)
            states.append(torch.cat([i, f, g, o, c]))
            outputs.append(h)
        result = torch.stack(outputs, 1)
        ctx.save_for_backward(weight, hidden, cell, torch.stack(states), result)

        return result

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "hidden length batch"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # The prefix `by_` marks the gradient of the loss with respect to a value. The variable `top` is tanh c_t.
        weight, hidden, cell, states, outputs = ctx.saved_tensors
        steps = [state.chunk(5) for state in states.unbind(0)]
        by_hidden, by_cell = torch.zeros_like(hidden), torch.zeros_like(cell)
        by_gates = []
        for t in reversed(range(len(steps))):
            i, f, g, o, c = steps[t]
            before = steps[t - 1][-1] if t else cell
            top = tanh(c)
            by_hidden = by_hidden + gradient[:, t]
            by_cell = by_cell + by_hidden * o * (1 - top * top)
            parts = [
                by_cell * g * i * (1 - i),
                by_cell * before * f * (1 - f),
                by_cell * i * (1 - g * g),
                by_hidden * top * o * (1 - o),
            ]
            by_gates.append(torch.cat(parts))
            by_hidden = weight.T @ by_gates[-1]
            by_cell = by_cell * f
        by_inputs = torch.stack(by_gates[::-1], 1)
        previous = torch.cat([hidden[:, None], outputs[:, :-1]], 1)

        return by_inputs, by_inputs.flatten(1) @ previous.flatten(1).T, by_hidden, by_cell


def tanh(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""$\tanh x = 2 \sigma(2x) - 1$, accurate to 1e-7. In compiled code this form is faster than `torch.tanh`."""
    return 2 * (2 * x).sigmoid() - 1


unrolled_lstm: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = UnrolledLSTM.apply
"""Function that computes the outputs of an LSTM. Its four arguments are those of `UnrolledLSTM`."""


# `torch.compile` treats this function as one operation, and does not compile it. The reason is that PyTorch's own loops
# over the logits are faster than compiled loops. The function returns log p of the word of each column, shape (rows,),
# and two results of `numerators` that the gradient needs: the numerator, shape (words, rows), and the sum of the powers
# of each column, shape (1, rows).
@torch.library.custom_op("duvae::log_softmax", mutates_args=())
def _log_softmax(hidden: Tensor, weight: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    asked, numerator, total = numerators(hidden * LOG2E, weight, words[None])

    return ((asked - total.log2()) / LOG2E).squeeze(0), numerator, total


@_log_softmax.register_fake
def _shapes(hidden: Tensor, weight: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Builds empty tensors with the shapes of the results of `_log_softmax`.

    `torch.compile` calls this function to plan the memory.
    """
    rows = len(words)

    return hidden.new_empty(rows), hidden.new_empty(len(weight), rows), hidden.new_empty(1, rows)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
    """Stores the tensors that the gradient of `_log_softmax` needs: h, W, the numerator and the sum of the powers."""
    ctx.save_for_backward(*inputs[:2], *output[1:])


def _gradient(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None]:
    """Computes the gradients of the loss with respect to h and W by the formula of `tokens.LogSoftmaxAt`."""
    hidden, weight, numerator, total = ctx.saved_tensors
    scale = -gradient / total

    return (weight.T @ numerator) * scale, numerator @ (scale * hidden).T, None


_log_softmax.register_autograd(_gradient, setup_context=_save)


def log_softmax_columns(
    hidden: Float[Tensor, "hidden rows"], weight: Float[Tensor, "words hidden"], words: Int[Tensor, "rows"]
) -> Float[Tensor, "rows"]:
    """Computes log p of one word for each column of `hidden`, in nats. Compiled training uses this function.

    Args:
        hidden: LSTM outputs h, one column for each word to predict, shape (hidden, rows).
        weight: Weights W of the map to the vocabulary, shape (words, hidden).
        words: Id of the word to predict for each column, shape (rows,).

    Returns:
        The log probabilities, shape (rows,).
    """
    result: Tensor = _log_softmax(hidden, weight, words)[0]

    return result
