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
"""The kernel and the bias of a convolution with a folded batch normalization.

In evaluation such a convolution replaces a convolution and the batch normalization after it (see `BatchNorm.folded`).
"""


class Convolution(nn.Module):
    """A convolution without a bias. The batch normalization after it has a shift, which does the work of a bias.

    Args:
        inputs: The number of input channels.
        outputs: The number of output channels.
        kernel: The height and width of the kernel.
        stride: The distance between neighbouring positions of the kernel, in pixels.
        padding: The number of rows or columns of zeros that are added on each of the four sides of an image.
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

    If `own` is True, the convolution also reads the pixel itself. Its mask is then of type B, otherwise of type A (van
    den Oord et al. 2016). All rows below the middle of a masked kernel are zero. So the module stores only the weights
    that the mask leaves, and computes only with the upper k // 2 + 1 of the k rows. For example, a masked 7 x 7 kernel
    becomes a 4 x 7 kernel, in which three weights (type B) or four (type A) are zero for each pair of channels.

    Args:
        inputs: The number of input channels.
        outputs: The number of output channels.
        kernel: The height and width k of the full kernel, an odd number.
        own: Whether the convolution also reads the pixel itself.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, own: bool) -> None:
        super().__init__()
        self.side, self.reach = kernel, kernel // 2
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel * self.reach + self.reach + own))
        normal_(self.weight, kernel)

    def kernel(self) -> Kernel:
        """Builds the upper k // 2 + 1 rows of the kernel, with zeros at masked pixels."""
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
        kernel: The upper rows of the kernel, from `MaskedConvolution.kernel`.
        bias: One number per output channel; None: no bias.
    """
    reach = kernel.shape[-1] // 2

    return functional.conv2d(functional.pad(x, (0, 0, reach, 0)), kernel, bias, padding=(0, reach))


def normal_(weight: Tensor, kernel: int) -> None:
    r"""Draws the initial weights of a convolution in place, as the code of He et al. (2018) does.

    The distribution is $N(0, 2 / (k^2 c_{out}))$, where k is the size of the kernel and $c_{out}$ the number of output
    channels.

    Args:
        weight: The weights; their first dimension is the number of output channels.
        kernel: The height and width k of the full kernel.
    """
    nn.init.normal_(weight, std=math.sqrt(2 / (kernel**2 * len(weight))))


class BatchNorm(nn.Module):
    """Batch normalization of channels.

    The module uses the mean and variance of the batch in training, and their running averages (the running statistics)
    in evaluation. If a training batch has a single value per channel, there is no variance. The module then uses the
    running statistics and does not update them.

    Args:
        channels: The number of channels.
        epsilon: The number that is added to the variance before the square root.
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
        """Folds this normalization, with its running statistics, into the convolution before it.

        Args:
            kernel: The kernel of the convolution whose result this module normalizes.

        Returns:
            Kernel and bias of one convolution that replaces the convolution and the normalization in evaluation.
        """
        scale = self.scale * (self.running_variance + self.epsilon).rsqrt()

        return kernel * scale[:, None, None, None], self.shift - self.running_mean * scale


def several(x: Images) -> bool:
    """Whether each channel has more than one value, counted over all images and pixels of the batch."""
    # A branch, because in compiled code the comparison is a symbol, which batch normalization does not accept.
    if x.numel() > x.shape[1]:  # noqa: SIM103
        return True

    return False


def channels_last(x: Images) -> Images:
    """Returns x with the channels of each pixel side by side in memory, the fastest layout for convolutions.

    Images of one channel have this layout and PyTorch's usual layout at the same time. For such images PyTorch may give
    the result of a convolution the usual layout. So callers apply this function again to the result of the convolution.

    Args:
        x: Images or feature maps, shape (batch, channels, height, width).
    """
    return x.contiguous(memory_format=torch.channels_last)
