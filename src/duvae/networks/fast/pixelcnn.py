"""The fast form of the image decoder, which `duvae.networks.pixelcnn` defines in its plain form."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from duvae.networks.bodies import Slope, derivative
from duvae.networks.convolutions import Folded, Images, channels_last, several
from duvae.networks.fast.blocks import IMAGES, block_size
from duvae.networks.fast.elementwise import LOG2E
from duvae.networks.fast.pixels import Network
from duvae.networks.fast.residual import residual
from duvae.networks.fast.sampling import sample
from duvae.networks.pixelcnn import Block, PixelCNN, bernoulli_log_prob, through

IMAGES_AT_ONCE = 16
"""The approximate number of images that one pass of `FastPixelCNN.log_prob_samples` computes on a CPU.

For fewer images, PyTorch does not use the fast convolutions of the library oneDNN.
"""


class FastBlock(Block):
    """The residual block `Block`, with a faster gradient for training on a CPU (see the function `residual`)."""

    def forward(self, x: Images, base: Images | None = None) -> Images:
        if self.training and several(x) and torch.is_grad_enabled() and by_hand(x):
            kernels = self.narrow.weight, self.masked.kernel(), self.widen.weight
            return residual(x, base, *kernels, self.norm1, self.norm2, self.norm3)

        return self.plain(x, base)


def by_hand(x: Images) -> bool:
    """Whether the function `residual` can compute a block with the input x.

    It can if x is on a CPU, and neither autocast nor `torch.compile` is active.
    """
    return not x.is_cuda and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


def folded(block: Block) -> tuple[Folded, Folded, Folded]:
    """Folds the three batch normalizations of a block into the convolutions before them (see `BatchNorm.folded`)."""
    return (
        block.norm1.folded(block.narrow.weight),
        block.norm2.folded(block.masked.kernel()),
        block.norm3.folded(block.widen.weight),
    )


class FastPixelCNN(PixelCNN):
    """The decoder `PixelCNN`, with faster forms of four computations.

    These computations are:

    - a residual block in training (`FastBlock`); on a GPU it has its plain form,
    - the gradient of log p(x|z) with respect to z (`slope`),
    - log p(x|z) with several z for each x (`log_prob_samples`),
    - the sampling of images (`sample`).
    """

    block = FastBlock

    def slope(self, x: Float[Tensor, "batch 1 height width"]) -> Slope:
        r"""Builds the function that computes $\nabla_z \log p(x|z)$ from z.

        The first layer's convolution of x is computed once for all calls of the built function.
        """
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
        """Builds a copy of the network for evaluation.

        In this copy, each batch normalization is folded into the convolution before it.
        """
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
        """Computes log p(x|z) with several z for each x, in nats per image.

        In evaluation the values equal those of `log_prob`, up to rounding. In training they differ, since this method
        always uses the running statistics of the batch normalizations, which it folds into the convolutions.

        The output of the first layer before ELU is the sum of a term of the image and a term of z. The term of the
        image is computed once per image. The term of z is a linear map of z plus a constant, so one matrix product
        computes it. The method processes a few images at a time, so that their feature maps stay in the processor's
        cache. A GPU processes hundreds at a time.
        """
        network, (samples, batch, latent) = self.folded(), z.shape
        whole, shape = network.whole(), (self.size, self.size, -1)
        # The term of z at z = 0 is the constant. The terms of z at the unit vectors, minus the constant, are the rows
        # of the matrix `of_z`.
        ends = torch.cat([z.new_zeros(1, latent), torch.eye(latent, dtype=z.dtype, device=z.device)])
        constant, of_z = flat(network.of_maps(self.z_maps(ends))).mul_(LOG2E).split([1, latent])
        of_z -= constant
        of_image = flat(network.of_image(channels_last(x))).mul_(LOG2E).add_(constant)

        def maps(rows: Float[Tensor, "batch elements"]) -> Images:
            return rows.unflatten(1, shape).permute(0, 3, 1, 2)

        # A pass holds about a dozen feature maps of each image.
        at_once = block_size(x, IMAGES_AT_ONCE, IMAGES, 12 * len(network.last[1]) * self.size**2)
        found, parts = [], max(1, batch // max(1, at_once // samples))
        for images, firsts, codes in zip(
            *(each.tensor_split(parts) for each in (x, of_image, z.transpose(0, 1))), strict=True
        ):
            for some in codes.tensor_split(max(1, samples // at_once), 1):
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
        """Generates one image for each z, pixel by pixel. The arguments are those of `PixelCNN.sample`.

        When this method generates a pixel, it computes each layer only at that pixel. The plain form computes the whole
        image for each pixel. On a GPU, a CUDA graph of one row of pixels computes all rows.
        """
        uniforms = None
        if not likely:
            shape = len(z), self.size, self.size
            uniforms = torch.rand(shape, dtype=z.dtype, device=z.device, generator=generator)
        x, _ = sample(self.folded(), self.z_maps(z), uniforms)

        return x


def flat(x: Images) -> Float[Tensor, "batch elements"]:
    """Returns a view of x with one row per image.

    The channels of a pixel are side by side in a row, as they are in the memory of an x in channels-last layout.
    """
    return x.permute(0, 2, 3, 1).flatten(1)
