"""What the image networks are made of: convolutions, masked ones, batch normalization."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Images = Float[Tensor, "batch _ _ _"]
"""A batch of images, or of maps of their size: channels, height, width."""
Kernel = Float[Tensor, "_ _ _ _"]
"""Channels out, channels in, rows, columns."""
Channels = Float[Tensor, "_"]
"""A number a channel."""
Folded = tuple[Tensor, Tensor]
"""Kernel and bias of a convolution and of the batch normalization behind it, in evaluation."""


class Convolution(nn.Module):
    """A convolution without bias, since batch normalization follows.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Its side.
        stride: Of its steps.
        padding: Zeros on each side.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        normal_(self.weight, kernel)

    def forward(self, x: Images) -> Images:
        return functional.conv2d(x, self.weight, stride=self.stride, padding=self.padding)


class MaskedConvolution(nn.Module):
    """A k x k convolution that sees, around each pixel, the rows above it and what is left of it in its own.

    Only those weights are held, and only the upper k // 2 + 1 of the k rows are multiplied: a 7 x 7 mask is a 4 x 7
    kernel with three zeros, or four.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: k, odd.
        own: Whether it sees the pixel itself too: a mask of type B (van den Oord et al. 2016); without it, type A.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, own: bool) -> None:
        super().__init__()
        self.side, self.reach = kernel, kernel // 2
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel * self.reach + self.reach + own))
        normal_(self.weight, kernel)

    def kernel(self) -> Kernel:
        """Its upper rows, with zeros for what is not seen."""
        rows = self.reach + 1

        return functional.pad(self.weight, (0, rows * self.side - self.weight.shape[-1])).unflatten(
            -1, (rows, self.side)
        )

    def forward(self, x: Images) -> Images:
        return masked(x, self.kernel())


def masked(x: Images, kernel: Kernel, bias: Channels | None = None) -> Images:
    """The convolution with the upper rows of a masked kernel."""
    reach = kernel.shape[-1] // 2

    return functional.conv2d(functional.pad(x, (0, 0, reach, 0)), kernel, bias, padding=(0, reach))


def normal_(weight: Tensor, kernel: int) -> None:
    r"""The paper's initial weights of convolutions: $N(0, 2 / (k^2 c_{out}))$."""
    nn.init.normal_(weight, std=math.sqrt(2 / (kernel**2 * len(weight))))


class BatchNorm(nn.Module):
    """Batch normalization of channels, in training with the batch's statistics, in evaluation with the running ones.

    A channel with a single value has no variance: it is normalized with the running statistics, which stay.

    Args:
        channels: How many.
        epsilon: Added to the variance.
        momentum: Weight of a batch in the running statistics.
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
        """A kernel and a bias that do at once what `kernel`, and this behind it, do in evaluation."""
        scale = self.scale * (self.running_variance + self.epsilon).rsqrt()

        return kernel * scale[:, None, None, None], self.shift - self.running_mean * scale


def several(x: Images) -> bool:
    """Whether each channel has more than one value."""
    return x.numel() > x.shape[1]


def channels_last(x: Images) -> Images:
    """The images with their channels side by side in memory, which makes convolutions fastest.

    Images of one channel have both layouts at once, and PyTorch may take the other for the result of a convolution: so
    it has to be asked for again.

    Args:
        x: Images or maps, shape (batch, channels, height, width).
    """
    return x.contiguous(memory_format=torch.channels_last)
