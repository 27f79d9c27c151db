"""Hyperparameters: one class for each system."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from pydantic.fields import FieldInfo

from duvae.config.base import Count, Frozen, KeepProbability, NotNegative, Positive, Share
from duvae.errors import UserError
from duvae.mistakes import unknown


@dataclass(frozen=True)
class Searched:
    """The values of a hyperparameter that the paper chose from, supplement E; none where it names none.

    Attributes:
        text: On Yahoo and Yelp.
        images: On OMNIGLOT.
        synthetic: On the synthetic data.
    """

    text: tuple[float, ...] = ()
    images: tuple[float, ...] = ()
    synthetic: tuple[float, ...] = ()

    def on(self, column: str) -> tuple[float, ...]:
        """The values for a column of data sets; none for a column that is not the paper's."""
        columns = {"synthetic": self.synthetic, "yahoo": self.text, "yelp": self.text, "omniglot": self.images}

        return columns.get(column, ())


def searched(field: FieldInfo) -> Searched:
    """What the paper chose a hyperparameter's value from."""
    return next((entry for entry in field.metadata if isinstance(entry, Searched)), Searched())


class Nothing(Frozen):
    """AE and VAE have nothing to choose."""


class FixedScale(Frozen):
    """BN-VAE: the scale gamma of every mean, fixed."""

    gamma: Annotated[
        Positive,
        Field(description="the scale of every mean, fixed"),
        Searched((0.3, 0.4, 0.5, 0.6, 0.7), (0.3, 0.4, 0.5, 0.6, 0.7), (0.5, 0.7, 1.0, 1.2)),
    ]


class Aggressive(Frozen):
    """Agg-VAE: how the encoder's inner loop starts, is compared and ends."""

    kl_start: Annotated[Share, Field(description="KL weight at the start of the warm-up")] = 0.1
    window: Annotated[Count, Field(description="encoder steps between two looks at the loss in the inner loop")] = 15
    max_inner: Annotated[Count, Field(description="encoder steps of one inner loop, at most")] = 99
    patience: Annotated[
        Count,
        Field(description="epochs without more mutual information on validation that end the aggressive phase"),
    ] = 1


class WeightedKL(Frozen):
    """beta-VAE: what the KL weight rises to."""

    beta: Annotated[Positive, Field(description="KL weight after the warm-up")]


class FreeBits(Frozen):
    """FB: lambda, the nats of each dimension's mean KL that cost nothing."""

    free_bits: Annotated[
        Positive,
        Field(description="lambda, the part of each dimension's mean KL that costs nothing, in nats"),
        Searched((0.1, 0.15, 0.2, 0.25, 0.3), (0.1, 0.15, 0.2, 0.25, 0.3)),
    ]


class CommittedRate(Frozen):
    """delta-VAE: the KL of each dimension in nats that no posterior goes under."""

    delta: Annotated[
        Positive,
        Field(description="smallest KL of every posterior in each dimension, in nats"),
        Searched((0.1, 0.15, 0.2, 0.25), (0.1, 0.15, 0.2, 0.25)),
    ]


class FixedShift(Frozen):
    """Supplement F: the scale gamma that every mean starts from, and the shift beta of all, fixed."""

    gamma: Annotated[Positive, Field(description="the scale that every mean starts from")]
    beta: Annotated[float, Field(description="the shift of every mean, fixed"), Searched((0.1, 0.3, 0.5, 0.7, 1.0))]


class MutualDivergence(Frozen):
    """MAE: gamma, the weight of the diversity, and eta, that of the smoothness."""

    gamma: Annotated[
        Positive, Field(description="the weight of the diversity"), Searched((0.5, 1.0, 2.0), (0.5, 1.0, 2.0))
    ]
    eta: Annotated[
        NotNegative, Field(description="the weight of the smoothness"), Searched((0.2, 0.5, 1.0), (0.2, 0.5, 1.0))
    ]


class SemiAmortized(Frozen):
    """SA-VAE: where the KL weight starts, and the steps that refine each posterior."""

    kl_start: Annotated[Share, Field(description="KL weight at the start of the warm-up")] = 0.1
    steps: Annotated[Count, Field(description="number of steps that refine each posterior")] = 20
    learning_rate: Annotated[Positive, Field(description="learning rate of these steps, for a mean loss")] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1, description="momentum of these steps")] = 0.5
    clip: Annotated[
        Positive,
        Field(description="largest norm of a document's gradient in a step"),
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
    """IAF: the blocks of the chain, and the hidden units of a layer of their MADEs for each dimension of z."""

    blocks: Annotated[Count, Field(description="T, the number of blocks of the chain")] = 2
    width: Annotated[Count, Field(description="hidden units of a block's layer, for each dimension of z")] = 60


class FlowFreeBits(FreeBits, Chain):
    """IAF+FB: a chain, and FB's lambda."""


class FlowFixedScale(FixedScale, Chain):
    """IAF+BN: a chain, and the fixed scale gamma of the means of z^0."""

    gamma: Annotated[
        Positive,
        Field(description="the scale of every mean of z^0, fixed"),
        Searched((0.3, 0.4, 0.5, 0.6, 0.7), (0.3, 0.4, 0.5, 0.6, 0.7)),
    ]


class FlowDiversityUncertainty(DiversityUncertainty, Chain):
    """DU-IAF: a chain, and DU-VAE's gamma and p for z^0."""

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


HYPERPARAMETERS: Mapping[str, type[Frozen]] = {
    "ae": Nothing,
    "vae": Nothing,
    "beta_vae": WeightedKL,
    "agg_vae": Aggressive,
    "sa_vae": SemiAmortized,
    "fb": FreeBits,
    "delta_vae": CommittedRate,
    "bn_vae": FixedScale,
    "bn_vae_fixed_beta": FixedShift,
    "mae": MutualDivergence,
    "du_vae": DiversityUncertainty,
    "iaf_fb": FlowFreeBits,
    "iaf_bn": FlowFixedScale,
    "du_iaf": FlowDiversityUncertainty,
}
"""What each system may be given; `duvae.systems.SYSTEMS` has the same keys."""


def known_system(name: str) -> str:
    """The name, once it is that of a system.

    Raises:
        UserError: With the closest one, where it is not.
    """
    if name not in HYPERPARAMETERS:
        raise UserError(f"{unknown('system', name, HYPERPARAMETERS)}. 'duvae systems' explains them.")

    return name
