"""Computes log probabilities of words, expectations and gradients of a softmax over a vocabulary.

h is an LSTM output, W is the weight matrix of the linear map from h to the logits, and $h W^T$ are the logits. The
logits take much memory, so the functions read and write them as few times as possible. They compute 2^(x log2(e))
instead of exp(x), because PyTorch computes powers of 2 faster on a CPU. The text calls these values the powers.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear, one_hot

from duvae.networks.fast.blocks import ROWS, block_size, logits_at_once
from duvae.networks.fast.elementwise import LOG2E
from duvae.networks.fast.products import Factor, columns_product, product
from duvae.networks.lstm import SoftmaxOutput
from duvae.networks.precision import single, single_precision

AT_ONCE = 2**19
"""The number of logits to compute at a time, if no logit is stored for later.

They take 2 MiB in single precision, so that they stay in the processor's cache.
"""

IN_CACHE = 2**20
"""The largest number of elements of a matrix W that stays in the processor's cache."""

NARROW = 128
"""The largest width of h for which the function `log_softmax_narrow` is used.

From a width of 256 on, it is no faster than `log_softmax_at`.
"""

IN_BLOCK = 2**22
"""The number of logits to compute at a time, if all logits are stored, or if W has more than `IN_CACHE` elements.

They take 16 MiB in single precision.
"""


class FastSoftmaxOutput(SoftmaxOutput):
    """The map `SoftmaxOutput` from LSTM outputs to log probabilities of words, in a faster form.

    Its softmax and its gradient read and write the logits fewer times than those of PyTorch.
    """

    def forward(self, hidden: Float[Tensor, "*batch hidden"], words: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        form = log_softmax_narrow if hidden.shape[-1] <= NARROW and not hidden.is_cuda else log_softmax_at

        with single_precision(hidden):
            return form(single(hidden).flatten(0, -2), self.weight, words.flatten()).view(words.shape)


class LogSoftmaxAt(torch.autograd.Function):
    r"""Computes $\log p_x = h \cdot W_x - \log s$ with $s = \sum_w e_w$, $e_w = \exp(h \cdot W_w)$, and its gradient.

    $$\frac{\partial \log p_x}{\partial (h \cdot W_w)} = -\frac{e_w - [w = x] s}{s}$$

    Here x is the word to predict from h. The square bracket is 1 if the condition in it holds, otherwise 0.

    The forward pass overwrites the logits by the numerator of this fraction. The backward pass multiplies the numerator
    by h and by W, and applies the factor 1 / s to the smaller matrix of each product. So the backward pass reads the
    numerator only in its two matrix products.

    Args:
        hidden: LSTM outputs h, shape (rows, hidden).
        weight: The matrix W, shape (words, hidden).
        words: Id of the word to predict for each row, shape (rows,).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "rows hidden"],
        weight: Float[Tensor, "words hidden"],
        words: Int[Tensor, "rows"],
    ) -> Float[Tensor, "rows"]:
        place, rows = words[:, None], max(1, logits_at_once(hidden, IN_BLOCK) // len(weight))
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
        if torch.is_grad_enabled():  # the caller differentiates this gradient again
            numerator = linear(hidden, weight).softmax(1) - one_hot(words, len(weight))
            total = torch.ones_like(total)
        scale = -gradient[:, None] / total

        return scale * product(numerator, weight.T), columns_product(numerator, scale * hidden), None


class LogSoftmaxNarrow(torch.autograd.Function):
    """Computes the function of `LogSoftmaxAt` faster, if each row h has few elements.

    The logits have the shape (words, rows), the transpose of the shape in `LogSoftmaxAt`. Libraries for matrix products
    use vector instructions along the columns of the result. In this class the results have one column for each of the
    many rows h. In `LogSoftmaxAt` the gradients have one column for each of the few elements of h.

    The largest logit of a row h is computed only if the sum of the powers shows that it is needed (see `exact`).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "rows hidden"],
        weight: Float[Tensor, "words hidden"],
        words: Int[Tensor, "rows"],
    ) -> Float[Tensor, "rows"]:
        asked, numerator, total = numerators((hidden * LOG2E).T, weight, words[None])
        ctx.save_for_backward(hidden, weight, words, numerator, total)

        return ((asked - total.log2()) / LOG2E).squeeze(0)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "rows"]) -> tuple[Tensor, Tensor, None]:
        hidden, weight, words, numerator, total = ctx.saved_tensors
        if torch.is_grad_enabled():  # the caller differentiates this gradient again
            numerator = (linear(hidden, weight).softmax(1) - one_hot(words, len(weight))).T
            total = torch.ones_like(total)
        scale = -gradient / total

        return ((weight.T @ numerator) * scale).T, numerator @ (scale * hidden.T).T, None


def numerators(
    scaled: Float[Tensor, "hidden rows"], weight: Float[Tensor, "words hidden"], place: Int[Tensor, "1 rows"]
) -> tuple[Float[Tensor, "1 rows"], Float[Tensor, "words rows"], Float[Tensor, "1 rows"]]:
    """Computes the parts of a softmax and of its gradient, with logits of shape (words, rows).

    Args:
        scaled: LSTM outputs times log2(e), one column for each word to predict, shape (hidden, rows).
        weight: Weights of the map to the vocabulary, shape (words, hidden).
        place: Id of the word to predict for each column, shape (1, rows).

    Returns:
        Three tensors: the logit of the word to predict times log2(e), the numerator of the gradient in the formula of
        `LogSoftmaxAt`, and the sum of the powers of each column. If float32 would lose a term of a sum (see `exact`),
        the largest logit of each column is first subtracted from all logits of the column.
    """
    powers = weight @ scaled
    asked = powers.gather(0, place)
    total = powers.exp2_().sum(0, keepdim=True)
    if not exact(total):
        powers = weight @ scaled
        top = powers.amax(0, keepdim=True)
        asked -= top
        total = powers.sub_(top).exp2_().sum(0, keepdim=True)

    return asked, powers.scatter_add_(0, place, -total), total


