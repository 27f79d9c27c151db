"""Data sets: their sources, networks, optimisation, probes, and what of the paper they stand beside."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from duvae.config.base import Count, Frozen, Name, Point, Positive, Seed, Share
from duvae.mistakes import refusal, unknown


class SyntheticSource(Frozen):
    """Supplement E: a mixture of Gaussians over z, an LSTM that writes sentences from it."""

    train: Count
    valid: Count
    test: Count
    length: Count
    words: Annotated[int, Field(ge=2)]
    embedding: Count
    hidden: Count
    lstm_range: Positive
    output_range: Positive
    means: Annotated[list[Point], Field(min_length=1)]
    variance: Positive
    seed: Seed

    @property
    def paths(self) -> list[str]:
        """It has no files."""
        return []


class Truth(Frozen):
    """How the generator's own likelihood is integrated."""

    sentences: Count
    spacing: Positive
    halfwidth: Positive


class TextFile(Frozen):
    """One document a line. `label`: of the whole file; without it a line is `label<TAB>document` or a document."""

    path: Annotated[str, Field(min_length=1)]
    label: Annotated[int, Field(ge=0)] | None = None


def place(path: str) -> PurePosixPath:
    """Where a file lies below its data set's folder: at its own path, without a root and without `..`."""
    return PurePosixPath(*(part for part in PurePosixPath(path).parts if part not in ("/", "..", ".")))


class Sample(Frozen):
    """Training documents: unique, in neither valid nor test, under one label only; `size` of them by `seed`.

    `valid`: so many validation documents too, drawn by the same seed; nothing: all.
    """

    size: Count
    seed: Seed
    valid: Count | None = None


OpenShare = Annotated[float, Field(gt=0, lt=1)]


class TextSplit(Frozen):
    """Which shares of the distinct training documents validate and test instead, drawn by `seed`.

    A document that stands in the files several times goes to one split with all its copies.
    """

    valid: OpenShare | None = None
    test: OpenShare | None = None
    seed: Seed


class BuiltVocabulary(Frozen):
    """The training documents' most frequent words, the `most` that occur `at_least` so many times."""

    most: Count
    at_least: Count = 1


Files = Annotated[list[TextFile], Field(min_length=1)]


class TextSource(Frozen):
    """Files under a mirror (or anywhere): training, validation, test, labelled subsets, vocabulary.

    Validation and test are files, or drawn from training's (`split`); the vocabulary is a file, or made of the
    training documents' words (`build`). Documents of more than `max_words` words are refused, or left out (`longer`).
    """

    train: Files
    valid: list[TextFile] = []
    test: list[TextFile] = []
    split: TextSplit | None = None
    subsets: dict[Name, Files] = {}
    vocabulary: Annotated[str, Field(min_length=1)] | None = None
    build: BuiltVocabulary | None = None
    max_words: Count
    longer: Literal["refuse", "leave_out"] = "refuse"
    sample: Sample | None = None

    @model_validator(mode="after")
    def each_from_one_place(self) -> Self:
        for name in ("valid", "test"):
            share = self.split and getattr(self.split, name)
            if bool(getattr(self, name)) == (share is not None):
                found = "neither" if share is None else "both"
                raise refusal(name, f"expected files here, or a share in split.{name}; found {found}")
        if (self.vocabulary is None) == (self.build is None):
            found = "neither" if self.build is None else "both"
            raise refusal("vocabulary", f"expected a file here, or 'build' with a number of words; found {found}")
        if self.split and (self.split.valid or 0) + (self.split.test or 0) >= 1:
            raise refusal("split", "expected shares that leave something to train on; they add up to 1 or more")
        if self.split and self.sample:
            raise refusal("sample", "expected it only where validation and test are files; found 'split' too")

        return self

    @property
    def paths(self) -> list[str]:
        """All its files, each once."""
        splits = [self.train, self.valid, self.test, *self.subsets.values()]
        vocabulary = [] if self.vocabulary is None else [self.vocabulary]

        return list(dict.fromkeys([*(file.path for files in splits for file in files), *vocabulary]))


class OmniglotSource(Frozen):
    """Handwritten characters of 50 alphabets: Lake's drawings, or Burda's selection of them.

    `drawings`: `lake`, each character by 20 people, of whom the first `train_drawers` train and the last
    `test_drawers` test; `lake_png`, the same from the archives of pictures; `burda`, with training and test as given.
    `valid` training images, drawn by `seed`, are held out for validation. `alphabets`: these alone; none: all.
    """

    drawings: Literal["lake", "lake_png", "burda"]
    alphabets: list[str] = []
    train_drawers: Count
    test_drawers: Count
    valid: Count
    seed: Seed
    size: Count

    @property
    def paths(self) -> list[str]:
        """All its files."""
        return {
            "lake": ["omniglot/images_background.npz", "omniglot/images_evaluation.npz"],
            "lake_png": ["omniglot/images_background.zip", "omniglot/images_evaluation.zip"],
            "burda": ["omniglot/chardata.mat"],
        }[self.drawings]


