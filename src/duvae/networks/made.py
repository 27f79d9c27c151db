"""Masked autoregressive networks (MADE, Germain et al. 2015), and the chain of an inverse autoregressive flow (IAF).

The chain turns z^0 into z^T by T blocks, each with one MADE (equation S22 of the paper's supplement). z^t is the output
of block t. The context h is a vector that the encoder computes from x, and that all blocks read.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid

FIRST_SHIFT = 2.0
"""The number that a block adds to s, so that sigma = sigmoid(s + 2) starts near 0.88.

A block therefore starts near the identity.

Source: Kingma et al. 2016.
"""


class MaskedLinear(nn.Module):
    """A linear map whose weights outside a mask are 0 and get no gradient.

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
    r"""The network that computes m and s from z and h, for equation S22 of the paper's supplement.

    $m_d$ and $s_d$ depend on h, and on the dimensions of z before d. "Before" refers to the order that `reverse` sets.

    The network has two masked hidden layers with ReLU. Each layer has `width` units of every degree
    $k = 0, \dots, n - 1$. A unit of degree k depends on h and on the first k dimensions in the order. The dimension at
    position k, counted from 0, has outputs $m_d$ and $s_d$ that read all units of degree k or less. These outputs
    therefore also depend on h and on the first k dimensions. Units of degree 0 depend on h alone: without these units
    the first dimension would have a constant m and s. h enters at the first layer.

    Args:
        latent: The number n of dimensions of z.
        context: The width of the context h.
        width: The number of hidden units of a layer, per dimension of z.
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
        """Computes m and s. The product with h is computed once for all samples of z of one example."""
        hidden = (self.first(z) + self.of_context(h)).relu_()
        m, s = self.last(self.second(hidden).relu_()).chunk(2, -1)

        return m, s

    def unroll(
        self,
        h: Float[Tensor, "batch context"],
        samples: Sequence[int],
        known: Callable[[int, Tensor, Tensor], Tensor],
    ) -> Float[Tensor, "*samples batch latent"]:
        """Computes z one dimension after the other, in the order of the network.

        Each hidden unit is computed once, when its inputs are known. So all dimensions together take no more
        multiplications than one call of `forward`.

        Args:
            h: The context, shape (batch, context).
            samples: Sizes of the axes of z before the batch axis, such as (8,) for 8 z per example; empty: one z per
                example.
            known: Function from d, m_d and s_d to z_d. m_d, s_d and z_d have the shape (*samples, batch).

        Returns:
            The values z, shape (*samples, batch, latent).
        """
        context = (self.first.bias + self.of_context(h)).expand(*samples, -1, -1)
        first, second, last = self.first.weight, self.second.weight, self.last.weight
        z: list[Tensor] = []
        hidden: list[Tensor] = []
        deeper: list[Tensor] = []
        for k, d in enumerate(self.order):
            upto, outputs = (k + 1) * self.width, [d, d + len(self.order)]
            units = slice(upto - self.width, upto)
            of_z = linear(torch.stack(z, -1), first[units, self.order[:k]]) if z else 0
            hidden.append((context[..., units] + of_z).relu())
            deeper.append(linear(torch.cat(hidden, -1), second[units, :upto], self.second.bias[units]).relu())
            m, s = linear(torch.cat(deeper, -1), last[outputs, :upto], self.last.bias[outputs]).unbind(-1)
            z.append(known(d, m, s))

        return torch.stack([z[self.order.index(d)] for d in range(len(z))], -1)


class IAFBlock(nn.Module):
    r"""One block of the chain: $z^t = \sigma \odot z^{t-1} + (1 - \sigma) \odot m$, $\sigma = sigmoid(s + 2)$.

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

    Each block has the dimensions of z in the reverse of the order of the block before it (Kingma et al. 2016).

    Args:
        latent: The number of dimensions of z.
        context: The width of the context h.
        width: The number of hidden units of a layer of a MADE, per dimension of z.
        blocks: The number T of blocks.
    """

    def __init__(self, latent: int, context: int, width: int = 60, blocks: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(IAFBlock(MADE(latent, context, width, reverse=bool(t % 2))) for t in range(blocks))

    def forward(
        self, z: Float[Tensor, "*samples batch latent"], h: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*samples batch latent"], Float[Tensor, "*samples batch latent"]]:
        r"""Computes $z^T$ from $z^0$, and $\sum_t \log \sigma^t_d$ for each dimension d of z.

        The sum of the latter over d is the log-determinant of the chain's Jacobian (equation S24).
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
