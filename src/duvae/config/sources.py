"""Sources of data sets: files, or a generator."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from duvae.fields import Count, Frozen, Name, Point, Positive, Seed, doc
from duvae.messages import refusal


class SyntheticSource(Frozen):
    """Supplement E: a mixture of Gaussians over z, an LSTM that writes sentences from it."""

    train: Annotated[Count, doc("Number of training sentences.", "paper, S-E")]
    valid: Annotated[Count, doc("Number of validation sentences.", "paper, S-E")]
    test: Annotated[Count, doc("Number of test sentences.", "paper, S-E")]
    length: Annotated[Count, doc("Number of words of every sentence.", "paper, S-E")]
    words: Annotated[
        int, Field(ge=2), doc("Size of the vocabulary, in words, without the four special symbols.", "paper, S-E")
    ]
    embedding: Annotated[Count, doc("Size of the generator's word embeddings, in numbers.", "paper, S-E")]
    hidden: Annotated[Count, doc("Hidden units of the generator's LSTM.", "paper, S-E")]
    lstm_range: Annotated[
        Positive, doc("Bound r of the generator's LSTM parameters, which are uniform between -r and r.", "paper, S-E")
    ]
    output_range: Annotated[
        Positive,
        doc("Bound r of the generator's output parameters, which are uniform between -r and r.", "paper, S-E"),
    ]
    means: Annotated[
        list[Point],
        Field(min_length=1),
        doc("Means of the mixture's components, two coordinates each.", "paper, S-E"),
    ]
    variance: Annotated[Positive, doc("Variance of every component.", "paper, S-E")]
    seed: Annotated[Seed, doc("Seed of the generator's weights and of the sentences.", "ours")]

    @property
    def paths(self) -> list[str]:
        """It has no files."""
        return []


class Truth(Frozen):
    """How the generator's own likelihood is integrated."""

    sentences: Annotated[
        Count, doc("Number of test sentences whose true likelihood is computed by quadrature.", "ours")
    ]
    spacing: Annotated[
        Positive,
        doc("Distance between neighbouring points of the lattice over z; the check uses twice this distance.", "ours"),
    ]
    halfwidth: Annotated[
        Positive, doc("Bound h of the lattice over z, which reaches from -h to h in each dimension.", "ours")
    ]


class TextFile(Frozen):
    """A file of documents, one a line."""

    path: Annotated[
        str,
        Field(min_length=1),
        doc("Path of a file below the mirror, in the list of known sources, or on this machine.", "paper, 4.2; S-E"),
    ]
    label: Annotated[
        Annotated[int, Field(ge=0)] | None,
        doc(
            "Label of all documents of the file; without it a line is `label<TAB>document`, or a document "
            "without a label."
        ),
    ] = None


def path_in_folder(path: str) -> PurePosixPath:
    """Where a file lies below its data set's folder: at its own path, without a root and without `..`."""
    return PurePosixPath(*(part for part in PurePosixPath(path).parts if part not in ("/", "..", ".")))


class Sample(Frozen):
    """Training documents: unique, in neither valid nor test, under one label only; `size` of them by `seed`.

    `valid`: so many validation documents too, drawn by the same seed; nothing: all.
    """

    size: Annotated[
        Count,
        doc("Number of training documents to draw: unique, in neither valid nor test, under one label only.", "ours"),
    ]
    seed: Annotated[Seed, doc("Seed of the draw.", "ours")]
    valid: Annotated[Count | None, doc("Number of validation documents to draw; null: all.", "ours")] = None


OpenShare = Annotated[float, Field(gt=0, lt=1)]


class TextSplit(Frozen):
    """Which shares of the distinct training documents validate and test instead, drawn by `seed`.

    A document that stands in the files several times goes to one split with all its copies.
    """

    valid: Annotated[
        OpenShare | None,
        doc(
            "Share of the distinct training documents that validate, where no validation file is given. All "
            "copies of a document go to one split.",
            "ours",
        ),
    ] = None
    test: Annotated[
        OpenShare | None,
        doc("Share of the distinct training documents that test, where no test file is given.", "ours"),
    ] = None
    seed: Annotated[Seed, doc("Seed of the split.", "ours")]


