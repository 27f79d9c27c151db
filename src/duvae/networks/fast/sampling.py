"""Images that a PixelCNN with folded batch normalizations generates pixel by pixel.

The inputs of all masked convolutions are stored, so that no layer is computed twice at the same pixel. All rows of
pixels use the same memory: on a GPU, a CUDA graph of the first row computes the others.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from duvae.networks.convolutions import Folded, Images
from duvae.networks.fast.graphs import replayed
from duvae.networks.fast.pixels import Network
from duvae.networks.pixelcnn import through


class Masked:
    """A masked convolution that computes one pixel of many images at a time.

    The object stores the input of the convolution in the current row and in the rows above that the kernel reads. At
    the beginning of a row, one convolution reads the rows above, and computes their term in the output for the whole
    row. For each pixel, one matrix product then adds the term of the pixels to its left.

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
        self.rows = kernel.new_zeros(batch, reach + 1, (size + 2 * reach) * channels)  # the last row is the current one
        self.row = self.rows[:, -1]
        # The term of the rows above, shape (width, batch, outputs).
        self.given = kernel.new_zeros(size, batch, len(bias))

    def begin(self, more: Float[Tensor, "batch outputs width"] | None = None) -> None:
        """Begins a row: computes the term of the rows above it for all pixels of the row.

        Args:
            more: A term to add to the output of each pixel of the row; None: no term.
        """
        given = self.bias[:, None].expand(len(self.rows), -1, self.size)
        if self.reach:
            window = self.rows[:, :-1].unflatten(-1, (-1, self.channels)).permute(0, 3, 1, 2)
            given = functional.conv2d(window, self.above, self.bias)[:, :, 0]
        self.given.copy_((given if more is None else given + more).permute(2, 0, 1))

    def end(self) -> None:
        """Ends a row: moves the stored rows up by one."""
        if self.reach:
            self.rows[:, :-1] = self.rows[:, 1:].clone()

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

    The caller sets the attribute `column` to the column of this pixel. It calls `masked.begin` before each row, and
    `masked.end` after it.

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


class OneRow:
    """Generates the next row of pixels of many images: a call writes `logits` and `x`.

    Args:
        network: The network with folded normalizations.
        batch: The number of images.
        size: The height and width of an image, in pixels.

    Attributes:
        of_maps: Input: the term of z in the first layer at the pixels of the row, shape (batch, width, size).
        thresholds: Input: the log odds above which a pixel is ink, shape (size, batch).
        logits: The log odds of ink of the row's pixels, shape (size, batch).
        x: The pixels of the row, 0 or 1, shape (size, batch).
    """

    def __init__(self, network: Network, batch: int, size: int) -> None:
        zero = torch.zeros_like(network.image[:, 0, 0, 0])
        self.first = Masked(network.image, zero, batch, size, own=False)
        self.layers, self.skips = (
            [OnePixel(*block, batch, size) for block in blocks] for blocks in (network.layers, network.skips)
        )
        self.blocks = (*self.layers, *self.skips)
        self.last, self.bias = network.last[0][:, :, 0, 0].T, network.last[1]
        self.output = network.output[:, :, 0, 0].T
        self.of_maps = zero.new_zeros(batch, len(zero), size)
        self.thresholds, self.logits, self.x = (zero.new_zeros(size, batch) for _ in range(3))

    def __call__(self) -> None:
        self.first.begin(self.of_maps)
        for block in self.blocks:
            block.masked.begin()
        for column in range(len(self.x)):
            for block in self.blocks:
                block.column = column
            y = through(functional.elu_(self.first(column)), self.layers, self.skips)
            y = functional.elu_(torch.addmm(self.bias, y, self.last))
            self.logits[column] = (y @ self.output)[:, 0]
            self.x[column] = self.logits[column] > self.thresholds[column]
            self.first.place(column).copy_(self.x[column][:, None])
        for masked in self.masked():
            masked.end()

    def masked(self) -> tuple[Masked, ...]:
        """Returns all masked convolutions."""
        return self.first, *(block.masked for block in self.blocks)

    def reset(self) -> None:
        """Forgets all rows so far: the next row is the first one."""
        for masked in self.masked():
            masked.rows.zero_()


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
    row = OneRow(network, batch, size)
    generate = replayed(row, row.reset, maps.device)
    x, logits = (maps.new_zeros(size, size, batch) for _ in range(2))
    thresholds = torch.zeros_like(x) if uniforms is None else torch.logit(uniforms).permute(1, 2, 0)
    for number in range(size):
        row.of_maps.copy_(of_maps[:, :, number])
        row.thresholds.copy_(thresholds[number])
        generate()
        x[number], logits[number] = row.x, row.logits

    return x.permute(2, 0, 1)[:, None], logits.permute(2, 0, 1)[:, None]
