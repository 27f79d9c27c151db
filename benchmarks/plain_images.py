"""The plain form of the PixelCNN, the image decoder, with which the benchmarks compare the library's faster form.

The plain form is slower code that follows the equations directly. It multiplies full kernels by masks, and uses
PyTorch's own modules and memory layout. It samples an image with one pass of the whole network per pixel.
"""

import math
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from duvae.networks.convolutions import BatchNorm, MaskedConvolution
from duvae.networks.pixelcnn import BACK, Block, PixelCNN
from duvae.posteriors import Posterior, standard_normal_log_prob


class Masked(nn.Module):
    """A masked convolution that stores its full kernel, and multiplies it by the mask in each forward pass.

    Args:
        convolution: The library's convolution, whose weights are copied.
        maps: Kernel for further input channels, at which the convolution reads all pixels; None: no further channels.
    """

    mask: Tensor

    def __init__(self, convolution: MaskedConvolution, maps: Tensor | None = None) -> None:
        super().__init__()
        upper = convolution.kernel().detach()
        kernel = functional.pad(upper, (0, 0, 0, convolution.reach))
        visible = torch.zeros(convolution.side**2)
        visible[: convolution.weight.shape[-1]] = 1
        mask = visible.view(convolution.side, convolution.side).expand_as(kernel)
        if maps is not None:
            kernel, mask = torch.cat([kernel, maps.detach()], 1), torch.cat([mask, torch.ones_like(maps)], 1)
        self.weight = nn.Parameter(kernel.contiguous())
        self.register_buffer("mask", mask.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight * self.mask, padding=self.weight.shape[-1] // 2)


def norm(source: BatchNorm) -> nn.BatchNorm2d:
    """Creates PyTorch's batch normalization with copies of the parameters and running statistics of `source`."""
    copied = nn.BatchNorm2d(len(source.scale), source.epsilon, source.momentum)
    names = ("weight", "bias", "running_mean", "running_var")
    values = (source.scale, source.shift, source.running_mean, source.running_variance)
    copied.load_state_dict(
        {name: value.detach().clone() for name, value in zip(names, values, strict=True)}, strict=False
    )

    return copied


def pointwise(kernel: Tensor) -> nn.Conv2d:
    """Creates PyTorch's 1 x 1 convolution with a copy of `kernel`."""
    convolution = nn.Conv2d(kernel.shape[1], kernel.shape[0], 1, bias=False)
    convolution.weight = nn.Parameter(kernel.detach().clone())

    return convolution


class PlainBlock(nn.Module):
    """The plain form of a residual block of the PixelCNN, with copies of the block's weights."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *(pointwise(block.narrow.weight), norm(block.norm1), nn.ELU()),
            *(Masked(block.masked), norm(block.norm2), nn.ELU()),
            *(pointwise(block.widen.weight), norm(block.norm3)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.elu(self.main(x) + x)


class PlainPixelCNN(nn.Module):
    """The plain form of a PixelCNN decoder, with copies of the decoder's weights."""

    def __init__(self, decoder: PixelCNN) -> None:
        super().__init__()
        self.size = decoder.size
        self.maps = nn.Linear(decoder.maps.in_features, decoder.maps.out_features)
        self.maps.load_state_dict(decoder.maps.state_dict())
        self.first = nn.Sequential(
            Masked(decoder.first.image, decoder.first.maps.weight), norm(decoder.first.norm), nn.ELU()
        )
        self.layers, self.skips = (
            nn.ModuleList(PlainBlock(cast("Block", block)) for block in blocks)
            for blocks in (decoder.layers, decoder.skips)
        )
        self.last = nn.Sequential(
            pointwise(decoder.last.weight), norm(decoder.norm), nn.ELU(), pointwise(decoder.output.weight)
        )
        self.train(decoder.training)

    def logits(self, x: Tensor, z: Tensor) -> Tensor:
        """Computes the log odds that a pixel is ink (1), shape (batch, 1, height, width)."""
        y = self.first(torch.cat([x, self.maps(z).view(len(z), -1, self.size, self.size)], 1))
        earlier = [y]
        for n, layer in enumerate(self.layers):
            if n + 1 >= BACK:
                y = y + self.skips[n + 1 - BACK](earlier.pop(0))
            y = layer(y)
            earlier.append(y)
        if self.skips:
            y = y + self.skips[-1](earlier.pop(0))

        return self.last(y)

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """Computes log p(x|z) in nats, shape (batch,)."""
        return -functional.binary_cross_entropy_with_logits(self.logits(x, z), x, reduction="none").sum((1, 2, 3))

    @torch.no_grad()
    def sample(self, z: Tensor, uniforms: Tensor | None, pixels: int | None = None) -> tuple[Tensor, Tensor]:
        """Samples images with one pass of the whole network per pixel.

        Args:
            z: Latent codes to decode, shape (batch, latent).
            uniforms: Uniform random numbers from 0 to 1, shape (batch, height, width). A pixel becomes ink (1) if its
                probability of ink exceeds its random number. None: a pixel becomes ink if its probability exceeds 0.5.
            pixels: Number of pixels of each image to sample, row by row from the top; None: all pixels.

        Returns:
            The images and the logits of their pixels, each of shape (batch, 1, height, width). Both are 0 at pixels
            that are not sampled.
        """
        x = z.new_zeros(len(z), 1, self.size, self.size)
        logits = torch.zeros_like(x)
        for pixel in range(self.size**2 if pixels is None else pixels):
            index = (slice(None), 0, pixel // self.size, pixel % self.size)
            logits[index] = self.logits(x, z)[index]
            threshold = 0.5 if uniforms is None else uniforms[:, pixel // self.size, pixel % self.size]
            x[index] = (logits[index].sigmoid() > threshold).to(x.dtype)

        return x, logits


@torch.no_grad()
def importance_weighted_nll(
    decoder: PlainPixelCNN, x: Tensor, posterior: Posterior, samples: int, at_once: int, generator: Generator
) -> Tensor:
    r"""Computes $-\log \frac1K \sum_k p(x, z_k) / q(z_k|x)$ in nats, for one image x at a time.

    Args:
        decoder: The plain form of the decoder.
        x: The images, shape (images, 1, height, width).
        posterior: The posteriors of the images.
        samples: Number K of samples of z for each image.
        at_once: Number of samples to decode at a time.
        generator: Random number generator for the samples.

    Returns:
        The NLL of each image, shape (images,).
    """
    z = posterior.rsample((samples,), generator)  # (samples, images, latent)
    weights = standard_normal_log_prob(z) - posterior.log_prob(z)
    log_likelihoods = [
        torch.cat([decoder.log_prob(image.expand(len(part), -1, -1, -1), part) for part in z[:, n].split(at_once)])
        for n, image in enumerate(x)
    ]

    return math.log(samples) - (torch.stack(log_likelihoods, 1) + weights).double().logsumexp(0)
