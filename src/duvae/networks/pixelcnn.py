"""The image decoder: a PixelCNN whose first layer also sees z, as maps of the image's size."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from duvae.networks.bodies import Decoder, Slope, derivative
from duvae.networks.convolutions import (
    BatchNorm,
    Convolution,
    Folded,
    Images,
    MaskedConvolution,
    channels_last,
    several,
)
from duvae.networks.fast.elementwise import LOG2E
from duvae.networks.fast.pixels import Network, sample, through
from duvae.networks.fast.residual import residual

IMAGES_AT_ONCE = 16
"""Images held at a time by the importance-weighted likelihood, at least: fewer, and PyTorch leaves oneDNN."""


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

    def folded(self) -> tuple[Tensor, Folded]:
        """The image's kernel, and kernel and bias of z's maps."""
        image, _ = self.norm.folded(self.image.kernel())

        return image, self.norm.folded(self.maps.weight)


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
        if self.training and several(x) and torch.is_grad_enabled() and by_hand(x):
            kernels = self.narrow.weight, self.masked.kernel(), self.widen.weight
            return residual(x, base, *kernels, self.norm1, self.norm2, self.norm3)

        return self.plain(x, base)

    def plain(self, x: Images, base: Images | None = None) -> Images:
        """The same by PyTorch's own operations, of which autograd takes no more derivatives than are asked for."""
        y = functional.elu_(self.norm1(self.narrow(x)))
        y = functional.elu_(self.norm2(self.masked(y)))
        y = functional.elu_(self.norm3(self.widen(y)) + x)

        return y if base is None else base + y

    def folded(self) -> tuple[Folded, Folded, Folded]:
        """Of its three convolutions."""
        return (
            self.norm1.folded(self.narrow.weight),
            self.norm2.folded(self.masked.kernel()),
            self.norm3.folded(self.widen.weight),
        )


def by_hand(x: Images) -> bool:
    """Whether what is written for a CPU is to be used."""
    return not x.is_cuda and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


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
    """

    def __init__(self, size: int, latent: int, kernels: Sequence[int], width: int, maps: int) -> None:
        super().__init__()
        self.size = size
        self.maps = nn.Linear(latent, maps * size * size)
        self.first = First(maps, width, kernels[0])
        self.layers = nn.ModuleList(Block(width, kernel) for kernel in kernels[1:])
        self.skips = nn.ModuleList(Block(width, kernel) for kernel in kernels[1:-1])
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

    def slope(self, x: Float[Tensor, "batch 1 height width"]) -> Slope:
        r"""$\nabla_z \log p(x|z)$: the convolution of x is that of every z, and no weight has a gradient on the way."""
        layers, skips = (
            [block.plain for block in blocks if isinstance(block, Block)] for blocks in (self.layers, self.skips)
        )
        of_image = self.first.image(channels_last(x))

        def log_prob(z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch"]:
            y = self.first.joined(of_image, self.z_maps(z))

            return bernoulli_log_prob(self.head(through(y, layers, skips)), x)

        return derivative(log_prob)

    @torch.no_grad()
    def folded(self) -> Network:
        """The network in evaluation."""
        layers, skips = (
            [block.folded() for block in blocks if isinstance(block, Block)] for blocks in (self.layers, self.skips)
        )

        return Network(*self.first.folded(), layers, skips, self.norm.folded(self.last.weight), self.output.weight)

    @torch.no_grad()
    def log_prob_samples(
        self, x: Float[Tensor, "batch 1 height width"], z: Float[Tensor, "samples batch latent"]
    ) -> Float[Tensor, "samples batch"]:
        """log p(x|z) for many z of each x, in evaluation: equal to `log_prob` of each, at a fraction of the cost.

        The image's share of the first layer is computed once an image, and z's, which is linear in z, is one product;
        batch normalization is part of the convolutions; and so few images are held at a time that they stay near the
        processor.
        """
        network, (samples, batch, latent) = self.folded(), z.shape
        whole, shape = network.whole(), (self.size, self.size, -1)
        ends = torch.cat([z.new_zeros(1, latent), torch.eye(latent, dtype=z.dtype, device=z.device)])
        constant, of_z = flat(network.of_maps(self.z_maps(ends))).mul_(LOG2E).split([1, latent])
        of_z -= constant
        of_image = flat(network.of_image(channels_last(x))).mul_(LOG2E).add_(constant)

        def maps(rows: Float[Tensor, "batch elements"]) -> Images:
            return rows.unflatten(1, shape).permute(0, 3, 1, 2)

        found, parts = [], max(1, batch // max(1, IMAGES_AT_ONCE // samples))
        for images, firsts, codes in zip(
            *(each.tensor_split(parts) for each in (x, of_image, z.transpose(0, 1))), strict=True
        ):
            for some in codes.tensor_split(max(1, samples // IMAGES_AT_ONCE), 1):
                image, first = (
                    each[:, None].expand(*some.shape[:2], *each.shape[1:]).flatten(0, 1) for each in (images, firsts)
                )
                logits = whole(maps(some.flatten(0, 1) @ of_z), maps(first))
                found.append(bernoulli_log_prob(logits, image))

        return torch.cat(found).view(batch, samples).T

    @torch.no_grad()
    def sample(
        self, z: Float[Tensor, "batch latent"], generator: Generator | None = None, likely: bool = False
    ) -> Float[Tensor, "batch 1 height width"]:
        """An image of each z in evaluation, pixel by pixel: drawn, or each pixel the likelier of the two."""
        uniforms = None
        if not likely:
            shape = len(z), self.size, self.size
            uniforms = torch.rand(shape, dtype=z.dtype, device=z.device, generator=generator)
        x, _ = sample(self.folded(), self.z_maps(z), uniforms)

        return x

    def units(self, x: Images) -> int:
        """The images."""
        return len(x)


def flat(x: Images) -> Float[Tensor, "batch elements"]:
    """An image a row, as it lies in memory."""
    return x.permute(0, 2, 3, 1).flatten(1)


def bernoulli_log_prob(
    logits: Float[Tensor, "batch 1 height width"], x: Float[Tensor, "batch 1 height width"]
) -> Float[Tensor, "batch"]:
    r"""$\sum_i x_i \log p_i + (1 - x_i) \log (1 - p_i)$, in nats."""
    return -functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
