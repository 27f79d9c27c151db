"""Data sets: networks, optimisation, probes, and the comparison with the paper."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from duvae.config.sources import ImageSource, OmniglotSource, SyntheticSource, TextSource, Truth
from duvae.fields import Count, Frozen, Name, Positive, Seed, Share, doc
from duvae.messages import refusal, unknown

APART = ("text", "images")
"""Kinds of data sets that may hold texts or pictures of the user's own; git keeps none of their examples."""


class Binarize(Frozen):
    """Of the bits of validation and test, which are drawn once; training's are drawn each time an image is used."""

    seed: Annotated[
        Seed,
        doc(
            "Seed of the bits of validation and test images, which are drawn once. The bits of training "
            "images are drawn anew each time an image is used.",
            "ours",
        ),
    ]


class Expect(Frozen):
    """The bounds that a prepared data set is checked against. `documents`: of a split, exactly so many."""

    max_unknown_rate: Annotated[Share, doc("Share of a split's words that may be unknown.", "ours")]
    max_shared_rate: Annotated[Share, doc("Share of the test documents that may also stand in training.", "ours")]
    documents: Annotated[
        dict[Name, Count], doc("Exact number of documents, by the name of a split.", "paper, S-E")
    ] = {}


class ImageExpect(Frozen):
    """The bounds that a prepared image data set is checked against: shares of a split, and of an image's pixels."""

    max_shared_rate: Annotated[Share, doc("Share of a split's images that may also stand in another split.", "ours")]
    min_ink: Annotated[Share, doc("Share of a split's pixels that is ink, at least.", "ours")]
    max_ink: Annotated[Share, doc("Share of a split's pixels that is ink, at most.", "ours")]


class TextNetworks(Frozen):
    """One LSTM as encoder, one as decoder."""

    embedding: Annotated[Count, doc("Size of a word's embedding, in numbers.", "release; paper, S-E")]
    hidden: Annotated[Count, doc("Hidden units of the encoder's LSTM and of the decoder's.", "release; paper, S-E")]
    latent: Annotated[Count, doc("Dimensions of z.", "paper, 4.1; S-E")]
    dropout_in: Annotated[
        float, Field(ge=0, lt=1), doc("Dropout probability of the decoder's word embeddings.", "paper, S-E")
    ]
    dropout_out: Annotated[
        float,
        Field(ge=0, lt=1),
        doc("Dropout probability of the decoder's outputs before the softmax.", "paper, S-E"),
    ]


class ImageNetworks(Frozen):
    """A ResNet as encoder, a PixelCNN as decoder, for images of `size` pixels a side.

    `channels`: of the encoder's blocks, each of stride 2; `features`: what they end in; `kernels`: sides of the
    decoder's masked convolutions, one after another, of `width` channels; `feature_maps`: of the image's size that z
    is mapped to.
    """

    size: Annotated[Count, doc("Side of the images in pixels; the same as `source.size`.", "release")]
    channels: Annotated[
        list[Count],
        Field(min_length=1),
        doc("Channels of the encoder's blocks, each of stride 2.", "paper, 4.1; release"),
    ]
    features: Annotated[
        Count, doc("Number of features that the encoder's last block gives, before q(z given x).", "release")
    ]
    kernels: Annotated[
        list[Literal[1, 3, 5, 7, 9, 11]],
        Field(min_length=1),
        doc(
            "Sides in pixels of the decoder's masked convolutions, one after another.", "paper, 4.1: 13 layers; release"
        ),
    ]
    width: Annotated[int, Field(ge=2, multiple_of=2), doc("Channels of the decoder's masked convolutions.", "release")]
    feature_maps: Annotated[
        Count, doc("Channels of the image's size that z is mapped to, as additional input of the decoder.", "release")
    ]
    latent: Annotated[Count, doc("Dimensions of z.", "paper, 4.1")]

    @model_validator(mode="after")
    def sees_something(self) -> Self:
        if self.kernels[0] == 1:
            why = "expected 3 or more first, since the first layer does not see the pixel itself; found 1"
            raise refusal("kernels", why)

        return self


Networks = TextNetworks | ImageNetworks


