"""What follows the encoder before q(z|x) is used: nothing (amortized inference), or steps on its parameters."""

import zlib
from abc import ABC, abstractmethod
from functools import partial

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
      \lambda \leftarrow \lambda + \frac{\eta}{B} v,$$

    where $c_\tau$ scales a gradient, that of $\mu$ and that of $\log \delta^2$ each, to a norm of at most $\tau$.
    Each x is treated alone; B stands for the batch whose mean loss the released code steps along.

    The result can be differentiated with respect to the encoder's output and the decoder's parameters, through all
    steps and with exact second derivatives. On the way back through each step the gradient of each x's own loss with
    respect to its $\mu$ and its $\log \delta^2$ is clipped by $c_\tau$ as well: unbounded it grows from step to step.
    What is minimised is taken to be the mean over the batch.

    In training $\epsilon$ and what the decoder drops come from the global generator and w is the schedule's. In
    evaluation w = 1, nothing is dropped and $\epsilon$ is a function of x: the same x has the same posterior whatever
    batch it lies in, and whoever asks.

    Args:
        steps: How many.
        learning_rate: eta.
        momentum: m.
        clip: tau.
        batch: B.
    """

    def __init__(self, steps: int, learning_rate: float, momentum: float, clip: float, batch: int) -> None:
        super().__init__()
        self.steps, self.rate, self.momentum, self.clip = steps, learning_rate / batch, momentum, clip

    def forward(self, posterior: Posterior, x: Tensor, decoder: Decoder, weight: float) -> DiagonalGaussian:
        if not isinstance(posterior, DiagonalGaussian):
            raise TypeError(f"expected a diagonal Gaussian to refine, got a {type(posterior).__name__}")
        weight = weight if self.training else 1.0
        with torch.autocast(x.device.type, enabled=False):  # rounding grows from step to step, and more on the way back
            return self.refined(posterior, x, decoder, weight)

    def refined(self, posterior: DiagonalGaussian, x: Tensor, decoder: Decoder, weight: float) -> DiagonalGaussian:
        """The posterior after all steps, in the precision of the encoder's output, single at least."""
        parameters = torch.stack([posterior.mean, posterior.variance.log()], 1)  # lambda
        parameters = parameters.float() if parameters.dtype.itemsize < 4 else parameters
        velocity = torch.zeros_like(parameters)
        samples = (self.steps,)
        noise = noise_like(parameters[:, 0], samples) if self.training else noise_of(x, samples, parameters[:, 0])
        slope = decoder.slope(x)
        back = partial(clipped, norm=self.clip / len(x))  # of the batch's mean, to which each x gives 1 / len(x)
        for epsilon in noise:
            if parameters.requires_grad:
                parameters.register_hook(back)
            mean, log_variance = parameters.unbind(1)
            shift = (0.5 * log_variance).exp() * epsilon
            of_mean = slope(mean + shift)
            of_kl = torch.stack([mean, 0.5 * (log_variance.exp() - 1)], 1)
            descent = torch.stack([of_mean, 0.5 * of_mean * shift], 1) - weight * of_kl
            velocity = self.momentum * velocity + clipped(descent, self.clip)
            parameters = torch.add(parameters, velocity, alpha=self.rate)
        mean, log_variance = parameters.unbind(1)

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
