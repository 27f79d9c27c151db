"""Describes the systems, such as VAE and DU-VAE, as data: one record and one class of hyperparameters per system.

A record (class `Record`) holds a system's name, colour and equation, and the paper's choice of its hyperparameters.
Tables, figures, pages and `duvae systems` read the records. A training reads only the class of its system's
hyperparameters. Therefore `HYPERPARAMETERS` and `RECORDS`, at the end of the file, are two separate tables. So DVC does
not run any training again if only a record changes. `RECORDS` has the order of the paper's Table 1. Every printed table
and list keeps this order. This module needs no PyTorch.

A column, such as `yelp`, is one or more data sets on which a system has the same hyperparameters. The name comes from
the columns of the paper's Table 1.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from duvae.errors import UserError
from duvae.fields import (
    Blocks,
    Coordinate,
    Count,
    Epochs,
    Frozen,
    KeepProbability,
    NotNegative,
    Positive,
    Repeats,
    Share,
    Width,
)
from duvae.messages import unknown
from duvae.records import Record, Searched

# ------------------------------------------------------------------------- hyperparameters


class Nothing(Frozen):
    """AE: no hyperparameters."""


class Annealed(Frozen):
    """VAE: the first KL weight."""

    kl_start: Annotated[Share, Field(description="KL weight at the start of the warm-up")] = 0.0


class FixedScale(Frozen):
    """BN-VAE: the fixed scale gamma of all means."""

    gamma: Annotated[
        Positive,
        Field(description="the fixed scale of every mean"),
        Searched((0.3, 0.4, 0.5, 0.6, 0.7), (0.3, 0.4, 0.5, 0.6, 0.7), (0.5, 0.7, 1.0, 1.2)),
    ]


class Aggressive(Frozen):
    """Agg-VAE: the first KL weight, and the lengths of the encoder's inner loop and of the aggressive phase."""

    kl_start: Annotated[Share, Field(description="KL weight at the start of the warm-up")] = 0.1
    window: Annotated[
        Repeats, Field(description="number of encoder steps between two checks of the loss in the inner loop")
    ] = 15
    max_inner: Annotated[Repeats, Field(description="largest number of encoder steps of one inner loop")] = 99
    patience: Annotated[
        Epochs,
        Field(
            description="number of epochs, in total, with an MI on validation below its maximum so far, after which the"
            " aggressive phase ends; the MI is that within batches"
        ),
    ] = 1


class WeightedKL(Frozen):
    """beta-VAE: the KL weight after the warm-up."""

    beta: Annotated[Positive, Field(description="KL weight after the warm-up")]


class FreeBits(Frozen):
    """FB: lambda, the part of each dimension's mean KL that costs nothing, in nats."""

    free_bits: Annotated[
        Positive,
        Field(description="lambda, the part of each dimension's mean KL that costs nothing, in nats"),
        Searched((0.1, 0.15, 0.2, 0.25, 0.3), (0.1, 0.15, 0.2, 0.25, 0.3)),
    ]


class CommittedRate(Frozen):
    """delta-VAE: the smallest KL of each dimension, in nats."""

    delta: Annotated[
        Positive,
        Field(description="lower bound of every posterior's KL in each dimension, in nats"),
        Searched((0.1, 0.15, 0.2, 0.25), (0.1, 0.15, 0.2, 0.25)),
    ]


class FixedShift(Frozen):
    """BN-VAE with fixed beta: the initial scale gamma and the fixed shift beta of all means."""

    gamma: Annotated[Positive, Field(description="the scale that every mean starts from")]
    beta: Annotated[Coordinate, Field(description="the fixed shift of every mean"), Searched((0.1, 0.3, 0.5, 0.7, 1.0))]


