"""Computes products of large matrices with the faster of two libraries that PyTorch includes: MKL or oneDNN.

`torch.mm` calls MKL. On AMD processors oneDNN is faster than MKL, which uses only half of the vector width there. On
Intel processors MKL is faster. If many products share one matrix, MKL is faster still when this matrix is stored in
MKL's packed layout.
"""

import platform
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

CPUINFO = Path("/proc/cpuinfo")
"""The file in which Linux names the manufacturer of the processor."""

LARGE = 2**28
"""The smallest number of multiplications in a product for which this module chooses a library.

Smaller products are left to PyTorch, because they would gain little.
"""


class Factor:
    """A matrix W for many products $x W^T$ without a gradient.

    If MKL's packed layout makes the products faster, W is packed once, when the object is built.

    Args:
        weight: The matrix W, shape (columns, inner).
        rows: The number of rows of each x. A product with another number of rows does not use the packed matrix.
    """

    def __init__(self, weight: Float[Tensor, "columns inner"], rows: int) -> None:
        self.weight, self.rows = weight, rows
        packed = large(weight, rows) and mkl_at_its_best()
        self.packed = torch.ops.mkl._mkl_reorder_linear_weight(weight.contiguous(), rows) if packed else None

    def product(self, x: Float[Tensor, "rows inner"], out: Tensor | None = None) -> Float[Tensor, "rows columns"]:
        """Computes the product $x W^T$.

        Args:
            x: The matrix x, shape (rows, inner).
            out: The tensor that `torch.mm` writes into, if `torch.mm` computes the product; None: a new tensor. oneDNN
                and the packed form of MKL always return a new tensor.
        """
        if self.packed is None or len(x) != self.rows:
            return product(x, self.weight, out)
        found: Tensor = torch.ops.mkl._mkl_linear(x.contiguous(), self.packed, self.weight, None, self.rows)

        return found


def product(
    x: Float[Tensor, "rows inner"], weight: Float[Tensor, "columns inner"], out: Tensor | None = None
) -> Float[Tensor, "rows columns"]:
    """Computes the product $x W^T$ with oneDNN if `by_onednn` says so, otherwise with `torch.mm`.

    Args:
        x: The matrix x, shape (rows, inner).
        weight: The matrix W, shape (columns, inner).
        out: The tensor that `torch.mm` writes into, if `torch.mm` computes the product; None: a new tensor. oneDNN
            always returns a new tensor.
    """
    if not by_onednn(x, len(weight)):
        return torch.mm(x, weight.T, out=out)
    dense = weight if weight.is_contiguous() or weight.T.is_contiguous() else weight.contiguous()

    return torch.ops.mkldnn._linear_pointwise(x.contiguous(), dense, None, "none", [], "")


def columns_product(x: Float[Tensor, "inner rows"], y: Float[Tensor, "inner columns"]) -> Float[Tensor, "rows columns"]:
    """Computes the product $x^T y$ for an x with more elements than y.

    oneDNN copies the first factor of a product. So this function computes $(y^T x)^T$ with oneDNN, in which the smaller
    matrix y is the first factor.
    """
    if not by_onednn(y, x.shape[1]):
        return x.T @ y

    return product(y.T, x.T).T.contiguous()


def add_products_(
    to: Float[Tensor, "products rows columns"],
    x: Float[Tensor, "rows inner"],
    weights: Float[Tensor, "products inner columns"],
) -> Float[Tensor, "products rows columns"]:
    """Adds the product of x and the i-th matrix of `weights` to the i-th matrix of `to`, in place, for all i."""
    if not by_onednn(x, len(to) * to.shape[-1]):
        return to.baddbmm_(x.expand(len(to), -1, -1), weights)
    for part, weight in zip(to, weights, strict=True):
        part.add_(product(x, weight.T))

    return to


def by_onednn(x: Tensor, columns: int) -> bool:
    """Whether this module lets oneDNN compute a product of x with a matrix of the given number of columns."""
    return large(x, columns) and torch.backends.mkldnn.is_available() and not mkl_at_its_best()


def large(x: Tensor, columns: int) -> bool:
    """Whether this module chooses a library for a product of x with a matrix of the given number of columns.

    The module does so for large products in single precision on a CPU while autograd is disabled.
    """
    return (
        x.numel() * columns >= LARGE
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
    )


@cache
def mkl_at_its_best() -> bool:
    """Whether MKL is available and Intel made the processor."""
    maker = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.exists() else platform.processor()

    return torch.backends.mkl.is_available() and "GenuineIntel" in maker
