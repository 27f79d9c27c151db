"""`params.yaml`, read once into frozen typed objects.

Every mistake in the file is a `UserError` that names file, line and key, what was expected,
what was found and the closest known key.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from duvae.errors import UserError
from duvae.mistakes import explain, line, lines, show, unknown

ALPHA = 1 / (2 * math.pi * math.e)
"""Variance of the zero-entropy noise, section 3.1: H(N(0, alpha)) = 0."""

FIGURE1_SETTINGS = ("ae", "vae", "agg_vae", "bn_vae", "du_vae")
FIGURE1_DATASET = "synthetic"

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
KeepProbability = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Point = Annotated[list[float], Field(min_length=2, max_length=2)]


class Frozen(BaseModel):
    """Unknown keys, other types and non-finite numbers are refused; nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# ---------------------------------------------------------------- hyperparameters, a class a system


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

    kl_start: Annotated[Share, Field(description="the KL weight that the warm-up starts from")] = 0.1
    window: Annotated[Count, Field(description="encoder steps between two looks at the loss in the inner loop")] = 15
    max_inner: Annotated[Count, Field(description="encoder steps of one inner loop, at most")] = 99
    patience: Annotated[
        Count, Field(description="epochs without more MI on validation before the aggressive phase ends")
    ] = 1


class WeightedKL(Frozen):
    """beta-VAE: what the KL weight rises to."""

    beta: Annotated[Positive, Field(description="what the KL weight rises to")]


class FreeBits(Frozen):
    """FB: lambda, the nats of each dimension's mean KL that cost nothing."""

    free_bits: Annotated[
        Positive,
        Field(description="lambda: nats of each dimension's mean KL that cost nothing more"),
        Searched((0.1, 0.15, 0.2, 0.25, 0.3), (0.1, 0.15, 0.2, 0.25, 0.3)),
    ]


class CommittedRate(Frozen):
    """delta-VAE: the KL of each dimension in nats that no posterior goes under."""

    delta: Annotated[
        Positive,
        Field(description="nats of KL that no posterior goes under, in each dimension"),
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

    kl_start: Annotated[Share, Field(description="the KL weight that the warm-up starts from")] = 0.1
    steps: Annotated[Count, Field(description="steps that refine each posterior")] = 20
    learning_rate: Annotated[Positive, Field(description="their rate")] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1, description="their momentum")] = 0.5
    clip: Annotated[Positive, Field(description="the norm that their gradient is clipped at")] = 5.0
    batch: Annotated[Count, Field(description="the batch whose mean loss the rate is meant for")] = 32


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

    blocks: Annotated[Count, Field(description="T, the blocks of the chain")] = 2
    width: Annotated[Count, Field(description="hidden units of a layer of their networks for each dimension of z")] = 60


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


class Found(Frozen):
    """In place of hyperparameters: those that a study has found, `results/studies/<study>/best_params.yaml`."""

    study: Name


def found(name: str, root: Path = Path()) -> Path:
    """The file of a study's best hyperparameters."""
    return root / "results" / "studies" / name / "best_params.yaml"


NEEDS_FLOOR = ("du_vae", "du_iaf")
"""Systems with dropout on the variances."""


class Parts(Frozen):
    """What a system's encoder is made of besides its hyperparameters."""

    init: Literal["torch", "paper"]
    variance_floor: Literal["alpha", "none"] = "none"
    start: Literal["after_warmup", "at_once"] = "after_warmup"
    epsilon: Positive = 1e-8


class Setting(Frozen):
    """A system with its hyperparameters for each column of data sets."""

    system: str
    parts: Parts
    columns: dict[Name, Any]

    @model_validator(mode="after")
    def typed_columns(self) -> Self:
        if self.system not in HYPERPARAMETERS:
            raise PydanticCustomError(
                "unknown_system", "{why}", {"why": unknown("system", self.system, HYPERPARAMETERS), "at": "system"}
            )
        if not self.columns:
            raise PydanticCustomError(
                "no_columns", "expected at least one column of hyperparameters", {"at": "columns"}
            )

        return self


def known_system(name: str) -> str:
    """The name, once it is that of a system.

    Raises:
        UserError: With the closest one, where it is not.
    """
    if name not in HYPERPARAMETERS:
        raise UserError(f"{unknown('system', name, HYPERPARAMETERS)}. 'duvae systems' explains them.")

    return name