class MutualDivergence(Frozen):
    """MAE: the weights of two terms of the objective: gamma for the diversity, and eta for the smoothness."""

    gamma: Annotated[
        Positive, Field(description="the weight of the diversity"), Searched((0.5, 1.0, 2.0), (0.5, 1.0, 2.0))
    ]
    eta: Annotated[
        NotNegative, Field(description="the weight of the smoothness"), Searched((0.2, 0.5, 1.0), (0.2, 0.5, 1.0))
    ]


class SemiAmortized(Frozen):
    """SA-VAE: the first KL weight, and the options of the gradient steps that refine each posterior."""

    kl_start: Annotated[Share, Field(description="KL weight at the start of the warm-up")] = 0.1
    steps: Annotated[Repeats, Field(description="number of steps that refine each posterior")] = 20
    learning_rate: Annotated[Positive, Field(description="learning rate of these steps, for a mean loss")] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1, description="momentum of these steps")] = 0.5
    clip: Annotated[Positive, Field(description="largest norm of a document's gradient in a step")] = 5.0
    decoder_clip: Annotated[
        Positive,
        Field(
            description="largest norm of the contribution of a step to the gradient of the decoder's parameters, which"
            " comes from the backward pass through the step"
        ),
    ] = 5.0
    batch: Annotated[Count, Field(description="batch size that the learning rate is meant for")] = 32


class DiversityUncertainty(Frozen):
    """DU-VAE: gamma of equation 9 and the keep probability p of equation 6."""

    gamma: Annotated[
        Positive,
        Field(description="the root mean square of the means' learnt scales"),
        Searched((0.4, 0.5, 0.6, 0.7), (0.4, 0.5, 0.6, 0.7), (0.5, 0.7, 1.0, 1.2)),
    ]
    p: Annotated[
        KeepProbability,
        Field(description="the probability that a variance is kept in training"),
        Searched((1.0, 0.9, 0.8, 0.7, 0.6), (1.0, 0.9, 0.8, 0.7, 0.6), (0.1, 0.3, 0.5, 0.7)),
    ]


class Chain(Frozen):
    """IAF: the size of the chain of blocks that turns z^0, the encoder's sample, into z.

    The hyperparameters are the number of blocks, and the number of hidden units of a block's layer for each dimension
    of z.
    """

    blocks: Annotated[Blocks, Field(description="T, the number of blocks of the chain")] = 2
    width: Annotated[Width, Field(description="hidden units of a block's layer, for each dimension of z")] = 60


class FlowFreeBits(FreeBits, Chain):
    """IAF+FB: the hyperparameters of the chain, and FB's lambda."""


class FlowFixedScale(FixedScale, Chain):
    """IAF+BN: the hyperparameters of the chain, and the fixed scale gamma of the means of z^0."""

    gamma: Annotated[
        Positive,
        Field(description="the fixed scale of every mean of z^0"),
        Searched((0.3, 0.4, 0.5, 0.6, 0.7), (0.3, 0.4, 0.5, 0.6, 0.7)),
    ]


class FlowDiversityUncertainty(DiversityUncertainty, Chain):
    """DU-IAF: the hyperparameters of the chain, and DU-VAE's gamma and p for z^0."""

    gamma: Annotated[
        Positive,
        Field(description="the root mean square of the learnt scales of the means of z^0"),
        Searched((0.5, 0.6, 0.7, 0.8), (0.4, 0.5, 0.6, 0.7)),
    ]
    p: Annotated[
        KeepProbability,
        Field(description="the probability that a variance of z^0 is kept in training"),
        Searched((0.9, 0.8, 0.7), (0.9, 0.85, 0.8, 0.75)),
    ]


# ---------------------------------------------------------------------------------- records

_DU_EQUATION = (
    "{variance}^ = g ({variance} - alpha) + alpha, g ~ B(1, p) / p;"
    " {mean}^ = gamma_d ({mean} - mu_B) / delta_B + beta_d, E_d[gamma_d^2] = gamma^2"
)
"""Equations 6 and 9 of the paper, with placeholders for the variance and the mean.

The equations regularize the posterior of z in DU-VAE, and that of z^0 in DU-IAF.
"""

