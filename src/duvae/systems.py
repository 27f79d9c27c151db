"""The systems of the paper, on one page: each a name, its parts and its equation.

A system is a posterior, its regularizers, its refinement, an objective, a schedule and a loop. What a class does not
say it takes from the plain VAE. Data sets differ in networks and optimiser, not here.
"""

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from torch import nn

from duvae.config import Aggressive, DiversityUncertainty, FixedScale, Frozen, Nothing, Parts, SemiAmortized
from duvae.objectives import ELBO, Objective, Warmup
from duvae.refinement import SVI, Amortized, Refinement
from duvae.regularizers import MeanBatchNorm, VarianceDropout, VarianceFloor
from duvae.training.aggressive import AggressiveLoop
from duvae.training.steps import JointLoop, Loop
from duvae.vae import GaussianHead, PointHead

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

    def schedule(self, steps: int) -> Warmup:
        return Warmup(steps)

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


class AggVAE(System[Aggressive]):
    """The encoder trained to convergence before each step of the decoder, while that raises MI (He et al. 2018)."""

    label = "Agg-VAE"
    equation = "phi* = argmin_phi L(theta, phi), then a step of theta on L(theta, phi*)"
    source = "He et al. 2018, Algorithm 1"

    def schedule(self, steps: int) -> Warmup:
        return Warmup(steps, self.hyperparameters.kl_start)

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

    def schedule(self, steps: int) -> Warmup:
        return Warmup(steps, self.hyperparameters.kl_start)


class BNVAE(System[FixedScale]):
    """Batch normalization on the means with every scale fixed at gamma (Zhu et al. 2020)."""

    label = "BN-VAE"
    equation = "mu^ = gamma (mu - mu_B) / delta_B + beta"
    source = "equation 9 with gamma_d = gamma"

    def means(self, latent: int) -> nn.Module:
        return MeanBatchNorm(latent, self.hyperparameters.gamma, learn_scale=False, epsilon=self.parts.epsilon)


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


SYSTEMS: Mapping[str, type[System[Any]]] = {
    "ae": AE,
    "vae": PlainVAE,
    "agg_vae": AggVAE,
    "sa_vae": SAVAE,
    "bn_vae": BNVAE,
    "du_vae": DUVAE,
}


def system(name: str, hyperparameters: Frozen, parts: Parts) -> System[Any]:
    """The system of this name, with its hyperparameters."""
    return SYSTEMS[name](hyperparameters, parts)
