"""Lists the expectations of a prepared image data set, and builds the pandas frames that they check.

An expectation is one check of Great Expectations (see `Expectation`). A frame has one row per image of a split, one row
per character of OMNIGLOT, or one row per split.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from duvae.config import ImageDataset, OmniglotDataset
from duvae.data.expectations import WHOLE, Expectation, between, classes, rows, within
from duvae.data.splits import Array
from duvae.data.store import Prepared

CHARACTERS = "characters"
"""Name of the frame with one row per character of OMNIGLOT."""

ALPHABETS, ALL_CHARACTERS = 50, 1623
"""Number of alphabets and number of characters in OMNIGLOT."""
BURDA = {"train": 24345, "test": 8070}
"""Number of images in each part of OMNIGLOT as Burda et al. (2016) published it.

`train` includes the images that this project holds out for validation."""


def frames_and_suites(
    prepared: Prepared, dataset: OmniglotDataset | ImageDataset, order: list[str]
) -> tuple[dict[str, pd.DataFrame], dict[str, list[Expectation]]]:
    """Builds the frames of a data set, and lists the expectations of each frame.

    Args:
        prepared: The prepared data set.
        dataset: Parameters of the data set in params.yaml.
        order: Names of the splits, in the order in which the pages of results show them.

    Returns:
        Frames by name, and expectations by the name of the frame that they check.
    """
    tables = {split: frame(split, prepared) for split in order}
    frames = {WHOLE: overview(tables), **tables}
    suites = {WHOLE: overview_expectations(dataset)}
    suites |= {split: split_expectations(split, prepared, dataset) for split in order}
    if isinstance(dataset, OmniglotDataset):
        frames[CHARACTERS] = characters(prepared)
        suites[CHARACTERS] = character_expectations(dataset)

    return frames, suites


def frame(split: str, prepared: Prepared) -> pd.DataFrame:
    """Builds the frame of one split, with one row per image.

    The columns hold these values of each image:

    - its index, and its share of ink, which is the mean of its pixel values;
    - its lowest and its highest pixel value, and its number of grey pixels, which are neither 0 nor 1;
    - its label, the name of the label, and its group, such as the alphabet of a character;
    - whether another split has the same image.
    """
    images = prepared.images(split)
    pixels = images.pixels.reshape(len(images), -1)
    # A key is a hash of the grey values of an image. So equal images have equal keys, even if their drawn bits differ.
    others = {key for name in prepared.splits if name != split for key in prepared.images(name).contents()}

    return pd.DataFrame(
        {
            "image": np.arange(len(images)),
            "ink": pixels.mean(1, dtype=np.float64),
            "lowest": pixels.min(1).astype(np.float64),
            "highest": pixels.max(1).astype(np.float64),
            "grey": np.count_nonzero((pixels != 0) & (pixels != 1), axis=1),
            "label": np.asarray(images.labels),
            "group": np.asarray(images.groups),
            "elsewhere": np.array([key in others for key in images.contents()], np.int64),
            "shown": _names(images.labels, prepared),
        }
    )


def overview(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Builds the frame with one row per split.

    The columns hold three values of each split: its number of images, the mean share of ink of its images, and the
    share of its images that another split has too.
    """
    return pd.DataFrame(
        {
            "split": list(frames),
            "images": [len(table) for table in frames.values()],
            "ink_share": [table["ink"].mean() for table in frames.values()],
            "shared_rate": [table["elsewhere"].mean() for table in frames.values()],
        }
    )


def characters(prepared: Prepared) -> pd.DataFrame:
    """Builds the frame with one row per character of OMNIGLOT.

    The columns hold the character's index, alphabet, number of training images, number of test images and name.
    Validation images count as training images.
    """
    count = len(prepared.summary["characters"])
    images = {name: prepared.images(name) for name in ("train", "valid", "test")}
    times = {
        name: np.bincount(split.labels[split.labels >= 0], minlength=count)[:count] for name, split in images.items()
    }
    shown = _names(np.arange(count), prepared)

    return pd.DataFrame(
        {
            "character": np.arange(count),
            "alphabet": [name.rpartition("/")[0] for name in shown],
            "training": times["train"] + times["valid"],
            "test": times["test"],
            "shown": shown,
        }
    )


