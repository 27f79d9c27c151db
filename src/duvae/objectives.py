"""Training objectives and schedules.

An objective computes the loss of each x of a batch. A schedule gives the weight of the KL term of the loss in each step
of the optimiser.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid

from duvae.posteriors import Posterior, PosteriorSample, noise_like


@dataclass(frozen=True)
class Context:
    """The values of one batch that an objective reads.

    Attributes:
        reconstruction: -log p(x|z) in nats per sentence or per image, with shape (batch,).
        posterior: q(z|x) of each x of the batch.
        drawn: The sample of q(z|x) that the decoder read; `drawn.z` has the shape (batch, latent).
        weight: The weight of the KL term in this step, from the `Schedule`. In compiled training the weight is a
            tensor of shape ().
        generator: The random generator of this step; None: PyTorch's global generator. Checkpoints hold the state of
            the global generator. So a resumed training computes exactly the numbers of a training without a break.
    """

    reconstruction: Float[Tensor, "batch"]
    posterior: Posterior
    drawn: PosteriorSample
    weight: float | Tensor
    generator: Generator | None = None

    def draw_prior(self) -> Float[Tensor, "batch latent"]:
        """Draws new samples of the prior N(0, I), one for each x of the batch, with shape (batch, latent)."""
        return noise_like(self.drawn.z, generator=self.generator)


class Loss(NamedTuple):
    """The loss of each x of a batch and the parts of this loss, in nats per sentence or per image.

    Attributes:
        total: The loss that training minimises, with shape (batch,).
        reconstruction: -log p(x|z), with shape (batch,).
        kl: KL[q(z|x) || p(z)], unweighted, with shape (batch,).
    """

    total: Float[Tensor, "batch"]
    reconstruction: Float[Tensor, "batch"]
    kl: Float[Tensor, "batch"]


class Objective(ABC):
    """A loss for each x of a batch, computed from the batch's `Context`."""

    @abstractmethod
    def __call__(self, context: Context) -> Loss:
        """Computes the loss of each x of the batch, and the parts of this loss."""


class ELBO(Objective):
    r"""$-\log p(x|z) + w \, D_{KL}[q(z|x) \| p(z)]$: the negative ELBO with KL weight w (equation 1 of the paper)."""

    def __call__(self, context: Context) -> Loss:
        kl = context.posterior.kl(context.drawn).sum(-1)

        return Loss(context.reconstruction + context.weight * kl, context.reconstruction, kl)


class FreeBits(Objective):
    r"""$-\log p(x|z) + w \sum_d \max(\lambda, E_B[KL_d])$: the negative ELBO with free bits (Kingma et al. 2016).

    $KL_d$ is the KL term of dimension d of z, and $E_B$ is the mean over the batch. The term of dimension d has no
    gradient while $E_B[KL_d]$ lies below $\lambda$: up to that amount, information in $z_d$ costs nothing. The sum over
    d is the same for all x of the batch.

    Args:
        free_bits: The smallest value lambda that the term of each dimension takes, in nats.
    """

    def __init__(self, free_bits: float) -> None:
        self.free_bits = free_bits

    def __call__(self, context: Context) -> Loss:
        kl = context.posterior.kl(context.drawn)
        hinged = kl.mean(0).clamp_min(self.free_bits).sum()

        return Loss(context.reconstruction + context.weight * hinged, context.reconstruction, kl.sum(-1))