# ---------------------------------------------------------------------------------- data sets


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
                raise _at(name, f"expected files here, or a share in split.{name}; found {found}")
        if (self.vocabulary is None) == (self.build is None):
            found = "neither" if self.build is None else "both"
            raise _at("vocabulary", f"expected a file here, or 'build' with a number of words; found {found}")
        if self.split and (self.split.valid or 0) + (self.split.test or 0) >= 1:
            raise _at("split", "expected shares that leave something to train on; they add up to 1 or more")
        if self.split and self.sample:
            raise _at("sample", "expected it only where validation and test are files; found 'split' too")

        return self

    @property
    def paths(self) -> list[str]:
        """All its files, each once."""
        splits = [self.train, self.valid, self.test, *self.subsets.values()]
        vocabulary = [] if self.vocabulary is None else [self.vocabulary]

        return list(dict.fromkeys([*(file.path for files in splits for file in files), *vocabulary]))


def _at(key: str, why: str) -> PydanticCustomError:
    """What is wrong with a key, where it is seen from the model around it."""
    return PydanticCustomError("at", "{why}", {"why": why, "at": key})


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
            raise PydanticCustomError("blind", "{why}", {"why": why, "at": "kernels"})

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
            raise PydanticCustomError("two_probes", "{why}", {"why": why, "at": "per_character"})

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
            raise PydanticCustomError("no_characters", "{why}", {"why": why, "at": "probe.per_character"})

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
                raise PydanticCustomError("unknown_subset", "{why}", {"why": why, "at": "probe.subsets"})

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
            raise PydanticCustomError("two_sizes", "{why}", {"why": why, "at": "networks.size"})

        return self

    @model_validator(mode="after")
    def no_subsets(self) -> Self:
        if self.probe.subsets:
            why = "expected only for texts, which may come with labelled subsets"
            raise PydanticCustomError("no_subsets", "{why}", {"why": why, "at": "probe.subsets"})

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


# ---------------------------------------------------------------------------------- studies


class Prune(Frozen):
    """Which trainings of a study are not brought to their end; `duvae.pruning` has the rule.

    `rungs`: epochs after the warm-up at which a training must be among the best `keep` of those that got there.
    `grace`: epochs after the warm-up, when floor and dropout on the variances have started, before a mutual
    information under the study's `min_mi` alone ends a training.
    """

    rungs: Annotated[list[Count], Field(min_length=1)]
    keep: Annotated[float, Field(gt=0, le=1)]
    grace: Count


class Study(Frozen):
    """A search for the hyperparameters of a setting's system on a data set, by the NLL on validation.

    `values`: what a hyperparameter is tried at; of those not named here supplement E's values for the data set.
    `sampler`: `grid`, all their combinations; `tpe`, a tree-structured Parzen estimator between the least and the
    greatest of each. `min_mi`: nats of mutual information on validation that the winner must exceed. For `tpe`:
    `first` are tried before all others, `startup` more are spread evenly, and it ends after `trials` or `budget`
    times the epochs of the grid of the same values. `against`: a grid study that the result is compared with.
    """

    dataset: Name
    setting: Name
    seed: Seed
    sampler: Literal["grid", "tpe"]
    values: dict[Name, Annotated[list[int | float], Field(min_length=1)]] = {}
    min_mi: Positive | None = None
    importance_samples: Count | None = None
    first: list[dict[Name, int | float]] = []
    startup: Annotated[int, Field(ge=0)] = 4
    trials: Count | None = None
    budget: Annotated[float, Field(gt=0)] | None = None
    prune: Prune | None = None
    against: Name | None = None

    @model_validator(mode="after")
    def ends(self) -> Self:
        if self.sampler == "tpe" and self.trials is None and self.budget is None:
            why = "expected this or 'trials', without which the study would never end; found neither"
            raise PydanticCustomError("endless", "{why}", {"why": why, "at": "budget"})

        return self


# ---------------------------------------------------------------------------------- the whole


