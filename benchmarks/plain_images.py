"""The plain form of the PixelCNN: full kernels times their masks, PyTorch's modules and layout, a pass a pixel."""

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from duvae.networks.convolutions import BatchNorm, MaskedConvolution
from duvae.networks.pixelcnn import BACK, Block, PixelCNN
from duvae.posteriors import Posterior, standard_normal_log_prob


class Masked(nn.Module):
    """A convolution with a full kernel, multiplied by its mask at each use.

    Args:
        of: The one whose weights it takes.
        maps: Kernel of further channels that it sees whole.
    """

    mask: Tensor

    def __init__(self, of: MaskedConvolution, maps: Tensor | None = None) -> None:
        super().__init__()
        upper = of.kernel().detach()
        kernel = functional.pad(upper, (0, 0, 0, of.reach))
        seen = torch.zeros(of.side**2)
        seen[: of.weight.shape[-1]] = 1
        mask = seen.view(of.side, of.side).expand_as(kernel)
        if maps is not None:
            kernel, mask = torch.cat([kernel, maps.detach()], 1), torch.cat([mask, torch.ones_like(maps)], 1)
        self.weight = nn.Parameter(kernel.contiguous())
        self.register_buffer("mask", mask.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight * self.mask, padding=self.weight.shape[-1] // 2)


def norm(of: BatchNorm) -> nn.BatchNorm2d:
    """PyTorch's batch normalization with the same figures."""
    found = nn.BatchNorm2d(len(of.scale), of.epsilon, of.momentum)
    names = ("weight", "bias", "running_mean", "running_var")
    values = (of.scale, of.shift, of.running_mean, of.running_variance)
    found.load_state_dict(
        {name: value.detach().clone() for name, value in zip(names, values, strict=True)}, strict=False
    )

    return found


def pointwise(kernel: Tensor) -> nn.Conv2d:
    """A 1 x 1 convolution with this kernel."""
    found = nn.Conv2d(kernel.shape[1], kernel.shape[0], 1, bias=False)
    found.weight = nn.Parameter(kernel.detach().clone())

    return found


class PlainBlock(nn.Module):
    """A residual block."""

    def __init__(self, of: Block) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *(pointwise(of.narrow.weight), norm(of.norm1), nn.ELU()),
            *(Masked(of.masked), norm(of.norm2), nn.ELU()),
            *(pointwise(of.widen.weight), norm(of.norm3)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.elu(self.main(x) + x)


class PlainPixelCNN(nn.Module):
    """The decoder with the weights of another."""

    def __init__(self, of: PixelCNN) -> None:
        super().__init__()
        self.size = of.size
        self.maps = nn.Linear(of.maps.in_features, of.maps.out_features)
        self.maps.load_state_dict(of.maps.state_dict())
        self.first = nn.Sequential(Masked(of.first.image, of.first.maps.weight), norm(of.first.norm), nn.ELU())
        self.layers, self.skips = (
            nn.ModuleList(PlainBlock(block) for block in blocks) for blocks in (of.layers, of.skips)
        )
        self.last = nn.Sequential(pointwise(of.last.weight), norm(of.norm), nn.ELU(), pointwise(of.output.weight))
        self.train(of.training)

    def logits(self, x: Tensor, z: Tensor) -> Tensor:
        """log odds of ink for each pixel."""
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
        """log p(x|z) in nats."""
        return -functional.binary_cross_entropy_with_logits(self.logits(x, z), x, reduction="none").sum((1, 2, 3))

    @torch.no_grad()
    def sample(self, z: Tensor, uniforms: Tensor | None, pixels: int | None = None) -> tuple[Tensor, Tensor]:
        """Images by a whole pass a pixel, and the logits of the pixels.

        Args:
            z: What of.
            uniforms: As in `duvae.networks.fast.pixels.sample`.
            pixels: Stop behind so many.
        """
        x = z.new_zeros(len(z), 1, self.size, self.size)
        logits = torch.zeros_like(x)
        for pixel in range(self.size**2 if pixels is None else pixels):
            place = (slice(None), 0, pixel // self.size, pixel % self.size)
            logits[place] = self.logits(x, z)[place]
            needed = 0.5 if uniforms is None else uniforms[:, pixel // self.size, pixel % self.size]
            x[place] = (logits[place].sigmoid() > needed).to(x.dtype)

        return x, logits


@torch.no_grad()
def importance_weighted_nll(
    decoder: PlainPixelCNN, x: Tensor, posterior: Posterior, samples: int, at_once: int, generator: Generator
) -> Tensor:
    r"""$-\log \frac1K \sum_k p(x, z_k) / q(z_k|x)$ of each image, one image at a time."""
    z = posterior.rsample((samples,), generator)  # (samples, images, latent)
    weights = standard_normal_log_prob(z) - posterior.log_prob(z)
    found = [
        torch.cat([decoder.log_prob(image.expand(len(part), -1, -1, -1), part) for part in z[:, n].split(at_once)])
        for n, image in enumerate(x)
    ]

    return math.log(samples) - (torch.stack(found, 1) + weights).double().logsumexp(0)
