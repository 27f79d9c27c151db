"""What every encoder and every decoder gives, whatever it is made of."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

Slope = Callable[[Float[Tensor, "batch latent"]], Float[Tensor, "batch latent"]]
"""From z to the gradient of log p(x|z) with respect to it."""


class Encoder(nn.Module, ABC):
    """From a batch of x to its features.

    Attributes:
        features: Their width.
    """

    features: int

    @abstractmethod
    def forward(self, x: Tensor) -> Float[Tensor, "batch features"]:
        """The features of each x."""


class Decoder(nn.Module, ABC):
    """p(x|z), in nats per sentence or per image."""

    @abstractmethod
    def log_prob(self, x: Tensor, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch"]:
        """log p(x|z) of one z for each x."""

    @abstractmethod
    def log_prob_samples(self, x: Tensor, z: Float[Tensor, "samples batch latent"]) -> Float[Tensor, "samples batch"]:
        """log p(x|z) of many z for each x, without gradients."""

    def slope(self, x: Tensor) -> Slope:
        r"""From z to $\nabla_z \log p(x|z)$, which can be differentiated itself where gradients are on.

        Here by differentiating `log_prob` twice; a network with a faster way has its own. What is dropped in training
        is drawn anew for each z.
        """
        return derivative(partial(self.log_prob, x))

    @abstractmethod
    def units(self, x: Tensor) -> int:
        """What a batch's loss is counted per: words, or images."""

    @abstractmethod
    def sample(
        self, z: Float[Tensor, "batch latent"], generator: Generator | None = None, likely: bool = False
    ) -> Tensor:
        """An x of each z in evaluation, element by element.

        Args:
            z: What of.
            generator: Of the draws.
            likely: Draw nothing: each element is the likeliest, given those before it.
        """


def derivative(log_prob: Callable[[Float[Tensor, "batch latent"]], Float[Tensor, "batch"]]) -> Slope:
    """The derivative of each x's log p(x|z), by autograd; it can be differentiated itself where gradients are on."""

    def at(z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            z = z if z.requires_grad else z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(log_prob(z).sum(), z, create_graph=again)

        return gradient

    return at
