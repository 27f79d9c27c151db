"""Approximate posteriors q(z|x). All classes have the interface of `Posterior`."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from duvae.networks.made import IAFChain

LOG_2PI = math.log(2 * math.pi)


def noise_like(x: Tensor, samples: tuple[int, ...] = (), generator: Generator | None = None) -> Tensor:
    """Draws standard normal noise of shape (*samples, *x.shape), with the type and device of x.

    Args:
        x: A tensor whose shape, type and device the noise takes.
        samples: The leading shape of the noise; (): none.
        generator: The random generator; None: PyTorch's global generator.
    """
    return torch.randn(*samples, *x.shape, dtype=x.dtype, device=x.device, generator=generator)


def normal_log_probs(
    z: Float[Tensor, "*samples batch latent"],
    mean: Float[Tensor, "batch latent"],
    variance: Float[Tensor, "batch latent"],
) -> Float[Tensor, "*samples batch latent"]:
    """log N(z_d; mean_d, variance_d) of each dimension d, in nats."""
    return -0.5 * ((z - mean).square() / variance + variance.log() + LOG_2PI)


def standard_normal_log_prob(z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
    """log p(z) of the prior N(0, I), in nats."""
    return -0.5 * (z.square() + LOG_2PI).sum(-1)


class PosteriorSample(NamedTuple):
    """Samples of q(z|x). The log density of the samples is included if their drawing computes it anyway.

    Attributes:
        z: The samples, with shape (*samples, batch, latent).
        log_prob: The terms of log q(z|x), one per dimension, in nats, with the shape of z. None: `Posterior.log_prob`
            computes log q(z|x) from z at the same cost.
    """

    z: Float[Tensor, "*samples batch latent"]
    log_prob: Float[Tensor, "*samples batch latent"] | None = None


class Posterior(ABC):
    """q(z|x) for each x of a batch.

    docs/metrics.md defines the measures KL, MI (mutual information), AU (active units), MPD (mutual posterior
    diversity) and CE (conditional entropy).

    Attributes:
        density: Whether q(z|x) has a density. KL, MI, MPD, CE and the importance-weighted likelihood need a density.
        measured: The names of the measures that are defined for this class, in lower case, such as `kl`.
        transformed: Whether a chain of maps turns a Gaussian z^0 into z = z^T. Then `mean`, `variance`, MPD and CE
            describe z^0, and MPD and CE of z^T can be estimated from samples.
        mean: The mean mu of the Gaussian, or z itself for a point mass, shape (batch, latent).
        variance: The variance of the Gaussian, shape (batch, latent); None for a point mass.
    """

    density: bool = True
    measured: tuple[str, ...] = ("kl", "mi", "au", "mpd", "ce")
    transformed: bool = False
    mean: Float[Tensor, "batch latent"]
    variance: Float[Tensor, "batch latent"] | None

    @abstractmethod
    def draw(self, samples: tuple[int, ...] = (), generator: Generator | None = None) -> PosteriorSample:
        """Draws reparametrized samples of q(z|x).

        Args:
            samples: The leading shape of the samples, such as (8,) for 8 samples of each x; () for one sample.
            generator: The random generator; None: PyTorch's global generator.

        Returns:
            The samples z, with shape (*samples, batch, latent), and their log density if it is known.
        """

    def rsample(self, samples: tuple[int, ...] = (), generator: Generator | None = None) -> Tensor:
        """Draws samples as `draw` does, and returns only z, with shape (*samples, batch, latent)."""
        return self.draw(samples, generator).z

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        """log q(z|x) of the given z, in nats."""

    def log_prob_drawn(self, drawn: PosteriorSample) -> Float[Tensor, "*samples batch"]:
        """log q(z|x) of samples that `draw` returned, in nats."""
        return self.log_prob(drawn.z) if drawn.log_prob is None else drawn.log_prob.sum(-1)

    @abstractmethod
    def kl(self, drawn: PosteriorSample) -> Float[Tensor, "batch latent"]:
        """KL[q(z|x) || N(0, I)] of each dimension, in nats.

        Args:
            drawn: A sample of q(z|x). Only a class without a closed form of the KL reads it, to estimate the KL.
        """

    @abstractmethod
    def features(self) -> Float[Tensor, "batch features"]:
        """The representation of x that a linear probe (a linear classifier) reads, shape (batch, features)."""

    def of(self, indices: Int[Tensor, "chosen"]) -> "Posterior":
        """q(z|x) for a part of the batch: the x at the given indices."""
        return _replaced(self, lambda name: vars(self)[name][indices])


def joined(posteriors: Sequence[Posterior]) -> Posterior:
    """Joins the posteriors of several batches, all of one class, into the posterior of one batch."""
    return _replaced(posteriors[0], lambda name: torch.cat([vars(posterior)[name] for posterior in posteriors]))


def _replaced(posterior: Posterior, tensor: Callable[[str], Tensor]) -> Posterior:
    """Copies a posterior, and replaces its tensors. The copy shares the attributes that are not tensors.

    Args:
        posterior: The posterior to copy.
        tensor: Function that takes the name of an attribute and returns the attribute's new tensor.
    """
    changed = {name: tensor(name) for name, value in vars(posterior).items() if isinstance(value, Tensor)}

    return cast("Posterior", dataclasses.replace(cast("Any", posterior), **changed))


@dataclass(frozen=True)
class DiagonalGaussian(Posterior):
    r"""A diagonal Gaussian, $q(z|x) = \prod_d N(z_d; \mu_{x,d}, \delta^2_{x,d})$.

    Attributes:
        mean: $\mu_x$, with shape (batch, latent).
        variance: $\delta^2_x$, with shape (batch, latent).
    """

    mean: Float[Tensor, "batch latent"]
    variance: Float[Tensor, "batch latent"]

    def draw(self, samples: tuple[int, ...] = (), generator: Generator | None = None) -> PosteriorSample:
        return PosteriorSample(self.mean + self.variance.sqrt() * noise_like(self.mean, samples, generator))

    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        return normal_log_probs(z, self.mean, self.variance).sum(-1)

    def kl(self, drawn: PosteriorSample | None = None) -> Float[Tensor, "batch latent"]:
        r"""$\frac12 (\mu^2 + \delta^2 - 1 - \log \delta^2)$ in nats: the exact KL term of equation 1, per dimension.

        `drawn` is not read, and may be None.
        """
        return 0.5 * (self.mean.square() + self.variance - 1 - self.variance.log())

    def features(self) -> Float[Tensor, "batch latent"]:
        return self.mean


@dataclass(frozen=True)
class PointMass(Posterior):
    """All probability at one z, the code of an autoencoder. This posterior has no density, and its KL counts as 0.

    Attributes:
        mean: The code z, with shape (batch, latent).
    """

    mean: Float[Tensor, "batch latent"]

    density = False
    measured = ("au",)
    variance = None

    def draw(self, samples: tuple[int, ...] = (), generator: Generator | None = None) -> PosteriorSample:
        return PosteriorSample(self.mean.expand(*samples, *self.mean.shape))

    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        raise ValueError("a point mass has no density")

    def kl(self, drawn: PosteriorSample | None = None) -> Float[Tensor, "batch latent"]:
        """Zeros, with the shape of z. `drawn` is not read, and may be None."""
        return torch.zeros_like(self.mean)

    def features(self) -> Float[Tensor, "batch latent"]:
        return self.mean


@dataclass(frozen=True)
class InverseAutoregressiveFlow(Posterior):
    r"""q(z|x) of $z = z^T$, the output of an IAF chain for a Gaussian $z^0$ (Kingma et al. 2016).

    $$z^0 \sim N(\mu^0, (\delta^0)^2), \qquad z^t = \sigma^t \odot z^{t-1} + (1 - \sigma^t) \odot m^t, \qquad
      \log q(z^T|x) = \sum_d \Big( \log q(z^0_d|x) - \sum_t \log \sigma^t_d \Big)$$

    The formulas follow equations S22 to S24 of the paper's supplement. As in the paper, this class has no MI and no AU:
    MI needs the mixture of all $q(z^T|x)$, and AU needs the moments of $z^T$.

    Attributes:
        mean: $\mu^0_x$, with shape (batch, latent).
        variance: $(\delta^0_x)^2$, with shape (batch, latent).
        context: The vector h of each x, which the chain reads besides z, with shape (batch, context).
        chain: The chain of maps from $z^0$ to $z^T$. All x share the parameters of the chain; only h differs.
    """

    mean: Float[Tensor, "batch latent"]
    variance: Float[Tensor, "batch latent"]
    context: Float[Tensor, "batch context"]
    chain: IAFChain

    measured = ("kl", "mpd", "ce")
    transformed = True

    def draw(self, samples: tuple[int, ...] = (), generator: Generator | None = None) -> PosteriorSample:
        noise = noise_like(self.mean, samples, generator)
        z, log_sigma = self.chain(self.mean + self.variance.sqrt() * noise, self.context)

        return PosteriorSample(z, -0.5 * (noise.square() + self.variance.log() + LOG_2PI) - log_sigma)

    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        """log q(z|x) of the given z, in nats. To find z^0, the method inverts the chain one dimension at a time."""
        start, log_sigma = self.chain.inverse(z, self.context)

        return (normal_log_probs(start, self.mean, self.variance) - log_sigma).sum(-1)

    def kl(self, drawn: PosteriorSample) -> Float[Tensor, "*samples batch latent"]:
        r"""The terms of $\log q(z^T|x) - \log p(z^T)$ for the sample, one per dimension, in nats.

        The sum of these terms over the dimensions estimates the KL. The estimate may be negative for a single x.
        """
        assert drawn.log_prob is not None  # `draw` of this class always sets it

        return drawn.log_prob + 0.5 * (drawn.z.square() + LOG_2PI)

    def features(self) -> Float[Tensor, "batch features"]:
        r"""$\mu^0$ and the $z^T$ that the chain computes from $z^0 = \mu^0$, concatenated."""
        return torch.cat([self.mean, self.chain(self.mean, self.context)[0]], -1)