class Decay(Frozen):
    """After `patience` epochs without a better validation loss: the rate times `factor`, best weights again.

    `reset`: the optimisers begin anew, their moments thrown away, as released.
    """

    factor: Annotated[
        float,
        Field(gt=0, lt=1),
        doc("Factor of the learning rate at a decay; the best weights so far are restored.", "paper, S-E"),
    ]
    reset: Annotated[
        bool, doc("Whether each decay starts new optimisers, without the moments of the old ones.", "release")
    ] = True
    patience: Annotated[Count, doc("Epochs without a better validation loss before a decay.", "paper, S-E; release")]
    not_before: Annotated[int, Field(ge=0), doc("First epoch that can end with a decay.", "release")]
    at_most: Annotated[Count, doc("Number of the decay at which training ends.", "paper, S-E")]


class Optimisation(Frozen):
    """The paper's optimisation, supplement E.

    `bfloat16`: compute what may be in half precision; `compiled`: compile encoder and decoder, for a GPU.
    """

    optimiser: Annotated[
        Literal["sgd", "adam"],
        doc("Optimiser, one for the encoder and one for the decoder; `sgd` has no momentum.", "paper, 4.1; release"),
    ]
    learning_rate: Annotated[Positive, doc("Learning rate at the start.", "paper, S-E")]
    clip: Annotated[Positive, doc("Bound of the norm of all gradients together.", "release")]
    batch: Annotated[int, Field(ge=2), doc("Size of a batch, in sentences of one length or in images.", "release")]
    epochs: Annotated[Count, doc("Number of epochs at most.", "paper, S-E; release")]
    warmup: Annotated[
        int,
        Field(ge=0),
        doc("Epochs over which the KL weight rises to its end, a step each batch.", "paper, 4.1; release"),
    ]
    decay: Annotated[Decay, doc("Decay of the learning rate.", "paper, S-E")]
    bfloat16: Annotated[
        bool,
        doc(
            "Whether training computes in half precision where that is safe (autocast); weights, sums and the "
            "loss stay in single precision.",
            "ours",
        ),
    ] = False
    compiled: Annotated[
        bool,
        doc(
            "Whether training compiles encoder and decoder, once for each shape of batches; it pays on a GPU "
            "over many epochs.",
            "ours",
        ),
    ] = False

    def changed(self, changes: Mapping[str, Any]) -> "Optimisation":
        """This optimisation with other values for some keys.

        Args:
            changes: The values by key, as params.yaml has them; `decay` may give some of its keys alone.

        Raises:
            ValidationError: Where a key is unknown or a value is not allowed.
        """
        given = self.model_dump()
        decay = changes.get("decay")
        merged = {"decay": {**given["decay"], **decay}} if isinstance(decay, dict) else {}

        return Optimisation.model_validate({**given, **changes, **merged})


class DatasetProbe(Frozen):
    """What the linear probe learns from.

    `labels` drawn from training, `subsets` as shipped, or, for each alphabet on its own, so many images
    `per_character` of those that train or validate.
    """

    labels: Annotated[
        list[Count], doc("Sizes of labelled subsets to draw from the training examples.", "paper, Table 2")
    ] = []
    subsets: Annotated[list[Name], doc("Names of labelled subsets in `source.subsets`.", "paper, Table 2")] = []
    per_character: Annotated[
        list[Count],
        doc(
            "Numbers of images of each character, out of those that train or validate, for a probe of each "
            "alphabet; the accuracy is the mean over alphabets.",
            "paper, Table 3",
        ),
    ] = []

    @model_validator(mode="after")
    def one_way(self) -> Self:
        if self.per_character and (self.labels or self.subsets):
            why = "expected it without labels and subsets, or those without it; found both"
            raise refusal("per_character", why)

        return self

    @property
    def enabled(self) -> bool:
        """Whether there is anything to probe."""
        return bool(self.labels or self.subsets or self.per_character)


PaperTable = Literal["table1", "table2", "table3", "tableS1", "tableS2"]


class Paper(Frozen):
    """Which of the paper's tables a data set's results are shown beside.

    `departs`: in what the experiment is another than the paper's, a sentence each; empty where it is the same.
    """

    tables: Annotated[
        list[PaperTable],
        Field(min_length=1),
        doc(
            "Tables of the paper that the report shows the results beside; Tables 1 and S1 compare the data "
            "set's `column`.",
            "paper",
        ),
    ]
    departs: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        doc(
            "Differences between this experiment and the paper's, a sentence each; the report shows them "
            "above each of the tables.",
            "ours",
        ),
    ] = []


