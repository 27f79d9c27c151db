"""The parts of the image networks: convolutions, masked convolutions and batch normalization."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Images = Float[Tensor, "batch _ _ _"]
"""A batch of images or of feature maps, shape (batch, channels, height, width)."""
Kernel = Float[Tensor, "_ _ _ _"]
"""The weights of a convolution, shape (output channels, input channels, rows, columns)."""
Channels = Float[Tensor, "_"]
"""One number per channel."""
Folded = tuple[Tensor, Tensor]
"""The kernel and the bias of one convolution that also does the work of the batch normalization behind it."""


class Convolution(nn.Module):
    """A convolution without a bias, since batch normalization follows.

    Args:
        inputs: The number of input channels.
        outputs: The number of output channels.
        kernel: The height and width of the kernel.
        stride: The distance between neighbouring positions of the kernel, in pixels.
        padding: The number of rows or columns of zeros that are added on each side.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        normal_(self.weight, kernel)

    def forward(self, x: Images) -> Images:
        return functional.conv2d(x, self.weight, stride=self.stride, padding=self.padding)


class MaskedConvolution(nn.Module):
    """A k x k convolution that reads only earlier pixels: those in the rows above, and those to the left.

    The module stores only the weights of earlier pixels, and computes only with the upper k // 2 + 1 of the k rows. For
    example, a 7 x 7 mask becomes a 4 x 7 kernel, in which three weights (type B) or four (type A) are zero.

    Args:
        inputs: The number of input channels.
        outputs: The number of output channels.
        kernel: The height and width k of the full kernel, an odd number.
        own: Whether the convolution also reads the pixel itself. If so, the mask is of type B, otherwise of type A (van
            den Oord et al. 2016).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, own: bool) -> None:
        super().__init__()
        self.side, self.reach = kernel, kernel // 2
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel * self.reach + self.reach + own))
        normal_(self.weight, kernel)

    def kernel(self) -> Kernel:
        """The upper rows of the kernel, with zeros at masked pixels."""
        rows = self.reach + 1

        return functional.pad(self.weight, (0, rows * self.side - self.weight.shape[-1])).unflatten(
            -1, (rows, self.side)
        )

    def forward(self, x: Images) -> Images:
        return masked(x, self.kernel())


def masked(x: Images, kernel: Kernel, bias: Channels | None = None) -> Images:
    """Convolves images with the upper rows of a masked kernel. The result has the height and width of the images.

    Args:
        x: Images or feature maps, shape (batch, channels, height, width).
        kernel: The upper rows, from `MaskedConvolution.kernel`.
        bias: One number per output channel; None: no bias.
    """
    reach = kernel.shape[-1] // 2

    return functional.conv2d(functional.pad(x, (0, 0, reach, 0)), kernel, bias, padding=(0, reach))


def normal_(weight: Tensor, kernel: int) -> None:
    r"""Draws the initial weights of a convolution in place: $N(0, 2 / (k^2 c_{out}))$ (code of He et al. 2018).

    Args:
        weight: The weights; their first dimension is the number of output channels.
        kernel: The height and width k of the full kernel.
    """
    nn.init.normal_(weight, std=math.sqrt(2 / (kernel**2 * len(weight))))


class BatchNorm(nn.Module):
    """Batch normalization of channels.

    The module uses the statistics of the batch in training, and the running statistics in evaluation. A channel with a
    single value has no variance. For such a channel the module uses the running statistics and does not update them.

    Args:
        channels: The number of channels.
        epsilon: The number that is added to the variance.
        momentum: The weight of a new batch in the running statistics.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, channels: int, epsilon: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.epsilon, self.momentum = epsilon, momentum
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_variance", torch.ones(channels))

    def forward(self, x: Images) -> Images:
        return functional.batch_norm(
            x,
            self.running_mean,
            self.running_variance,
            self.scale,
            self.shift,
            training=self.training and several(x),
            momentum=self.momentum,
            eps=self.epsilon,
        )

    def folded(self, kernel: Kernel) -> Folded:
        """Builds one convolution that replaces two operations in evaluation.

        These operations are a convolution with `kernel`, and then this normalization with its running statistics.
        """
        scale = self.scale * (self.running_variance + self.epsilon).rsqrt()

        return kernel * scale[:, None, None, None], self.shift - self.running_mean * scale


def several(x: Images) -> bool:
    """Whether each channel has more than one value."""
    return x.numel() > x.shape[1]


def channels_last(x: Images) -> Images:
    """Returns x with the channels of each pixel side by side in memory, the fastest layout for convolutions.

    Images of one channel have this layout and PyTorch's usual layout at the same time. PyTorch may then choose the
    usual layout for the result of a convolution, so callers use this function on the result again.

    Args:
        x: Images or feature maps, shape (batch, channels, height, width).
    """
    return x.contiguous(memory_format=torch.channels_last)
