"""The PixelCNN's residual block for training on a CPU, with a gradient that is written by hand.

The class `duvae.networks.pixelcnn.Block` defines the block. At the paper's size of the network, PyTorch's own
operations store 55 MiB of tensors per block for the gradient. Writing and reading these tensors takes longer than the
convolutions.

This module stores only 30 MiB per block, because it never stores the output of the last convolution. It computes batch
normalization, residual sum and ELU in one pass over a few images at a time. The values of these images stay in the
processor's cache.
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
"""The largest number of elements of a tensor that are processed at once: half a MiB in single precision."""


class Weights(NamedTuple):
    """The parameters of a block: the kernel of each convolution, then scale and shift of the normalization after it."""

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
    """Computes the output of `Block` in training. This output can be differentiated any number of times.

    Args:
        x: The input of the block.
        base: A term to add after the last ELU; None: no term.
        narrow: The kernel of the first 1 x 1 convolution.
        middle: The upper rows of the masked kernel.
        widen: The kernel of the second 1 x 1 convolution.
        norms: The three batch normalizations, one per convolution. Their running statistics are updated.
    """
    weights = (
        parameter
        for kernel, norm in zip((narrow, middle, widen), norms, strict=True)
        for parameter in (kernel, norm.scale, norm.shift)
    )

    return apply(x, base, norms, *weights)


def plain(x: Images, epsilon: float, weights: Weights) -> Images:
    """Computes the output of a block without `base` in training, by PyTorch's own operations.

    Args:
        x: The input of the block.
        epsilon: The number that is added to each variance.
        weights: The parameters of the block.
    """

    def norm(y: Images, scale: Channels, shift: Channels) -> Images:
        return functional.batch_norm(y, None, None, scale, shift, training=True, eps=epsilon)

    y = functional.elu_(norm(functional.conv2d(x, weights.narrow), weights.scale1, weights.shift1))
    y = functional.elu_(norm(masked(y, weights.masked), weights.scale2, weights.shift2))

    return functional.elu_(norm(functional.conv2d(y, weights.widen), weights.scale3, weights.shift3) + x)


class Residual(torch.autograd.Function):
    """The autograd function that the function `residual` applies.

    Its inputs are x, base, the three batch normalizations, and the nine fields of `Weights`.
    """

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
        if torch.is_grad_enabled():  # the caller differentiates this gradient again
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
    """Batch normalization by the mean and variance of a batch x.

    Args:
        x: The batch that gives the mean and the variance.
        norm: The module that holds scale, shift and running statistics. Its running statistics are updated.
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
        """Computes ELU of the normalized x, and puts `above` rows of zeros above the result.

        The masked convolution, which reads the result, needs these rows.
        """
        shape = (*x.shape[:2], above + x.shape[2], x.shape[3])
        found = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        found[:, :, :above] = 0
        for part in parts(x):
            elu_(torch.addcmul(self.shift, x[part], self.scale), out=found[part, :, above:])

        return found

    def back(self, gradient: Images, x: Images) -> tuple[Tensor, Tensor, Tensor]:
        """Computes the gradients of the loss with respect to x, scale and shift.

        Args:
            gradient: The gradient of the loss with respect to the normalized x.
            x: The batch from which the object was built.
        """
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
            gradient, x, self.learnt, None, None, self.mean, self.rate, True, self.epsilon, [True, True, True]
        )

        return found


