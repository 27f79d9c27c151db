"""The systems of the paper, on one page: each a name, its parts and its equation.

A system is a posterior, its regularizers, its refinement, an objective, a schedule and a loop. What a class does not
say it takes from the plain VAE. Data sets differ in networks and optimiser, not here.
"""

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from torch import nn

from duvae import config
from duvae.config import (
    Aggressive,
    DiversityUncertainty,
    FixedScale,
    FixedShift,
    Frozen,
    Nothing,
    Parts,
    SemiAmortized,
    WeightedKL,
)
from duvae.objectives import ELBO, Duration, FreeBits, MutualDivergence, Objective, Schedule, Warmup
from duvae.refinement import SVI, Amortized, Refinement
from duvae.regularizers import MeanBatchNorm, VarianceDropout, VarianceFloor
from duvae.training.aggressive import AggressiveLoop
from duvae.training.steps import JointLoop, Loop
from duvae.vae import CommittedHead, FlowHead, GaussianHead, PointHead

H = TypeVar("H", bound=Frozen)


class System(ABC, Generic[H]):
    """A name, parts and an equation.

    Args:
        hyperparameters: An object of the system's class of `duvae.config.HYPERPARAMETERS`.
        parts: What else its encoder is made of.
    """

    label: ClassVar[str]
    equation: ClassVar[str]
    source: ClassVar[str]

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


class AE(System[Nothing]):
    """An autoencoder: z = mu, no KL term, no sampling."""

    label = "AE"
    equation = "-log p(x|mu_x)"
    source = "Table 2 and Table 3"

    def head(self, features: int, latent: int) -> nn.Module:
        return PointHead(features, latent)


class PlainVAE(System[Nothing]):
    """The variational autoencoder with an annealed KL weight (Kingma and Welling 2013; Bowman et al. 2015)."""

    label = "VAE"
    equation = "-log p(x|z) + w KL[q(z|x) || p(z)]"
    source = "equation 1"


class BetaVAE(System[WeightedKL]):
    """A KL weight that rises to beta and stays there (Higgins et al. 2017); it is measured by the true ELBO's parts."""

    label = "beta-VAE"
    equation = "-log p(x|z) + w beta KL[q(z|x) || p(z)]"
    source = "Higgins et al. 2017"

    def schedule(self, duration: Duration) -> Schedule:
        return Warmup(duration.warmup, end=self.hyperparameters.beta)


class AggVAE(System[Aggressive]):
    """The encoder trained to convergence before each step of the decoder, while that raises MI (He et al. 2018)."""

    label = "Agg-VAE"
    equation = "phi* = argmin_phi L(theta, phi), then a step of theta on L(theta, phi*)"
    source = "He et al. 2018, Algorithm 1"

    def schedule(self, duration: Duration) -> Schedule:
        return Warmup(duration.warmup, self.hyperparameters.kl_start)

    def loop(self) -> Loop:
        h = self.hyperparameters

        return AggressiveLoop(h.window, h.max_inner, h.patience)


class SAVAE(System[SemiAmortized]):
    """The encoder's output refined by steps on the ELBO of each x, which training differentiates (Kim et al. 2018)."""

    label = "SA-VAE"
    equation = "lambda_0 = (mu, log delta^2), lambda_k+1 = lambda_k - eta grad_lambda L(x, lambda_k), q = q_lambda_K"
    source = "Kim et al. 2018, Algorithm 1"

    def refinement(self) -> Refinement:
        h = self.hyperparameters

        return SVI(h.steps, h.learning_rate, h.momentum, h.clip, h.batch)

    def schedule(self, duration: Duration) -> Schedule:
        return Warmup(duration.warmup, self.hyperparameters.kl_start)


class FB(System[config.FreeBits]):
    """Free bits: a dimension whose mean KL is under lambda pays lambda, whatever it says (Kingma et al. 2016)."""

    label = "FB"
    equation = "-log p(x|z) + w sum_d max(lambda, E_B[KL_d])"
    source = "Kingma et al. 2016, free bits with one dimension a group"

    def objective(self) -> Objective:
        return FreeBits(self.hyperparameters.free_bits)


