"""The systems of the paper, such as VAE, BN-VAE and DU-VAE: one class per system, which builds the parts of the system.

The parts are:

- a head, which computes the posterior q(z|x) from the encoder's features, with regularizers of means and variances;
- a refinement, which improves the posterior of each x by gradient steps (only SA-VAE);
- an objective, which computes the training loss;
- a schedule of the KL weight;
- a training loop, which turns each batch into updates of the parameters.

A class that does not define a part has the part of the plain VAE. The networks and the optimiser belong to the data
set, not to the system. `duvae.registry` has the labels, equations, sources and hyperparameters of the systems.
docs/how-to-add-a-system.md shows how to add a system. Equations and sections without a source are those of the DU-VAE
paper, and "supplement" is its supplement.
"""

from abc import ABC
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from torch import nn

from duvae import registry
from duvae.config import Frozen, Parts
from duvae.objectives import ELBO, Duration, FreeBits, MutualDivergence, Objective, Schedule, Warmup
from duvae.refinement import SVI, Amortized, Refinement
from duvae.regularizers import MeanBatchNorm, VarianceDropout, VarianceFloor
from duvae.training.aggressive import AggressiveLoop
from duvae.training.steps import JointLoop, Loop
from duvae.vae import CommittedHead, FlowHead, GaussianHead, PointHead

H = TypeVar("H", bound=Frozen)


class System(ABC, Generic[H]):
    """A system, which builds the parts of a model and of its training.

    This base class builds the parts of the plain VAE.

    Args:
        hyperparameters: The hyperparameters: an object of the class that `duvae.registry.HYPERPARAMETERS` has for the
            system.
        parts: The choices about the encoder that are not hyperparameters: its initial weights, the lower bound of the
            variances (see `VarianceFloor`), the step at which the regularizers of variances start, and the epsilon of
            batch normalization.
    """

    def __init__(self, hyperparameters: H, parts: Parts) -> None:
        self.hyperparameters, self.parts = hyperparameters, parts

    def head(self, features: int, latent: int) -> nn.Module:
        """Builds the module that computes q(z|x) from the encoder's features, which have the shape (batch, features).

        Args:
            features: The width of a feature vector.
            latent: The number of dimensions of z.
        """
        return GaussianHead(features, latent, self.means(latent), self.variances())

    def means(self, latent: int) -> nn.Module:
        """Builds the module that regularizes the means of q(z|x), which have the shape (batch, latent)."""
        return nn.Identity()

    def variances(self) -> nn.Module:
        """Builds the module that regularizes the variances of q(z|x), which have the shape (batch, latent)."""
        if self.parts.variance_floor == "none":
            return nn.Identity()

        return VarianceFloor(started=self.parts.start == "at_once")

    def refinement(self) -> Refinement:
        """Builds the map from the head's q(z|x) to the q(z|x) that the model uses. The plain VAE keeps q(z|x)."""
        return Amortized()

    def objective(self) -> Objective:
        """Builds the function that computes the training loss of each example, in nats."""
        return ELBO()

    def schedule(self, duration: Duration) -> Schedule:
        """Builds the function that gives the KL weight of each training step.

        Args:
            duration: Numbers of steps of the training, of an epoch, and of the warm-up, in which the KL weight rises.
        """
        return Warmup(duration.warmup)

    def loop(self) -> Loop:
        """Builds the rule that turns each training batch into updates of encoder and decoder."""
        return JointLoop()


class AE(System[registry.Nothing]):
    """An autoencoder: z is the output of the head itself. It has no KL term, and z is not sampled."""

    def head(self, features: int, latent: int) -> nn.Module:
        return PointHead(features, latent)


class PlainVAE(System[registry.Annealed]):
    """The variational autoencoder with an annealed KL weight (Kingma and Welling 2013; Bowman et al. 2015)."""

    def schedule(self, duration: Duration) -> Schedule:
        return Warmup(duration.warmup, self.hyperparameters.kl_start)


class BetaVAE(System[registry.WeightedKL]):
    """A VAE whose KL weight rises to beta and stays there (Higgins et al. 2017).

    Validation and evaluation use KL weight 1.
    """

    def schedule(self, duration: Duration) -> Schedule:
        return Warmup(duration.warmup, end=self.hyperparameters.beta)


class AggVAE(System[registry.Aggressive]):
    """A VAE that trains its encoder until convergence before each step of the decoder (He et al. 2018).

    When the mutual information on the validation set no longer grows, encoder and decoder step together.
    """

    def schedule(self, duration: Duration) -> Schedule:
        return Warmup(duration.warmup, self.hyperparameters.kl_start)

    def loop(self) -> Loop:
        h = self.hyperparameters

        return AggressiveLoop(h.window, h.max_inner, h.patience)