def split_expectations(split: str, prepared: Prepared, dataset: OmniglotDataset | ImageDataset) -> list[Expectation]:
    """Lists the expectations of the images of one split."""
    size = _size(split, prepared, dataset)
    sentence = "one image or more" if size is None else f"{size:,} images"
    expected = [
        rows("size", sentence, 1 if size is None else size, size),
        between("lowest_pixel_within_0_and_1", "no pixel below 0", "lowest", 0.0, None),
        between("highest_pixel_within_0_and_1", "no pixel above 1", "highest", None, 1.0),
    ]
    if split == "train":
        expected.append(between("no_empty_images", "ink in each image", "ink", 1e-6, None))
    else:
        expected.append(within("bits", "each pixel is 0 or 1: drawn once", "grey", [0]))
    train = np.unique(prepared.images("train").labels)
    if isinstance(dataset, OmniglotDataset):
        last = len(prepared.summary["characters"]) - 1
        expected.append(between("known_labels", "the label is a character's", "label", 0, last))
        expected.append(
            between("known_alphabets", "the group is an alphabet's", "group", 0, len(prepared.summary["alphabets"]) - 1)
        )
    elif not dataset.probe.enabled and (train < 0).all():
        expected.append(within("known_labels", "no image has a label", "label", [-1]))
    else:
        known = [int(label) for label in train if label >= 0]
        expected.append(within("known_labels", "the label is one of training's", "label", known))
    if dataset.probe.enabled:
        expected.append(classes("label_classes", "two labels or more occur", "label", 2, None))

    return expected


def overview_expectations(dataset: OmniglotDataset | ImageDataset) -> list[Expectation]:
    """Lists the expectations of the frame with one row per split."""
    expect = dataset.expect

    return [
        between(
            "ink_share",
            f"{expect.min_ink:.2%} to {expect.max_ink:.2%} of a split's pixels are ink"
            " (expect.min_ink, expect.max_ink)",
            "ink_share",
            expect.min_ink,
            expect.max_ink,
            "ink",
        ),
        between(
            "shared_between_splits",
            f"at most {expect.max_shared_rate:.2%} of a split's images also stand in another (expect.max_shared_rate)",
            "shared_rate",
            0.0,
            expect.max_shared_rate,
            "elsewhere",
        ),
    ]


def character_expectations(dataset: OmniglotDataset) -> list[Expectation]:
    """Lists the expectations of the frame with one row per character of OMNIGLOT."""
    source = dataset.source
    alphabets = len(set(source.alphabets)) or ALPHABETS
    count = None if source.alphabets else ALL_CHARACTERS
    exactly = source.drawings != "burda"
    train, test = source.train_drawers, source.test_drawers
    word = "exactly" if exactly else "at most"

    return [
        rows("all_characters", f"{count or 'one or more'} characters", count or 1, count),
        classes("all_alphabets", f"{alphabets} alphabets", "alphabet", alphabets, alphabets),
        between(
            "training_drawings",
            f"{word} {train} drawings of each character train or validate",
            "training",
            train if exactly else 0,
            train,
        ),
        between(
            "test_drawings", f"{word} {test} drawings of each character test", "test", test if exactly else 0, test
        ),
    ]


def _size(split: str, prepared: Prepared, dataset: OmniglotDataset | ImageDataset) -> int | None:
    """Number of images that a split must have; None: any number is allowed."""
    if not isinstance(dataset, OmniglotDataset):
        return None
    source = dataset.source
    if split == "valid":
        return source.valid
    count = len(prepared.summary["characters"])
    if source.drawings != "burda":
        sizes = {"train": count * source.train_drawers, "test": count * source.test_drawers}
    else:
        sizes = {} if source.alphabets else BURDA
    if split not in sizes:
        return None

    return sizes[split] - (source.valid if split == "train" else 0)


def _names(labels: Array, prepared: Prepared) -> list[str]:
    """Looks up the name of each label in the summary of the data set. A label n without a name becomes `label <n>`."""
    known = prepared.summary.get("characters", [])

    return [known[label] if 0 <= label < len(known) else f"label {label}" for label in labels.tolist()]
