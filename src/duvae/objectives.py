"""What a system minimises, and how the weight of its KL term rises."""

from abc import ABC, abstractmethod
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from duvae.posteriors import Drawn, Posterior


class Loss(NamedTuple):
    """A batch's loss and its parts, in nats per sentence or per image.

    Attributes:
        total: What is minimised, with shape (batch,).
        reconstruction: -log p(x|z), with shape (batch,).
        kl: KL[q(z|x) || p(z)], unweighted, with shape (batch,).
    """

    total: Float[Tensor, "batch"]
    reconstruction: Float[Tensor, "batch"]
    kl: Float[Tensor, "batch"]


class Objective(ABC):
    """From -log p(x|z), q(z|x) and what was drawn of it to the loss of a batch."""

    @abstractmethod
    def __call__(
        self,
        reconstruction: Float[Tensor, "batch"],
        posterior: Posterior,
        drawn: Drawn,
        weight: float,
    ) -> Loss:
        """The loss of each x; `weight` is the schedule's."""


class ELBO(Objective):
    r"""$-\log p(x|z) + w \, D_{KL}[q(z|x) \| p(z)]$: equation 1, with the KL weight w."""

    def __call__(
        self,
        reconstruction: Float[Tensor, "batch"],
        posterior: Posterior,
        drawn: Drawn,
        weight: float,
    ) -> Loss:
        kl = posterior.kl(drawn).sum(-1)

        return Loss(reconstruction + weight * kl, reconstruction, kl)


class FreeBits(Objective):
    r"""$-\log p(x|z) + w \sum_d \max(\lambda, E_B[KL_d])$ (Kingma et al. 2016): free bits of each dimension.

    The mean $E_B$ is over the batch. The term of a dimension whose mean KL lies under $\lambda$ has no gradient: there
    z may say as much for nothing. Of a Gaussian that is all of its dimension's gradient; a flow's dimensions share
    their parameters. The batch's term stands in the total of each of its x.

    Args:
        free_bits: lambda, in nats of a dimension.
    """

    def __init__(self, free_bits: float) -> None:
        self.free_bits = free_bits

    def __call__(
        self,
        reconstruction: Float[Tensor, "batch"],
        posterior: Posterior,
        drawn: Drawn,
        weight: float,
    ) -> Loss:
        kl = posterior.kl(drawn)
        hinged = kl.mean(0).clamp_min(self.free_bits).sum()

        return Loss(reconstruction + weight * hinged, reconstruction, kl.sum(-1))


class MutualDivergence(Objective):
    r"""The ELBO with MAE's two terms over the batch's ordered pairs of different x (Ma et al. 2018).

    $$-\log p(x|z) + w \, KL + \gamma \sum_d -\log \mathrm{sigmoid}(MPD_d) + \eta \, \mathrm{std}_{x_1 \ne x_2} \Big[
      \sum_d KL[q(z_d|x_1) \| q(z_d|x_2)] \Big], \qquad MPD_d = E_{x_1 \ne x_2} KL[q(z_d|x_1) \| q(z_d|x_2)]$$

    The mean over ordered pairs has both directions of each pair, so it is that of the symmetric divergence of
    equation 2. gamma weighs the diversity and eta the smoothness: the paper's letters, the other way round in MAE's
    own code. A batch of one has no pairs and neither term.

    Args:
        gamma: The weight of the diversity.
        eta: The weight of the smoothness.
    """

    def __init__(self, gamma: float, eta: float) -> None:
        self.gamma, self.eta = gamma, eta

    def __call__(
        self,
        reconstruction: Float[Tensor, "batch"],
        posterior: Posterior,
        drawn: Drawn,
        weight: float,
    ) -> Loss:
        kl = posterior.kl(drawn).sum(-1)
        total = reconstruction + weight * kl
        if len(kl) > 1:
            pairs = pairwise_kl(posterior.mean, cast("Tensor", posterior.variance))
            variance = pairs.sum(-1).var(correction=0)
            # The root's slope at 0, where all posteriors are alike, would not be finite.
            smoothness = (variance + torch.finfo(variance.dtype).eps ** 2).sqrt()
            total = total + self.gamma * -logsigmoid(pairs.mean(0)).sum() + self.eta * smoothness

        return Loss(total, reconstruction, kl)


def pairwise_kl(
    mean: Float[Tensor, "batch latent"], variance: Float[Tensor, "batch latent"]
) -> Float[Tensor, "pairs latent"]:
    r"""$KL[q(z_d|x_1) \| q(z_d|x_2)]$ of diagonal Gaussians in nats, for all ordered pairs $x_1 \ne x_2$ of a batch.

    $$\frac12 \Big( \frac{\delta_1^2 + (\mu_1 - \mu_2)^2}{\delta_2^2} - 1 - \log \frac{\delta_1^2}{\delta_2^2} \Big)$$
    """
    first, second = (~torch.eye(len(mean), dtype=torch.bool, device=mean.device)).nonzero(as_tuple=True)
    ratio = variance[first] / variance[second]

    return 0.5 * (ratio + (mean[first] - mean[second]).square() / variance[second] - 1 - ratio.log())


class Warmup:
    """The KL weight: linear from `start` to `end` over the first `steps` steps, then `end`.

    Args:
        steps: Steps of the warm-up; 0 for none.
        start: The weight of the first step.
        end: The weight from then on: 1 of the ELBO, beta of a beta-VAE.
    """

    def __init__(self, steps: int, start: float = 0.0, end: float = 1.0) -> None:
        self.steps, self.start, self.end = steps, start, end

    def __call__(self, step: int) -> float:
        """The weight of a step, counted from 0."""
        return self.end if step >= self.steps else self.start + (self.end - self.start) * step / self.steps
