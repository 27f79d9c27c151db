"""The PixelCNN's residual block in training on a CPU: PyTorch's figures with a third of the memory.

At the paper's size a block makes 55 MiB of tensors that its gradient wants, which takes longer to write and to read
than its convolutions take to compute. Here normalization, sum and ELU are one pass, a few images at a time, which stay
in the cache, and what the last convolution gives is never held at all: 30 MiB are kept.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from duvae.networks.convolutions import BatchNorm, Channels, Images, Kernel, channels_last, masked
from duvae.networks.fast.elementwise import elu_

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
        given, x, reach = x, channels_last(x), weights.masked.shape[-1] // 2
        a = functional.conv2d(x, weights.narrow)
        first = Normalized(a, norms[0])
        y = first.elu(a, above=reach)
        b = functional.conv2d(y, weights.masked, padding=(0, reach))
        second = Normalized(b, norms[1])
        z = second.elu(b)
        third = Widened(z, weights.widen, norms[2])
        behind, out = third.elu(z, x, base)
        ctx.normalized, ctx.based = (first, second, third), base is not None
        ctx.save_for_backward(given, *parameters, a, y, b, z, behind)

        return out

    @staticmethod
    def backward(ctx: Any, gradient: Images) -> tuple[Tensor | None, ...]:
        x, *parameters, a, y, b, z, behind = ctx.saved_tensors
        first, second, third = ctx.normalized
        of_base = gradient if ctx.based else None
        if torch.is_grad_enabled():  # this gradient is to be differentiated again
            found = plain(x, first.epsilon, Weights(*parameters))
            of_x, *others = torch.autograd.grad(found, (x, *parameters), gradient, create_graph=True)
            return of_x, of_base, None, *others

        weights = Weights(*parameters)
        x, reach = channels_last(x), weights.masked.shape[-1] // 2
        of_x, g, *third_found = third.back(gradient, behind, z)
        g, *second_found = second.back(g, b)
        g, middle = convolution_gradients(g, y, weights.masked, reach)
        g, *first_found = first.back(elu_gradient(g[:, :, reach:], y[:, :, reach:]), a)
        g = channels_last(g)
        narrow = (pixels(g).T @ pixels(x)).view_as(weights.narrow)
        pixels(of_x).addmm_(pixels(g), weights.narrow.flatten(1))

        return of_x, of_base, None, narrow, *first_found, middle, *second_found, *third_found


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

    def elu(self, x: Images, above: int = 0) -> Images:
        """ELU of x normalized, below so many rows of zeros."""
        shape = (*x.shape[:2], above + x.shape[2], x.shape[3])
        found = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        found[:, :, :above] = 0
        for part in parts(x):
            elu_(torch.addcmul(self.shift, x[part], self.scale), out=found[part, :, above:])

        return found

    def back(self, gradient: Images, x: Images) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of x, scale and shift."""
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
            gradient, x, self.learnt, None, None, self.mean, self.rate, True, self.epsilon, [True, True, True]
        )

        return found


class Widened:
    r"""The last convolution, $c = W z$ at each pixel, and its normalization, without holding c.

    The mean of c is W times that of z, and its covariance $W C W^T$, of which the variances are the diagonal. With the
    gradient g behind the normalization, scale s and $r = (v + \epsilon)^{-1/2}$, and N numbers a channel, c has

    $$s r \, \Big(g - \frac1N \sum g - \frac{r^2}{N} (c - \bar c) \sum g (c - \bar c)\Big),$$

    which is linear in g and z: what it gives to z and W are products of those two.

    Args:
        z: What comes in.
        kernel: W, 1 x 1.
        norm: The normalization.
    """

    def __init__(self, z: Images, kernel: Kernel, norm: BatchNorm) -> None:
        inputs, self.kernel = pixels(z), kernel.flatten(1)
        self.count = len(inputs)
        self.mean = inputs.mean(0)
        self.covariance = (inputs.T @ inputs).div_(self.count).sub_(self.mean.outer(self.mean))
        mean = self.kernel @ self.mean
        variance = (self.kernel @ self.covariance).mul_(self.kernel).sum(1).clamp_(min=0)
        # As PyTorch's normalization does, unseen by autograd: the same one's earlier use may still want a gradient.
        norm.running_mean.data.lerp_(mean, norm.momentum)
        norm.running_variance.data.lerp_(variance * (self.count / (self.count - 1)), norm.momentum)
        self.rate = (variance + norm.epsilon).rsqrt()
        self.scale = norm.scale.detach() * self.rate
        self.shift = norm.shift.detach() - mean * self.scale
        self.scaled = self.kernel * self.scale[:, None]

    def elu(self, z: Images, plus: Images, base: Images | None) -> tuple[Images, Images]:
        """ELU of c normalized plus `plus`; and the same plus `base`."""
        behind = torch.empty_like(plus)
        found = behind if base is None else torch.empty_like(behind)
        for part in parts(plus):
            y = torch.addmm(self.shift, pixels(z[part]), self.scaled.T).add_(pixels(plus[part]))
            elu_(y, out=pixels(behind[part]))
            if base is not None:
                torch.add(behind[part], base[part], out=found[part])

        return behind, found

    def back(self, gradient: Images, behind: Images, z: Images) -> tuple[Images, Images, Kernel, Tensor, Tensor]:
        """The gradients of `plus`, of what z is the ELU of, of W, scale and shift."""
        of_plus, of_z = torch.empty_like(behind), torch.empty_like(z)
        total, with_z = torch.zeros_like(self.shift), torch.zeros_like(self.kernel)
        for part in parts(behind):
            g = pixels(elu_gradient(gradient[part], behind[part], of_plus[part]))
            total += g.sum(0)
            with_z.addmm_(g.T, pixels(z[part]))
        with_z -= total.outer(self.mean)
        of_scale = with_z.mul(self.kernel).sum(1) * self.rate
        by_variance = self.kernel * (self.scale * self.rate * of_scale / -self.count)[:, None]
        of_kernel = (with_z * self.scale[:, None]).addmm_(by_variance, self.covariance, alpha=self.count)
        of_z_by_z = self.kernel.T @ by_variance
        constant = (total @ self.scaled) / -self.count - self.mean @ of_z_by_z
        for part in parts(behind):
            g = torch.addmm(constant, pixels(of_plus[part]), self.scaled).addmm_(pixels(z[part]), of_z_by_z)
            elu_gradient(g, pixels(z[part]), pixels(of_z[part]))

        return of_plus, of_z, of_kernel[:, :, None, None], of_scale, total


def pixels(x: Images) -> Float[Tensor, "pixels channels"]:
    """A pixel a row, as it lies in memory."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def parts(x: Images) -> Iterator[slice]:
    """A few images at a time; on a GPU all."""
    step = len(x) if x.is_cuda else max(1, ELEMENTS // x[0].numel())

    return (slice(first, first + step) for first in range(0, len(x), step))


def elu_gradient(
    gradient: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"], out: Float[Tensor, "*shape"] | None = None
) -> Float[Tensor, "*shape"]:
    """The gradient of x where y is elu(x)."""
    out = torch.empty_like(gradient) if out is None else out

    return torch.ops.aten.elu_backward.grad_input(gradient, 1, 1, 1, True, y, grad_input=out)


def convolution_gradients(gradient: Images, x: Images, kernel: Kernel, reach: int) -> tuple[Images, Kernel]:
    """The gradients of x and of the kernel."""
    found = torch.ops.aten.convolution_backward(
        gradient, x, kernel, None, [1, 1], [0, reach], [1, 1], False, [0, 0], 1, [True, True, False]
    )

    return found[0], found[1]
