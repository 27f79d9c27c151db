"""What a system minimises, and how the weight of its KL term rises."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

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
        """The loss of each x; `weight` is the schedule's, 1 once the warm-up is over."""


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
    r"""$-\log p(x|z) + w \sum_d \max(\lambda, E_x[D_{KL,d}])$: no gradient where a dimension's KL is under $\lambda$.

    The expectation is the batch's mean, so that the second term is the same for each x (Kingma et al. 2016, FB).

    Args:
        free_bits: lambda, in nats a dimension.
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
        paid = kl.mean(0).clamp(min=self.free_bits).sum()

        return Loss(reconstruction + weight * paid, reconstruction, kl.sum(-1))


class Warmup:
    """The KL weight: linear from `start` to 1 over the first `steps` steps, then 1.

    Args:
        steps: Steps of the warm-up; 0 for none.
        start: The weight of the first step.
    """

    def __init__(self, steps: int, start: float = 0.0) -> None:
        self.steps, self.start = steps, start

    def __call__(self, step: int) -> float:
        """The weight of a step, counted from 0."""
        return 1.0 if step >= self.steps else self.start + (1 - self.start) * step / self.steps
