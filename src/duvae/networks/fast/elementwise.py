"""Faster CPU versions of three PyTorch functions: dropout, tanh and ELU."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

LOG2E = 1 / math.log(2)
"""The factor in exp(x) = 2^(x LOG2E). On a CPU, PyTorch computes 2^x in a quarter of the time of exp(x)."""

STEPS = 2**16
"""The number of different values that a 16-bit integer can have."""


def dropout(x: Float[Tensor, "*shape"], share: float, training: bool) -> Float[Tensor, "*shape"]:
    """Applies dropout, as `torch.nn.functional.dropout` does. On a CPU this function draws the random mask faster.

    Args:
        x: The tensor to drop elements from.
        share: The probability that an element is dropped. The remaining elements are divided by 1 - share.
        training: Whether elements are dropped; False: the function returns x unchanged.
    """
    if not training or share == 0 or x.is_cuda:
        return functional.dropout(x, share, training)
    kept = by_bits if (share * STEPS).is_integer() and share < 1 else by_uniform_numbers

    return x * kept(x, share).div_(1 - share)


def by_uniform_numbers(x: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
    """Draws a mask with one uniform random number per element: 1 for a kept element, 0 for a dropped one.

    Args:
        x: The tensor whose shape, type and device the mask takes.
        share: The probability that an element is dropped.
    """
    return torch.rand(x.shape, dtype=x.dtype, device=x.device).ge_(share)  # contiguous, whatever the layout of x


def by_bits(x: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
    """Draws a mask as `by_uniform_numbers` does, but with 16 random bits per element, in a third of the time.

    Args:
        x: The tensor whose shape and type the mask takes.
        share: The probability that an element is dropped, a multiple of 1 / 2^16.
    """
    count = -(-x.numel() // 4)
    if torch.compiler.is_compiling():
        # `torch.compile` can compile `randint`, but not `random_`. `randint` never draws the largest of the 2^64
        # numbers. This changes the share of dropped elements by a negligible amount.
        bits = torch.randint(-(2**63), 2**63 - 1, (count,)).view(torch.int16)
    else:
        bits = torch.empty(count, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    kept = x.new_empty(x.numel())  # contiguous, whatever the layout of x
    torch.ge(bits[: len(kept)], round(share * STEPS) - STEPS // 2, out=kept)

    return kept.view(x.shape)


def tanh_(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Computes $\tanh x = 2 \sigma(2x) - 1$ in place.

    The result is accurate to 1e-7. On a CPU this takes a third of the time of `Tensor.tanh_`.
    """
    return x.tanh_() if x.is_cuda else x.mul_(2).sigmoid_().mul_(2).sub_(1)


def elu_(x: Float[Tensor, "*shape"], out: Float[Tensor, "*shape"] | None = None) -> Float[Tensor, "*shape"]:
    r"""Computes $\mathrm{elu}(x) = \min(\max(x, 0), e^x - 1)$.

    The result is accurate to 1e-7. On a CPU this takes less than half of the time of PyTorch's ELU.

    Args:
        x: Numbers of any shape, in single precision.
        out: The tensor that receives the result; None: x receives it.
    """
    out = x if out is None else out
    if x.is_cuda:
        return out.copy_(functional.elu(x))

    return torch.clamp(x, min=x.new_zeros(()), max=x.mul(LOG2E).exp2_().sub_(1), out=out)
