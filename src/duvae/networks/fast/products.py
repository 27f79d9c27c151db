"""Products of large matrices by the faster of two libraries that come with PyTorch: MKL, or oneDNN.

`torch.mm` takes MKL, which on an AMD processor uses half the width of the vectors. On one of Intel's it is the faster,
and faster still where many products with the same matrix find it packed as MKL wants it.
"""

import platform
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

CPUINFO = Path("/proc/cpuinfo")
"""Where Linux says whose the processor is."""

LARGE = 2**28
"""Multiplications from which a product is large: below, there is little to gain."""


class Factor:
    """W of many products $x W^T$ without a gradient, each of as many rows, packed once if that makes them faster.

    Args:
        weight: W.
        rows: Of an x. One with fewer has the same product, without what is packed.
    """

    def __init__(self, weight: Float[Tensor, "columns inner"], rows: int) -> None:
        self.weight, self.rows = weight, rows
        packed = large(weight, rows) and mkl_at_its_best()
        self.packed = torch.ops.mkl._mkl_reorder_linear_weight(weight.contiguous(), rows) if packed else None

    def product(self, x: Float[Tensor, "rows inner"], out: Tensor | None = None) -> Float[Tensor, "rows columns"]:
        """$x W^T$; where a small one is written, `out` says."""
        if self.packed is None or len(x) != self.rows:
            return product(x, self.weight, out)
        found: Tensor = torch.ops.mkl._mkl_linear(x.contiguous(), self.packed, self.weight, None, self.rows)

        return found


def product(
    x: Float[Tensor, "rows inner"], weight: Float[Tensor, "columns inner"], out: Tensor | None = None
) -> Float[Tensor, "rows columns"]:
    """$x W^T$; where it is to have a gradient, by `torch.mm`.

    Args:
        x: Rows.
        weight: W.
        out: Where a product of `torch.mm` is written; oneDNN has a place of its own.
    """
    if not by_onednn(x, len(weight)):
        return torch.mm(x, weight.T, out=out)
    dense = weight if weight.is_contiguous() or weight.T.is_contiguous() else weight.contiguous()

    return torch.ops.mkldnn._linear_pointwise(x.contiguous(), dense, None, "none", [], "")


def columns_product(x: Float[Tensor, "inner rows"], y: Float[Tensor, "inner columns"]) -> Float[Tensor, "rows columns"]:
    """$x^T y$ where x is the larger: oneDNN would copy it, were it not the second factor."""
    if not by_onednn(y, x.shape[1]):
        return x.T @ y

    return product(y.T, x.T).T.contiguous()


def add_products_(
    to: Float[Tensor, "products rows columns"],
    x: Float[Tensor, "rows inner"],
    weights: Float[Tensor, "products inner columns"],
) -> Float[Tensor, "products rows columns"]:
    """Adds $x W_i$ to the i-th, in place."""
    if not by_onednn(x, len(to) * to.shape[-1]):
        return to.baddbmm_(x.expand(len(to), -1, -1), weights)
    for part, weight in zip(to, weights, strict=True):
        part.add_(product(x, weight.T))

    return to


def by_onednn(x: Tensor, columns: int) -> bool:
    """Whether the product of x with a matrix of so many columns goes to oneDNN."""
    return large(x, columns) and torch.backends.mkldnn.is_available() and not mkl_at_its_best()


def large(x: Tensor, columns: int) -> bool:
    """Whether the product of x with a matrix of so many columns is one that a choice of library is for."""
    return (
        x.numel() * columns >= LARGE
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
    )


@cache
def mkl_at_its_best() -> bool:
    """Whether MKL is here, and the processor is one of Intel's."""
    maker = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.exists() else platform.processor()

    return torch.backends.mkl.is_available() and "GenuineIntel" in maker