class ImageSource(Frozen):
    """Images of one's own: a folder of pictures, or an npz.

    `ink`: whether what is drawn is dark on light or light on dark. `valid` and `test`: shares that are drawn by `seed`
    where there is no folder, or no array, of each of the three splits.
    """

    path: Annotated[str, Field(min_length=1)]
    ink: Literal["dark", "light"]
    valid: Annotated[float, Field(gt=0, lt=1)]
    test: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed
    size: Count

    @property
    def paths(self) -> list[str]:
        """The folder or the file."""
        return [self.path]


class Binarize(Frozen):
    """Of the bits of validation and test, which are drawn once; training's are drawn each time an image is used."""

    seed: Seed


class Expect(Frozen):
    """The bounds that a prepared data set is checked against. `documents`: of a split, exactly so many."""

    max_unknown_rate: Share
    max_shared_rate: Share
    documents: dict[Name, Count] = {}


class ImageExpect(Frozen):
    """The bounds that a prepared image data set is checked against: shares of a split, and of an image's pixels."""

    max_shared_rate: Share
    min_ink: Share
    max_ink: Share


class TextNetworks(Frozen):
    """One LSTM as encoder, one as decoder."""

    embedding: Count
    hidden: Count
    latent: Count
    dropout_in: Annotated[float, Field(ge=0, lt=1)]
    dropout_out: Annotated[float, Field(ge=0, lt=1)]


class ImageNetworks(Frozen):
    """A ResNet as encoder, a PixelCNN as decoder, for images of `size` pixels a side.

    `channels`: of the encoder's blocks, each of stride 2; `features`: what they end in; `kernels`: sides of the
    decoder's masked convolutions, one after another, of `width` channels; `feature_maps`: of the image's size that z
    is mapped to.
    """

    size: Count
    channels: Annotated[list[Count], Field(min_length=1)]
    features: Count
    kernels: Annotated[list[Literal[1, 3, 5, 7, 9, 11]], Field(min_length=1)]
    width: Annotated[int, Field(ge=2, multiple_of=2)]
    feature_maps: Count
    latent: Count

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

    factor: Annotated[float, Field(gt=0, lt=1)]
    reset: bool = True
    patience: Count
    not_before: Annotated[int, Field(ge=0)]
    at_most: Count


class Optimisation(Frozen):
    """The paper's optimisation, supplement E.

    `bfloat16`: compute what may be in half precision; `compiled`: compile encoder and decoder, for a GPU.
    """

    optimiser: Literal["sgd", "adam"]
    learning_rate: Positive
    clip: Positive
    batch: Annotated[int, Field(ge=2)]
    epochs: Count
    warmup: Annotated[int, Field(ge=0)]
    decay: Decay
    bfloat16: bool = False
    compiled: bool = False


class DatasetProbe(Frozen):
    """What the linear probe learns from.

    `labels` drawn from training, `subsets` as shipped, or, for each alphabet on its own, so many images
    `per_character` of those that train or validate.
    """

    labels: list[Count] = []
    subsets: list[Name] = []
    per_character: list[Count] = []

    @model_validator(mode="after")
    def one_way(self) -> Self:
        if self.per_character and (self.labels or self.subsets):
            why = "expected it without labels and subsets, or those without it; found both"
            raise refusal("per_character", why)

        return self

    @property
    def wanted(self) -> bool:
        """Whether there is anything to probe."""
        return bool(self.labels or self.subsets or self.per_character)


PaperTable = Literal["table1", "table2", "table3", "tableS1", "tableS2"]


class Paper(Frozen):
    """Which of the paper's tables a data set's results are shown beside.

    `departs`: in what the experiment is another than the paper's, a sentence each; empty where it is the same.
    """

    tables: Annotated[list[PaperTable], Field(min_length=1)]
    departs: list[Annotated[str, Field(min_length=1)]] = []


class _Dataset(Frozen):
    """What all have. `nll_examples`: of so many test examples, drawn by `evaluation.seed`, the NLL; nothing: of all."""

    column: Name
    nll_examples: Count | None
    optimisation: Optimisation
    probe: DatasetProbe
    paper: Paper | None = None


class _Text(_Dataset):
    expect: Expect
    networks: TextNetworks

    @model_validator(mode="after")
    def no_characters(self) -> Self:
        if self.probe.per_character:
            why = "expected only for images, whose characters have alphabets"
            raise refusal("probe.per_character", why)

        return self


class SyntheticDataset(_Text):
    """The paper's synthetic text."""

    kind: Literal["synthetic"]
    source: SyntheticSource
    truth: Truth


class TextDataset(_Text):
    """Documents from files."""

    kind: Literal["text"]
    source: TextSource

    @model_validator(mode="after")
    def subsets_exist(self) -> Self:
        for name in self.probe.subsets:
            if name not in self.source.subsets:
                why = unknown("subset", name, self.source.subsets)
                raise refusal("probe.subsets", why)

        return self


class _Images(_Dataset):
    source: OmniglotSource | ImageSource
    binarize: Binarize
    expect: ImageExpect
    networks: ImageNetworks

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

    kind: Literal["omniglot"]
    source: OmniglotSource


class ImageDataset(_Images):
    """Images of one's own."""

    kind: Literal["images"]
    source: ImageSource


AnyDataset = SyntheticDataset | TextDataset | OmniglotDataset | ImageDataset
Dataset = Annotated[AnyDataset, Field(discriminator="kind")]
