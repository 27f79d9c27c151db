"""The image decoder: a PixelCNN whose first layer also sees z, as maps of the image's size."""

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from duvae.networks.bodies import Decoder
from duvae.networks.convolutions import BatchNorm, Convolution, Images, MaskedConvolution, channels_last

BACK = 3
"""A skip block starts from the output of the layer so many before."""

T = TypeVar("T")


def through(y: T, layers: Sequence[Callable[[T], T]], skips: Sequence[Callable[[T, T], T]]) -> T:
    """The first layer's output through the residual blocks and the skip blocks from three layers back.

    Args:
        y: The first layer's output.
        layers: The residual blocks.
        skips: The skip blocks, from an earlier output and what theirs is added to; one for each layer from the third
            on, counted with the first, and one behind the last.
    """
    earlier = [y]
    for n, layer in enumerate(layers):
        if n + 1 >= BACK:
            y = skips[n + 1 - BACK](earlier.pop(0), y)
        y = layer(y)
        earlier.append(y)

    return skips[-1](earlier[len(earlier) - BACK], y) if skips else y


class First(nn.Module):
    """The masked convolution that does not see the pixel itself, and one that sees all of z's maps around it.

    Args:
        maps: Of z.
        width: Channels out.
        kernel: Side of both.
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
        """What the convolution of the image and z's maps give."""
        y = self.maps(maps) + of_image

        return functional.elu_(self.norm(channels_last(y)))


class Block(nn.Module):
    """A residual block at half width: 1 x 1, masked k x k, 1 x 1, each normalized, ELU behind each and behind the sum.

    Args:
        width: Channels in and out.
        kernel: k.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        half = width // 2
        self.narrow, self.norm1 = Convolution(width, half, 1), BatchNorm(half)
        self.masked, self.norm2 = MaskedConvolution(half, half, kernel, own=True), BatchNorm(half)
        self.widen, self.norm3 = Convolution(half, width, 1), BatchNorm(width)

    def forward(self, x: Images, base: Images | None = None) -> Images:
        """The block's output, added to `base`."""
        return self.plain(x, base)

    def plain(self, x: Images, base: Images | None = None) -> Images:
        """The same by PyTorch's operations, also where a subclass has a faster form."""
        y = functional.elu_(self.norm1(self.narrow(x)))
        y = functional.elu_(self.norm2(self.masked(y)))
        y = functional.elu_(self.norm3(self.widen(y)) + x)

        return y if base is None else base + y


class PixelCNN(Decoder):
    r"""$p(x|z) = \prod_i p(x_i | x_{<i}, z)$, Bernoulli pixels in the order of reading (van den Oord et al. 2016).

    z goes through a linear map to maps of the image's size, which the first layer sees beside the image. Behind it
    are residual blocks; before each from the fourth layer on, and behind the last, the output of a skip block from
    three layers back is added. No pixel's probability depends on itself or on a later one. Without gates, as in the
    code of He et al. (2018).

    Args:
        size: Height and width of an image.
        latent: Dimensions of z.
        kernels: Sides of the masked convolutions, one a layer.
        width: Channels of each layer.
        maps: Maps of z.

    Attributes:
        block: The class of its residual blocks.
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
        """z as maps of the image's size."""
        maps = self.maps(z).unflatten(-1, (-1, self.size, self.size))

        return channels_last(maps)

    def logits(self, x: Images, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch 1 height width"]:
        """log odds of ink for each pixel, given those before it and z."""
        y = self.first(channels_last(x), self.z_maps(z))

        return self.head(through(y, list(self.layers), list(self.skips)))

    def head(self, y: Images) -> Float[Tensor, "batch 1 height width"]:
        """The log odds of what comes out of the last block."""
        return self.output(functional.elu_(self.norm(self.last(y))))

    def log_prob(
        self, x: Float[Tensor, "batch 1 height width"], z: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, "batch"]:
        """log p(x|z) in nats, summed over the pixels; x is 0 or 1."""
        return bernoulli_log_prob(self.logits(x, z), x)

    @torch.no_grad()
    def log_prob_samples(
        self, x: Float[Tensor, "batch 1 height width"], z: Float[Tensor, "samples batch latent"]
    ) -> Float[Tensor, "samples batch"]:
        """log p(x|z) of many z for each x, in nats."""
        return torch.stack([self.log_prob(x, each) for each in z])

    @torch.no_grad()
    def sample(
        self, z: Float[Tensor, "batch latent"], generator: Generator | None = None, likely: bool = False
    ) -> Float[Tensor, "batch 1 height width"]:
        """An image of each z in evaluation, pixel by pixel: drawn, or each pixel the likelier of the two.

        The network computes the whole image for each pixel.
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
        """The images."""
        return len(x)


def bernoulli_log_prob(
    logits: Float[Tensor, "batch 1 height width"], x: Float[Tensor, "batch 1 height width"]
) -> Float[Tensor, "batch"]:
    r"""$\sum_i x_i \log p_i + (1 - x_i) \log (1 - p_i)$, in nats."""
    return -functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