class Run(Frozen):
    """The data sets, settings and seeds to rebuild, all their valid triples, and the studies."""

    datasets: Annotated[list[Name], Field(min_length=1)]
    settings: Annotated[list[Name], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    studies: list[Name] = []


def _named(value: Any) -> str:
    return "name" if isinstance(value, str) else "block"


OneRun = Annotated[Annotated[Run, Tag("block")] | Annotated[Name, Tag("name")], Discriminator(_named)]
"""A block, or the name of several in `runs`."""


class Figure1(Frozen):
    """Figure 1: AE, VAE, Agg-VAE, BN-VAE and DU-VAE on the synthetic data."""

    seed: Seed


class Evaluation(Frozen):
    """How a trained model is measured."""

    importance_samples: Count
    active_threshold: Positive
    seed: Seed


class Probe(Frozen):
    """How a linear probe is tuned and repeated."""

    draws: Count
    folds: Annotated[int, Field(ge=2)]
    inverse_penalties: Annotated[list[Positive], Field(min_length=1)]
    seed: Seed


class Generation(Frozen):
    """What of a trained model is drawn for the report: samples of the prior, and what lies between test examples.

    `rows` of `columns` images, or as many sentences as `rows`; `pairs` of test examples, `steps` from one to the other.
    """

    rows: Count
    columns: Count
    pairs: Count
    steps: Annotated[int, Field(ge=2)]
    seed: Seed


class Job(NamedTuple):
    """One training: what the graph runs over. `column` is the data set's column of hyperparameters."""

    dataset: str
    setting: str
    seed: int
    column: str

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.setting}-{self.seed}"

    @property
    def folder(self) -> Path:
        """`dataset/setting/seed`, below `models/`, `posteriors/` and `results/`."""
        return Path(self.dataset, self.setting, str(self.seed))


class Params(Frozen):
    """All of params.yaml."""

    run: OneRun
    runs: dict[Name, Annotated[list[Run], Field(min_length=1)]] = {}
    figure1: Figure1
    threads: Count
    checkpoint_seconds: Annotated[float, Field(ge=0)]
    evaluation: Evaluation
    probe: Probe
    generation: Generation
    datasets: dict[Name, Dataset]
    settings: dict[Name, Setting]
    studies: dict[Name, Study] = {}

    def dataset(self, name: str) -> AnyDataset:
        if name not in self.datasets:
            raise UserError(f"params.yaml: {unknown('data set', name, self.datasets)}")

        return self.datasets[name]

    def setting(self, name: str) -> Setting:
        if name not in self.settings:
            raise UserError(f"params.yaml: {unknown('setting', name, self.settings)}")

        return self.settings[name]

    def study(self, name: str) -> Study:
        if name not in self.studies:
            raise UserError(f"params.yaml: {unknown('study', name, self.studies)}")

        return self.studies[name]

    def hyperparameters(self, setting: str, dataset: str, root: Path = Path()) -> Frozen:
        """The setting's hyperparameters on this data set, an object of its system's class.

        Where they are what a study finds, they are read from its results.
        """
        given = self.column(setting, dataset)

        return best(given.study, self.setting(setting).system, root) if isinstance(given, Found) else given

    def column(self, setting: str, dataset: str) -> Frozen:
        """What params.yaml gives for the setting on this data set: hyperparameters, or a study that finds them."""
        column, columns = self.dataset(dataset).column, self.setting(setting).columns
        if column not in columns:
            raise UserError(
                f"params.yaml: settings.{setting}.columns has no '{column}', which data set '{dataset}' asks for"
                f" (it has {', '.join(columns)}). Add that column, or take another setting."
            )
        given: Frozen = columns[column]

        return given

    def job(self, dataset: str, setting: str, seed: int) -> Job:
        """The triple, once it is known to be valid."""
        self.column(setting, dataset)

        return Job(dataset, setting, seed, self.dataset(dataset).column)

    def blocks(self) -> list[Run]:
        """What `run` stands for."""
        if isinstance(self.run, Run):
            return [self.run]
        if self.run not in self.runs:
            raise UserError(f"params.yaml: run: {unknown('name of runs', self.run, self.runs)}")

        return self.runs[self.run]

    def run_jobs(self) -> list[Job]:
        """The valid triples of `run`, those of each of its blocks."""
        return list(dict.fromkeys(job for block in self.blocks() for job in self._block_jobs(block)))

    def run_studies(self) -> list[str]:
        """The studies of `run`, each once."""
        return list(dict.fromkeys(name for block in self.blocks() for name in block.studies))

    def _block_jobs(self, block: Run) -> Iterator[Job]:
        for dataset in block.datasets:
            for setting in block.settings:
                if self.dataset(dataset).column in self.setting(setting).columns:
                    yield from (self.job(dataset, setting, seed) for seed in block.seeds)

    def figure1_jobs(self) -> list[Job]:
        """Figure 1's five."""
        return [self.job(FIGURE1_DATASET, setting, self.figure1.seed) for setting in FIGURE1_SETTINGS]

    def jobs(self) -> list[Job]:
        """What the graph runs over: the union of both, each once."""
        return list(dict.fromkeys([*self.run_jobs(), *self.figure1_jobs()]))