class SAVAE(System[registry.SemiAmortized]):
    """A VAE that improves the encoder's q(z|x) by gradient steps on the ELBO of each x (Kim et al. 2018).

    In training, the gradient of the loss also flows through these steps.
    """

    def refinement(self) -> Refinement:
        h = self.hyperparameters

        return SVI(h.steps, h.learning_rate, h.momentum, h.clip, h.batch, h.decoder_clip)

    def schedule(self, duration: Duration) -> Schedule:
        return Warmup(duration.warmup, self.hyperparameters.kl_start)


class FB(System[registry.FreeBits]):
    """A VAE with free bits: the KL term of each dimension is its mean KL, but at least lambda (Kingma et al. 2016).

    The mean is over the batch, and lambda is in nats.
    """

    def objective(self) -> Objective:
        return FreeBits(self.hyperparameters.free_bits)


class DeltaVAE(System[registry.CommittedRate]):
    """A VAE whose posteriors have a KL from the prior of at least delta in every dimension (Razavi et al. 2018).

    The head has this property for all weights.
    """

    def head(self, features: int, latent: int) -> nn.Module:
        return CommittedHead(features, latent, self.hyperparameters.delta)


class BNVAE(System[registry.FixedScale]):
    """A VAE that batch-normalizes the means, with every scale of the normalization fixed at gamma (Zhu et al. 2020)."""

    def means(self, latent: int) -> nn.Module:
        return MeanBatchNorm(latent, self.hyperparameters.gamma, learn_scale=False, epsilon=self.parts.epsilon)


class BNVAEFixedBeta(System[registry.FixedShift]):
    """A BN-VAE with a fixed shift beta, and with learned scales that are not rescaled after each step (supplement F).

    The experiment of supplement F shows that the posteriors of this system collapse although the KL stays above 0.
    """

    def means(self, latent: int) -> nn.Module:
        h = self.hyperparameters

        return MeanBatchNorm(latent, h.gamma, constrain=False, shift=h.beta, epsilon=self.parts.epsilon)


class MAE(System[registry.MutualDivergence]):
    """A VAE whose loss also has a term for the diversity and a term for the smoothness of posteriors (Ma et al. 2018).

    The two terms use the KL between the posteriors of two examples of a batch. The diversity term rewards a large mean
    of this KL over all pairs of examples. The smoothness term penalises a large standard deviation of this KL over all
    pairs.
    """

    def objective(self) -> Objective:
        return MutualDivergence(self.hyperparameters.gamma, self.hyperparameters.eta)


class DUVAE(System[registry.DiversityUncertainty]):
    """The paper's system: a VAE with dropout on the variances (equation 6) and batch-normalized means (equation 9).

    Algorithm 1 of the paper describes its training.
    """

    def means(self, latent: int) -> nn.Module:
        return MeanBatchNorm(latent, self.hyperparameters.gamma, epsilon=self.parts.epsilon)

    def variances(self) -> nn.Module:
        started = self.parts.start == "at_once"

        return nn.Sequential(super().variances(), VarianceDropout(self.hyperparameters.p, started=started))


class IAF(System[Any]):
    """A VAE whose posterior is an inverse autoregressive flow (IAF), equation S22 of the paper's supplement.

    z^0 is Gaussian, and a chain of T blocks maps z^0 to z = z^T. This class is the base of the systems below.
    """

    def head(self, features: int, latent: int) -> nn.Module:
        h = self.hyperparameters

        return FlowHead(features, latent, self.means(latent), self.variances(), h.width, h.blocks)


class IAFFB(IAF, FB):
    """The VAE with a flow, and with free bits against posterior collapse (Kingma et al. 2016)."""


class IAFBN(IAF, BNVAE):
    """The VAE with a flow, and with BN-VAE's batch normalization (equation 9) on the means of z^0."""


class DUIAF(IAF, DUVAE):
    """The VAE with a flow, and with DU-VAE's regularizers on the means and variances of z^0.

    Algorithm S1 of the paper's supplement describes its training.
    """


SYSTEMS: Mapping[str, type[System[Any]]] = {
    "ae": AE,
    "vae": PlainVAE,
    "beta_vae": BetaVAE,
    "agg_vae": AggVAE,
    "sa_vae": SAVAE,
    "fb": FB,
    "delta_vae": DeltaVAE,
    "bn_vae": BNVAE,
    "bn_vae_fixed_beta": BNVAEFixedBeta,
    "mae": MAE,
    "du_vae": DUVAE,
    "iaf_fb": IAFFB,
    "iaf_bn": IAFBN,
    "du_iaf": DUIAF,
}


def system(name: str, hyperparameters: Frozen, parts: Parts) -> System[Any]:
    """Builds a system.

    Args:
        name: The name of the system, a key of `SYSTEMS`.
        hyperparameters: The hyperparameters of the system.
        parts: The choices about the encoder that are not hyperparameters (see `System`).
    """
    return SYSTEMS[name](hyperparameters, parts)