_FLOW_EQUATION = "z^t = sigma^t z^(t-1) + (1 - sigma^t) m^t"
"""Equation S22 of the paper's supplement: one block of the IAF chain, which turns z^(t-1) into z^t."""

AE = Record(
    label="AE",
    equation="-log p(x|mu_x)",
    source="Table 2 and Table 3",
    colour="#9a9a9a",
    likelihood=False,
    mutual_information=False,
)
VAE = Record(label="VAE", equation="-log p(x|z) + w KL[q(z|x) || p(z)]", source="equation 1", colour="#333333")
BETA_VAE = Record(
    label="β-VAE",
    equation="-log p(x|z) + w beta KL[q(z|x) || p(z)]",
    source="Higgins et al. 2017",
    colour="#d55e00",
    letters={"beta": "β"},
    chosen={"yahoo": {"beta": 0.4}, "yelp": {"beta": 0.4}, "omniglot": {"beta": 0.8}},
)
SA_VAE = Record(
    label="SA-VAE",
    equation="lambda_0 = (mu, log delta^2), lambda_k+1 = lambda_k - eta grad_lambda L(x, lambda_k), q = q_lambda_K",
    source="Kim et al. 2018, Algorithm 1",
    colour="#cc79a7",
)
AGG_VAE = Record(
    label="Agg-VAE",
    equation="phi* = argmin_phi L(theta, phi), then a step of theta on L(theta, phi*)",
    source="He et al. 2018, Algorithm 1",
    colour="#e69f00",
)
FB = Record(
    label="FB",
    equation="-log p(x|z) + w sum_d max(lambda, E_B[KL_d])",
    source="Kingma et al. 2016, free bits for each dimension",
    colour="#56b4e9",
    letters={"free_bits": "λ"},
    chosen={"yahoo": {"free_bits": 0.1}, "yelp": {"free_bits": 0.1}, "omniglot": {"free_bits": 0.1}},
)
DELTA_VAE = Record(
    label="δ-VAE",
    equation="sigma in [sigma_l, sigma_u], mu >= sqrt(2 delta + 1 + ln sigma^2 - sigma^2), so KL_d >= delta",
    source="Razavi et al. 2018, with the standard normal prior",
    colour="#8c564b",
    letters={"delta": "δ"},
    chosen={"yahoo": {"delta": 0.1}, "yelp": {"delta": 0.1}, "omniglot": {"delta": 0.1}},
)
BN_VAE = Record(
    label="BN-VAE",
    equation="mu^ = gamma (mu - mu_B) / delta_B + beta",
    source="equation 9 with gamma_d = gamma",
    colour="#009e73",
    letters={"gamma": "γ"},
    chosen={"yahoo": {"gamma": 0.6}, "yelp": {"gamma": 0.6}, "omniglot": {"gamma": 0.5}, "synthetic": {"gamma": 1.0}},
)
MAE = Record(
    label="MAE",
    equation="-log p(x|z) + w KL + gamma sum_d -log sigmoid(MPD_d) + eta std[sum_d KL_d(x1, x2)]",
    source="Ma et al. 2018, with the standard normal prior",
    colour="#7b4fa3",
    letters={"gamma": "γ", "eta": "η"},
    chosen={
        "yahoo": {"gamma": 1.0, "eta": 0.2},
        "yelp": {"gamma": 2.0, "eta": 0.2},
        "omniglot": {"gamma": 0.5, "eta": 0.2},
    },
)
DU_VAE = Record(
    label="DU-VAE",
    equation=_DU_EQUATION.format(variance="delta^2", mean="mu"),
    source="Algorithm 1, equations 6 and 9",
    colour="#0072b2",
    letters={"gamma": "γ", "p": "p"},
    chosen={
        "yahoo": {"gamma": 0.6, "p": 0.8},
        "yelp": {"gamma": 0.5, "p": 0.8},
        "omniglot": {"gamma": 0.5, "p": 0.9},
        "synthetic": {"gamma": 1.0, "p": 0.5},
    },
    needs_floor=True,
)
# Each system with a flow (an IAF chain) extends a system without a flow, and keeps the colour and letters of that one.
IAF_FB = replace(
    FB,
    label="IAF+FB",
    equation="-log p(x|z^T) + w sum_d max(lambda, E_x[log q(z^T|x) - log p(z^T)]_d)",
    source="Kingma et al. 2016; S22 to S24",
    chosen={"yahoo": {"free_bits": 0.15}, "yelp": {"free_bits": 0.25}, "omniglot": {"free_bits": 0.15}},
    mutual_information=False,
)
IAF_BN = replace(
    BN_VAE,
    label="IAF+BN",
    equation=f"mu^0^ = gamma (mu^0 - mu_B) / delta_B + beta; {_FLOW_EQUATION}",
    source="S22; equation 9 with gamma_d = gamma",
    chosen={"yahoo": {"gamma": 0.6}, "yelp": {"gamma": 0.7}, "omniglot": {"gamma": 0.5}},
    mutual_information=False,
)
DU_IAF = replace(
    DU_VAE,
    label="DU-IAF",
    equation=f"{_DU_EQUATION.format(variance='(delta^0)^2', mean='mu^0')}; {_FLOW_EQUATION}",
    source="Algorithm S1, S22, equations 6 and 9",
    chosen={
        "yahoo": {"gamma": 0.7, "p": 0.7},
        "yelp": {"gamma": 0.6, "p": 0.7},
        "omniglot": {"gamma": 0.5, "p": 0.85},
    },
    mutual_information=False,
)
BN_VAE_FIXED_BETA = Record(
    label="BN-VAE, fixed β",
    equation="mu^ = gamma_d (mu - mu_B) / delta_B + beta",
    source="supplement F, Tables S1 and S2",
    colour="#a6761d",
    letters={"gamma": "γ", "beta": "β"},
    brackets=("beta",),
)

