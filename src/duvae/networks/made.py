"""Masked autoregressive networks (MADE, Germain et al. 2015), and the chain of an inverse autoregressive flow (IAF).

A MADE is a network whose outputs for one dimension of z depend only on the dimensions before it. The chain is a series
of T blocks, and each block has one MADE. Block t computes z^t from z^(t-1) by equation S22 of the paper's supplement.
z^0 is a sample of a Gaussian, and z^T is the latent code z. All blocks also read the context h, a vector that is
computed from x.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid

FIRST_SHIFT = 2.0
"""The number that a block adds to the output s of its MADE (Kingma et al. 2016).

At the start of training s is near 0, so sigma = sigmoid(s + 2) is near 0.88. A block therefore starts near the identity
(see `IAFBlock`).
"""


class MaskedLinear(nn.Module):
    """A linear map with a mask. The weights outside the mask are 0 and get no gradient.

    The initial weights of an output are uniform between -1 / sqrt(n) and 1 / sqrt(n), as in PyTorch's linear maps. n is
    the number of inputs that the mask lets this output read.

    Args:
        mask: True where an output reads an input, shape (outputs, inputs).
    """

    mask: Tensor

    def __init__(self, mask: Bool[Tensor, "outputs inputs"]) -> None:
        super().__init__()
        bound = mask.sum(1, keepdim=True).clamp(min=1).rsqrt()
        self.register_buffer("mask", mask.to(torch.get_default_dtype()), persistent=False)
        self.free = nn.Parameter(torch.empty(mask.shape).uniform_(-1, 1) * bound)
        self.bias = nn.Parameter(torch.empty(len(mask)).uniform_(-1, 1) * bound[:, 0])

    @property
    def weight(self) -> Float[Tensor, "outputs inputs"]:
        """The weights of the map, 0 outside the mask."""
        return self.free * self.mask

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return linear(x, self.weight, self.bias)


class MADE(nn.Module):
    r"""The network that computes m and s from z and h, for equation S22 of the paper's supplement (see `IAFBlock`).

    $m_d$ and $s_d$ depend on h, and on the dimensions of z before d. The argument `reverse` sets the order of the
    dimensions.

    The network has two masked hidden layers with ReLU. Each layer has `width` units of every degree
    $k = 0, \dots, n - 1$. A unit of degree k depends on h and on the first k dimensions in the order. Let d be the
    dimension at position k in the order, counted from 0. Its outputs $m_d$ and $s_d$ read all units of degree k or
    less. These outputs therefore also depend on h and on the first k dimensions. Units of degree 0 depend on h alone.
    Without these units the first dimension would have a constant m and s. Only the first hidden layer reads h itself.

    Args:
        latent: The number n of dimensions of z.
        context: The width of the context h.
        width: The number of hidden units of a layer for each dimension of z. A layer has latent * width units.
        reverse: Whether the order of the dimensions is n, ..., 1 instead of 1, ..., n.
    """

    def __init__(self, latent: int, context: int, width: int, reverse: bool = False) -> None:
        super().__init__()
        self.width = width
        self.order = list(range(latent))[:: -1 if reverse else 1]
        before = torch.tensor(self.order).argsort()[:, None]  # the number of dimensions before each dimension
        degree = torch.arange(latent).repeat_interleave(width)[:, None]
        self.of_context = nn.Linear(context, len(degree), bias=False)
        self.first = MaskedLinear(degree > before.T)
        self.second = MaskedLinear(degree >= degree.T)
        self.last = MaskedLinear((before >= degree.T).repeat(2, 1))

    def forward(
        self, z: Float[Tensor, "*samples batch latent"], h: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*samples batch latent"], Float[Tensor, "*samples batch latent"]]:
        """Computes m and s. If an example x has several samples of z, the product with its h is computed only once."""
        hidden = (self.first(z) + self.of_context(h)).relu_()
        m, s = self.last(self.second(hidden).relu_()).chunk(2, -1)

        return m, s

    def unroll(
        self,
        h: Float[Tensor, "batch context"],
        samples: Sequence[int],
        known: Callable[[int, Tensor, Tensor], Tensor],
    ) -> Float[Tensor, "*samples batch latent"]:
        """Computes a z that depends on m and s, one dimension after the other, in the order of the network.

        The method computes m_d and s_d from the dimensions of z before d, and then z_d by the function `known`. It
        computes each hidden unit once, as soon as the unit's inputs are known. So all dimensions together take no more
        multiplications than one call of `forward`.

        Args:
            h: The context, shape (batch, context).
            samples: Sizes of the axes of z before the batch axis, such as (8,) for 8 z per example. Empty: there is one
                z per example.
            known: Function from d, m_d and s_d to z_d. m_d, s_d and z_d have the shape (*samples, batch).

        Returns:
            The values z, shape (*samples, batch, latent).
        """
        context = (self.first.bias + self.of_context(h)).expand(*samples, -1, -1)
        first, second, last = self.first.weight, self.second.weight, self.last.weight
        z: list[Tensor] = []
        hidden: list[Tensor] = []
        deeper: list[Tensor] = []
        if self.order[0]:  # the dimensions in the order of the network; a list of indices would make a GPU wait
            first = first.flip(1)
        for k, d in enumerate(self.order):
            upto, outputs = (k + 1) * self.width, slice(d, None, len(self.order))  # the rows of m_d and s_d
            units = slice(upto - self.width, upto)
            of_z = linear(torch.stack(z, -1), first[units, :k].contiguous()) if z else 0
            hidden.append((context[..., units] + of_z).relu())
            deeper.append(linear(torch.cat(hidden, -1), second[units, :upto], self.second.bias[units]).relu())
            of_d = last[outputs, :upto].contiguous()
            m, s = linear(torch.cat(deeper, -1), of_d, self.last.bias[outputs].contiguous()).unbind(-1)
            z.append(known(d, m, s))

        return torch.stack([z[self.order.index(d)] for d in range(len(z))], -1)


class IAFBlock(nn.Module):
    r"""One block of the chain: $z^t = \sigma \odot z^{t-1} + (1 - \sigma) \odot m$ with $\sigma = sigmoid(s + 2)$.

    This is equation S22 of the paper's supplement.

    Args:
        made: The network that computes m and s from z^{t-1} and h.
    """

    def __init__(self, made: MADE) -> None:
        super().__init__()
        self.made = made

    def forward(
        self, z: Float[Tensor, "*samples batch latent"], h: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*samples batch latent"], Float[Tensor, "*samples batch latent"]]:
        r"""Computes $z^t$ and $\log \sigma_d$, the logarithms of the diagonal of the triangular Jacobian."""
        m, s = self.made(z, h)
        s = s + FIRST_SHIFT

        return torch.lerp(m, z, s.sigmoid()), logsigmoid(s)

    def inverse(
        self, z: Float[Tensor, "*samples batch latent"], h: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*samples batch latent"], Float[Tensor, "*samples batch latent"]]:
        r"""Computes $z^{t-1}$ from $z^t$, one dimension at a time, and the $\log \sigma_d$ that `forward` returns."""
        log_sigma: dict[int, Tensor] = {}

        def known(d: int, m: Tensor, s: Tensor) -> Tensor:
            log_sigma[d] = logsigmoid(s + FIRST_SHIFT)

            return m + (z[..., d] - m) * (-log_sigma[d]).exp()

        before = self.made.unroll(h, z.shape[: -h.dim()], known)

        return before, torch.stack([log_sigma[d] for d in range(len(log_sigma))], -1)


class IAFChain(nn.Module):
    r"""The chain of T blocks, which computes $z^T$ from $z^0$.

    The order of the dimensions in a block is the reverse of the order in the block before (Kingma et al. 2016).

    Args:
        latent: The number of dimensions of z.
        context: The width of the context h.
        width: The number of hidden units in a layer of a MADE, for each dimension of z.
        blocks: The number T of blocks.
    """

    def __init__(self, latent: int, context: int, width: int = 60, blocks: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(IAFBlock(MADE(latent, context, width, reverse=bool(t % 2))) for t in range(blocks))

    def forward(
        self, z: Float[Tensor, "*samples batch latent"], h: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*samples batch latent"], Float[Tensor, "*samples batch latent"]]:
        r"""Computes $z^T$ from $z^0$, and $\sum_t \log \sigma^t_d$ for each dimension d of z.

        The sum over d of $\sum_t \log \sigma^t_d$ is the log-determinant of the chain's Jacobian (equation S24 of the
        paper's supplement).
        """
        total = torch.zeros_like(z)
        for block in self.blocks:
            z, log_sigma = block(z, h)
            total = total + log_sigma

        return z, total

    def inverse(
        self, z: Float[Tensor, "*samples batch latent"], h: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*samples batch latent"], Float[Tensor, "*samples batch latent"]]:
        r"""Computes $z^0$ from $z^T$, and the $\sum_t \log \sigma^t_d$ that `forward` returns."""
        total = torch.zeros_like(z)
        for block in reversed(self.blocks):
            z, log_sigma = cast("IAFBlock", block).inverse(z, h)
            total = total + log_sigma

        return z, total
