"""The systems of the paper, on one page: the parts of each.

A system is a posterior, its regularizers, its refinement, an objective, a schedule and a loop. A class takes what it
does not define from the plain VAE. Networks and optimiser belong to the data sets. `duvae.registry` has the systems'
names, equations, sources and hyperparameters; docs/how-to-add-a-system.md adds one.
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
    """The parts that a model of the system is built from, and that train it.

    Args:
        hyperparameters: The system's hyperparameters, an object of its class in `duvae.registry.HYPERPARAMETERS`.
        parts: The choices about the encoder that any system has: first weights, floor, start, epsilon.
    """

    def __init__(self, hyperparameters: H, parts: Parts) -> None:
        self.hyperparameters, self.parts = hyperparameters, parts

    def head(self, features: int, latent: int) -> nn.Module:
        return GaussianHead(features, latent, self.means(latent), self.variances())

    def means(self, latent: int) -> nn.Module:
        return nn.Identity()

    def variances(self) -> nn.Module:
        if self.parts.variance_floor == "none":
            return nn.Identity()

        return VarianceFloor(started=self.parts.start == "at_once")

    def refinement(self) -> Refinement:
        return Amortized()

    def objective(self) -> Objective:
        return ELBO()

    def schedule(self, duration: Duration) -> Schedule:
        return Warmup(duration.warmup)

    def loop(self) -> Loop:
        return JointLoop()


class AE(System[registry.Nothing]):
    """An autoencoder: z = mu, no KL term, no sampling."""

    def head(self, features: int, latent: int) -> nn.Module:
        return PointHead(features, latent)


class PlainVAE(System[registry.Nothing]):
    """The variational autoencoder with an annealed KL weight (Kingma and Welling 2013; Bowman et al. 2015)."""


class BetaVAE(System[registry.WeightedKL]):
    """A KL weight that rises to beta and stays there (Higgins et al. 2017); it is measured by the true ELBO's parts."""

    def schedule(self, duration: Duration) -> Schedule:
        return Warmup(duration.warmup, end=self.hyperparameters.beta)


class AggVAE(System[registry.Aggressive]):
    """The encoder trained to convergence before each step of the decoder, while that raises MI (He et al. 2018)."""

    def schedule(self, duration: Duration) -> Schedule:
        return Warmup(duration.warmup, self.hyperparameters.kl_start)

    def loop(self) -> Loop:
        h = self.hyperparameters

        return AggressiveLoop(h.window, h.max_inner, h.patience)


class SAVAE(System[registry.SemiAmortized]):
    """The encoder's output refined by steps on the ELBO of each x, which training differentiates (Kim et al. 2018)."""

    def refinement(self) -> Refinement:
        h = self.hyperparameters

        return SVI(h.steps, h.learning_rate, h.momentum, h.clip, h.batch)

    def schedule(self, duration: Duration) -> Schedule:
        return Warmup(duration.warmup, self.hyperparameters.kl_start)


class FB(System[registry.FreeBits]):
    """Free bits: a dimension whose mean KL is under lambda pays lambda, whatever it says (Kingma et al. 2016)."""

    def objective(self) -> Objective:
        return FreeBits(self.hyperparameters.free_bits)


class DeltaVAE(System[registry.CommittedRate]):
    """Posteriors that keep a KL of delta from the prior in every dimension by construction (Razavi et al. 2018)."""

    def head(self, features: int, latent: int) -> nn.Module:
        return CommittedHead(features, latent, self.hyperparameters.delta)


class BNVAE(System[registry.FixedScale]):
    """Batch normalization on the means with every scale fixed at gamma (Zhu et al. 2020)."""

    def means(self, latent: int) -> nn.Module:
        return MeanBatchNorm(latent, self.hyperparameters.gamma, learn_scale=False, epsilon=self.parts.epsilon)


class BNVAEFixedBeta(System[registry.FixedShift]):
    """Batch normalization on the means with a fixed shift and free scales: a KL above 0, and yet a collapse."""

    def means(self, latent: int) -> nn.Module:
        h = self.hyperparameters

        return MeanBatchNorm(latent, h.gamma, constrain=False, shift=h.beta, epsilon=self.parts.epsilon)


class MAE(System[registry.MutualDivergence]):
    """The ELBO with terms for the posteriors' diversity and for its smoothness (Ma et al. 2018)."""

    def objective(self) -> Objective:
        return MutualDivergence(self.hyperparameters.gamma, self.hyperparameters.eta)


class DUVAE(System[registry.DiversityUncertainty]):
    """Dropout on the variances, batch normalization on the means: the paper's Algorithm 1."""

    def means(self, latent: int) -> nn.Module:
        return MeanBatchNorm(latent, self.hyperparameters.gamma, epsilon=self.parts.epsilon)

    def variances(self) -> nn.Module:
        started = self.parts.start == "at_once"

        return nn.Sequential(super().variances(), VarianceDropout(self.hyperparameters.p, started=started))


class IAF(System[Any]):
    """An inverse autoregressive flow as posterior: z^0 is Gaussian, z = z^T is what its chain makes of it."""

    def head(self, features: int, latent: int) -> nn.Module:
        h = self.hyperparameters

        return FlowHead(features, latent, self.means(latent), self.variances(), h.width, h.blocks)


class IAFFB(IAF, FB):
    """The flow with free bits against the collapse (Kingma et al. 2016)."""


class IAFBN(IAF, BNVAE):
    """The flow with BN-VAE's batch normalization on the means of z^0."""


class DUIAF(IAF, DUVAE):
    """The flow with DU-VAE's regularizers on means and variances of z^0: the paper's Algorithm S1."""


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
    """The system of a name, with its hyperparameters and parts."""
    return SYSTEMS[name](hyperparameters, parts)