class DeltaVAE(System[config.CommittedRate]):
    """Posteriors that keep a KL of delta from the prior in every dimension by construction (Razavi et al. 2018)."""

    label = "delta-VAE"
    equation = "sigma in [sigma_l, sigma_u], mu >= sqrt(2 delta + 1 + ln sigma^2 - sigma^2), so KL_d >= delta"
    source = "Razavi et al. 2018, with the standard normal prior"

    def head(self, features: int, latent: int) -> nn.Module:
        return CommittedHead(features, latent, self.hyperparameters.delta)


class BNVAE(System[FixedScale]):
    """Batch normalization on the means with every scale fixed at gamma (Zhu et al. 2020)."""

    label = "BN-VAE"
    equation = "mu^ = gamma (mu - mu_B) / delta_B + beta"
    source = "equation 9 with gamma_d = gamma"

    def means(self, latent: int) -> nn.Module:
        return MeanBatchNorm(latent, self.hyperparameters.gamma, learn_scale=False, epsilon=self.parts.epsilon)


class BNVAEFixedBeta(System[FixedShift]):
    """Batch normalization on the means with a fixed shift and free scales: a KL above 0, and yet a collapse."""

    label = "BN-VAE, fixed beta"
    equation = "mu^ = gamma_d (mu - mu_B) / delta_B + beta"
    source = "supplement F, Tables S1 and S2"

    def means(self, latent: int) -> nn.Module:
        h = self.hyperparameters

        return MeanBatchNorm(latent, h.gamma, constrain=False, shift=h.beta, epsilon=self.parts.epsilon)


class MAE(System[config.MutualDivergence]):
    """The ELBO with terms for the posteriors' diversity and for its smoothness (Ma et al. 2018)."""

    label = "MAE"
    equation = "-log p(x|z) + w KL + gamma sum_d -log sigmoid(MPD_d) + eta std[sum_d KL_d(x1, x2)]"
    source = "Ma et al. 2018, with the standard normal prior"

    def objective(self) -> Objective:
        return MutualDivergence(self.hyperparameters.gamma, self.hyperparameters.eta)


class DUVAE(System[DiversityUncertainty]):
    """Dropout on the variances, batch normalization on the means: the paper's Algorithm 1."""

    label = "DU-VAE"
    equation = (
        "delta^2^ = g (delta^2 - alpha) + alpha, g ~ B(1, p) / p;"
        " mu^ = gamma_d (mu - mu_B) / delta_B + beta_d, E_d[gamma_d^2] = gamma^2"
    )
    source = "Algorithm 1, equations 6 and 9"

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

    label = "IAF+FB"
    equation = "-log p(x|z^T) + w sum_d max(lambda, E_x[log q(z^T|x) - log p(z^T)]_d)"
    source = "Kingma et al. 2016; S22 to S24"


class IAFBN(IAF, BNVAE):
    """The flow with BN-VAE's batch normalization on the means of z^0."""

    label = "IAF+BN"
    equation = "mu^0^ = gamma (mu^0 - mu_B) / delta_B + beta; z^t = sigma^t z^(t-1) + (1 - sigma^t) m^t"
    source = "S22; equation 9 with gamma_d = gamma"


class DUIAF(IAF, DUVAE):
    """The flow with DU-VAE's regularizers on means and variances of z^0: the paper's Algorithm S1."""

    label = "DU-IAF"
    equation = (
        "(delta^0)^2^ = g ((delta^0)^2 - alpha) + alpha, g ~ B(1, p) / p;"
        " mu^0^ = gamma_d (mu^0 - mu_B) / delta_B + beta_d, E_d[gamma_d^2] = gamma^2;"
        " z^t = sigma^t z^(t-1) + (1 - sigma^t) m^t"
    )
    source = "Algorithm S1, S22, equations 6 and 9"


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
    """The system of this name, with its hyperparameters."""
    return SYSTEMS[name](hyperparameters, parts)
