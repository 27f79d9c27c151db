"""The image decoder's faster forms for a CPU."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from duvae.networks.bodies import Slope, derivative
from duvae.networks.convolutions import Folded, Images, channels_last, several
from duvae.networks.fast.elementwise import LOG2E
from duvae.networks.fast.pixels import Network, sample
from duvae.networks.fast.residual import residual
from duvae.networks.pixelcnn import Block, PixelCNN, bernoulli_log_prob, through

IMAGES_AT_ONCE = 16
"""Images held at a time by the importance-weighted likelihood, at least: fewer, and PyTorch leaves oneDNN."""


class FastBlock(Block):
    """The plain block; in training on a CPU with its gradient written out."""

    def forward(self, x: Images, base: Images | None = None) -> Images:
        if self.training and several(x) and torch.is_grad_enabled() and by_hand(x):
            kernels = self.narrow.weight, self.masked.kernel(), self.widen.weight
            return residual(x, base, *kernels, self.norm1, self.norm2, self.norm3)

        return self.plain(x, base)


def by_hand(x: Images) -> bool:
    """Whether the forms written for a CPU apply."""
    return not x.is_cuda and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


def folded(block: Block) -> tuple[Folded, Folded, Folded]:
    """The three convolutions of a block, each with its normalization folded in."""
    return (
        block.norm1.folded(block.narrow.weight),
        block.norm2.folded(block.masked.kernel()),
        block.norm3.folded(block.widen.weight),
    )


class FastPixelCNN(PixelCNN):
    """The plain decoder with a faster block in training, gradient with respect to z, log p(x|z) of many z, and samples.

    On a GPU a block is the plain one.
    """

    block = FastBlock

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
            [folded(block) for block in blocks if isinstance(block, Block)] for blocks in (self.layers, self.skips)
        )

        first = self.first
        image, _ = first.norm.folded(first.image.kernel())
        maps = first.norm.folded(first.maps.weight)

        return Network(image, maps, layers, skips, self.norm.folded(self.last.weight), self.output.weight)

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


def flat(x: Images) -> Float[Tensor, "batch elements"]:
    """An image a row, as it lies in memory."""
    return x.permute(0, 2, 3, 1).flatten(1)
