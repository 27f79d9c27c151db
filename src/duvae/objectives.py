"""Training objectives, which compute the loss of a batch, and schedules, which give the KL weight of each step."""

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
        weight: The weight of the KL term in this step, from the schedule; a number without a unit. In compiled
            training it is a tensor of shape ().
        generator: The random generator of this step; None: PyTorch's global generator. Checkpoints hold the state of
            the global generator, so that a resumed training computes the same bits as an unbroken one.
    """

    reconstruction: Float[Tensor, "batch"]
    posterior: Posterior
    drawn: PosteriorSample
    weight: float | Tensor
    generator: Generator | None = None

    def draw_prior(self) -> Float[Tensor, "batch latent"]:
        """New samples of the prior N(0, I), one for each sample of q(z|x), with shape (batch, latent)."""
        return noise_like(self.drawn.z, generator=self.generator)


class Loss(NamedTuple):
    """The loss of a batch and its parts, in nats per sentence or per image.

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
        """Computes the loss of each x and the parts of this loss, in nats, each with shape (batch,)."""


class ELBO(Objective):
    r"""$-\log p(x|z) + w \, D_{KL}[q(z|x) \| p(z)]$: the negative ELBO of equation 1, with KL weight w."""

    def __call__(self, context: Context) -> Loss:
        kl = context.posterior.kl(context.drawn).sum(-1)

        return Loss(context.reconstruction + context.weight * kl, context.reconstruction, kl)


class FreeBits(Objective):
    r"""$-\log p(x|z) + w \sum_d \max(\lambda, E_B[KL_d])$ (Kingma et al. 2016): free bits of each dimension.

    The mean $E_B$ is over the batch. The term of a dimension d has no gradient while the mean KL of d lies below
    $\lambda$: up to that amount, information in z costs nothing. The total loss of each x contains the KL term of the
    whole batch.

    Args:
        free_bits: The smallest KL term lambda of each dimension, in nats.
    """

    def __init__(self, free_bits: float) -> None:
        self.free_bits = free_bits

    def __call__(self, context: Context) -> Loss:
        kl = context.posterior.kl(context.drawn)
        hinged = kl.mean(0).clamp_min(self.free_bits).sum()

        return Loss(context.reconstruction + context.weight * hinged, context.reconstruction, kl.sum(-1))


class MutualDivergence(Objective):
    r"""The negative ELBO plus MAE's two terms over all ordered pairs of different x in a batch (Ma et al. 2018).

    $$-\log p(x|z) + w \, KL + \gamma \sum_d -\log \mathrm{sigmoid}(MPD_d) + \eta \, \mathrm{std}_{x_1 \ne x_2} \Big[
      \sum_d KL[q(z_d|x_1) \| q(z_d|x_2)] \Big], \qquad MPD_d = E_{x_1 \ne x_2} KL[q(z_d|x_1) \| q(z_d|x_2)]$$

    Ordered pairs contain both directions, so their mean is the mean of the symmetric divergence of equation 2. The term
    with the weight gamma is the diversity, and the term with the weight eta is the smoothness, as in the DU-VAE paper.
    The code of Ma et al. exchanges the two letters. A batch of one example has no pairs, so its loss lacks both terms.

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
            # The variance is 0 if all posteriors are equal. The square root has no finite slope at 0, so a tiny number
            # is added.
            smoothness = (variance + torch.finfo(variance.dtype).eps ** 2).sqrt()
            total = total + self.gamma * -logsigmoid(pairs.mean(0)).sum() + self.eta * smoothness

        return Loss(total, context.reconstruction, kl)


def pairwise_kl(
    mean: Float[Tensor, "batch latent"], variance: Float[Tensor, "batch latent"]
) -> Float[Tensor, "pairs latent"]:
    r"""$KL[q(z_d|x_1) \| q(z_d|x_2)]$ of diagonal Gaussians in nats, for all ordered pairs $x_1 \ne x_2$ of a batch.

    $$\frac12 \Big( \frac{\delta_1^2 + (\mu_1 - \mu_2)^2}{\delta_2^2} - 1 - \log \frac{\delta_1^2}{\delta_2^2} \Big)$$

    Equation S11 of the paper's supplement is the symmetric form of this divergence.

    Args:
        mean: Means of the posteriors, shape (batch, latent).
        variance: Variances of the posteriors, shape (batch, latent).

    Returns:
        The divergences, shape (pairs, latent), with batch * (batch - 1) pairs.
    """
    count = len(mean)
    different = ~torch.eye(count, dtype=torch.bool, device=mean.device)
    # `nonzero_static` takes the number of pairs, since compiled training cannot use a size that depends on data.
    first, second = different.nonzero_static(size=count * (count - 1)).unbind(1)
    ratio = variance[first] / variance[second]

    return 0.5 * (ratio + (mean[first] - mean[second]).square() / variance[second] - 1 - ratio.log())


@dataclass(frozen=True)
class Duration:
    """The length of a training, in optimiser steps.

    Attributes:
        warmup: The number of steps of the warm-up, in which the KL weight rises; 0 for no warm-up. Regularizers that
            wait for the warm-up start after these steps.
        epoch: The number of steps of one epoch.
        total: The number of steps of all epochs. A training that ends early takes fewer steps.
    """

    warmup: int
    epoch: int
    total: int


class Schedule(ABC):
    """The weight of the KL term in each step of a training.

    The weight depends on the number of the step alone, so that a resumed training has the same weights as an unbroken
    one.
    """

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The weight of the KL term in the given step. Steps are counted from 0 over the whole training."""


class Warmup(Schedule):
    """A KL weight that rises linearly from `start` to `end` over the first `steps` steps and stays at `end`.

    Args:
        steps: The number of steps of the warm-up; 0 for no warm-up.
        start: The weight in the first step.
        end: The weight after the warm-up: 1 for the ELBO, beta for a beta-VAE.
    """

    def __init__(self, steps: int, start: float = 0.0, end: float = 1.0) -> None:
        self.steps, self.start, self.end = steps, start, end

    def __call__(self, step: int) -> float:
        return self.end if step >= self.steps else self.start + (self.end - self.start) * step / self.steps
