"""Products of large matrices by oneDNN, which comes with PyTorch beside MKL.

`torch.mm` takes MKL, which uses half the width of the vectors of an AMD processor.
"""

import torch
from jaxtyping import Float
from torch import Tensor

LARGE = 2**28
"""Multiplications from which a product goes to oneDNN: below, there is little to gain."""

AT_A_TIME = 256
"""Columns of a result that is turned afterwards."""


def product(
    x: Float[Tensor, "rows inner"], weight: Float[Tensor, "columns inner"], out: Tensor | None = None
) -> Float[Tensor, "rows columns"]:
    """$x W^T$; where it is to have a gradient, by `torch.mm`.

    Args:
        x: Rows.
        weight: W.
        out: Where a small product is written; oneDNN has a place of its own.
    """
    if not by_onednn(x, len(weight)):
        return torch.mm(x, weight.T, out=out)
    dense = weight if weight.is_contiguous() or weight.T.is_contiguous() else weight.contiguous()

    return torch.ops.mkldnn._linear_pointwise(x.contiguous(), dense, None, "none", [], "")


def columns_product(x: Float[Tensor, "inner rows"], y: Float[Tensor, "inner columns"]) -> Float[Tensor, "rows columns"]:
    """$x^T y$ where x is the larger: oneDNN would copy it, were it not the second factor.

    The result is then turned, some columns at a time.
    """
    if not by_onednn(y, x.shape[1]):
        return x.T @ y
    found = x.new_empty(x.shape[1], y.shape[1])
    for part, to in zip(y.split(AT_A_TIME, 1), found.split(AT_A_TIME, 1), strict=True):
        to.copy_(product(part.T, x.T).T)

    return found


def add_products_(
    to: Float[Tensor, "products rows columns"],
    x: Float[Tensor, "rows inner"],
    weights: Float[Tensor, "products inner columns"],
) -> Float[Tensor, "products rows columns"]:
    """Adds $x W_i$ to the i-th, in place."""
    if not by_onednn(x, to.shape[-1]):
        return to.baddbmm_(x.expand(len(to), -1, -1), weights)
    for part, weight in zip(to, weights, strict=True):
        part.add_(product(x, weight.T))

    return to


def by_onednn(x: Tensor, columns: int) -> bool:
    """Whether the product of x with a matrix of so many columns goes to oneDNN."""
    return (
        x.numel() * columns >= LARGE
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and not torch.is_grad_enabled()
    )