# ----------------------------------------------------------------------------------- tables

HYPERPARAMETERS: Mapping[str, type[Frozen]] = {
    "ae": Nothing,
    "vae": Annealed,
    "beta_vae": WeightedKL,
    "sa_vae": SemiAmortized,
    "agg_vae": Aggressive,
    "fb": FreeBits,
    "delta_vae": CommittedRate,
    "bn_vae": FixedScale,
    "mae": MutualDivergence,
    "du_vae": DiversityUncertainty,
    "iaf_fb": FlowFreeBits,
    "iaf_bn": FlowFixedScale,
    "du_iaf": FlowDiversityUncertainty,
    "bn_vae_fixed_beta": FixedShift,
}
"""The class of each system's hyperparameters, by the system's name. Trainings read this table."""

RECORDS: Mapping[str, Record] = {
    "ae": AE,
    "vae": VAE,
    "beta_vae": BETA_VAE,
    "sa_vae": SA_VAE,
    "agg_vae": AGG_VAE,
    "fb": FB,
    "delta_vae": DELTA_VAE,
    "bn_vae": BN_VAE,
    "mae": MAE,
    "du_vae": DU_VAE,
    "iaf_fb": IAF_FB,
    "iaf_bn": IAF_BN,
    "du_iaf": DU_IAF,
    "bn_vae_fixed_beta": BN_VAE_FIXED_BETA,
}
"""The record of each system, by the system's name. `duvae.systems.SYSTEMS` has the same names as keys."""


def known_system(name: str) -> str:
    """Checks the name of a system.

    Args:
        name: The name that the user gave.

    Returns:
        The same name.

    Raises:
        UserError: If no system has this name; the message suggests the closest one.
    """
    if name not in RECORDS:
        raise UserError(f"{unknown('system', name, RECORDS)}. 'duvae systems' explains them.")

    return name
