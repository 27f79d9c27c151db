"""The image encoder: residual blocks that halve height and width, then one convolution over all remaining pixels."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from duvae.networks.bodies import Encoder
from duvae.networks.convolutions import BatchNorm, Convolution, Images, channels_last

FEW = 8
"""The smallest number of channels above 1 for which the 1 x 1 convolution of a block reads a channels-last input.

An input of this convolution with 2 to FEW - 1 channels is first copied to PyTorch's usual layout. In torch 2.13,
oneDNN's 1 x 1 convolution of stride 2 fails for 2 to 6 channels in the channels-last layout: on processors without
AVX-512, it writes past the end of its buffers.
"""


class Halving(nn.Module):
    """A residual block that halves height and width.

    The block has two branches that read the same input. Their outputs are added, and ELU follows. One branch has two
    3 x 3 convolutions, the first of stride 2. The other branch has one 1 x 1 convolution of stride 2. Batch
    normalization follows each convolution.

    Args:
        inputs: The number of input channels.
        outputs: The number of output channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = Convolution(inputs, outputs, 3, stride=2, padding=1), BatchNorm(outputs)
        self.conv2, self.norm2 = Convolution(outputs, outputs, 3, padding=1), BatchNorm(outputs)
        self.beside, self.norm = Convolution(inputs, outputs, 1, stride=2), BatchNorm(outputs)

    def forward(self, x: Images) -> Images:
        y = functional.elu(self.norm1(channels_last(self.conv1(x))))
        beside = self.beside(x.contiguous() if 1 < x.shape[1] < FEW else x)

        return functional.elu(self.norm2(self.conv2(y)) + self.norm(channels_last(beside)))


class ResNetEncoder(Encoder):
    """An encoder of residual blocks, then one convolution over all remaining pixels, batch normalization and ELU.

    For example, three residual blocks reduce an image of 28 x 28 pixels to 4 x 4 pixels.

    Args:
        size: The height and width of an image, in pixels.
        channels: The number of output channels of each residual block.
        features: The width of a feature vector.
    """

    def __init__(self, size: int, channels: Sequence[int], features: int) -> None:
        super().__init__()
        self.features = features
        self.blocks = nn.Sequential(*(Halving(n, m) for n, m in zip((1, *channels), channels, strict=False)))
        for _ in channels:
            size = (size + 1) // 2
        self.last, self.norm = Convolution(channels[-1], features, size), BatchNorm(features)

    def forward(self, x: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch features"]:
        return functional.elu(self.norm(self.last(self.blocks(x)))).flatten(1)
