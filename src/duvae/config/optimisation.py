"""Parameters of the optimisation of a training."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from duvae.fields import Epochs, Frozen, OpenShare, Positive, SomeEpochs, TwoOrMore, doc


class Precision(Frozen):
    """Precision of products and convolutions of float32 numbers on a GPU. A CPU always computes in `ieee`."""

    training: Annotated[
        Literal["tf32", "ieee"],
        doc(
            "Precision in training. `tf32` rounds the factors of a product to 11 bits, and is several times as fast."
            " `ieee` uses all 24 bits. It changes no result of a CPU.",
            "ours",
        ),
    ] = "tf32"
    evaluation: Annotated[
        Literal["tf32", "ieee"],
        doc("The same in every measurement of a model, also on the validation set after each epoch.", "ours"),
    ] = "ieee"


class PatientDecay(Frozen):
    """Rule that decays the learning rate after `patience` epochs without a better validation loss.

    A decay multiplies the learning rate by `factor`, and restores the weights with the best validation loss so far. The
    patience counts epochs against the best validation loss since the last decay.
    """

    kind: Annotated[
        Literal["after_patience"],
        doc(
            "Rule of the decay. `after_patience`: a decay after some epochs without a better validation loss, which"
            " also restores the best weights so far.",
            "paper, S-E",
        ),
    ]
    factor: Annotated[OpenShare, doc("Factor by which a decay multiplies the learning rate.", "paper, S-E")]
    reset: Annotated[
        bool,
        doc(
            "For `after_patience`: whether each decay starts new optimisers, without the moments of the old ones.",
            "release",
        ),
    ] = True
    patience: Annotated[
        Epochs,
        doc(
            "For `after_patience`: number of epochs in a row before a decay whose validation loss is not better than"
            " the best one since the decay before. Each decay sets this best one to the loss of its own epoch.",
            "paper, S-E; release",
        ),
    ]
    not_before: Annotated[
        SomeEpochs,
        doc("First epoch, counted from 1, that can end with a decay.", "release: the 16th epoch for texts"),
    ]
    at_most: Annotated[
        Epochs,
        doc(
            "For `after_patience`: number of decays that end training. With 5, training ends when the fifth decay is"
            " due.",
            "paper, S-E",
        ),
    ]


class EveryEpochDecay(Frozen):
    """Rule of Kim et al. (2018): once begun, the learning rate decays after every epoch, and no weights are restored.

    The decays begin with the first epoch, from `not_before` on, whose validation loss is not the best so far. Training
    ends when a decay takes the learning rate below `below`.
    """

    kind: Annotated[
        Literal["every_epoch"],
        doc(
            "`every_epoch`: from the first epoch without a best validation loss on, a decay after every epoch, without"
            " restoring weights.",
            "Kim et al. 2018, code",
        ),
    ]
    factor: Annotated[OpenShare, doc("Factor by which a decay multiplies the learning rate.", "paper, S-E")]
    not_before: Annotated[
        SomeEpochs,
        doc("First epoch, counted from 1, that can end with a decay.", "release: the 16th epoch for texts"),
    ]
    below: Annotated[
        Positive,
        doc(
            "For `every_epoch`: training ends when a decay makes the learning rate smaller than this.",
            "Kim et al. 2018, code",
        ),
    ]


def _with_kind(values: Any) -> Any:
    """Adds the kind `after_patience` to a decay that names no kind, as in a params.yaml of an earlier version."""
    return {"kind": "after_patience", **values} if isinstance(values, dict) and "kind" not in values else values


Decay = Annotated[PatientDecay | EveryEpochDecay, Field(discriminator="kind"), BeforeValidator(_with_kind)]


class Optimisation(Frozen):
    """Parameters of the optimisation: optimiser, learning rate, batches and epochs, as in supplement E of the paper."""

    optimiser: Annotated[
        Literal["sgd", "adam"],
        doc(
            "Kind of optimiser. Encoder and decoder have one optimiser each. `sgd` has no momentum.",
            "paper, 4.1; release",
        ),
    ]
    learning_rate: Annotated[Positive, doc("Learning rate at the start.", "paper, S-E")]
    clip: Annotated[
        Positive,
        doc(
            "Largest allowed norm of the gradient of all parameters. A larger gradient is scaled down to this norm.",
            "release",
        ),
    ]
    batch: Annotated[
        TwoOrMore,
        doc(
            "Number of images or sentences in a batch. All sentences of a batch have the same length.",
            "release",
        ),
    ]
    epochs: Annotated[Epochs, doc("Largest number of epochs.", "paper, S-E; release")]
    warmup: Annotated[
        SomeEpochs,
        doc(
            "Number of epochs of the warm-up. During the warm-up, the KL weight rises linearly to its final "
            "value, batch by batch.",
            "paper, 4.1; release",
        ),
    ]
    decay: Annotated[Decay, doc("Decay of the learning rate.", "paper, S-E")]
    bfloat16: Annotated[
        bool,
        doc(
            "Whether encoder and decoder compute in bfloat16 in training (PyTorch's autocast). Weights, z, the KL, the "
            "softmax over the words and the loss stay in single precision.",
            "ours",
        ),
    ] = False
    compiled: Annotated[
        bool,
        doc(
            "Whether PyTorch compiles the training step to machine code. On a CPU it does so for the 8 most frequent "
            "shapes of batches. This needs a C++ compiler, and takes about a minute per shape. It changes the last "
            "bits of all results.",
            "ours",
        ),
    ] = False

    def changed(self, changes: Mapping[str, Any]) -> "Optimisation":
        """Returns a copy of these parameters, with new values for some keys.

        Args:
            changes: New values by key, as in params.yaml. If `changes` has the key `decay`, its mapping may hold only
                some of the keys of the rule. If it names another kind of rule, it must hold all keys of that rule.

        Raises:
            ValidationError: If a key is unknown or a value is not allowed.
        """
        values = self.model_dump()
        decay = changes.get("decay")
        merged = {}
        if isinstance(decay, dict) and decay.get("kind", self.decay.kind) == self.decay.kind:
            merged = {"decay": {**values["decay"], **decay}}

        return Optimisation.model_validate({**values, **changes, **merged})