class BuiltVocabulary(Frozen):
    """The training documents' most frequent words, the `most` that occur `at_least` so many times."""

    most: Annotated[
        Count,
        doc(
            "Size of the vocabulary at most: the most frequent words of the training documents, without the "
            "four special symbols.",
            "paper, 4.1; ours",
        ),
    ]
    at_least: Annotated[Count, doc("Number of occurrences that a word of the vocabulary has at least.", "ours")] = 1


Files = Annotated[list[TextFile], Field(min_length=1)]


class TextSource(Frozen):
    """Files under a mirror (or anywhere): training, validation, test, labelled subsets, vocabulary.

    Validation and test are files, or drawn from training's (`split`); the vocabulary is a file, or made of the
    training documents' words (`build`). Documents of more than `max_words` words are refused, or left out (`longer`).
    """

    train: Annotated[
        Files, doc("Files of training documents, one document a line; several files are joined.", "paper, 4.2; S-E")
    ]
    valid: Annotated[
        list[TextFile], doc("Files of validation documents; without them `split.valid` is needed.", "paper, 4.2")
    ] = []
    test: Annotated[
        list[TextFile], doc("Files of test documents; without them `split.test` is needed.", "paper, 4.2")
    ] = []
    split: Annotated[
        TextSplit | None, doc("Split of the training files, where validation or test files are missing.", "ours")
    ] = None
    subsets: Annotated[
        dict[Name, Files], doc("Files of labelled subsets for the probes, by a name of your choice.", "release")
    ] = {}
    vocabulary: Annotated[
        Annotated[str, Field(min_length=1)] | None,
        doc("File of known words, one word a line; without it `build` is needed.", "release"),
    ] = None
    build: Annotated[
        BuiltVocabulary | None,
        doc("Rule that builds the vocabulary from the training documents, where no vocabulary file is given.", "ours"),
    ] = None
    max_words: Annotated[Count, doc("Number of words of a document at most.", "release")]
    longer: Annotated[
        Literal["refuse", "leave_out"],
        doc(
            "Treatment of longer documents: `refuse` is an error that names file and line; `leave_out` leaves "
            "them out and counts them in a warning. No document is cut.",
            "ours",
        ),
    ] = "refuse"
    sample: Annotated[
        Sample | None, doc("Seeded sample of the training files, where they are more than the experiment's.", "ours")
    ] = None

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

    drawings: Annotated[
        Literal["lake", "lake_png", "burda"],
        doc(
            "Form of the drawings: `lake`, two npz files; `lake_png`, the same drawings as archives of "
            "pictures; `burda`, `chardata.mat`.",
            "ours",
        ),
    ]
    alphabets: Annotated[list[str], doc("Names of the alphabets to use; an empty list: all 50.", "ours")] = []
    train_drawers: Annotated[
        Count,
        doc(
            "Drawings of each character that train or validate: the first of Lake's 20; of Burda's at most "
            "this number.",
            "paper, 4.3, Table 3",
        ),
    ]
    test_drawers: Annotated[
        Count, doc("Drawings of each character that test: the last of Lake's 20.", "paper, 4.3, Table 3")
    ]
    valid: Annotated[
        Count, doc("Number of training images held out for validation.", "Kim et al. 2018; 1,345 in Burda et al.'s")
    ]
    seed: Annotated[Seed, doc("Seed of the choice of validation images.", "ours")]
    size: Annotated[Count, doc("Side in pixels that drawings are averaged to.", "release")]

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

    path: Annotated[str, Field(min_length=1), doc("Path of a folder of pictures, or of an npz file.")]
    ink: Annotated[Literal["dark", "light"], doc("Shade of what is drawn: `dark` on light, or `light` on dark.")]
    valid: Annotated[
        float, Field(gt=0, lt=1), doc("Share of all images that validates, where the images come without splits.")
    ]
    test: Annotated[
        float, Field(gt=0, lt=1), doc("Share of all images that tests, where the images come without splits.")
    ]
    seed: Annotated[Seed, doc("Seed of the split.")]
    size: Annotated[Count, doc("Side in pixels that pictures are averaged to.")]

    @property
    def paths(self) -> list[str]:
        """The folder or the file."""
        return [self.path]
