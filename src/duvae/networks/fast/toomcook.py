r"""A convolution with fewer multiplications, for kernels with four rows.

The algorithm is known as the Toom-Cook algorithm, or as Winograd's minimal filtering (Lavin & Gray 2015). It computes
four rows of the result at once, from seven rows of the image:
$y = A^T ((G g) \odot (B^T d))$ for rows d of the image, rows g of the kernel and rows y of the result. The matrices A,
G and B are fixed. The sign $\odot$ stands for seven products of a row of $G g$ and a row of $B^T d$. The usual
computation needs 16 products of a row g and a row d. Each product is a convolution along the rows.

The algorithm comes from the multiplication of two polynomials with four coefficients each. The product of the
polynomials has seven coefficients, so its values at seven points determine it. If one polynomial is fixed, the
multiplication is a linear map from the coefficients of the other polynomial to those of the product. If g holds the
coefficients of the fixed polynomial, the transpose of this map is the convolution: it maps the seven rows d to the four
rows y. In this module a coefficient is a whole row of an image or of a kernel.

The seven points are 1, 2 and 1/2, the negatives of these numbers, and infinity. The value of a polynomial at infinity
means its leading coefficient. In single precision the rounding error is twice that of the usual computation.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from duvae.networks.convolutions import Channels, Images, Kernel, channels_last

ROWS = 4
"""The number of rows of the kernel, and also the number of result rows that are computed at once."""

POINTS = Fraction(1), Fraction(2), Fraction(1, 2)
"""The points at which the polynomials are evaluated, besides the negatives of these points and infinity."""


class FewerProducts:
    """A convolution with a kernel of four rows.

    Args:
        kernel: The kernel, with four rows and an odd number of columns.
        bias: The bias, one number per output channel.
    """

    def __init__(self, kernel: Kernel, bias: Channels) -> None:
        rows, self.bias, self.reach = kernel.double().unbind(2), bias, kernel.shape[-1] // 2
        points = [sign * point for point in POINTS for sign in (1, -1)]

        def at(point: Fraction) -> Tensor:
            """Evaluates the polynomial whose coefficients are the rows of the kernel, and scales its value.

            The value is divided by the product of (point - other) over all other points.
            """
            value = sum(row * float(point**power) for power, row in enumerate(rows))

            return torch.as_tensor(value) / float(math.prod(point - other for other in points if other != point))

        *pairs, self.leading = (channels_last(row[:, :, None].to(kernel.dtype)) for row in (*map(at, points), rows[-1]))
        self.pairs = list(zip(pairs[::2], pairs[1::2], strict=True))

    @staticmethod
    def fit(kernel: Kernel) -> bool:
        """Whether this class is used for a kernel: it must have four rows and be on a CPU.

        On a GPU, cuDNN chooses a fast algorithm itself.
        """
        return kernel.shape[2] == ROWS and not kernel.is_cuda

    def __call__(self, x: Images) -> Images:
        """Convolves x. The result has as many columns as x, and three rows fewer.

        Args:
            x: Images or feature maps, shape (batch, channels, height, width). The height minus three must be a multiple
                of four.
        """
        rows = x.shape[2] - ROWS + 1
        shifted = [x[:, :, first : first + rows : ROWS] for first in range(2 * ROWS - 1)]  # d_0 to d_6
        sums: list[Images] = []
        differences: list[Images] = []
        for point, (kernel, opposite) in zip(POINTS, self.pairs, strict=True):
            others = polynomial([other**2 for other in POINTS if other != point])
            odd, even = combined(shifted[1::2], others), combined(shifted[:-1:2], others)
            above = self.product(torch.add(odd, even, alpha=float(point)), kernel, None if sums else self.bias)
            below = self.product(odd.sub_(even, alpha=float(point)), opposite)
            sums.append(above + below)
            differences.append(above.sub_(below))
        leading = self.product(combined(shifted[::2], polynomial([point**2 for point in POINTS])), self.leading)

        y = channels_last(x.new_empty(len(x), leading.shape[1], rows, x.shape[3]))
        for power in range(ROWS):
            first, second, third = differences if power % 2 else sums
            of_second, of_third = (float(point**power) for point in POINTS[1:])
            row = torch.add(first, second, alpha=of_second, out=y[:, :, power::ROWS]).add_(third, alpha=of_third)
        row.add_(leading)

        return y

    def product(self, x: Images, kernel: Kernel, bias: Channels | None = None) -> Images:
        """Computes one of the seven products, a convolution along the rows.

        Args:
            x: A row of $B^T d$ in the formula of this module, for all groups of four rows of the result.
            kernel: A row of $G g$.
            bias: The bias for the product at the point 1; None for the other six products. Each row of the result
                contains the product at the point 1 exactly once, and therefore also the bias.
        """
        return functional.conv2d(x, kernel, bias, padding=(0, self.reach))


def polynomial(roots: Sequence[Fraction]) -> list[float]:
    """Computes the coefficients of the polynomial with the given roots and the leading coefficient 1.

    Returns:
        The coefficients in the order of their powers, the constant first.
    """
    found = [Fraction(1)]
    for root in roots:
        found = [low - root * high for low, high in pairwise([Fraction(0), *found, Fraction(0)])]

    return [float(each) for each in found]


def combined(terms: Sequence[Images], coefficients: Sequence[float]) -> Images:
    """Computes the sum of the terms, each multiplied by its coefficient. The last coefficient must be 1."""
    total = torch.add(terms[-1], terms[0], alpha=coefficients[0])
    for term, coefficient in zip(terms[1:-1], coefficients[1:-1], strict=True):
        total.add_(term, alpha=coefficient)

    return total
