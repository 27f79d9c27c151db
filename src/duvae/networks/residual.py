"""The PixelCNN's residual block in training on a CPU: PyTorch's figures with a third of the memory.

At the paper's size a block makes 55 MiB of tensors that its gradient wants, which takes longer to write and to read
than its convolutions take to compute. Here the outputs of two convolutions and the block's own are kept; the rest is
computed again. Normalization, sum and ELU are one pass, a few images at a time, which stay in the cache.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from duvae.networks.convolutions import BatchNorm, Channels, Images, Kernel, masked
from duvae.networks.elementwise import elu_

ELEMENTS = 2**17
"""Numbers of a tensor in one pass: half a MiB."""


class Weights(NamedTuple):
    """What a block learns."""

    narrow: Kernel
    scale1: Channels
    shift1: Channels
    masked: Kernel
    scale2: Channels
    shift2: Channels
    widen: Kernel
    scale3: Channels
    shift3: Channels


def residual(
    x: Images, base: Images | None, narrow: Kernel, middle: Kernel, widen: Kernel, *norms: BatchNorm
) -> Images:
    """What `Block` computes in training, with its gradient of any order; `base` is added behind the last ELU."""
    weights = (
        parameter
        for kernel, norm in zip((narrow, middle, widen), norms, strict=True)
        for parameter in (kernel, norm.scale, norm.shift)
    )

    return apply(x, base, norms, *weights)


def plain(x: Images, epsilon: float, weights: Weights) -> Images:
    """The same by PyTorch's own operations, one after the other."""

    def norm(y: Images, scale: Channels, shift: Channels) -> Images:
        return functional.batch_norm(y, None, None, scale, shift, training=True, eps=epsilon)

    y = functional.elu_(norm(functional.conv2d(x, weights.narrow), weights.scale1, weights.shift1))
    y = functional.elu_(norm(masked(y, weights.masked), weights.scale2, weights.shift2))

    return functional.elu_(norm(functional.conv2d(y, weights.widen), weights.scale3, weights.shift3) + x)


class Residual(torch.autograd.Function):
    """From x, base, the three normalizations and the block's nine parameters."""

    @staticmethod
    def forward(ctx: Any, x: Images, base: Images | None, norms: tuple[BatchNorm, ...], *parameters: Tensor) -> Images:
        weights = Weights(*parameters)
        reach = weights.masked.shape[-1] // 2
        a = functional.conv2d(x, weights.narrow)
        first = Normalized(a, norms[0])
        b = functional.conv2d(first.elu(a, above=reach), weights.masked, padding=(0, reach))
        second = Normalized(b, norms[1])
        c = functional.conv2d(second.elu(b), weights.widen)
        third = Normalized(c, norms[2])
        out = third.elu(c, plus=x, base=base)
        ctx.normalized, ctx.based = (first, second, third), base is not None
        ctx.save_for_backward(x, *parameters, a, b, None if ctx.based else out)

        return out

    @staticmethod
    def backward(ctx: Any, gradient: Images) -> tuple[Tensor | None, ...]:
        x, *parameters, a, b, out = ctx.saved_tensors
        first, second, third = ctx.normalized
        of_base = gradient if ctx.based else None
        if torch.is_grad_enabled():  # this gradient is to be differentiated again
            found = plain(x, first.epsilon, Weights(*parameters))
            of_x, *others = torch.autograd.grad(found, (x, *parameters), gradient, create_graph=True)
            return of_x, of_base, None, *others

        weights = Weights(*parameters)
        reach = weights.masked.shape[-1] // 2
        y = second.elu(b)
        c = functional.conv2d(y, weights.widen)
        through = torch.empty_like(c)
        for part in parts(c):
            behind = elu_(third(c[part]).add_(x[part])) if out is None else out[part]
            elu_gradient(gradient[part], behind, through[part])
        g, *third_found = third.back(through, c)
        del c
        g, widen = convolution_gradients(g, y, weights.widen, 0)
        g, *second_found = second.back(elu_gradient(g, y, g), b)
        y = first.elu(a, above=reach)
        g, middle = convolution_gradients(g, y, weights.masked, reach)
        g, *first_found = first.back(elu_gradient(g[:, :, reach:], y[:, :, reach:]), a)
        g, narrow = convolution_gradients(g, x, weights.narrow, 0)

        return g.add_(through), of_base, None, narrow, *first_found, middle, *second_found, widen, *third_found


apply: Callable[..., Images] = Residual.apply


class Normalized:
    """Batch normalization by the statistics of x, which the running ones are moved by.

    Args:
        x: What is normalized.
        norm: By what.
    """

    def __init__(self, x: Images, norm: BatchNorm) -> None:
        self.mean, variance = torch.ops.aten.batch_norm_update_stats(
            x, norm.running_mean, norm.running_variance, norm.momentum
        )
        self.epsilon, self.learnt = norm.epsilon, norm.scale.detach()
        self.rate = (variance + norm.epsilon).rsqrt()
        scale = self.learnt * self.rate
        self.scale, self.shift = (v[None, :, None, None] for v in (scale, norm.shift.detach() - self.mean * scale))

    def __call__(self, x: Images) -> Images:
        return torch.addcmul(self.shift, x, self.scale)

    def elu(self, x: Images, above: int = 0, plus: Images | None = None, base: Images | None = None) -> Images:
        """ELU of x normalized, plus `plus`; then plus `base`, below so many rows of zeros."""
        shape = (*x.shape[:2], above + x.shape[2], x.shape[3])
        found = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        found[:, :, :above] = 0
        for part in parts(x):
            y = self(x[part])
            y = elu_(y if plus is None else y.add_(plus[part]))
            found[part, :, above:] = y if base is None else y.add_(base[part])

        return found

    def back(self, gradient: Images, x: Images) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of x, scale and shift."""
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
            gradient, x, self.learnt, None, None, self.mean, self.rate, True, self.epsilon, [True, True, True]
        )

        return found


def parts(x: Images) -> Iterator[slice]:
    """A few images at a time."""
    step = max(1, ELEMENTS // x[0].numel())

    return (slice(first, first + step) for first in range(0, len(x), step))


def elu_gradient(gradient: Images, y: Images, out: Images | None = None) -> Images:
    """The gradient of x where y is elu(x)."""
    out = torch.empty_like(gradient) if out is None else out

    return torch.ops.aten.elu_backward.grad_input(gradient, 1, 1, 1, True, y, grad_input=out)


def convolution_gradients(gradient: Images, x: Images, kernel: Kernel, reach: int) -> tuple[Images, Kernel]:
    """The gradients of x and of the kernel."""
    found = torch.ops.aten.convolution_backward(
        gradient, x, kernel, None, [1, 1], [0, reach], [1, 1], False, [0, 0], 1, [True, True, False]
    )

    return found[0], found[1]
