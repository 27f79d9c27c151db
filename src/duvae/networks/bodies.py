"""The abstract base classes of all encoders and decoders."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

Slope = Callable[[Float[Tensor, "batch latent"]], Float[Tensor, "batch latent"]]
"""Function from z to the gradient of log p(x|z) with respect to z. Both have the shape (batch, latent)."""


class Encoder(nn.Module, ABC):
    """A network that computes one feature vector for each x of a batch.

    Attributes:
        features: The width of a feature vector.
    """

    features: int

    @abstractmethod
    def forward(self, x: Tensor) -> Float[Tensor, "batch features"]:
        """Computes the feature vector of each x."""


class Decoder(nn.Module, ABC):
    """A network that computes p(x|z): the probability of a sentence or an image x, given its latent code z."""

    @abstractmethod
    def log_prob(self, x: Tensor, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch"]:
        """Computes log p(x|z) with one z for each x, in nats per sentence or per image."""

    @abstractmethod
    def log_prob_samples(self, x: Tensor, z: Float[Tensor, "samples batch latent"]) -> Float[Tensor, "samples batch"]:
        """Computes log p(x|z) with several z for each x, in nats per sentence or per image, without gradients."""

    def slope(self, x: Tensor) -> Slope:
        r"""Builds the function that computes $\nabla_z \log p(x|z)$ from z.

        If autograd is enabled when the built function is called, its result can be differentiated again. In training
        each call of the built function draws new dropout masks. This base class differentiates `log_prob` by autograd;
        a subclass may have a faster method.
        """
        return derivative(partial(self.log_prob, x))

    @abstractmethod
    def units(self, x: Tensor) -> int:
        """Counts the words of a batch of sentences, or the images of a batch of images.

        A loss that is summed over the batch, divided by this number, is the loss per word or per image.
        """

    @abstractmethod
    def sample(
        self, z: Float[Tensor, "batch latent"], generator: Generator | None = None, likely: bool = False
    ) -> Tensor:
        """Generates one x for each z, one word or pixel after the other. The decoder must be in evaluation mode.

        Args:
            z: Latent codes to decode, shape (batch, latent).
            generator: The random generator; None: PyTorch's global generator.
            likely: True: each word or pixel takes its most likely value, given those before it. False: its value is a
                random draw.

        Returns:
            Word ids of shape (batch, length), or images of shape (batch, 1, height, width).
        """


def derivative(log_prob: Callable[[Float[Tensor, "batch latent"]], Float[Tensor, "batch"]]) -> Slope:
    """Builds the function that computes the gradient of log p(x|z) with respect to z, by autograd.

    If autograd is enabled when the built function is called, its result can be differentiated again.

    Args:
        log_prob: Function from z, shape (batch, latent), to log p(x|z) in nats, shape (batch,).
    """

    def at(z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            z = z if z.requires_grad else z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(log_prob(z).sum(), z, create_graph=again)

        return gradient

    return at
