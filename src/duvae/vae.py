"""The VAE that all systems of the paper share, such as BN-VAE and DU-VAE.

An encoder computes features of x. A head computes q(z|x) from the features. A decoder computes p(x|z). phi are the
parameters of encoder and head, and theta those of the decoder. Equations and algorithms are those of the DU-VAE paper.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus

from duvae.networks.bodies import Decoder, Encoder
from duvae.networks.made import IAFChain
from duvae.networks.precision import single, single_precision
from duvae.objectives import Context, Loss, Objective
from duvae.posteriors import DiagonalGaussian, InverseAutoregressiveFlow, PointMass, Posterior
from duvae.refinement import Amortized, Refinement
from duvae.regularizers import LARGEST_LOG_VARIANCE, CommittedRate, MeanBatchNorm, Staged, bounded


class GaussianHead(nn.Module):
    """Computes a Gaussian q(z|x) from features.

    A linear map without a bias computes the means and the log variances. The log variances are kept within
    `LARGEST_LOG_VARIANCE`. One regularizer then acts on the means, and another regularizer on the variances.

    Args:
        features: The width of a feature vector.
        latent: The number of dimensions of z.
        means: The module that regularizes the means; input and output have the shape (batch, latent).
        variances: The module that regularizes the variances; input and output have the shape (batch, latent).
    """

    def __init__(self, features: int, latent: int, means: nn.Module, variances: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent, bias=False)
        self.means, self.variances = means, variances

    def forward(self, features: Float[Tensor, "batch features"]) -> DiagonalGaussian:
        mean, log_variance = self.linear(features).chunk(2, -1)
        log_variance = bounded(log_variance, -LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)

        return DiagonalGaussian(self.means(mean), self.variances(log_variance.exp()))


class CommittedHead(nn.Module):
    """Computes a Gaussian q(z|x), whose KL from the prior is at least delta in every dimension, from features.

    The head is a linear map without a bias, followed by `CommittedRate`, which ensures the least KL.

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
    r"""Computes q(z|x) as an inverse autoregressive flow (IAF) from features: lines 4 and 5 of Algorithm S1.

    Algorithm S1 is in the paper's supplement.

    A chain of blocks turns a Gaussian $z^0$ into z. The head computes three vectors from the features by a linear map
    without a bias. The first two are as wide as z, and the third is twice as wide:

    - $\mu^0$ is the mean of $z^0$. One regularizer acts on it.
    - $\delta^0$ is the standard deviation of $z^0$: the softplus of an output of the linear map. The output is kept
      between -b/2 and e^(b/2) with b = `LARGEST_LOG_VARIANCE`, so that log variances lie within b, up to 1e-4. Another
      regularizer acts on the variance $(\delta^0)^2$.
    - h is the context: a vector that every block of the chain reads. Its width is that of the code that the authors of
      the paper released.

    Args:
        features: The width of a feature vector.
        latent: The number of dimensions of z.
        means: The module that regularizes the means; input and output have the shape (batch, latent).
        variances: The module that regularizes the variances; input and output have the shape (batch, latent).
        width: The number of hidden units per dimension of z, in each hidden layer of the chain's networks.
        blocks: The number T of blocks of the chain.
    """

    def __init__(
        self, features: int, latent: int, means: nn.Module, variances: nn.Module, width: int, blocks: int
    ) -> None:
        super().__init__()
        self.widths = (latent, latent, 2 * latent)
        self.linear = nn.Linear(features, sum(self.widths), bias=False)
        self.means, self.variances = means, variances
        self.chain = IAFChain(latent, self.widths[-1], width, blocks)

    def forward(self, features: Float[Tensor, "batch features"]) -> InverseAutoregressiveFlow:
        mean, scale, context = self.linear(features).split(self.widths, -1)
        scale = bounded(scale, -LARGEST_LOG_VARIANCE / 2, math.exp(LARGEST_LOG_VARIANCE / 2))
        variance = self.variances(softplus(scale).square())

        return InverseAutoregressiveFlow(self.means(mean), variance, context, self.chain)


class PointHead(nn.Module):
    """Computes z from features by a linear map without a bias, so that q(z|x) is a single point.

    An autoencoder has this head.

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
    """An encoder, a head and a decoder, together with a refinement of q(z|x) and an objective.

    For the same data set, the models of two systems differ only in the head, the refinement and the objective. If
    PyTorch's autocast is on, only the encoder and the decoder compute in half precision.

    Args:
        encoder: The network that computes the features of x.
        head: The module that computes q(z|x) from the features.
        decoder: The network that computes p(x|z).
        objective: The function that computes the training loss of each x.
        refinement: The map from the head's q(z|x) to the q(z|x) that the model uses; None: the model uses the head's
            q(z|x).
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
        # `after_step` rescales these modules. They are found once here, because a search after each step would cost
        # more time than the rescaling.
        self.normalizations = [part for part in head.modules() if isinstance(part, MeanBatchNorm)]

    def posterior(self, x: Tensor, weight: float | Tensor = 1.0) -> Posterior:
        """Computes q(z|x) of each x.

        Args:
            x: A batch of word ids, shape (batch, length), or of images, shape (batch, 1, height, width).
            weight: The weight of the KL term in the ELBO that a refinement maximises: a number, or a tensor of shape ()
                in compiled training.
        """
        features = self.encoder(x)
        with single_precision(x):
            posterior: Posterior = self.refinement(self.head(single(features)), x, self.decoder, weight)

        return posterior

    def loss(self, x: Tensor, weight: float | Tensor, generator: Generator | None = None) -> Loss:
        """Computes the training loss of each x with one sample of z.

        Args:
            x: A batch of word ids, shape (batch, length), or of images, shape (batch, 1, height, width).
            weight: The weight of the KL term: a number, or a tensor of shape () in compiled training.
            generator: The random generator of the sample of z and of any random numbers that the objective draws; None:
                PyTorch's global generator.

        Returns:
            The loss and its parts, each with shape (batch,).
        """
        posterior = self.posterior(x, weight)
        with single_precision(x):
            drawn = posterior.draw(generator=generator)
        reconstruction = -self.decoder.log_prob(x, drawn.z)
        with single_precision(x):
            return self.objective(Context(reconstruction, posterior, drawn, weight, generator))

    def inference_parameters(self) -> Iterator[nn.Parameter]:
        """Yields phi, the parameters of the encoder and the head."""
        yield from self.encoder.parameters()
        yield from self.head.parameters()

    def generative_parameters(self) -> Iterator[nn.Parameter]:
        """Yields theta, the parameters of the decoder."""
        yield from self.decoder.parameters()

    @property
    def waits(self) -> bool:
        """Whether the model has regularizers that have not started yet (see `Staged`)."""
        return any(not part.started for part in self.modules() if isinstance(part, Staged))

    def start(self) -> None:
        """Starts the regularizers that act only after the warm-up, in which the KL weight rises (see `Staged`)."""
        for part in self.modules():
            if isinstance(part, Staged):
                part.start()

    @torch.no_grad()
    def after_step(self) -> None:
        """Rescales the scales gamma_mu of batch normalization (equation 9). Call this method after an optimiser step.

        The rescaling is line 9 of Algorithm 1, and line 11 of the supplement's Algorithm S1.
        """
        for normalization in self.normalizations:
            normalization.rescale_()
