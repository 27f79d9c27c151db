"""Approximate posteriors q(z|x). All of them are subclasses of `Posterior`.

An object of such a class holds q(z|x) for each x of a batch.
"""

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
        samples: The axes of the noise before those of x, such as (8,) for 8 tensors like x; (): no further axes.
        generator: The random generator; None: PyTorch's global generator.
    """
    return torch.randn(*samples, *x.shape, dtype=x.dtype, device=x.device, generator=generator)


def normal_log_probs(
    z: Float[Tensor, "*samples batch latent"],
    mean: Float[Tensor, "batch latent"],
    variance: Float[Tensor, "batch latent"],
) -> Float[Tensor, "*samples batch latent"]:
    """Computes log N(z_d; mean_d, variance_d) for each dimension d of z, in nats."""
    return -0.5 * ((z - mean).square() / variance + variance.log() + LOG_2PI)


def standard_normal_log_prob(z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
    """Computes log p(z) under the prior N(0, I), in nats."""
    return -0.5 * (z.square() + LOG_2PI).sum(-1)


class PosteriorSample(NamedTuple):
    """Samples of q(z|x), and the log density of the samples if it is a by-product of the drawing.

    Attributes:
        z: The samples, with shape (*samples, batch, latent).
        log_prob: The terms of log q(z|x), one per dimension of z, in nats, with the shape of z. None: the drawing did
            not compute them. `Posterior.log_prob` then computes log q(z|x) from z.
    """

    z: Float[Tensor, "*samples batch latent"]
    log_prob: Float[Tensor, "*samples batch latent"] | None = None


class Posterior(ABC):
    """q(z|x) for each x of a batch.

    docs/metrics.md defines the measures KL, MI (mutual information), AU (active units), MPD (mutual posterior
    diversity) and CE (conditional entropy).

    Attributes:
        density: Whether q(z|x) has a density. KL, MI, MPD, CE and the importance-weighted likelihood need a density.
        measured: The names of those of the five measures that are defined for this class, in lower case, such as `kl`.
        transformed: Whether a chain of T maps turns a Gaussian z^0 into z = z^T. If so, `mean`, `variance`, MPD and CE
            describe z^0, and MPD and CE of z^T can be estimated from samples.
        mean: The mean mu of the Gaussian, shape (batch, latent). For a point mass it is z itself.
        variance: The variance of the Gaussian, shape (batch, latent); None: q(z|x) is a point mass.
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
            samples: The axes of the samples before the batch axis, such as (8,) for 8 samples of each x; () for one
                sample of each x.
            generator: The random generator; None: PyTorch's global generator.

        Returns:
            The samples z, with shape (*samples, batch, latent), and the log density of the samples if the drawing
            computes it.
        """

    def rsample(self, samples: tuple[int, ...] = (), generator: Generator | None = None) -> Tensor:
        """Draws samples as `draw` does, and returns only z, with shape (*samples, batch, latent)."""
        return self.draw(samples, generator).z

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*samples batch latent"]) -> Float[Tensor, "*samples batch"]:
        """Computes log q(z|x) of the given z, in nats."""

    def log_prob_drawn(self, drawn: PosteriorSample) -> Float[Tensor, "*samples batch"]:
        """Computes log q(z|x) of samples that `draw` returned, in nats."""
        return self.log_prob(drawn.z) if drawn.log_prob is None else drawn.log_prob.sum(-1)

    @abstractmethod
    def kl(self, drawn: PosteriorSample) -> Float[Tensor, "batch latent"]:
        """Computes KL[q(z|x) || N(0, I)] of each dimension of z, in nats.

        Args:
            drawn: A sample of q(z|x). A class without a closed form of the KL estimates the KL from this sample. The
                other classes do not read it.
        """

    @abstractmethod
    def features(self) -> Float[Tensor, "batch features"]:
        """Computes the features of each x that a linear probe (a linear classifier) reads, shape (batch, features)."""

    def of(self, indices: Int[Tensor, "chosen"]) -> "Posterior":
        """Builds the posterior of a part of the batch: of the x at the given indices."""
        return _replaced(self, lambda name: vars(self)[name][indices])


def joined(posteriors: Sequence[Posterior]) -> Posterior:
    """Joins the posteriors of several batches into the posterior of one batch. All must be of the same class."""
    return _replaced(posteriors[0], lambda name: torch.cat([vars(posterior)[name] for posterior in posteriors]))


def _replaced(posterior: Posterior, tensor: Callable[[str], Tensor]) -> Posterior:
    """Copies a posterior, and replaces its tensors. The other attributes of the copy are those of the original.

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
        r"""Computes $\frac12 (\mu^2 + \delta^2 - 1 - \log \delta^2)$ in nats: the exact KL term of each dimension.

        Args:
            drawn: A sample, which this class does not read; None: no sample.
        """
        return 0.5 * (self.mean.square() + self.variance - 1 - self.variance.log())

    def features(self) -> Float[Tensor, "batch latent"]:
        return self.mean