class Widened:
    r"""The last convolution of a block, and the normalization after it. The convolution's result c is not stored.

    z is the input of the convolution, and $c = W z$ at each pixel. All means and covariances are taken over the pixels
    of the batch. The mean of c is W times the mean of z. The covariance of c is $W C W^T$, where C is the covariance of
    z. The diagonal of $W C W^T$ holds the variances v of c. Let g be the gradient of the loss with respect to the
    normalized c, and s the scale. Let $\bar c$ be the mean of c, $r = (v + \epsilon)^{-1/2}$, and N the number of
    values per channel. The gradient with respect to c is

    $$s r \, \Big(g - \frac1N \sum g - \frac{r^2}{N} (c - \bar c) \sum g (c - \bar c)\Big),$$

    which is a linear function of g and of $c = W z$. So matrix products with g and z give the gradients with respect to
    z and W, and c itself is not needed.

    Args:
        z: The input of the convolution.
        kernel: The 1 x 1 kernel W.
        norm: The module that holds scale, shift and running statistics. Its running statistics are updated.
    """

    def __init__(self, z: Images, kernel: Kernel, norm: BatchNorm) -> None:
        inputs, self.kernel = pixels(z), kernel.flatten(1)
        self.count = len(inputs)
        self.mean = inputs.mean(0)
        self.covariance = (inputs.T @ inputs).div_(self.count).sub_(self.mean.outer(self.mean))
        mean = self.kernel @ self.mean
        variance = (self.kernel @ self.covariance).mul_(self.kernel).sum(1).clamp_(min=0)
        # `.data` hides this update from autograd, as PyTorch's own normalization does. Otherwise autograd would refuse
        # to compute the gradient of an earlier use of the module, because the running statistics have changed since.
        norm.running_mean.data.lerp_(mean, norm.momentum)
        norm.running_variance.data.lerp_(variance * (self.count / (self.count - 1)), norm.momentum)
        self.rate = (variance + norm.epsilon).rsqrt()
        self.scale = norm.scale.detach() * self.rate
        self.shift = norm.shift.detach() - mean * self.scale
        self.scaled = self.kernel * self.scale[:, None]

    def elu(self, z: Images, plus: Images, base: Images | None) -> tuple[Images, Images]:
        """Computes two tensors: the ELU of (normalized c + plus), and the sum of that ELU and `base`.

        Args:
            z: The input of the convolution.
            plus: The input of the block, which is added before ELU.
            base: A term to add after ELU; None: both results are one tensor.
        """
        behind = torch.empty_like(plus)
        found = behind if base is None else torch.empty_like(behind)
        for part in parts(plus):
            y = torch.addmm(self.shift, pixels(z[part]), self.scaled.T).add_(pixels(plus[part]))
            elu_(y, out=pixels(behind[part]))
            if base is not None:
                torch.add(behind[part], base[part], out=found[part])

        return behind, found

    def back(self, gradient: Images, behind: Images, z: Images) -> tuple[Images, Images, Kernel, Tensor, Tensor]:
        """Computes the gradients of the loss by the formula in the docstring of the class.

        Args:
            gradient: The gradient of the loss with respect to the output of the block.
            behind: The first tensor that `elu` returned.
            z: The input of the convolution, which is the output of the second ELU of the block.

        Returns:
            Five gradients, with respect to these tensors in turn: the argument `plus` of the method `elu`, the input of
            the second ELU of the block, W, scale, and shift.
        """
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
    """Returns a view of x, which must have the channels-last layout, with one row per pixel of the batch."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def parts(x: Images) -> Iterator[slice]:
    """Cuts the batch x into slices of a few images each. On a GPU there is one slice, with all images."""
    step = len(x) if x.is_cuda else max(1, ELEMENTS // x[0].numel())

    return (slice(first, first + step) for first in range(0, len(x), step))


def elu_gradient(
    gradient: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"], out: Float[Tensor, "*shape"] | None = None
) -> Float[Tensor, "*shape"]:
    """Computes the gradient of the loss with respect to x, where y = elu(x).

    Args:
        gradient: The gradient of the loss with respect to y.
        y: The result of ELU.
        out: The tensor that receives the result; None: a new tensor receives it.
    """
    out = torch.empty_like(gradient) if out is None else out

    return torch.ops.aten.elu_backward.grad_input(gradient, 1, 1, 1, True, y, grad_input=out)


def convolution_gradients(gradient: Images, x: Images, kernel: Kernel, reach: int) -> tuple[Images, Kernel]:
    """Computes the gradients of the loss with respect to the input x and the kernel of a convolution.

    Args:
        gradient: The gradient of the loss with respect to the output of the convolution.
        x: The input of the convolution.
        kernel: The kernel of the convolution.
        reach: The number of columns of zeros that the convolution adds on the left and on the right.
    """
    found = torch.ops.aten.convolution_backward(
        gradient, x, kernel, None, [1, 1], [0, reach], [1, 1], False, [0, 0], 1, [True, True, False]
    )

    return found[0], found[1]