class _Dataset(Frozen):
    """What all have. `nll_examples`: of so many test examples, drawn by `evaluation.seed`, the NLL; nothing: of all."""

    column: Annotated[Name, doc("Column of the settings' hyperparameters for this data set.", "paper, Table 1")]
    nll_examples: Annotated[
        Count | None,
        doc(
            "Number of test examples, drawn by `evaluation.seed`, that the importance-weighted NLL is "
            "estimated on; null: all. `metrics.json` holds the number, and `nll_stderr` is over these "
            "examples.",
            "paper: all",
        ),
    ]
    optimisation: Annotated[Optimisation, doc("Optimisation of every training on this data set.", "paper, S-E")]
    probe: Annotated[DatasetProbe, doc("Labelled subsets that the probes train on; `{}`: no probe.", "paper")]
    paper: Annotated[
        Paper | None,
        doc("Comparison with the paper's tables; without this key the report compares with none.", "paper"),
    ] = None


class _Text(_Dataset):
    expect: Annotated[Expect, doc("Bounds that the prepared data are checked against.", "ours")]
    networks: Annotated[TextNetworks, doc("One LSTM as encoder, one as decoder.", "paper, 4.1")]

    @model_validator(mode="after")
    def no_characters(self) -> Self:
        if self.probe.per_character:
            why = "expected only for images, whose characters have alphabets"
            raise refusal("probe.per_character", why)

        return self


class SyntheticDataset(_Text):
    """The paper's synthetic text."""

    kind: Annotated[Literal["synthetic"], doc("`synthetic`: sentences that a generator draws.")]
    source: Annotated[
        SyntheticSource,
        doc("Generator: a mixture of Gaussians over z, and an LSTM that writes sentences from z.", "paper, S-E"),
    ]
    truth: Annotated[Truth, doc("Quadrature of the generator's own likelihood.", "ours")]


class TextDataset(_Text):
    """Documents from files."""

    kind: Annotated[Literal["text"], doc("`text`: documents from files.")]
    source: Annotated[TextSource, doc("Files of the documents.", "paper, 4.2")]

    @model_validator(mode="after")
    def subsets_exist(self) -> Self:
        for name in self.probe.subsets:
            if name not in self.source.subsets:
                why = unknown("subset", name, self.source.subsets)
                raise refusal("probe.subsets", why)

        return self


class _Images(_Dataset):
    source: Annotated[OmniglotSource | ImageSource, doc("Files of the images.")]
    binarize: Annotated[Binarize, doc("Bits that are drawn from grey values.", "ours")]
    expect: Annotated[ImageExpect, doc("Bounds that the prepared data are checked against.", "ours")]
    networks: Annotated[ImageNetworks, doc("A ResNet as encoder, a PixelCNN as decoder.", "paper, 4.1")]

    @model_validator(mode="after")
    def one_size(self) -> Self:
        if self.networks.size != self.source.size:
            why = f"expected {self.source.size}, the images' source.size; found {self.networks.size}"
            raise refusal("networks.size", why)

        return self

    @model_validator(mode="after")
    def no_subsets(self) -> Self:
        if self.probe.subsets:
            why = "expected only for texts, which may come with labelled subsets"
            raise refusal("probe.subsets", why)

        return self


class OmniglotDataset(_Images):
    """Drawings of characters."""

    kind: Annotated[Literal["omniglot"], doc("`omniglot`: drawings of characters of 50 alphabets.")]
    source: Annotated[OmniglotSource, doc("Drawings of Lake et al. or of Burda et al.", "paper, 4.1")]


class ImageDataset(_Images):
    """Images of one's own."""

    kind: Annotated[Literal["images"], doc("`images`: images of your own.")]
    source: Annotated[ImageSource, doc("Files of the images.")]


AnyDataset = SyntheticDataset | TextDataset | OmniglotDataset | ImageDataset
Dataset = Annotated[AnyDataset, Field(discriminator="kind")]