def best(study: str, system: str, root: Path = Path()) -> Frozen:
    """The hyperparameters that a study has found, an object of the system's class.

    Raises:
        UserError: Where it has not been made, has found none, or was of another system.
    """
    path, again = found(study, root), f"'duvae search --study {study}' or 'dvc repro search@{study}' makes it"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        values, of = content["hyperparameters"], content["system"]
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. {again}.") from error
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: expected a study's best hyperparameters ({error}). {again} anew.") from error
    if values is None:
        raise UserError(f"{path}: the study '{study}' found none that it may recommend ({content.get('why')}).")
    if of != system:
        raise UserError(f"{path}: expected hyperparameters of {system}; found those of {of}. {again} anew.")
    try:
        return HYPERPARAMETERS[system].model_validate(values)
    except ValidationError as error:
        key, why = explain(error.errors()[0], HYPERPARAMETERS[system])
        raise UserError(f"{path}: hyperparameters.{'.'.join(key)}: {why}. {again} anew.") from error


def load(path: Path = Path("params.yaml")) -> Params:
    """Reads params.yaml.

    Args:
        path: The file.

    Raises:
        UserError: With everything that is wrong in it, a line each.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: not there. duvae reads the params.yaml of the folder it is called in: "
            "change to the project's folder, or give --params."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    try:
        places = dict(lines(yaml.compose(text, yaml.SafeLoader)))
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected a mapping with the keys {', '.join(Params.model_fields)}; found {show(raw)}")

    return parse(raw, str(path), places)


def parse(
    raw: dict[str, Any], source: str = "params.yaml", places: Mapping[tuple[str, ...], int] | None = None
) -> Params:
    """Checks what was read from `source`; `places` maps each key's path to its line."""
    errors: list[tuple[tuple[str, ...], str]] = []
    params = None
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        errors += [explain(detail, Params) for detail in error.errors()]
    columns = list(_columns(raw, errors))
    if params is not None and not errors:
        settings = {
            name: params.settings[name].model_copy(update={"columns": {c: h for n, c, h in columns if n == name}})
            for name in params.settings
        }
        params = params.model_copy(update={"settings": settings})
        errors += _crossed(params)
    if errors or params is None:
        said = [f"{source}: {'.'.join(key)}{line(key, places)}: {why}" for key, why in dict.fromkeys(errors)]
        raise UserError("\n".join(said))

    return params


def _columns(raw: Any, errors: list[tuple[tuple[str, ...], str]]) -> Iterator[tuple[str, str, Frozen]]:
    """Each setting's columns as objects of its system's class; what is wrong goes to `errors`."""
    settings = raw.get("settings")
    for name, setting in settings.items() if isinstance(settings, dict) else ():
        system = setting.get("system") if isinstance(setting, dict) else None
        columns = setting.get("columns") if isinstance(setting, dict) else None
        if not isinstance(system, str) or system not in HYPERPARAMETERS or not isinstance(columns, dict):
            continue
        for column, values in columns.items():
            kind = Found if isinstance(values, dict) and "study" in values else HYPERPARAMETERS[system]
            try:
                yield str(name), str(column), kind.model_validate(values)
            except ValidationError as error:
                place = ("settings", str(name), "columns", str(column))
                for detail in error.errors():
                    key, why = explain(detail, kind)
                    errors.append(((*place, *key), why))


def _places(params: Params) -> Iterator[tuple[tuple[str, ...], Run]]:
    """Every block of `run` and `runs`, with where it stands."""
    if isinstance(params.run, Run):
        yield ("run",), params.run
    for name, blocks in params.runs.items():
        for index, block in enumerate(blocks):
            yield ("runs", name, str(index)), block


