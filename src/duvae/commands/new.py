"""`duvae new`: looks at texts or images of the user, and writes the file that declares them as a data set."""

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any, Literal, NamedTuple

import numpy as np
import yaml

from duvae import config
from duvae.config import BuiltVocabulary, ImageSource
from duvae.data import own_text
from duvae.data.own_text import Texts
from duvae.data.splits import PIXELS, Split
from duvae.data.store import Prepared
from duvae.data.user_images import prepared_images
from duvae.data.vocabulary import build_vocabulary, word_ids
from duvae.errors import UserError
from duvae.project import own_data
from duvae.project.files import remove, write_text
from duvae.project.own_data import Selection

MOST_WORDS, AT_LEAST = 20_000, 2
"""Rule of the vocabulary, as in `own_defaults.yaml`: the most frequent words, of those that occur at least twice."""

LONGEST = 200
"""Largest number of words of a document that a data set gets, as the paper's Yahoo and Yelp have."""

TEXT_SIZES = ((300_000, 64, 128), (3_000_000, 128, 256), (float("inf"), 256, 512))
"""Sizes of the networks for texts: the largest number of words in all documents, and the numbers of dimensions of a
word embedding and of hidden units. The paper uses 128 and 512 for the 900,000 words of short Yelp."""

IMAGE_SIZES: tuple[tuple[float, dict[str, Any]], ...] = (
    (2_000, {"channels": [32, 32, 32], "features": 128, "kernels": [7, 5, 3], "width": 24}),
    (20_000, {"channels": [64, 64, 64], "features": 512, "kernels": [7, 5, 3], "width": 32}),
    (
        float("inf"),
        {"channels": [64, 64, 64], "features": 512, "kernels": [7] * 5 + [5] * 4 + [3] * 4, "width": 64},
    ),
)
"""Sizes of the networks for images, by the largest number of images. The last ones are the paper's for OMNIGLOT."""

FEWEST = 10
"""Smallest number of different documents, so that each default split has one."""

PROBES = (100, 500, 1000, 2000, 10000)
"""Sizes of labelled subsets for the probes, as in the paper's Table 2."""

EXAMPLE_SETTING = "du_vae"
"""Setting whose training time is estimated."""


class DatasetFile(NamedTuple):
    """A file that declares a data set, before it is written.

    Attributes:
        content: The data set, as in params.yaml.
        comments: Lines above it, without `#`.
        messages: What was seen, one line each, for the terminal.
        train: Training examples, to estimate the time of a training.
        words: Size of the vocabulary, with the special words; for images, the number of pixel values.
        documents: Content of a file of documents, if the user's own file cannot be read as it is; empty: no such file.
    """

    content: dict[str, Any]
    comments: list[str]
    messages: list[str]
    train: Split
    words: int
    documents: str = ""


