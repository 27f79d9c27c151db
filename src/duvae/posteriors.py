"""Approximate posteriors q(z|x) as objects: nothing downstream asks which one it is."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

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


class Drawn(NamedTuple):
    """Samples of q(z|x), with what was learned of their density on the way.

    Attributes:
        z: With shape (*samples, batch, latent).
        log_prob: Each dimension's share of log q(z|x) in nats, of the same shape; None where z
            alone gives it as cheaply.
    """

    z: Float[Tensor, "*samples batch latent"]
    log_prob: Float[Tensor, "*samples batch latent"] | None = None


class Posterior(ABC):
    """q(z|x) for each x of a batch.

    Attributes:
        density: Whether q has one. Without it there is no KL, MI, MPD, CE and no importance-weighted likelihood.
        measured: Which of KL, MI, AU, MPD and CE are known of it.
        mean: What represents x: mu of a Gaussian, z itself of a point mass.
        variance: That of the Gaussian; None without one.
    """

    density: bool = True
    measured: tuple[str, ...] = ("kl", "mi", "au", "mpd", "ce")
    mean: Float[Tensor, "batch latent"]
    variance: Float[Tensor, "batch latent"] | None

    @abstractmethod
    def draw(self, samples: tuple[int, ...] = (), generator: Generator | None = None) -> Drawn:
        """Reparametrized samples, with shape (*samples, batch, latent)."""

    def rsample(self, samples: tuple[int, ...] = (), generator: Generator | None = None) -> Tensor:
        """`draw`'s z alone."""
        return self.draw(samples, generator).z

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        """log q(z|x) of any z, in nats."""

    def log_prob_drawn(self, drawn: Drawn) -> Float[Tensor, "*samples batch"]:
        """log q(z|x) of what `draw` gave, in nats."""
        return self.log_prob(drawn.z) if drawn.log_prob is None else drawn.log_prob.sum(-1)

    @abstractmethod
    def kl(self, drawn: Drawn) -> Float[Tensor, "batch latent"]:
        """KL[q(z|x) || N(0, I)] of each dimension, in nats; `drawn` is what it is estimated with where it has to be."""

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

    def draw(self, samples: tuple[int, ...] = (), generator: Generator | None = None) -> Drawn:
        return Drawn(self.mean + self.variance.sqrt() * noise_like(self.mean, samples, generator))

    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        return -0.5 * ((z - self.mean).square() / self.variance + self.variance.log() + LOG_2PI).sum(-1)

    def kl(self, drawn: Drawn | None = None) -> Float[Tensor, "batch latent"]:
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
    measured = ("au",)
    variance = None

    def draw(self, samples: tuple[int, ...] = (), generator: Generator | None = None) -> Drawn:
        return Drawn(self.mean.expand(*samples, *self.mean.shape))

    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        raise ValueError("a point mass has no density")

    def kl(self, drawn: Drawn | None = None) -> Float[Tensor, "batch latent"]:
        return torch.zeros_like(self.mean)

    def features(self) -> Float[Tensor, "batch latent"]:
        return self.mean
