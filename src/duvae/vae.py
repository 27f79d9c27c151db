"""The VAE of all systems: an encoder that computes features of x, a head that turns them into q(z|x), and a decoder."""

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
    """Computes the means and the log variances of q(z|x) from features, by a linear map without a bias.

    One regularizer then acts on the means, and another one on the variances.

    Args:
        features: The width of a feature vector.
        latent: The number of dimensions of z.
        means: The regularizer of means; input and output have the shape (batch, latent).
        variances: The regularizer of variances; input and output have the shape (batch, latent).
    """

    def __init__(self, features: int, latent: int, means: nn.Module, variances: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent, bias=False)
        self.means, self.variances = means, variances

    def forward(self, features: Float[Tensor, "batch features"]) -> DiagonalGaussian:
        mean, log_variance = self.linear(features).chunk(2, -1)

        return DiagonalGaussian(self.means(mean), self.variances(log_variance.exp()))


class CommittedHead(nn.Module):
    """Computes a Gaussian q(z|x) from features. Its KL from the prior is at least delta in every dimension.

    The head is a linear map without a bias, followed by `CommittedRate`.

    Args:
        features: The width of a feature vector.
        latent: The number of dimensions of z.
        delta: The committed rate: the smallest KL of each dimension, in nats.
    """

    def __init__(self, features: int, latent: int, delta: float) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent, bias=False)
        self.rate = CommittedRate(delta)

    def forward(self, features: Float[Tensor, "batch features"]) -> DiagonalGaussian:
        return DiagonalGaussian(*self.rate(*self.linear(features).chunk(2, -1)))


class FlowHead(nn.Module):
    r"""Computes $\mu^0$, $\delta^0$ and h from features, by a linear map without a bias (Algorithm S1, lines 4 and 5).

    $\mu^0$ and $\delta^0$ are the mean and the standard deviation of $z^0$, which the IAF chain turns into z. h is the
    context vector that the chain reads; it is as wide as z. $\delta^0$ is the softplus of an output of the map. One
    regularizer acts on $\mu^0$, and another one on $(\delta^0)^2$. Algorithm S1 is in the paper's supplement.

    Args:
        features: The width of a feature vector.
        latent: The number of dimensions of z.
        means: The regularizer of means; input and output have the shape (batch, latent).
        variances: The regularizer of variances; input and output have the shape (batch, latent).
        width: The number of hidden units in each layer of the chain's networks, per dimension of z.
        blocks: The number T of blocks of the chain.
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
    """Computes z itself from features, by a linear map without a bias. An autoencoder has this head.

    Args:
        features: The width of a feature vector.
        latent: The number of dimensions of z.
    """

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, latent, bias=False)

    def forward(self, features: Float[Tensor, "batch features"]) -> PointMass:
        return PointMass(self.linear(features))


class VAE(nn.Module):
    """An encoder, a head and a decoder. Systems differ in the head, the refinement and the objective.

    Args:
        encoder: The network that computes the features of x.
        head: The module that computes q(z|x) from the features.
        decoder: The network that computes p(x|z).
        objective: Function that computes the training loss of each x.
        refinement: The map from the head's q(z|x) to the q(z|x) that the model uses; None: the head's q(z|x) is used.
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
        # The search for these modules runs only once: after each step it would cost more than the rescaling itself.
        self.normalizations = [part for part in head.modules() if isinstance(part, MeanBatchNorm)]

    def posterior(self, x: Tensor, weight: float | Tensor = 1.0) -> Posterior:
        """Computes q(z|x) of each x.

        Args:
            x: A batch of word ids, shape (batch, length), or of images, shape (batch, 1, height, width).
            weight: The weight of the KL term in the ELBO that a refinement maximises, a number or a tensor of shape ().
        """
        posterior: Posterior = self.refinement(self.head(self.encoder(x)), x, self.decoder, weight)

        return posterior

    def loss(self, x: Tensor, weight: float | Tensor, generator: Generator | None = None) -> Loss:
        """Computes the training loss of each x with one sample of z.

        Args:
            x: A batch of word ids, shape (batch, length), or of images, shape (batch, 1, height, width).
            weight: The weight of the KL term: a number, or a tensor of shape () in compiled training.
            generator: The random generator of the noise of z and of the objective's draws; None: PyTorch's global
                generator.

        Returns:
            The loss and its parts, each with shape (batch,).
        """
        posterior = self.posterior(x, weight)
        drawn = posterior.draw(generator=generator)
        reconstruction = -self.decoder.log_prob(x, drawn.z)

        return self.objective(Context(reconstruction, posterior, drawn, weight, generator))

    def inference_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters phi of the encoder and the head."""
        yield from self.encoder.parameters()
        yield from self.head.parameters()

    def generative_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters theta of the decoder."""
        yield from self.decoder.parameters()

    def start(self) -> None:
        """Starts the regularizers that wait for the end of the warm-up of the KL weight (see `Staged`)."""
        for part in self.modules():
            if isinstance(part, Staged):
                part.start()

    @torch.no_grad()
    def after_step(self) -> None:
        """Rescales gamma_mu of equation 9 after an optimiser step: Algorithm 1, line 9, and Algorithm S1, line 11."""
        for normalization in self.normalizations:
            normalization.rescale_()