def run(
    path: Path,
    name: str | None,
    text: str | None,
    label: str | None,
    tokenise: bool,
    lower_case: bool,
    ink: Literal["dark", "light"] | None,
    asked: Sequence[str] = (),
    root: Path = Path(),
    file: Path = Path("params.yaml"),
) -> None:
    """Looks at a file or folder of the user, writes `datasets/NAME.yaml`, and prints what was seen.

    Args:
        path: A file of texts, a folder of pictures, or an npz file.
        name: Name of the data set; None: made from the name of the file.
        text: Column of the texts in a table; None: the column with the longest texts.
        label: Column of the labels in a table; "none": no labels; None: a column whose name says so.
        tokenise: Whether to separate punctuation from words.
        lower_case: Whether to write all words in lower case.
        ink: Shade of the drawn lines in images; None: the rarer shade.
        asked: Changes of single values for the estimate of the time, each as `KEY=VALUE`.
        root: Folder of the project.
        file: The project's file of parameters.

    Raises:
        UserError: If the files cannot be used, or if the data set exists already.
    """
    if not path.exists():
        raise UserError(f"{path}: not there. Give a file of texts, a folder of pictures, or an .npz file.")
    name = _name(path, name)
    target = root / own_data.DATASETS / f"{name}.yaml"
    if target.exists():
        raise UserError(f"{target}: exists already. Choose another name with --name, or delete the file.")
    if name in config.load(file).datasets:
        raise UserError(f"{name}: expected a name that {file} does not have in datasets. Choose another with --name.")
    if path.is_dir() or path.suffix.lower() == ".npz":
        if text or label or tokenise or lower_case:
            raise UserError(f"{path}: expected texts for --text, --label, --tokenise and --lower-case; found images.")
        declared = _images(path, ink)
    else:
        if ink is not None:
            raise UserError(f"{path}: expected images for --ink; found a file. Leave out --ink.")
        documents = root / own_data.folder(name) / "documents.txt"
        declared = _texts(path, documents, text, label, tokenise, lower_case)
    for message in declared.messages:
        print(f"{name}: {message}")
    lines = [f"# {line}\n" for line in declared.comments]
    write_text(target, "".join(lines) + yaml.safe_dump(declared.content, sort_keys=False, allow_unicode=True))
    try:
        _, params = own_data.compose(Selection(name, [EXAMPLE_SETTING], changes=asked), root, file)
    except UserError:
        remove(target)
        raise
    if declared.documents:
        write_text(documents, declared.documents)
    print(f"wrote {target}.", flush=True)
    from duvae.commands import estimate  # imported here, since torch takes seconds

    seconds = estimate.seconds_per_epoch(params, name, EXAMPLE_SETTING, declared.train, declared.words)
    epochs = params.optimisation(EXAMPLE_SETTING, name).epochs
    print(
        f"A training of {EXAMPLE_SETTING} takes about {_duration(seconds)} per epoch on this machine, so at most"
        f" {_duration(seconds * epochs)} for {epochs} epochs. It may end earlier."
    )
    print(f"Train and compare two systems: duvae run {name}")
    print(f"A quick first look:            duvae run {name} --set optimisation.epochs=5 --set optimisation.warmup=2")


def _name(path: Path, name: str | None) -> str:
    """The name of the new data set, checked."""
    chosen = name if name is not None else re.sub("[^a-z0-9]+", "_", path.resolve().stem.lower()).strip("_")[:60]
    if not own_data.NAME.fullmatch(chosen):
        raise UserError(
            f"{path if name is None else f'--name {name}'}: expected a name of at most 60 lower-case letters, digits"
            " and _. Choose one with --name."
        )

    return chosen


