"""What follows the encoder before q(z|x) is used: nothing (amortized inference), or steps on its parameters."""

import zlib
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from duvae.networks.bodies import Decoder
from duvae.posteriors import DiagonalGaussian, Posterior, noise_like


class Refinement(nn.Module, ABC):
    """From the encoder's q(z|x) to the one that is used."""

    @abstractmethod
    def forward(self, posterior: Posterior, x: Tensor, decoder: Decoder, weight: float) -> Posterior:
        """The refined posterior of each x; `weight` is that of the KL term in training."""


class Amortized(Refinement):
    """The encoder's q(z|x) as it is."""

    def forward(self, posterior: Posterior, x: Tensor, decoder: Decoder, weight: float) -> Posterior:
        return posterior


class SVI(Refinement):
    r"""Stochastic variational inference from the encoder's output on (Kim et al. 2018, Algorithm 1).

    With $\lambda = (\mu, \log \delta^2)$ and a fresh sample $z = \mu + \delta \epsilon$ in each of the steps

    $$v \leftarrow m v - c_\tau(\nabla_\lambda [-\log p(x|z) + w \, D_{KL}[q_\lambda(z) \| p(z)]]), \quad
      \lambda \leftarrow \lambda + \eta v,$$

    where $c_\tau$ scales a gradient, that of $\mu$ and that of $\log \delta^2$ each, to a norm of at most $\tau$. Each x
    is treated alone. The result is differentiable with respect to the encoder's output and the decoder's
    parameters, through all steps and exactly.

    In training $\epsilon$ and what the decoder drops come from the global generator and w is the schedule's. In
    evaluation w = 1, nothing is dropped and $\epsilon$ is a function of x: the same x has the same posterior whatever
    batch it lies in, and whoever asks.

    Args:
        steps: How many.
        learning_rate: eta.
        momentum: m.
        clip: tau.
    """

    def __init__(self, steps: int, learning_rate: float, momentum: float, clip: float) -> None:
        super().__init__()
        self.steps, self.learning_rate, self.momentum, self.clip = steps, learning_rate, momentum, clip

    def forward(self, posterior: Posterior, x: Tensor, decoder: Decoder, weight: float) -> DiagonalGaussian:
        assert posterior.variance is not None
        weight = weight if self.training else 1.0
        mean, log_variance = posterior.mean, posterior.variance.log()
        samples = (self.steps,)
        noise = noise_like(mean, samples) if self.training else noise_of(x, samples, mean)
        slope = decoder.slope(x)
        velocity = mean.new_zeros(len(mean), 2, mean.shape[1])
        for epsilon in noise:
            variance = log_variance.exp()
            shift = variance.sqrt() * epsilon
            gradient = slope(mean + shift)
            descent = torch.stack([gradient - weight * mean, 0.5 * (gradient * shift + weight * (1 - variance))], 1)
            velocity = self.momentum * velocity + clipped(descent, self.clip)
            mean, log_variance = torch.add(torch.stack([mean, log_variance], 1), velocity, alpha=self.learning_rate).unbind(1)

        return DiagonalGaussian(mean, log_variance.exp())


def clipped(gradient: Float[Tensor, "*batch latent"], norm: float) -> Float[Tensor, "*batch latent"]:
    """Each gradient, scaled to at most this norm."""
    return gradient * (norm / (torch.linalg.vector_norm(gradient, dim=-1, keepdim=True) + 1e-6)).clamp(max=1)


def noise_of(x: Tensor, samples: tuple[int, ...], like: Float[Tensor, "batch latent"]) -> Tensor:
    """Standard normal noise that is a function of each x alone, with shape (*samples, batch, latent)."""
    generator = torch.Generator()
    rows = [
        torch.randn(*samples, like.shape[1], generator=generator.manual_seed(zlib.crc32(row.tobytes())))
        for row in x.cpu().numpy()
    ]

    return torch.stack(rows, -2).to(like)
