"""Approximate posteriors q(z|x) as objects: nothing downstream asks which one it is."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

LOG_2PI = math.log(2 * math.pi)


def noise_like(x: Tensor, samples: tuple[int, ...] = (), generator: Generator | None = None) -> Tensor:
    """Standard normal noise of shape (*samples, *x.shape)."""
    return torch.randn(*samples, *x.shape, dtype=x.dtype, device=x.device, generator=generator)


def standard_normal_log_prob(z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
    """log p(z) of the prior N(0, I), in nats."""
    return -0.5 * (z.square() + LOG_2PI).sum(-1)


class Posterior(ABC):
    """q(z|x) for each x of a batch.

    Attributes:
        density: Whether q has one. Without it there is no KL, MI, MPD, CE and no importance-weighted likelihood.
        mean: What represents x: mu of a Gaussian, z itself of a point mass.
    """

    density: bool = True
    mean: Float[Tensor, "batch latent"]

    @abstractmethod
    def rsample(self, samples: tuple[int, ...] = (), generator: Generator | None = None) -> Tensor:
        """Reparametrized samples, with shape (*samples, batch, latent)."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        """log q(z|x), in nats."""

    @abstractmethod
    def kl(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """KL[q(z|x) || N(0, I)] of each dimension, in nats; z is the sample it is estimated with where it has to be."""

    @abstractmethod
    def features(self) -> Float[Tensor, "batch features"]:
        """What a linear probe sees of x."""


@dataclass(frozen=True)
class DiagonalGaussian(Posterior):
    r"""$q(z|x) = \prod_d N(z_d; \mu_{x,d}, \delta^2_{x,d})$.

    Attributes:
        mean: $\mu_x$, with shape (batch, latent).
        variance: $\delta^2_x$, with shape (batch, latent).
    """

    mean: Float[Tensor, "batch latent"]
    variance: Float[Tensor, "batch latent"]

    def rsample(self, samples: tuple[int, ...] = (), generator: Generator | None = None) -> Tensor:
        return self.mean + self.variance.sqrt() * noise_like(self.mean, samples, generator)

    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        return -0.5 * ((z - self.mean).square() / self.variance + self.variance.log() + LOG_2PI).sum(-1)

    def kl(self, z: Float[Tensor, "batch latent"] | None = None) -> Float[Tensor, "batch latent"]:
        r"""$\frac12 (\mu^2 + \delta^2 - 1 - \log \delta^2)$, exact."""
        return 0.5 * (self.mean.square() + self.variance - 1 - self.variance.log())

    def features(self) -> Float[Tensor, "batch latent"]:
        return self.mean


@dataclass(frozen=True)
class PointMass(Posterior):
    """q(z|x) puts everything on one z: an autoencoder's code. It has no density, and no KL is asked of it.

    Attributes:
        mean: z, with shape (batch, latent).
    """

    mean: Float[Tensor, "batch latent"]

    density = False

    def rsample(self, samples: tuple[int, ...] = (), generator: Generator | None = None) -> Tensor:
        return self.mean.expand(*samples, *self.mean.shape)

    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        raise ValueError("a point mass has no density")

    def kl(self, z: Float[Tensor, "batch latent"] | None = None) -> Float[Tensor, "batch latent"]:
        return torch.zeros_like(self.mean)

    def features(self) -> Float[Tensor, "batch latent"]:
        return self.mean