log_softmax_narrow: Callable[[Tensor, Tensor, Tensor], Tensor] = LogSoftmaxNarrow.apply
"""Function that computes log p of one word for each row h, from h, W and the ids of the words.

On a CPU it is faster than `log_softmax_at` if a row has at most `NARROW` elements.
"""

log_softmax_at: Callable[[Tensor, Tensor, Tensor], Tensor] = LogSoftmaxAt.apply
"""Function that computes log p of one word for each row h, from h, W and the ids of the words."""


def block(weight: Float[Tensor, "words hidden"], rows: int) -> Factor:
    """Prepares W as a `Factor` for many products with LSTM outputs, and chooses the number of rows of each product.

    With this number the logits are computed fastest, if they are not stored for later.

    Args:
        weight: The matrix W, shape (words, hidden).
        rows: The total number of LSTM outputs h, one per row.
    """
    at_once = AT_ONCE if weight.numel() <= IN_CACHE else IN_BLOCK
    most = block_size(weight, max(1, at_once // len(weight)), ROWS, 2 * len(weight))

    return Factor(weight, even(rows, most))


def even(count: int, most: int) -> int:
    """Computes the size of the parts into which `count` items are cut.

    This size is at most `most`. It is chosen so that the last part, which may be smaller, has nearly the same size.
    """
    return math.ceil(count / math.ceil(count / most))


@torch.no_grad()
def log_normalizer(hidden: Float[Tensor, "rows hidden"], weight: Factor) -> Float[Tensor, "rows"]:
    r"""Computes $\log \sum_w \exp(h \cdot W_w)$ for each row h.

    On a CPU the largest logit of a row h is computed only if a sum of powers shows that it is needed (see `exact`).

    Args:
        hidden: The rows h, shape (rows, hidden).
        weight: The matrix W, together with the number of rows to compute at a time (see `block`).
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
    """Whether the powers of 2 could be summed without subtracting the largest logit beforehand.

    They could if all sums lie between 2^-60 and 2^120: then no term that matters was too large or too small for
    float32.
    """
    least, most = (float(end) for end in torch.aminmax(total))

    return least > 2.0**-60 and most < 2.0**120


def exponentials(
    hidden: Float[Tensor, "rows hidden"], weight: Float[Tensor, "words hidden"]
) -> tuple[Float[Tensor, "words rows"], Float[Tensor, "rows"]]:
    r"""Computes $\exp(h \cdot W_w)$ for each row h and word w, divided by the largest such value of the row.

    Returns:
        These quotients, shape (words, rows), and the sum of the quotients of each row h, shape (rows,).
    """
    powers = weight @ (hidden * LOG2E).T
    powers.sub_(powers.amax(0)).exp2_()

    return powers, powers.sum(0)


def expectation(
    hidden: Float[Tensor, "rows hidden"], weight: Float[Tensor, "words hidden"]
) -> tuple[Float[Tensor, "rows hidden"], Tensor | None, Tensor | None]:
    r"""Computes p W for each row h, where $p = \mathrm{softmax}(h W^T)$ are the probabilities of the words.

    p W is the mean of the rows $W_w$ under p. It is also the gradient of $\log \sum_w \exp(h \cdot W_w)$ with respect
    to h.

    Args:
        hidden: The rows h, shape (rows, hidden).
        weight: The matrix W, shape (words, hidden).

    Returns:
        Three values: the product p W, and the two results of `exponentials`. These two results are None if the rows
        were computed in several parts, since storing them for all rows would take too much memory.
    """
    parts = hidden.split(max(1, logits_at_once(hidden, AT_ONCE) // len(weight)))
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
    r"""Computes the derivatives of $p W$ and $-p^T h$ when h moves in a direction v.

    $p W$ is the gradient of $\log \sum_w \exp(h \cdot W_w)$ with respect to h, and $-p^T h$ is the gradient of
    $-\log \sum_w \exp(h \cdot W_w)$ with respect to W. The index v marks a derivative along v. With $q = v W^T$ and
    $\bar q = p \cdot q = v \cdot p W$,

    $$(p W)_v = (p \odot q) W - \bar q \, p W, \quad -(p^T h)_v = -(p \odot q)^T h - p^T (v - \bar q h).$$

    Args:
        hidden: The rows h, shape (rows, hidden).
        along: The direction v of each row, shape (rows, hidden).
        weight: The matrix W, shape (words, hidden).
        expected: The product p W, shape (rows, hidden).
        powers: The quotients that `exponentials` returned; None: they are computed again.
        total: The sums that `exponentials` returned; None: they are computed again.

    Returns:
        Two derivatives along v: that of p W, shape (rows, hidden), and that of -p^T h, summed over the rows, shape
        (words, hidden).
    """
    rows = max(1, logits_at_once(hidden, AT_ONCE) // len(weight))
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
