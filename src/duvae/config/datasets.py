"""Parameters of data sets: networks, optimisation, probes and the comparison with the paper."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from duvae.config.optimisation import Optimisation
from duvae.config.sources import ImageSource, OmniglotSource, SyntheticSource, TextSource, Truth
from duvae.fields import (
    Count,
    Frozen,
    Name,
    Seed,
    Share,
    Side,
    Width,
    doc,
)
from duvae.messages import refusal, unknown

APART = ("text", "images")
"""Kinds of data sets that may hold private texts or pictures. Git keeps no examples of these data sets."""


def is_own(dataset: "AnyDataset") -> bool:
    """Whether a data set is the user's own, about which the paper says nothing."""
    return dataset.kind in APART and dataset.paper is None


class Binarize(Frozen):
    """Parameters of the bits (pixels of 0 or 1) that are drawn from the grey validation and test images.

    These bits are drawn once. For training images, the training draws new bits each time it uses an image.
    """

    seed: Annotated[
        Seed,
        doc(
            "Seed of the bits of validation and test images, which are drawn once. The bits of training "
            "images are drawn anew each time an image is used.",
            "ours",
        ),
    ]


class Expect(Frozen):
    """Bounds that a prepared data set of texts must meet. The command `duvae validate` checks them."""

    max_unknown_rate: Annotated[Share, doc("Largest allowed share of unknown words in a split.", "ours")]
    max_shared_rate: Annotated[
        Share, doc("Largest allowed share of test documents that also occur in the training split.", "ours")
    ]
    documents: Annotated[
        dict[Name, Count], doc("Number of documents that a split must have, by the name of the split.", "paper, S-E")
    ] = {}


class ImageExpect(Frozen):
    """Bounds that a prepared data set of images must meet. The command `duvae validate` checks them."""

    max_shared_rate: Annotated[
        Share, doc("Largest allowed share of a split's images that also occur in another split.", "ours")
    ]
    min_ink: Annotated[Share, doc("Smallest allowed share of ink, as the mean over all pixels of a split.", "ours")]
    max_ink: Annotated[Share, doc("Largest allowed share of ink, as the mean over all pixels of a split.", "ours")]


class TextNetworks(Frozen):
    """Sizes of the LSTM encoder and of the LSTM decoder for texts."""

    embedding: Annotated[Width, doc("Number of dimensions of a word embedding.", "release; paper, S-E")]
    hidden: Annotated[
        Width,
        doc("Number of hidden units in each of the two LSTMs, the encoder's and the decoder's.", "release; paper, S-E"),
    ]
    latent: Annotated[Width, doc("Number of dimensions of z.", "paper, 4.1; S-E")]
    dropout_in: Annotated[
        float, Field(ge=0, lt=1), doc("Dropout probability of the decoder's word embeddings.", "paper, S-E")
    ]
    dropout_out: Annotated[
        float,
        Field(ge=0, lt=1),
        doc("Dropout probability of the decoder's outputs before the softmax.", "paper, S-E"),
    ]


class ImageNetworks(Frozen):
    """Sizes of the ResNet encoder and of the PixelCNN decoder for images."""

    size: Annotated[Side, doc("Side of the images in pixels; it must equal `source.size`.", "release")]
    channels: Annotated[
        list[Width],
        Field(min_length=1, max_length=10),
        doc("Number of output channels of each encoder block. Each block has stride 2.", "paper, 4.1; release"),
    ]
    features: Annotated[
        Width,
        doc(
            "Number of features that the encoder returns. A linear map turns them into q(z given x).",
            "release",
        ),
    ]
    kernels: Annotated[
        list[Literal[1, 3, 5, 7, 9, 11]],
        Field(min_length=1, max_length=100),
        doc("Sides of the decoder's masked kernels in pixels, one number per layer.", "paper, 4.1: 13 layers; release"),
    ]
    width: Annotated[
        int, Field(ge=2, le=16_384, multiple_of=2), doc("Number of output channels of each decoder layer.", "release")
    ]
    feature_maps: Annotated[
        Width,
        doc(
            "Number of feature maps that the decoder computes from z. Each map has the size of the image. The "
            "first layer reads the maps and the image.",
            "release",
        ),
    ]
    latent: Annotated[Width, doc("Number of dimensions of z.", "paper, 4.1")]

    @model_validator(mode="after")
    def first_kernel_is_large(self) -> Self:
        if self.kernels[0] == 1:
            why = (
                "expected a first kernel of at least 3, because the first layer does not see the pixel itself; found 1"
            )
            raise refusal("kernels", why)

        return self


Networks = TextNetworks | ImageNetworks