def _runs(params: Params) -> Iterator[tuple[tuple[str, ...], str]]:
    """What `run` and `runs` name that is not there."""
    if isinstance(params.run, str) and params.run not in params.runs:
        yield ("run",), unknown("name of runs", params.run, params.runs)
    for place, block in _places(params):
        for key, what, known in (
            ("datasets", "data set", params.datasets),
            ("settings", "setting", params.settings),
            ("studies", "study", params.studies),
        ):
            for index, name in enumerate(getattr(block, key)):
                if name not in known:
                    yield (*place, key, str(index)), unknown(what, name, known)


def _crossed(params: Params) -> list[tuple[tuple[str, ...], str]]:
    """What is wrong between one part of the file and another."""
    errors = list(_runs(params))
    for name, setting in params.settings.items():
        # Equation 6 gives negative variances where they are not above alpha.
        if setting.system in NEEDS_FLOOR and setting.parts.variance_floor == "none":
            why = f"expected 'alpha', above which {setting.system}'s dropout needs its variances; found 'none'"
            errors.append((("settings", name, "parts", "variance_floor"), why))
    errors += _studies(params)
    if not errors and not params.run_jobs():
        errors.append(
            (("run",), "expected at least one setting that has the column of one of the data sets; found none")
        )
    try:
        if not errors:
            params.figure1_jobs()
    except UserError as error:
        errors.append((("figure1",), f"its settings must exist: {error}"))

    return errors


def _studies(params: Params) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with the studies, and with what refers to them."""
    for name, study in params.studies.items():
        at = ("studies", name)
        if study.dataset not in params.datasets:
            yield (*at, "dataset"), unknown("data set", study.dataset, params.datasets)
            continue
        if study.setting not in params.settings:
            yield (*at, "setting"), unknown("setting", study.setting, params.settings)
            continue
        setting, column = params.settings[study.setting], params.datasets[study.dataset].column
        given = setting.columns.get(column)
        if given is None or isinstance(given, Found):
            why = f"expected a setting with hyperparameters of its own for '{column}'; '{study.setting}' has none"
            yield (*at, "setting"), why
            continue
        yield from _values(at, study, setting.system, column, given)
        if study.against is not None:
            other = params.studies.get(study.against)
            if other is None:
                yield (*at, "against"), unknown("study", study.against, params.studies)
            elif other.sampler != "grid" or (other.dataset, other.seed) != (study.dataset, study.seed):
                why = f"expected a grid study of the same data set and seed; found '{study.against}'"
                yield (*at, "against"), why
    for name, setting in params.settings.items():
        for column, given in setting.columns.items():
            if isinstance(given, Found):
                key = ("settings", name, "columns", column, "study")
                if given.study not in params.studies:
                    yield key, unknown("study", given.study, params.studies)
                    continue
                of = params.settings.get(params.studies[given.study].setting)
                if of is not None and of.system != setting.system:
                    yield key, f"expected a study of {setting.system}; '{given.study}' is of {of.system}"


def _values(
    at: tuple[str, ...], study: Study, system: str, column: str, given: Frozen
) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with the values that a study tries."""
    fields = HYPERPARAMETERS[system].model_fields
    tried = [((*at, "values", key), {key: value}) for key, values in study.values.items() for value in values]
    tried += [((*at, "first", str(index)), values) for index, values in enumerate(study.first)]
    for place, values in tried:
        for key in values:
            if key not in fields:
                yield place, unknown("hyperparameter", key, list(fields))
                break
        else:
            try:
                HYPERPARAMETERS[system].model_validate({**given.model_dump(), **values})
            except ValidationError as error:
                yield place, explain(error.errors()[0], HYPERPARAMETERS[system])[1]
    if not space(study, system, column):
        why = f"expected values of {system}'s hyperparameters, since supplement E names none for this data set"
        yield (*at, "values"), why


def space(study: Study, system: str, column: str) -> dict[str, tuple[float, ...]]:
    """What each hyperparameter of a study is tried at, in the order of the values."""
    named = {
        name: tuple(study.values.get(name, searched(field).on(column)))
        for name, field in HYPERPARAMETERS[system].model_fields.items()
    }

    return {name: tuple(sorted(set(values))) for name, values in named.items() if values}
