"""Softmaxes over a vocabulary, with as few passes over the logits as will do."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear, one_hot

from duvae.networks.fast.elementwise import LOG2E
from duvae.networks.fast.products import Factor, columns_product, product
from duvae.networks.lstm import SoftmaxOutput

AT_ONCE = 2**19
"""Logits held at a time where none has to be kept: 2 MiB, so that they stay in the cache."""

IN_CACHE = 2**20
"""Numbers of a W that stays in the cache itself."""

NARROW = 128
"""Largest width of h for which the words lie before the rows: from 256 on it gains nothing."""

IN_BLOCK = 2**22
"""Logits computed at a time where all are kept, and held where each block reads a larger W: 16 MiB."""


class FastSoftmaxOutput(SoftmaxOutput):
    """The plain map with a softmax of few passes over the logits, and with the gradient of that."""

    def forward(self, hidden: Float[Tensor, "*batch hidden"], words: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        form = log_softmax_narrow if hidden.shape[-1] <= NARROW and not hidden.is_cuda else log_softmax_at

        return form(hidden.flatten(0, -2), self.weight, words.flatten()).view(words.shape)


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
        place, rows = words[:, None], max(1, IN_BLOCK // len(weight))
        scaled = hidden * LOG2E
        asked, total = hidden.new_empty(2, len(hidden), 1)
        numerators = hidden.new_empty(len(hidden), len(weight)) if len(hidden) > rows else None
        for first in range(0, len(hidden), rows):
            part = slice(first, first + rows)
            powers = product(scaled[part], weight)
            powers -= powers.amax(1, keepdim=True)
            torch.gather(powers, 1, place[part], out=asked[part])
            numerator = torch.exp2(powers, out=powers if numerators is None else numerators[part])
            torch.sum(numerator, 1, keepdim=True, out=total[part])
            numerator.scatter_add_(1, place[part], -total[part])
        ctx.save_for_backward(hidden, weight, words, numerator if numerators is None else numerators, total)

        return ((asked - total.log2()) / LOG2E).squeeze(1)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "rows"]) -> tuple[Tensor, Tensor, None]:
        hidden, weight, words, numerator, total = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient is to be differentiated again
            numerator = linear(hidden, weight).softmax(1) - one_hot(words, len(weight))
            total = torch.ones_like(total)
        scale = -gradient[:, None] / total

        return scale * product(numerator, weight.T), columns_product(numerator, scale * hidden), None


class LogSoftmaxNarrow(torch.autograd.Function):
    """The function of `LogSoftmaxAt` for rows of few elements, with the words before the rows.

    A library's product runs its vectors along the columns of the result. In the gradient with respect to h those would
    be the few elements of h, here they are the rows. A row's largest logit is looked for only where the sum of the
    powers shows that it is needed.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "rows hidden"],
        weight: Float[Tensor, "words hidden"],
        words: Int[Tensor, "rows"],
    ) -> Float[Tensor, "rows"]:
        scaled, place = (hidden * LOG2E).T, words[None]
        powers = weight @ scaled
        asked = powers.gather(0, place)
        total = powers.exp2_().sum(0, keepdim=True)
        if not exact(total):
            powers = weight @ scaled
            top = powers.amax(0, keepdim=True)
            asked -= top
            total = powers.sub_(top).exp2_().sum(0, keepdim=True)
        numerator = powers.scatter_add_(0, place, -total)
        ctx.save_for_backward(hidden, weight, words, numerator, total)

        return ((asked - total.log2()) / LOG2E).squeeze(0)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "rows"]) -> tuple[Tensor, Tensor, None]:
        hidden, weight, words, numerator, total = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient is to be differentiated again
            numerator = (linear(hidden, weight).softmax(1) - one_hot(words, len(weight))).T
            total = torch.ones_like(total)
        scale = -gradient / total

        return ((weight.T @ numerator) * scale).T, numerator @ (scale * hidden.T).T, None


log_softmax_narrow: Callable[[Tensor, Tensor, Tensor], Tensor] = LogSoftmaxNarrow.apply
"""The same where h has few elements."""

log_softmax_at: Callable[[Tensor, Tensor, Tensor], Tensor] = LogSoftmaxAt.apply
"""log p of one word in each row, from h, W and the words."""