class DatasetProbe(Frozen):
    """Labelled subsets on which linear probes are trained, in one of two forms.

    A linear probe is a linear classifier that predicts the label of an example from its posterior.

    - `labels` draws subsets from the training examples, and `subsets` names subsets that come from files.
    - `per_character` is for images of characters: each alphabet has its own probe, which is trained on some images of
      each character of the alphabet.
    """

    labels: Annotated[
        list[Count],
        Field(max_length=100),
        doc("Sizes of labelled subsets to draw from the training examples.", "paper, Table 2"),
    ] = []
    subsets: Annotated[list[Name], doc("Names of labelled subsets in `source.subsets`.", "paper, Table 2")] = []
    per_character: Annotated[
        list[Count],
        Field(max_length=100),
        doc(
            "Numbers of labelled images per character, drawn from the training and validation images. There "
            "is one probe for each alphabet, and the accuracy is the mean over alphabets.",
            "paper, Table 3",
        ),
    ] = []

    @model_validator(mode="after")
    def one_form(self) -> Self:
        if self.per_character and (self.labels or self.subsets):
            why = "expected either per_character, or labels and subsets; found both"
            raise refusal("per_character", why)

        return self

    @property
    def enabled(self) -> bool:
        """Whether params.yaml asks for at least one linear probe on this data set."""
        return bool(self.labels or self.subsets or self.per_character)


PaperTable = Literal["table1", "table2", "table3", "tableS1", "tableS2"]


class Paper(Frozen):
    """Parameters for the comparison of our results on a data set with tables of the paper."""

    tables: Annotated[
        list[PaperTable],
        Field(min_length=1),
        doc(
            "Tables of the paper that the report shows beside the results. From Tables 1 and S1, the report "
            "takes the rows of the data set's `column`.",
            "paper",
        ),
    ]
    departs: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        doc(
            "Differences between this experiment and the paper's, one sentence each. The report shows them "
            "above each table. Empty: no difference.",
            "ours",
        ),
    ] = []


class _Dataset(Frozen):
    """Parameters that all kinds of data sets have."""

    column: Annotated[
        Name, doc("Name of the column of hyperparameters that a setting uses on this data set.", "paper, Table 1")
    ]
    nll_examples: Annotated[
        Count | None,
        doc(
            "Number of test examples for the importance-weighted NLL, drawn with `evaluation.seed`; null: "
            "all. `metrics.json` holds this number, and `nll_stderr` there is the standard error over these "
            "examples.",
            "paper: all",
        ),
    ]
    optimisation: Annotated[Optimisation, doc("Optimisation of every training on this data set.", "paper, S-E")]
    probe: Annotated[DatasetProbe, doc("Labelled subsets that the probes train on; `{}`: no probe.", "paper")]
    paper: Annotated[
        Paper | None,
        doc("Comparison with the paper's tables. Without this key, the report makes no comparison.", "paper"),
    ] = None


class _Text(_Dataset):
    expect: Annotated[Expect, doc("Bounds that the prepared data are checked against.", "ours")]
    networks: Annotated[TextNetworks, doc("One LSTM as encoder, one as decoder.", "paper, 4.1")]

    @model_validator(mode="after")
    def no_characters(self) -> Self:
        if self.probe.per_character:
            why = "expected only for images; found it for a text. Use labels or subsets"
            raise refusal("probe.per_character", why)

        return self


class SyntheticDataset(_Text):
    """Parameters of the paper's synthetic text (supplement E)."""

    kind: Annotated[Literal["synthetic"], doc("`synthetic`: sentences that a generator draws.")]
    source: Annotated[
        SyntheticSource,
        doc("Generator: a mixture of Gaussians over z, and an LSTM that writes sentences from z.", "paper, S-E"),
    ]
    truth: Annotated[
        Truth | None,
        doc(
            "Quadrature of the generator's own likelihood; null: none. A data set that differs from an earlier one in"
            " `source.further`, networks or optimisation needs none: its pages show it beside the earlier one.",
            "ours",
        ),
    ]

    @model_validator(mode="after")
    def examples_are_there(self) -> Self:
        for index, size in enumerate(self.probe.labels):
            if size > self.source.training:
                why = f"expected at most {self.source.training:,}, the number of training sentences; found {size:,}"
                raise refusal(f"probe.labels.{index}", why)
        if self.probe.subsets:
            raise refusal("probe.subsets", "expected none, since a generator has no files of subsets")

        return self


class TextDataset(_Text):
    """Parameters of a data set of documents from files."""

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
            why = f"expected {self.source.size}, which is source.size; found {self.networks.size}"
            raise refusal("networks.size", why)

        return self

    @model_validator(mode="after")
    def no_subsets(self) -> Self:
        if self.probe.subsets:
            why = "expected only for texts; found it for images. Use labels or per_character"
            raise refusal("probe.subsets", why)

        return self


class OmniglotDataset(_Images):
    """Parameters of Omniglot, a data set of drawn characters."""

    kind: Annotated[Literal["omniglot"], doc("`omniglot`: drawings of characters of 50 alphabets.")]
    source: Annotated[OmniglotSource, doc("Drawings of Lake et al. or of Burda et al.", "paper, 4.1")]


class ImageDataset(_Images):
    """Parameters of a data set of the user's own images."""

    kind: Annotated[Literal["images"], doc("`images`: images of your own.")]
    source: Annotated[ImageSource, doc("Files of the images.")]


AnyDataset = SyntheticDataset | TextDataset | OmniglotDataset | ImageDataset
Dataset = Annotated[AnyDataset, Field(discriminator="kind")]
