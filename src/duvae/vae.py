"""The one VAE: an encoder, a head that makes q(z|x) of its features, a decoder."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus

from duvae.networks.bodies import Decoder, Encoder
from duvae.networks.made import IAFChain
from duvae.objectives import Context, Loss, Objective
from duvae.posteriors import DiagonalGaussian, InverseAutoregressiveFlow, PointMass, Posterior
from duvae.refinement import Amortized, Refinement
from duvae.regularizers import CommittedRate, MeanBatchNorm, Staged


class GaussianHead(nn.Module):
    """Features to mean and log variance by one linear map without bias, each through its regularizer.

    Args:
        features: Width of the encoder's features.
        latent: Dimensions of z.
        means: From means to means.
        variances: From variances to variances.
    """

    def __init__(self, features: int, latent: int, means: nn.Module, variances: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent, bias=False)
        self.means, self.variances = means, variances

    def forward(self, features: Float[Tensor, "batch features"]) -> DiagonalGaussian:
        mean, log_variance = self.linear(features).chunk(2, -1)

        return DiagonalGaussian(self.means(mean), self.variances(log_variance.exp()))


class CommittedHead(nn.Module):
    """Features to a Gaussian with a KL of at least delta in every dimension, by one linear map without bias.

    Args:
        features: Width of the encoder's features.
        latent: Dimensions of z.
        delta: The committed rate of each dimension, in nats.
    """

    def __init__(self, features: int, latent: int, delta: float) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent, bias=False)
        self.rate = CommittedRate(delta)

    def forward(self, features: Float[Tensor, "batch features"]) -> DiagonalGaussian:
        return DiagonalGaussian(*self.rate(*self.linear(features).chunk(2, -1)))


class FlowHead(nn.Module):
    r"""Features to $\mu^0$, $\delta^0$ and h by one linear map without bias: Algorithm S1, lines 4 and 5.

    $\delta^0$ is the softplus of the map's output; it is the variance, its square, that has a regularizer. h is as
    wide as z.

    Args:
        features: Width of the encoder's features.
        latent: Dimensions of z.
        means: From means to means.
        variances: From variances to variances.
        width: Hidden units of the chain's networks, in a layer for each dimension of z.
        blocks: T, the blocks of the chain.
    """

    def __init__(
        self, features: int, latent: int, means: nn.Module, variances: nn.Module, width: int, blocks: int
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 3 * latent, bias=False)
        self.means, self.variances = means, variances
        self.chain = IAFChain(latent, latent, width, blocks)

    def forward(self, features: Float[Tensor, "batch features"]) -> InverseAutoregressiveFlow:
        mean, scale, context = self.linear(features).chunk(3, -1)
        variance = self.variances(softplus(scale).square())

        return InverseAutoregressiveFlow(self.means(mean), variance, context, self.chain)


class PointHead(nn.Module):
    """Features to z itself, by one linear map without bias."""

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, latent, bias=False)

    def forward(self, features: Float[Tensor, "batch features"]) -> PointMass:
        return PointMass(self.linear(features))


class VAE(nn.Module):
    """An encoder, a head and a decoder; which system it is lies in its head, its refinement and its objective.

    Args:
        encoder: From x to features.
        head: From features to q(z|x).
        decoder: p(x|z).
        objective: What training minimises.
        refinement: From the head's q(z|x) to the one that is used; none by default.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: nn.Module,
        decoder: Decoder,
        objective: Objective,
        refinement: Refinement | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head, self.decoder = encoder, head, decoder
        self.objective = objective
        self.refinement = refinement or Amortized()
        # A list that is made once: a walk through all modules after each step costs more than the rescaling.
        self.normalizations = [part for part in head.modules() if isinstance(part, MeanBatchNorm)]

    def posterior(self, x: Tensor, weight: float = 1.0) -> Posterior:
        """q(z|x).

        Args:
            x: A batch.
            weight: Weight of the KL term in training, where q(z|x) depends on it.
        """
        posterior: Posterior = self.refinement(self.head(self.encoder(x)), x, self.decoder, weight)

        return posterior

    def loss(self, x: Tensor, weight: float, generator: Generator | None = None) -> Loss:
        """The loss of each x with one sample of z: what training minimises.

        Args:
            x: A batch.
            weight: Weight of the KL term.
            generator: The random generator of z's noise and of the objective's own draws; None: torch's global one.
        """
        posterior = self.posterior(x, weight)
        drawn = posterior.draw(generator=generator)
        reconstruction = -self.decoder.log_prob(x, drawn.z)

        return self.objective(Context(reconstruction, posterior, drawn, weight, generator))

    def inference_parameters(self) -> Iterator[nn.Parameter]:
        """phi: the encoder's parameters and its head's."""
        yield from self.encoder.parameters()
        yield from self.head.parameters()

    def generative_parameters(self) -> Iterator[nn.Parameter]:
        """theta: the decoder's parameters."""
        yield from self.decoder.parameters()

    def start(self) -> None:
        """Starts what waits for the end of the warm-up."""
        for part in self.modules():
            if isinstance(part, Staged):
                part.start()

    @torch.no_grad()
    def after_step(self) -> None:
        """What follows each optimiser step: Algorithm 1, line 9."""
        for normalization in self.normalizations:
            normalization.rescale_()
