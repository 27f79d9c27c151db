"""The image decoder: a PixelCNN whose first layer also reads z, as feature maps of the size of the image."""

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from duvae.networks.bodies import Decoder
from duvae.networks.convolutions import BatchNorm, Convolution, Images, MaskedConvolution, channels_last
from duvae.networks.precision import single, single_precision

BACK = 3
"""The number of layers that a skip block reaches back.

The skip block before layer n reads the output of layer n - BACK.
"""

T = TypeVar("T")


def through(y: T, layers: Sequence[Callable[[T], T]], skips: Sequence[Callable[[T, T], T]]) -> T:
    """Sends the output of the first layer through the residual blocks and the skip blocks.

    Layers are counted from 1. Layer 1 has computed y, and the residual blocks are the layers from 2 on. There is one
    skip block before each layer from 4 on, and one after the last layer. A skip block adds a function of an earlier
    layer's output to the output so far.

    Args:
        y: The output of the first layer.
        layers: The residual blocks. Each is a function of the output so far, and returns the new output.
        skips: The skip blocks. Each is a function of an earlier layer's output (see `BACK`) and of the output so far.
            It returns the sum of its own result and the output so far.

    Returns:
        The output of the last skip block; if there are no skip blocks, the output of the last layer.
    """
    earlier = [y]
    for n, layer in enumerate(layers):
        if n + 1 >= BACK:
            y = skips[n + 1 - BACK](earlier.pop(0), y)
        y = layer(y)
        earlier.append(y)

    return skips[-1](earlier[len(earlier) - BACK], y) if skips else y


