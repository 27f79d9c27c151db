"""Parameters that say where the examples of a data set come from: files, or a generator of synthetic sentences."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from duvae.fields import (
    Count,
    Frozen,
    Label,
    Name,
    OpenShare,
    PathText,
    Point,
    Positive,
    Repeats,
    Seed,
    Side,
    TwoOrMore,
    Width,
    doc,
)
from duvae.messages import refusal


class SyntheticSource(Frozen):
    """Parameters of the generator in supplement E of the paper.

    The generator has a mixture of Gaussians over z, and an LSTM that writes sentences from z.
    """

    train: Annotated[Count, doc("Number of training sentences.", "paper, S-E")]
    valid: Annotated[Count, doc("Number of validation sentences.", "paper, S-E")]
    test: Annotated[Count, doc("Number of test sentences.", "paper, S-E")]
    length: Annotated[Repeats, doc("Number of words in every sentence.", "paper, S-E")]
    words: Annotated[
        TwoOrMore, doc("Size of the vocabulary, in words, without the four special symbols.", "paper, S-E")
    ]
    embedding: Annotated[Width, doc("Number of dimensions of the generator's word embeddings.", "paper, S-E")]
    hidden: Annotated[Width, doc("Number of hidden units of the generator's LSTM.", "paper, S-E")]
    lstm_range: Annotated[
        Positive, doc("Bound r of the generator's LSTM parameters, which are uniform between -r and r.", "paper, S-E")
    ]
    output_range: Annotated[
        Positive,
        doc("Bound r of the generator's output parameters, which are uniform between -r and r.", "paper, S-E"),
    ]
    latent_range: Annotated[
        Positive | None,
        doc(
            "Bound r of those output parameters that multiply z, which are uniform between -r and r; null:"
            " `output_range`.",
            "Kim et al. 2018",
        ),
    ] = None
    means: Annotated[
        list[Point],
        Field(min_length=1, max_length=1_000),
        doc("Means of the mixture's components, two coordinates each.", "paper, S-E"),
    ]
    variance: Annotated[Positive, doc("Variance of every component of the mixture.", "paper, S-E")]
    seed: Annotated[Seed, doc("Seed of the generator's weights and of the sentences.", "ours")]
    further: Annotated[
        Count | None,
        doc(
            "Number of further training sentences, which are drawn after all others and appended to the training"
            " split; null: none. The generator and all other sentences stay the same to the last bit.",
            "ours",
        ),
    ] = None

    @model_validator(mode="after")
    def text_fits_into_memory(self) -> Self:
        if (words := (self.training + self.valid + self.test) * self.length) > LARGEST_TEXT:
            key = "further" if words - (self.further or 0) * self.length <= LARGEST_TEXT else "train"
            raise refusal(key, f"expected at most {LARGEST_TEXT:,} words in all sentences; found {words:,}")

        return self

    @property
    def training(self) -> int:
        """Number of sentences of the training split, with the further ones."""
        return self.train + (self.further or 0)

    @property
    def paths(self) -> list[str]:
        """Paths of the files of this source: always empty, because a generator reads no files."""
        return []


LARGEST_LATTICE = 4_000_000
"""Largest number of points of the quadrature. The likelihood of every sentence is computed at every point."""

LARGEST_TEXT = 100_000_000
"""Largest number of words of a synthetic data set. All words are kept in memory while they are drawn."""


class Truth(Frozen):
    """Parameters of the quadrature (numerical integral over z) that computes the likelihood under the generator."""

    sentences: Annotated[
        Count, doc("Number of test sentences whose true likelihood is computed by quadrature.", "ours")
    ]
    spacing: Annotated[
        Positive,
        doc(
            "Distance between neighbouring points of the lattice over z. A second computation with twice this "
            "distance checks the result.",
            "ours",
        ),
    ]
    halfwidth: Annotated[
        Positive, doc("Bound h of the lattice over z, which reaches from -h to h in each dimension.", "ours")
    ]

    @model_validator(mode="after")
    def lattice_is_small(self) -> Self:
        if (points := (2 * self.halfwidth / self.spacing + 1) ** 2) > LARGEST_LATTICE:
            why = (
                f"expected a lattice of at most {LARGEST_LATTICE:,} points, (2 halfwidth / spacing + 1)^2; found"
                f" {points:.3g} points"
            )
            raise refusal("spacing", why)
        if self.spacing > self.halfwidth:
            raise refusal("spacing", f"expected at most the halfwidth, {self.halfwidth:g}; found {self.spacing:g}")

        return self


class TextFile(Frozen):
    """A file of documents, one document per line."""

    path: Annotated[
        PathText,
        doc("Path of a file below the mirror, in the list of known sources, or on this machine.", "paper, 4.2; S-E"),
    ]
    label: Annotated[
        Label | None,
        doc(
            "Label of all documents of the file. Without this key each line is `label<TAB>document`, or each line "
            "is a document without a label."
        ),
    ] = None


def path_in_folder(path: str) -> PurePosixPath:
    """The path that a fetched file has below the folder `data/raw/<data set>`.

    The result is the path in params.yaml, without the leading `/` and without the parts `.` and `..`.

    Args:
        path: Path of the file in params.yaml.
    """
    return PurePosixPath(*(part for part in PurePosixPath(path).parts if part not in ("/", "..", ".")))


class Sample(Frozen):
    """Parameters of a random sample of the training documents, and of the validation documents."""

    size: Annotated[
        Count,
        doc(
            "Number of distinct training documents to draw. Documents with several labels, and documents that "
            "also occur in validation or test, are left out.",
            "ours",
        ),
    ]
    seed: Annotated[Seed, doc("Seed of the draw.", "ours")]
    valid: Annotated[Count | None, doc("Number of validation documents to draw; null: all.", "ours")] = None


class TextSplit(Frozen):
    """Shares of the distinct training documents that are chosen at random for validation and test.

    All copies of a document go to the same split.
    """

    valid: Annotated[
        OpenShare | None,
        doc(
            "Share of the distinct training documents for validation, if there are no validation files. All "
            "copies of a document go to the same split.",
            "ours",
        ),
    ] = None
    test: Annotated[
        OpenShare | None,
        doc("Share of the distinct training documents for test, if there are no test files.", "ours"),
    ] = None
    seed: Annotated[Seed, doc("Seed of the split.", "ours")]


class BuiltVocabulary(Frozen):
    """Parameters of a vocabulary of the most frequent words of the training documents."""

    most: Annotated[
        Count,
        doc(
            "Largest size of the vocabulary, in words, without the four special symbols. The vocabulary holds "
            "the most frequent words of the training documents.",
            "paper, 4.1; ours",
        ),
    ]
    at_least: Annotated[
        Count,
        doc(
            "Smallest number of occurrences in the training documents that a word of the vocabulary must have.", "ours"
        ),
    ] = 1


Files = Annotated[list[TextFile], Field(min_length=1, max_length=10_000)]


class TextSource(Frozen):
    """Files of documents for training, validation, test and labelled subsets, and the source of the vocabulary.

    Validation and test documents come from files of their own, or are drawn from the training documents (see `split`).
    The vocabulary comes from a file, or is built from the training documents (see `build`).
    """

    train: Annotated[
        Files,
        doc("Files of training documents, with one document per line. Several files are joined.", "paper, 4.2; S-E"),
    ]
    valid: Annotated[
        list[TextFile], doc("Files of validation documents. Without them, `split.valid` is needed.", "paper, 4.2")
    ] = []
    test: Annotated[
        list[TextFile], doc("Files of test documents. Without them, `split.test` is needed.", "paper, 4.2")
    ] = []
    split: Annotated[
        TextSplit | None,
        doc("Split of the training documents, if there are no validation files or no test files.", "ours"),
    ] = None
    subsets: Annotated[
        dict[Name, Files], doc("Files of labelled subsets for the probes, by a name of your choice.", "release")
    ] = {}
    vocabulary: Annotated[
        PathText | None,
        doc("File of known words, with one word per line. Without it, `build` is needed.", "release"),
    ] = None
    build: Annotated[
        BuiltVocabulary | None,
        doc("Rule that builds the vocabulary from the training documents, if there is no vocabulary file.", "ours"),
    ] = None
    max_words: Annotated[Count, doc("Largest number of words in a document.", "release")]
    longer: Annotated[
        Literal["refuse", "leave_out"],
        doc(
            "Treatment of documents with more than `max_words` words. `refuse`: an error names file and line. "
            "`leave_out`: they are left out, and a warning has their number. No document is cut.",
            "ours",
        ),
    ] = "refuse"
    sample: Annotated[
        Sample | None,
        doc("Random sample of the documents, for files with more documents than the experiment needs.", "ours"),
    ] = None

    @model_validator(mode="after")
    def each_part_has_one_source(self) -> Self:
        for name in ("valid", "test"):
            share = self.split and getattr(self.split, name)
            if bool(getattr(self, name)) == (share is not None):
                given = "neither" if share is None else "both"
                raise refusal(name, f"expected files here, or a share in split.{name}; found {given}")
        if (self.vocabulary is None) == (self.build is None):
            given = "neither" if self.build is None else "both"
            raise refusal("vocabulary", f"expected a file here, or 'build' with a number of words; found {given}")
        if self.split and (self.split.valid or 0) + (self.split.test or 0) >= 1:
            raise refusal("split", "expected shares that leave documents to train on; they add up to 1 or more")
        if self.split and self.sample:
            raise refusal(
                "sample", "expected it only where validation and test are files; found 'split' too. Remove one"
            )

        return self

    @property
    def paths(self) -> list[str]:
        """Paths of all files of documents and of the vocabulary file, each path once."""
        splits = [self.train, self.valid, self.test, *self.subsets.values()]
        vocabulary = [] if self.vocabulary is None else [self.vocabulary]

        return list(dict.fromkeys([*(file.path for files in splits for file in files), *vocabulary]))


class OmniglotSource(Frozen):
    """Handwritten characters of 50 alphabets: Lake's drawings, or Burda's selection of them.

    In Lake's data, 20 people drew each character. The drawings of the first `train_drawers` people are for training,
    and the drawings of the last `test_drawers` people are for test. Burda's file has a training part and a test part.
    For both data, `valid` is the number of training images that are held out for validation. The seed `seed`
    determines which images these are.
    """

    drawings: Annotated[
        Literal["lake", "lake_png", "burda"],
        doc(
            "Form of the drawings: `lake`, two npz files; `lake_png`, the same drawings as archives of "
            "pictures; `burda`, the file `chardata.mat`.",
            "ours",
        ),
    ]
    alphabets: Annotated[list[str], doc("Names of the alphabets to use; an empty list: all 50.", "ours")] = []
    train_drawers: Annotated[
        Count,
        doc(
            "Number of drawings of each character for training and validation. In Lake's data, these are the "
            "first of 20 drawings. Burda's file has at most this number.",
            "paper, 4.3, Table 3",
        ),
    ]
    test_drawers: Annotated[
        Count,
        doc(
            "Number of drawings of each character for test. In Lake's data, these are the last of 20 "
            "drawings. Burda's file has at most this number.",
            "paper, 4.3, Table 3",
        ),
    ]
    valid: Annotated[
        Count, doc("Number of training images held out for validation.", "Kim et al. 2018; Burda et al. have 1,345")
    ]
    seed: Annotated[Seed, doc("Seed of the choice of validation images.", "ours")]
    size: Annotated[
        Side,
        doc("Side in pixels to which the drawings are scaled. A new pixel is the average over its area.", "release"),
    ]

    @property
    def paths(self) -> list[str]:
        """Paths of all files of the drawings."""
        return {
            "lake": ["omniglot/images_background.npz", "omniglot/images_evaluation.npz"],
            "lake_png": ["omniglot/images_background.zip", "omniglot/images_evaluation.zip"],
            "burda": ["omniglot/chardata.mat"],
        }[self.drawings]


class ImageSource(Frozen):
    """Images of the user: a folder of pictures, or an npz file.

    If the folder or the file does not say which image belongs to which split, the images are split at random with the
    seed `seed`. The share `valid` of the images is then for validation, and the share `test` is for test.
    """

    path: Annotated[PathText, doc("Path of a folder of pictures, or of an npz file.")]
    ink: Annotated[Literal["dark", "light"], doc("Shade of the ink: `dark` on light, or `light` on dark.")]
    valid: Annotated[OpenShare, doc("Share of the images for validation, if the images have no splits of their own.")]
    test: Annotated[OpenShare, doc("Share of the images for test, if the images have no splits of their own.")]
    seed: Annotated[Seed, doc("Seed of the split.")]
    size: Annotated[
        Side, doc("Side in pixels to which the pictures are scaled. A new pixel is the average over its area.")
    ]

    @property
    def paths(self) -> list[str]:
        """Path of the folder of pictures or of the npz file, as a list of one path."""
        return [self.path]
