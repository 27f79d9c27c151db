"""Softmaxes over a vocabulary, with as few passes over the logits as will do."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, one_hot

from duvae.networks.elementwise import LOG2E


class SoftmaxOutput(nn.Module):
    """From the outputs of an LSTM to log probabilities of words, by one linear map without bias.

    Args:
        hidden: Width of the outputs.
        words: Size of the vocabulary.
    """

    def __init__(self, hidden: int, words: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(words, hidden).uniform_(-1, 1) / math.sqrt(hidden))

    def forward(self, hidden: Float[Tensor, "*batch hidden"], words: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """log p(word) in nats of one word for each output."""
        return log_softmax_at(hidden.flatten(0, -2), self.weight, words.flatten()).view(words.shape)

    def plain(self, hidden: Float[Tensor, "*batch hidden"], words: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The same by PyTorch's own cross entropy."""
        logits = linear(hidden.flatten(0, -2), self.weight)

        return -cross_entropy(logits, words.flatten(), reduction="none").view(words.shape)


class LogSoftmaxAt(torch.autograd.Function):
    r"""$\log p_x = h \cdot W_x - \log s$ with $s = \sum_w e_w$, $e_w = \exp(h \cdot W_w)$, and its gradient.

    $$\frac{\partial \log p_x}{\partial (h \cdot W_w)} = -\frac{e_w - [w = x] s}{s}$$

    The numerator is left where the logits were, and 1 / s goes to the narrow side of each product: of all that
    is as large as the logits, the gradient computes nothing but those two products.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "rows hidden"],
        weight: Float[Tensor, "words hidden"],
        words: Int[Tensor, "rows"],
    ) -> Float[Tensor, "rows"]:
        place = words[:, None]
        powers = (hidden * LOG2E) @ weight.T
        powers -= powers.amax(1, keepdim=True)
        asked = powers.gather(1, place)
        total = powers.exp2_().sum(1, keepdim=True)
        numerator = powers.scatter_add_(1, place, -total)
        ctx.save_for_backward(hidden, weight, words, numerator, total)

        return ((asked - total.log2()) / LOG2E).squeeze(1)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "rows"]) -> tuple[Tensor, Tensor, None]:
        hidden, weight, words, numerator, total = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient is to be differentiated again
            numerator = linear(hidden, weight).softmax(1) - one_hot(words, len(weight))
            total = torch.ones_like(total)
        scale = -gradient[:, None] / total

        return scale * (numerator @ weight), numerator.T @ (scale * hidden), None


log_softmax_at: Callable[[Tensor, Tensor, Tensor], Tensor] = LogSoftmaxAt.apply
"""log p of one word in each row, from h, W and the words."""


@torch.no_grad()
def log_normalizer(
    hidden: Float[Tensor, "rows hidden"], weight: Float[Tensor, "words hidden"], at_once: int
) -> Float[Tensor, "rows"]:
    r"""$\log \sum_w \exp(h \cdot W_w)$ of each row.

    Args:
        hidden: h.
        weight: W.
        at_once: Logits held at a time.
    """
    rows = max(1, at_once // len(weight))
    held = hidden.new_empty(min(rows, len(hidden)), len(weight))
    result = hidden.new_empty(len(hidden))
    for part, out in zip((hidden * LOG2E).split(rows), result.split(rows), strict=True):
        powers = torch.mm(part, weight.T, out=held[: len(part)])
        top = powers.amax(1, keepdim=True)
        torch.sum(powers.sub_(top).exp2_(), 1, out=out)
        out.log2_().add_(top.squeeze(1))

    return result.div_(LOG2E)