class MutualDivergence(Objective):
    r"""The negative ELBO plus the two regularization terms of MAE (Ma et al. 2018).

    MAE is mutual posterior-divergence regularization. Its terms depend on all ordered pairs of different x in a batch:

    $$-\log p(x|z) + w \, KL + \gamma \sum_d -\log \mathrm{sigmoid}(MPD_d) + \eta \, \mathrm{std}_{x_1 \ne x_2} \Big[
      \sum_d KL[q(z_d|x_1) \| q(z_d|x_2)] \Big], \qquad MPD_d = E_{x_1 \ne x_2} KL[q(z_d|x_1) \| q(z_d|x_2)]$$

    The ordered pairs contain each pair of x in both directions. So the mean divergence over these pairs is the mean of
    the symmetric divergence in equation 2 of the DU-VAE paper. The term with the weight gamma is the diversity, and the
    term with the weight eta is the smoothness, as in the DU-VAE paper. The code of Ma et al. exchanges the two letters.
    A batch of one example has no pairs, so its loss lacks both terms.

    Args:
        gamma: The weight of the diversity term.
        eta: The weight of the smoothness term.
    """

    def __init__(self, gamma: float, eta: float) -> None:
        self.gamma, self.eta = gamma, eta

    def __call__(self, context: Context) -> Loss:
        posterior = context.posterior
        kl = posterior.kl(context.drawn).sum(-1)
        total = context.reconstruction + context.weight * kl
        if len(kl) > 1:
            pairs = pairwise_kl(posterior.mean, cast("Tensor", posterior.variance))
            variance = pairs.sum(-1).var(correction=0)
            # The variance is 0 if all posteriors are equal. The square root has no finite derivative at 0, so a tiny
            # number is added to the variance.
            smoothness = (variance + torch.finfo(variance.dtype).eps ** 2).sqrt()
            total = total + self.gamma * -logsigmoid(pairs.mean(0)).sum() + self.eta * smoothness

        return Loss(total, context.reconstruction, kl)


def pairwise_kl(
    mean: Float[Tensor, "batch latent"], variance: Float[Tensor, "batch latent"]
) -> Float[Tensor, "pairs latent"]:
    r"""Computes $KL[q(z_d|x_1) \| q(z_d|x_2)]$ in nats, for all ordered pairs $x_1 \ne x_2$ of a batch.

    The posteriors are diagonal Gaussians with means $\mu$ and variances $\delta^2$, so the divergence is

    $$\frac12 \Big( \frac{\delta_1^2 + (\mu_1 - \mu_2)^2}{\delta_2^2} - 1 - \log \frac{\delta_1^2}{\delta_2^2} \Big)$$

    Equation S11 of the paper's supplement is the symmetric form of this divergence.

    Args:
        mean: Means of the posteriors, shape (batch, latent).
        variance: Variances of the posteriors, shape (batch, latent).

    Returns:
        The divergences, shape (pairs, latent), with batch * (batch - 1) pairs.
    """
    count = len(mean)
    others = max(count - 1, 1)
    # Pair number n has the indices first = n // others and second = n % others, which skips first. `nonzero` of a
    # matrix of pairs would give the same indices, but a GPU would have to wait for the size of its result.
    pair = torch.arange(count * (count - 1), device=mean.device)
    first, second = pair // others, pair % others
    second = second + (second >= first)
    ratio = variance[first] / variance[second]

    return 0.5 * (ratio + (mean[first] - mean[second]).square() / variance[second] - 1 - ratio.log())


@dataclass(frozen=True)
class Duration:
    """The length of a training, in optimiser steps.

    Attributes:
        warmup: The number of steps of the warm-up, in which the KL weight rises; 0 for no warm-up. Some regularizers
            start only after the warm-up.
        epoch: The number of steps of one epoch.
        total: The number of steps of all epochs. A training that ends early takes fewer steps.
    """

    warmup: int
    epoch: int
    total: int


class Schedule(ABC):
    """The weight of the KL term in each step of a training.

    The weight depends on the number of the step alone. So a resumed training uses the same weights as a training
    without a break.
    """

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Computes the weight of the KL term in the given step. Steps are counted from 0 over the whole training."""


class Warmup(Schedule):
    """A KL weight that rises linearly from `start` to `end` over the first `steps` steps, and then stays at `end`.

    Args:
        steps: The number of steps of the warm-up; 0 for no warm-up.
        start: The weight in the first step.
        end: The weight after the warm-up: 1 for the ELBO, beta for a beta-VAE.
    """

    def __init__(self, steps: int, start: float = 0.0, end: float = 1.0) -> None:
        self.steps, self.start, self.end = steps, start, end

    def __call__(self, step: int) -> float:
        return self.end if step >= self.steps else self.start + (self.end - self.start) * step / self.steps
