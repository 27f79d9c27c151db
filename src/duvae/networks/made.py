"""Masked autoregressive networks (MADE, Germain et al. 2015), and the IAF chain that is made of them."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid

FIRST_SHIFT = 2.0
"""Added to s, so that sigma = sigmoid(s + 2) starts near 0.88 and a block near the identity (Kingma et al. 2016)."""


class MaskedLinear(nn.Module):
    """A linear map of which only the entries under a mask exist: the others are 0 and get no gradient.

    It starts as PyTorch's own linear maps do, uniform on +-1 / sqrt(inputs), where an output's inputs are those
    that it sees.

    Args:
        mask: Which output sees which input.
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
        """The map, 0 outside of its mask."""
        return self.free * self.mask

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return linear(x, self.weight, self.bias)


class MADE(nn.Module):
    r"""$m_d$ and $s_d$ as functions of h and of those $z_{d'}$ alone that come before $z_d$ in an order.

    Two masked hidden layers with ReLU, each with `width` units of every degree $k = 0, \dots, n - 1$. A unit of
    degree k depends on h and on the first k dimensions in order; so do $m_d$ and $s_d$ of the dimension that has k
    before it, which see all units of degree up to k. Degree 0 depends on h alone: without it the first dimension,
    which is all there is where n = 1, would have an m and an s that are constant. h enters at the first layer.

    Args:
        latent: n, the dimensions of z.
        context: Width of h.
        width: Hidden units of a layer for each dimension of z.
        reverse: Whether the order is n, ..., 1 instead of 1, ..., n.
    """

    def __init__(self, latent: int, context: int, width: int, reverse: bool = False) -> None:
        super().__init__()
        self.width = width
        self.order = list(range(latent))[:: -1 if reverse else 1]
        before = torch.tensor(self.order).argsort()[:, None]  # how many dimensions come before each
        degree = torch.arange(latent).repeat_interleave(width)[:, None]
        self.of_context = nn.Linear(context, len(degree), bias=False)
        self.first = MaskedLinear(degree > before.T)
        self.second = MaskedLinear(degree >= degree.T)
        self.last = MaskedLinear((before >= degree.T).repeat(2, 1))

    def forward(
        self, z: Float[Tensor, "*samples batch latent"], h: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*samples batch latent"], Float[Tensor, "*samples batch latent"]]:
        """`m, s`. The product with h is computed once for each x, however many samples of z it has."""
        hidden = (self.first(z) + self.of_context(h)).relu_()
        m, s = self.last(self.second(hidden).relu_()).chunk(2, -1)

        return m, s

    def unroll(
        self,
        h: Float[Tensor, "batch context"],
        samples: Sequence[int],
        known: Callable[[int, Tensor, Tensor], Tensor],
    ) -> Float[Tensor, "*samples batch latent"]:
        """z, one dimension after the other in the block's order.

        Each unit is computed when all that it depends on is known, and never again: the whole of it costs no more
        multiplications than one `forward`.

        Args:
            h: The context.
            samples: How many z of each x.
            known: From d, m_d and s_d to z_d.
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
    r"""One step of the chain, S22: $z^t = \sigma \odot z^{t-1} + (1 - \sigma) \odot m$, $\sigma = sigmoid(s + 2)$.

    Args:
        made: From z^{t-1} and h to m and s.
    """

    def __init__(self, made: MADE) -> None:
        super().__init__()
        self.made = made

    def forward(
        self, z: Float[Tensor, "*samples batch latent"], h: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*samples batch latent"], Float[Tensor, "*samples batch latent"]]:
        r"""$z^t$, and $\log \sigma_d$: the logarithm of the diagonal of its triangular Jacobian."""
        m, s = self.made(z, h)
        s = s + FIRST_SHIFT

        return torch.lerp(m, z, s.sigmoid()), logsigmoid(s)

    def inverse(
        self, z: Float[Tensor, "*samples batch latent"], h: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*samples batch latent"], Float[Tensor, "*samples batch latent"]]:
        r"""$z^{t-1}$ of a $z^t$, a dimension at a time, and the same $\log \sigma_d$."""
        log_sigma: dict[int, Tensor] = {}

        def known(d: int, m: Tensor, s: Tensor) -> Tensor:
            log_sigma[d] = logsigmoid(s + FIRST_SHIFT)

            return m + (z[..., d] - m) * (-log_sigma[d]).exp()

        before = self.made.unroll(h, z.shape[: -h.dim()], known)

        return before, torch.stack([log_sigma[d] for d in range(len(log_sigma))], -1)


class IAFChain(nn.Module):
    r"""From $z^0$ to $z^T$ by T blocks, the order of the dimensions reversed from one to the next (Kingma et al. 2016).

    Args:
        latent: Dimensions of z.
        context: Width of h.
        width: Hidden units of a layer for each dimension of z.
        blocks: T.
    """

    def __init__(self, latent: int, context: int, width: int = 60, blocks: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(IAFBlock(MADE(latent, context, width, reverse=bool(t % 2))) for t in range(blocks))

    def forward(
        self, z: Float[Tensor, "*samples batch latent"], h: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*samples batch latent"], Float[Tensor, "*samples batch latent"]]:
        r"""$z^T$ of a $z^0$, and $\sum_t \log \sigma^t_d$ of each dimension: together the log-determinant of S24."""
        total = torch.zeros_like(z)
        for block in self.blocks:
            z, log_sigma = block(z, h)
            total = total + log_sigma

        return z, total

    def inverse(
        self, z: Float[Tensor, "*samples batch latent"], h: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*samples batch latent"], Float[Tensor, "*samples batch latent"]]:
        r"""$z^0$ of a $z^T$, and the same sum of $\log \sigma^t_d$."""
        total = torch.zeros_like(z)
        for block in reversed(self.blocks):
            z, log_sigma = cast("IAFBlock", block).inverse(z, h)
            total = total + log_sigma

        return z, total
