"""A PixelCNN in evaluation, whose batch normalizations are folded into the convolutions before them.

The class `Whole` computes the log odds of all pixels of given images. The module `sampling` generates images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from duvae.networks.convolutions import Folded, Images, channels_last, masked
from duvae.networks.fast.elementwise import LOG2E
from duvae.networks.fast.residual import parts
from duvae.networks.fast.toomcook import ROWS, FewerProducts
from duvae.networks.pixelcnn import through


@dataclass(frozen=True)
class Network:
    """The convolutions of a PixelCNN with folded batch normalizations, each with kernel and bias.

    Attributes:
        image: The kernel of the masked convolution of the image in the first layer. It has no bias of its own.
        maps: The convolution of the feature maps of z in the first layer. Its bias is the bias of the whole layer.
        layers: The three convolutions of each residual block: 1 x 1, masked, 1 x 1.
        skips: The three convolutions of each skip block: 1 x 1, masked, 1 x 1.
        last: The 1 x 1 convolution after all blocks.
        output: The kernel of the 1 x 1 convolution that computes the logits. It has no bias.
    """

    image: Tensor
    maps: Folded
    layers: Sequence[tuple[Folded, Folded, Folded]]
    skips: Sequence[tuple[Folded, Folded, Folded]]
    last: Folded
    output: Tensor

    def of_image(self, x: Float[Tensor, "batch 1 height width"]) -> Images:
        """Computes the term of the image in the output of the first layer before ELU.

        That output is the sum of this term and the term of z from `of_maps`.
        """
        return channels_last(masked(x, self.image))

    def of_maps(self, maps: Images) -> Images:
        """Computes the term of z in the output of the first layer before ELU, from the feature maps of z."""
        return functional.conv2d(maps, *self.maps, padding=self.maps[0].shape[-1] // 2)

    def whole(self) -> "Whole":
        """Builds the form of the network that computes whole images."""
        return Whole(self)


class Middle:
    """The masked convolution of a block, for feature maps with rows of zeros above them (see `Whole.below_zeros`).

    If the kernel and the size of the maps allow it, the algorithm `FewerProducts` computes the convolution.

    Args:
        kernel: The upper rows of the masked kernel.
        bias: The bias, one number per output channel.
    """

    def __init__(self, kernel: Tensor, bias: Tensor) -> None:
        self.kernel, self.bias, self.reach = kernel, bias, kernel.shape[-1] // 2
        self.inputs = kernel.shape[1]
        self.fewer = FewerProducts(kernel, bias) if FewerProducts.fit(kernel) else None

    def __call__(self, below: Images) -> Images:
        if self.fewer is not None and (below.shape[2] - self.reach) % ROWS == 0:
            return self.fewer(below)

        return functional.conv2d(below, self.kernel, self.bias, padding=(0, self.reach))


class Whole:
    r"""The form of the network that computes whole images.

    All intermediate values are multiplied by $\log_2 e$, since ELU then takes only three passes over memory:
    $\log_2 e \cdot elu(x) = \min(\max(t, 0), \log_2 e (2^t - 1))$ with $t = x \log_2 e$. For this purpose the callers
    multiply both terms of the first layer by $\log_2 e$. This class multiplies the biases by $\log_2 e$, and divides
    the kernel of the output by it. The other kernels stay the same.

    Args:
        network: The network with folded normalizations.
    """

    def __init__(self, network: Network) -> None:
        self.zero, self.less = (network.output.new_full((), value) for value in (0.0, -LOG2E))
        self.rooms: dict[tuple[int, ...], Images] = {}
        self.below: dict[tuple[int, ...], Images] = {}
        self.layers, self.skips = (
            [
                partial(self.block, scaled(narrow), Middle(*scaled(middle)), scaled(widen))
                for narrow, middle, widen in blocks
            ]
            for blocks in (network.layers, network.skips)
        )
        self.last, self.output = scaled(network.last), network.output / LOG2E

    def __call__(self, of_z: Images, of_image: Images) -> Float[Tensor, "batch 1 height width"]:
        """Computes the logits of all pixels.

        Args:
            of_z: The term of z in the output of the first layer before ELU, times log_2 e. This tensor is overwritten.
            of_image: The term of the image in the output of the first layer before ELU, times log_2 e.
        """
        y = through(self.elu(of_z, plus=of_image), self.layers, self.skips)

        return functional.conv2d(self.elu(functional.conv2d(y, *self.last)), self.output)

    def block(self, narrow: Folded, middle: Middle, widen: Folded, x: Images, base: Images | None = None) -> Images:
        """Computes the output of a residual block or a skip block from its three convolutions.

        Args:
            narrow: The first 1 x 1 convolution.
            middle: The masked convolution between the two 1 x 1 convolutions.
            widen: The second 1 x 1 convolution.
            x: The input of the block.
            base: A term to add to the output; None: no term.
        """
        below = self.below_zeros(x, middle.inputs, middle.reach)
        self.elu(functional.conv2d(x, *narrow), below[:, :, middle.reach :])
        y = self.elu(middle(below))

        return self.elu(functional.conv2d(y, *widen), plus=x, base=base)

    def below_zeros(self, x: Images, channels: int, rows: int) -> Images:
        """Returns a buffer for feature maps with the height and width of x, and with rows of zeros above them.

        There is one buffer per shape, which all blocks of that shape overwrite in turn.

        Args:
            x: Images or feature maps, whose number, height and width the buffer takes.
            channels: The number of channels of the buffer.
            rows: The number of rows of zeros.
        """
        shape = (len(x), channels, rows + x.shape[2], x.shape[3])
        if shape not in self.below:
            self.below[shape] = channels_last(x.new_zeros(shape))

        return self.below[shape]

    def elu(
        self, t: Images, out: Images | None = None, plus: Images | None = None, base: Images | None = None
    ) -> Images:
        """Computes ELU of (t + plus), and adds base. All values are multiplied by log_2 e.

        The method processes a few images at a time, so that their values stay in the processor's cache.

        Args:
            t: The input. This tensor is overwritten.
            out: The tensor that receives the result; None: t receives it.
            plus: A term to add before ELU; None: no term.
            base: A term to add after ELU; None: no term.
        """
        out = t if out is None else out
        for part in parts(t):
            some, to = t[part], out[part]
            if plus is not None:
                some.add_(plus[part])
            if t.is_cuda:
                to.copy_(functional.elu(some / LOG2E).mul_(LOG2E))
            else:
                if some.shape not in self.rooms:
                    self.rooms[some.shape] = torch.empty_like(some)
                power = torch.exp2(some, out=self.rooms[some.shape])
                torch.add(self.less, power, alpha=LOG2E, out=power)
                torch.clamp(some, min=self.zero, max=power, out=to)
            if base is not None:
                to.add_(base[part])

        return out


def scaled(folded: Folded) -> Folded:
    """Builds the same convolution for inputs and outputs that are multiplied by log_2 e.

    Only the bias changes, because a convolution without a bias is linear.
    """
    kernel, bias = folded

    return kernel, bias * LOG2E
