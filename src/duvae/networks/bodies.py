"""What every encoder and every decoder gives, whatever it is made of."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Generator, Tensor, nn


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

    @abstractmethod
    def units(self, x: Tensor) -> int:
        """What a batch's loss is counted per: words, or images."""

    def sample(
        self, z: Float[Tensor, "batch latent"], generator: Generator | None = None, likely: bool = False
    ) -> Tensor:
        """An x of each z in evaluation, element by element.

        Args:
            z: What of.
            generator: Of the draws.
            likely: Draw nothing: each element is the likeliest, given those before it.
        """
        raise NotImplementedError(f"{type(self).__name__} draws no samples")