def _duration(seconds: float) -> str:
    """A time as a reader expects it, with two digits."""
    if seconds < 60:
        return f"{seconds:.2g} s"

    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _texts(
    path: Path, documents: Path, text: str | None, label: str | None, tokenise: bool, lower_case: bool
) -> DatasetFile:
    """Looks at a file of texts. `documents` is the file of documents that is written if the file needs changes."""
    original = own_text.read_texts(path, text, label)
    texts = own_text.converted(original, tokenise, lower_case)
    if (count := len(set(texts.documents))) < FEWEST:
        raise UserError(f"{path}: expected at least {FEWEST} different documents; found {count}. Give more documents.")
    lengths = [document.count(" ") + 1 for document in texts.documents]
    longest = min(max(lengths), LONGEST)
    messages = [*_columns(texts), _counts(texts, lengths)]
    if too_long := sum(length > longest for length in lengths):
        messages.append(f"{too_long:,} documents have more than {longest} words (source.max_words) and are left out")
    share = own_text.unknown_share(texts.documents, MOST_WORDS, AT_LEAST)
    messages.append(f"about {share:.1%} of the words of new documents are not in the vocabulary and become <unk>")
    if not (tokenise and lower_case):
        other = own_text.unknown_share(own_text.converted(original, True, True).documents, MOST_WORDS, AT_LEAST)
        if other < share:
            messages.append(f"with --tokenise --lower-case, it would be {other:.1%}")
    file = path if texts.is_plain else documents
    embedding, hidden = next(sizes for most, *sizes in TEXT_SIZES if sum(lengths) <= most)
    content: dict[str, Any] = {
        "kind": "text",
        "source": {"train": [{"path": str(file)}], "max_words": longest},
        "expect": {"max_unknown_rate": min(1.0, float(np.ceil(share * 20 + 1) / 20))},
        "networks": {"embedding": embedding, "hidden": hidden},
    }
    training = len(texts.documents) * 8 // 10
    if len(texts.classes) > 1 and (sizes := [size for size in PROBES if size <= training // 2]):
        content["probe"] = {"labels": sizes}
    comments = [f"Made by 'duvae new' from {path}."]
    if not texts.is_plain:
        comments.append(f"Its documents are in {documents}; run 'duvae new' again if the file changes.")
    if texts.labels is not None and not texts.is_plain:
        classes = ", ".join(f"{index} {name}" for index, name in enumerate(texts.classes[:20]))
        comments.append(f"Labels: {classes}{', ...' if len(texts.classes) > 20 else ''}.")
    kept = [document for document, length in zip(texts.documents, lengths, strict=True) if length <= longest]
    corpus = own_text.as_corpus(Texts(kept, None), path)
    vocabulary, _ = build_vocabulary(corpus, BuiltVocabulary(most=MOST_WORDS, at_least=AT_LEAST))

    return DatasetFile(
        content,
        comments,
        messages,
        word_ids(corpus, vocabulary, longest),
        len(vocabulary),
        "" if texts.is_plain else texts.lines(),
    )


def _columns(texts: Texts) -> list[str]:
    """Names the columns of a table, and the number of rows that were left out."""
    messages = []
    if texts.columns:
        column, *label = texts.columns
        labels = f"labels from '{label[0]}'" if label else "no labels (--label COLUMN names their column)"
        messages.append(f"texts from the column '{column}', {labels}")
    if texts.left_out:
        messages.append(f"{texts.left_out:,} rows without a word are left out")

    return messages


def _counts(texts: Texts, lengths: Sequence[int]) -> str:
    """The number of documents, their lengths and their labels, as one line."""
    middle = quantiles(lengths, n=20) if len(lengths) > 1 else [lengths[0]] * 19
    line = (
        f"{len(lengths):,} documents of {min(lengths)} to {max(lengths)} words (half of them at most {middle[9]:.0f})"
    )
    if texts.labels is None:
        return f"{line}, without labels"
    names = texts.classes
    shown = ", ".join(f"{name}: {texts.labels.count(name):,}" for name in names[:6])

    return f"{line}, with {len(names)} labels ({shown}{', ...' if len(names) > 6 else ''})"


def _images(path: Path, ink: Literal["dark", "light"] | None) -> DatasetFile:
    """Looks at a folder of pictures or an npz file."""
    chosen = ink or "dark"
    prepared = _prepared(path, chosen)
    share = _ink(prepared)
    if ink is None and share > 0.5:
        chosen = "light"
        prepared = _prepared(path, chosen)
        share = _ink(prepared)
    counts = {name: len(split) for name, split in prepared.splits.items()}
    labels = np.unique(np.concatenate([split.labels for split in prepared.splits.values()]))
    classes = int((labels >= 0).sum())
    total = sum(counts.values())
    parts = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    messages = [
        f"{total:,} images: {parts}; {f'{classes} labels' if classes else 'no labels'}",
        f"{chosen} ink on {'light' if chosen == 'dark' else 'dark'} paper; {share:.1%} of the pixels are ink",
        *prepared.summary.get("warnings", ()),
    ]
    content: dict[str, Any] = {
        "kind": "images",
        "source": {"path": str(path), "ink": chosen},
        "expect": {"min_ink": float(f"{share / 2:.2g}"), "max_ink": min(1.0, float(f"{share * 2:.2g}"))},
        "networks": next(sizes for most, sizes in IMAGE_SIZES if total < most),
    }
    if classes > 1 and (sizes := [size for size in PROBES if size <= counts["train"] // 2]):
        content["probe"] = {"labels": sizes}

    return DatasetFile(content, [f"Made by 'duvae new' from {path}."], messages, prepared.splits["train"], len(PIXELS))


def _prepared(path: Path, ink: Literal["dark", "light"]) -> Prepared:
    """Reads the images with the default shares of validation and test, and the default size."""
    default = yaml.safe_load(own_data.DEFAULTS.read_text(encoding="utf-8"))["images"]["source"]
    source = ImageSource(**{**default, "path": path.name, "ink": ink})

    return prepared_images(source, path.parent)


def _ink(prepared: Prepared) -> float:
    """Share of ink among the pixels of all images."""
    return float(np.mean([np.mean(split.values) for split in prepared.splits.values()]))
