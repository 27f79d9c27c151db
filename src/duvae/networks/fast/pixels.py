"""A PixelCNN in evaluation, whose batch normalizations are folded into the convolutions before them.

The class `Whole` computes the log odds of all pixels of given images. The function `sample` generates images pixel by
pixel, and stores the inputs of all masked convolutions, so that no layer is computed twice at the same pixel.
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


class Masked:
    """A masked convolution that computes one pixel of many images at a time.

    The object stores the input of the convolution at all pixels so far. At the beginning of a row, one convolution
    reads the rows above, and computes their term in the output for the whole row. For each pixel, one matrix product
    then adds the term of the pixels to its left.

    Args:
        kernel: The upper rows of the masked kernel.
        bias: The bias, one number per output channel.
        batch: The number of images.
        size: The height and width of an image, in pixels.
        own: Whether the convolution also reads the pixel whose output it computes.
    """

    def __init__(self, kernel: Tensor, bias: Tensor, batch: int, size: int, own: bool) -> None:
        channels, reach = kernel.shape[1], kernel.shape[-1] // 2
        self.channels, self.reach, self.size, self.bias = channels, reach, size, bias
        self.above = kernel[:, :, :-1]
        left = kernel[:, :, -1, : reach + own]
        self.left = left.permute(2, 1, 0).flatten(0, 1).contiguous()  # shape (pixels * channels, outputs)
        self.seen = kernel.new_zeros(batch, size + reach, (size + 2 * reach) * channels)
        self.row = self.seen[:, 0]
        self.given: Tensor = bias  # the term of the rows above, shape (width, batch, outputs)

    def begin(self, row: int, more: Float[Tensor, "batch outputs width"] | None = None) -> None:
        """Begins a row: computes the term of the rows above it for all pixels of the row.

        Args:
            row: Number of the row, from 0.
            more: A term to add to the output of each pixel of the row; None: no term.
        """
        batch = len(self.seen)
        self.row = self.seen[:, row + self.reach]
        given = self.bias[:, None].expand(batch, -1, self.size)
        if self.reach:
            window = self.seen[:, row : row + self.reach].unflatten(-1, (-1, self.channels)).permute(0, 3, 1, 2)
            given = functional.conv2d(window, self.above, self.bias)[:, :, 0]
        self.given = (given if more is None else given + more).permute(2, 0, 1).contiguous()

    def place(self, column: int) -> Tensor:
        """Returns the view into which the caller writes the input of the convolution at a pixel of the current row.

        The view has the shape (batch, channels).
        """
        start = (column + self.reach) * self.channels

        return self.row[:, start : start + self.channels]

    def __call__(self, column: int) -> Float[Tensor, "batch outputs"]:
        start = column * self.channels

        return torch.addmm(self.given[column], self.row[:, start : start + len(self.left)], self.left)


class OnePixel:
    """A residual block or skip block that computes one pixel of many images at a time.

    The caller sets the attribute `column` to the column of this pixel, and calls `masked.begin` before each row.

    Args:
        narrow: The first 1 x 1 convolution.
        middle: The masked convolution between the two 1 x 1 convolutions.
        widen: The second 1 x 1 convolution.
        batch: The number of images.
        size: The height and width of an image, in pixels.
    """

    def __init__(self, narrow: Folded, middle: Folded, widen: Folded, batch: int, size: int) -> None:
        (self.narrow, self.bias1), (self.widen, self.bias3) = (
            (kernel[:, :, 0, 0].T, b) for kernel, b in (narrow, widen)
        )
        self.masked = Masked(*middle, batch, size, own=True)
        self.column = 0

    def __call__(self, x: Float[Tensor, "batch width"], base: Tensor | None = None) -> Float[Tensor, "batch width"]:
        functional.elu_(torch.addmm(self.bias1, x, self.narrow, out=self.masked.place(self.column)))
        y = functional.elu_(self.masked(self.column))
        y = functional.elu_(torch.addmm(self.bias3, y, self.widen).add_(x))

        return y if base is None else y.add_(base)


@torch.no_grad()
def sample(
    network: Network, maps: Images, uniforms: Float[Tensor, "batch height width"] | None
) -> tuple[Float[Tensor, "batch 1 height width"], Float[Tensor, "batch 1 height width"]]:
    """Generates images pixel by pixel. When a pixel is generated, each layer is computed only at that pixel.

    Args:
        network: The network with folded normalizations.
        maps: The feature maps of z, shape (batch, maps, height, width).
        uniforms: Uniform random numbers from 0 to 1, one per pixel. A pixel becomes ink (1) if its probability of ink
            exceeds its random number. None: a pixel becomes ink if its probability exceeds one half.

    Returns:
        The images, and the logits of their pixels, both of shape (batch, 1, height, width).
    """
    batch, _, size, _ = maps.shape
    of_maps = network.of_maps(maps)
    first = Masked(network.image, torch.zeros_like(network.image[:, 0, 0, 0]), batch, size, own=False)
    layers, skips = ([OnePixel(*block, batch, size) for block in blocks] for blocks in (network.layers, network.skips))
    last, output = network.last[0][:, :, 0, 0].T, network.output[:, :, 0, 0].T
    x, logits = (maps.new_zeros(size, size, batch) for _ in range(2))
    needed = torch.zeros_like(x) if uniforms is None else torch.logit(uniforms).permute(1, 2, 0)
    for row in range(size):
        first.begin(row, of_maps[:, :, row])
        for block in (*layers, *skips):
            block.masked.begin(row)
        for column in range(size):
            for block in (*layers, *skips):
                block.column = column
            y = through(functional.elu_(first(column)), layers, skips)
            y = functional.elu_(torch.addmm(network.last[1], y, last))
            logits[row, column] = (y @ output)[:, 0]
            x[row, column] = logits[row, column] > needed[row, column]
            first.place(column).copy_(x[row, column][:, None])

    return x.permute(2, 0, 1)[:, None], logits.permute(2, 0, 1)[:, None]