@dataclass(frozen=True)
class PointMass(Posterior):
    """A posterior with all probability at one z, the code that an autoencoder computes from x.

    A point mass has no density. The method `kl` returns 0.

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
        """Returns zeros, with the shape of z.

        Args:
            drawn: A sample, which this class does not read; None: no sample.
        """
        return torch.zeros_like(self.mean)

    def features(self) -> Float[Tensor, "batch latent"]:
        return self.mean


@dataclass(frozen=True)
class InverseAutoregressiveFlow(Posterior):
    r"""The posterior of $z = z^T$, the output of an IAF chain of T blocks for a Gaussian $z^0$ (Kingma et al. 2016).

    IAF is short for inverse autoregressive flow.

    $$z^0 \sim N(\mu^0, (\delta^0)^2), \qquad z^t = \sigma^t \odot z^{t-1} + (1 - \sigma^t) \odot m^t, \qquad
      \log q(z^T|x) = \sum_d \Big( \log q(z^0_d|x) - \sum_t \log \sigma^t_d \Big)$$

    The formulas follow equations S22 to S24 of the paper's supplement. $\sigma^t$ and $m^t$ are functions of $z^{t-1}$
    and of the context h (see `duvae.networks.made.IAFBlock`). As in the paper, MI and AU are not defined for this
    class. MI needs the mixture of all $q(z^T|x)$, and AU needs the moments of $z^T$.

    Attributes:
        mean: $\mu^0_x$, with shape (batch, latent).
        variance: $(\delta^0_x)^2$, with shape (batch, latent).
        context: The vector h of each x, which all blocks of the chain read, with shape (batch, context).
        chain: The chain of blocks from $z^0$ to $z^T$. All x share the parameters of the chain.
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
        """Computes log q(z|x) of the given z, in nats. To find z^0, it inverts the chain, one dimension at a time."""
        start, log_sigma = self.chain.inverse(z, self.context)

        return (normal_log_probs(start, self.mean, self.variance) - log_sigma).sum(-1)

    def kl(self, drawn: PosteriorSample) -> Float[Tensor, "*samples batch latent"]:
        r"""Computes the terms of $\log q(z^T|x) - \log p(z^T)$ for the sample, one per dimension of z, in nats.

        The sum of these terms over the dimensions estimates the KL. The estimate for a single x may be negative.
        """
        assert drawn.log_prob is not None  # `draw` of this class always sets it

        return drawn.log_prob + 0.5 * (drawn.z.square() + LOG_2PI)

    def features(self) -> Float[Tensor, "batch features"]:
        r"""Concatenates $\mu^0$ and the $z^T$ that the chain computes from $z^0 = \mu^0$."""
        return torch.cat([self.mean, self.chain(self.mean, self.context)[0]], -1)