class First(nn.Module):
    """The first layer of the network: a masked convolution of the image, plus a convolution of the feature maps of z.

    For each pixel, the masked convolution reads the earlier pixels, but not the pixel itself. Batch normalization and
    ELU follow the sum.

    Args:
        maps: The number of feature maps of z.
        width: The number of output channels.
        kernel: The height and width of the kernels of both convolutions.
    """

    def __init__(self, maps: int, width: int, kernel: int) -> None:
        super().__init__()
        self.image = MaskedConvolution(1, width, kernel, own=False)
        self.maps = Convolution(maps, width, kernel, padding=kernel // 2)
        self.norm = BatchNorm(width)

    def forward(
        self, x: Float[Tensor, "batch 1 height width"], maps: Float[Tensor, "batch maps height width"]
    ) -> Images:
        return self.joined(self.image(x), maps)

    def joined(self, of_image: Images, maps: Float[Tensor, "batch maps height width"]) -> Images:
        """Computes the output of the layer.

        Args:
            of_image: The result of the masked convolution of the image, shape (batch, channels, height, width).
            maps: The feature maps of z, shape (batch, maps, height, width).
        """
        y = self.maps(maps) + of_image

        return functional.elu_(self.norm(channels_last(y)))


class Block(nn.Module):
    """A residual block of three convolutions: 1 x 1, masked k x k, and 1 x 1.

    The first convolution halves the number of channels, and the last one restores this number. Batch normalization
    follows each convolution. ELU follows the first two normalizations and the residual sum.

    Args:
        width: The number of input and output channels.
        kernel: The height and width k of the masked kernel.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        half = width // 2
        self.narrow, self.norm1 = Convolution(width, half, 1), BatchNorm(half)
        self.masked, self.norm2 = MaskedConvolution(half, half, kernel, own=True), BatchNorm(half)
        self.widen, self.norm3 = Convolution(half, width, 1), BatchNorm(width)

    def forward(self, x: Images, base: Images | None = None) -> Images:
        """Computes the output of the block.

        Args:
            x: The input of the block.
            base: A term to add to the output: for a skip block, the output of the network so far. None: no term.
        """
        return self.plain(x, base)

    def plain(self, x: Images, base: Images | None = None) -> Images:
        """Computes the output of the block by PyTorch's own operations. The arguments are those of `forward`.

        A subclass may have a faster `forward`, but keeps this method.
        """
        y = functional.elu_(self.norm1(self.narrow(x)))
        y = functional.elu_(self.norm2(self.masked(y)))
        y = functional.elu_(self.norm3(self.widen(y)) + x)

        return y if base is None else base + y


class PixelCNN(Decoder):
    r"""A decoder $p(x|z) = \prod_i p(x_i | x_{<i}, z)$ of Bernoulli pixels, row by row (van den Oord et al. 2016).

    A linear map turns z into feature maps of the size of the image. The first layer reads these maps and the image.
    Residual blocks follow. Before each layer from the fourth on, and after the last layer, there is a skip block. The
    skip block reads the output of an earlier layer (see `BACK`), and adds its own result to the output so far.

    No pixel's probability depends on that pixel or on a later one. The DU-VAE paper calls its decoder a gated PixelCNN:
    a gate multiplies features by sigmoids. This network has no gates, as in the code of He et al. (2018).

    Args:
        size: The height and width of an image, in pixels.
        latent: The number of dimensions of z.
        kernels: The height and width of each layer's masked kernel, one number per layer.
        width: The number of channels of each layer.
        maps: The number of feature maps of z.

    Attributes:
        block: The class of the residual blocks and of the skip blocks.
    """

    block: ClassVar[type[Block]] = Block

    def __init__(self, size: int, latent: int, kernels: Sequence[int], width: int, maps: int) -> None:
        super().__init__()
        self.size = size
        self.maps = nn.Linear(latent, maps * size * size)
        self.first = First(maps, width, kernels[0])
        self.layers = nn.ModuleList(self.block(width, kernel) for kernel in kernels[1:])
        self.skips = nn.ModuleList(self.block(width, kernel) for kernel in kernels[1:-1])
        self.last, self.norm = Convolution(width, width, 1), BatchNorm(width)
        self.output = nn.Conv2d(width, 1, 1, bias=False)
        nn.init.xavier_uniform_(self.maps.weight)
        nn.init.zeros_(self.maps.bias)

    def z_maps(self, z: Float[Tensor, "batch latent"]) -> Images:
        """Computes the feature maps of z, shape (batch, maps, height, width)."""
        maps = self.maps(z).unflatten(-1, (-1, self.size, self.size))

        return channels_last(maps)

    def logits(self, x: Images, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch 1 height width"]:
        """Computes the log odds that a pixel is ink (1), for each pixel, given the earlier pixels and z."""
        y = self.first(channels_last(x), self.z_maps(z))

        return self.head(through(y, list(self.layers), list(self.skips)))

    def head(self, y: Images) -> Float[Tensor, "batch 1 height width"]:
        """Computes the log odds of ink for each pixel from the result of `through`, in single precision at least."""
        y = functional.elu_(self.norm(self.last(y)))
        with single_precision(y):
            return self.output(single(y))

    def log_prob(
        self, x: Float[Tensor, "batch 1 height width"], z: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, "batch"]:
        """Computes log p(x|z) in nats per image. The pixels of x are 0 or 1."""
        return bernoulli_log_prob(self.logits(x, z), x)

    @torch.no_grad()
    def log_prob_samples(
        self, x: Float[Tensor, "batch 1 height width"], z: Float[Tensor, "samples batch latent"]
    ) -> Float[Tensor, "samples batch"]:
        """Computes log p(x|z) with several z for each x, in nats per image."""
        return torch.stack([self.log_prob(x, each) for each in z])

    @torch.no_grad()
    def sample(
        self, z: Float[Tensor, "batch latent"], generator: Generator | None = None, likely: bool = False
    ) -> Float[Tensor, "batch 1 height width"]:
        """Generates one image for each z, pixel by pixel. For each pixel this plain form computes the whole image.

        Args:
            z: Latent codes to decode, shape (batch, latent).
            generator: The random generator; None: PyTorch's global generator.
            likely: True: each pixel takes its more likely value, given the earlier pixels. False: its value is a random
                draw.
        """
        x = z.new_zeros(len(z), 1, self.size, self.size)
        thresholds = torch.zeros_like(x)
        if not likely:
            thresholds = torch.logit(torch.rand(x.shape, dtype=z.dtype, device=z.device, generator=generator))
        for row in range(self.size):
            for column in range(self.size):
                pixel = (..., row, column)
                x[pixel] = (self.logits(x, z)[pixel] > thresholds[pixel]).to(x.dtype)

        return x

    def units(self, x: Images) -> int:
        """Counts the images of a batch."""
        return len(x)


def bernoulli_log_prob(
    logits: Float[Tensor, "batch 1 height width"], x: Float[Tensor, "batch 1 height width"]
) -> Float[Tensor, "batch"]:
    r"""Computes $\sum_i x_i \log p_i + (1 - x_i) \log (1 - p_i)$ in nats per image.

    The sum is over all pixels i, and $p_i$ is the sigmoid of the logit of pixel i.
    """
    return -functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