def block(weight: Float[Tensor, "words hidden"], rows: int) -> Factor:
    """W for as many of some rows at a time as are best where no logit is kept."""
    at_once = AT_ONCE if weight.numel() <= IN_CACHE else IN_BLOCK

    return Factor(weight, even(rows, max(1, at_once // len(weight))))


def even(count: int, most: int) -> int:
    """How many of a count to take at a time, at most so many, so that the last are hardly fewer."""
    return math.ceil(count / math.ceil(count / most))


@torch.no_grad()
def log_normalizer(hidden: Float[Tensor, "rows hidden"], weight: Factor) -> Float[Tensor, "rows"]:
    r"""$\log \sum_w \exp(h \cdot W_w)$ of each row.

    On a CPU no row's largest logit is looked for, unless a sum shows that it has to be.

    Args:
        hidden: h.
        weight: W, for so many rows at a time.
    """
    held = hidden.new_empty(min(weight.rows, len(hidden)), len(weight.weight))
    result = hidden.new_empty(len(hidden))
    for part, out in zip((hidden * LOG2E).split(weight.rows), result.split(weight.rows), strict=True):
        powers = weight.product(part, held[: len(part)])
        if not hidden.is_cuda:
            torch.sum(powers.exp2_(), 1, out=out)
            if exact(out):
                out.log2_()
                continue
            powers = weight.product(part, held[: len(part)])
        top = powers.amax(1, keepdim=True)
        torch.sum(powers.sub_(top).exp2_(), 1, out=out)
        out.log2_().add_(top.squeeze(1))

    return result.div_(LOG2E)


def exact(total: Float[Tensor, "*rows"]) -> bool:
    """Whether sums of powers of 2 are so far from what float32 can't hold that nothing of weight was lost."""
    least, most = (float(end) for end in torch.aminmax(total))

    return least > 2.0**-60 and most < 2.0**120


def exponentials(
    hidden: Float[Tensor, "rows hidden"], weight: Float[Tensor, "words hidden"]
) -> tuple[Float[Tensor, "words rows"], Float[Tensor, "rows"]]:
    """Each word's exp(h W_w), up to a factor that makes a row's largest 1, and their sums."""
    powers = weight @ (hidden * LOG2E).T
    powers.sub_(powers.amax(0)).exp2_()

    return powers, powers.sum(0)


def expectation(
    hidden: Float[Tensor, "rows hidden"], weight: Float[Tensor, "words hidden"]
) -> tuple[Float[Tensor, "rows hidden"], Tensor | None, Tensor | None]:
    r"""$p W$ with $p = \mathrm{softmax}(h W^T)$: the gradient of $\log \sum_w \exp(h \cdot W_w)$ with respect to h.

    Args:
        hidden: h.
        weight: W.

    Returns:
        p W, and what `exponentials` gives if all of it is held at once.
    """
    parts = hidden.split(max(1, AT_ONCE // len(weight)))
    found = []
    for part in parts:
        powers, total = exponentials(part, weight)
        found.append((weight.T @ powers).div_(total).T)

    return (found[0], powers, total) if len(parts) == 1 else (torch.cat(found), None, None)


def expectation_along(
    hidden: Float[Tensor, "rows hidden"],
    along: Float[Tensor, "rows hidden"],
    weight: Float[Tensor, "words hidden"],
    expected: Float[Tensor, "rows hidden"],
    powers: Float[Tensor, "words rows"] | None = None,
    total: Float[Tensor, "rows"] | None = None,
) -> tuple[Float[Tensor, "rows hidden"], Float[Tensor, "words hidden"]]:
    r"""How the gradients of $-\log \sum_w \exp(h \cdot W_w)$ change when h goes along a direction v.

    With $q = v W^T$ and $\bar q = p \cdot q = v \cdot p W$

    $$(p W)_v = (p \odot q) W - \bar q \, p W, \quad -(p^T h)_v = -(p \odot q)^T h - p^T (v - \bar q h).$$

    Args:
        hidden: h.
        along: v.
        weight: W.
        expected: p W.
        powers: What `exponentials` gave, if it was kept.
        total: Its sums.

    Returns:
        The change of p W, and that of the gradient with respect to W, summed over the rows.
    """
    rows = max(1, AT_ONCE // len(weight))
    mean = (along * expected).sum(1, keepdim=True)
    by_weight = torch.zeros_like(weight.T)
    found = []
    for h, v, q in zip(hidden.split(rows), along.split(rows), mean.split(rows), strict=True):
        if powers is None or total is None or len(h) < len(hidden):
            powers, total = exponentials(h, weight)
        by_weight.addmm_(torch.addcmul(v, q, h, value=-1).T / -total, powers.T)
        weighted = (weight @ v.T).mul_(powers)
        by_weight.addmm_(h.T / -total, weighted.T)
        found.append((weight.T @ weighted).div_(total).T)

    return torch.addcmul(torch.cat(found), mean, expected, value=-1), by_weight.T.contiguous()
