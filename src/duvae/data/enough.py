"""Checks that a prepared data set has enough examples and labels for the stages after the training.

Without these checks, a mistake in the sizes of the probes would be found only after hours of training.
"""

from collections.abc import Iterator

import numpy as np

from duvae.config import AnyDataset
from duvae.data.splits import Images
from duvae.data.store import Prepared
from duvae.errors import UserError


def require_enough(prepared: Prepared, dataset: AnyDataset, name: str) -> None:
    """Checks that there are enough examples and labels for the probes and the interpolations.

    Takes the arguments of `require_probe`, and raises the same error.
    """
    require_probe(prepared, dataset, name)
    if len(prepared.split("test")) < 2:
        raise UserError(
            f"data/prepared/{name}: expected two test examples or more, for interpolations; found 1. Give more"
            " examples."
        )


def require_probe(prepared: Prepared, dataset: AnyDataset, name: str) -> None:
    """Checks that there are enough examples and labels for the probes.

    Args:
        prepared: The prepared data set.
        dataset: Parameters of the data set.
        name: Name of the data set.

    Raises:
        UserError: If examples or labels are missing; the message has one line for each mistake.
    """
    if mistakes := list(_probe(prepared, dataset, name)):
        raise UserError("\n".join(mistakes))


def _probe(prepared: Prepared, dataset: AnyDataset, name: str) -> Iterator[str]:
    """One sentence for each reason why the probes of a data set cannot be trained."""
    options, key = dataset.probe, f"params.yaml: datasets.{name}.probe"
    if options.per_character:
        yield from _probe_by_character(prepared, name)
        return
    for split in ["test", *(["train"] if options.labels else []), *options.subsets] if options.enabled else []:
        labels = prepared.split(split).labels
        if len(np.unique(labels)) < 2 or labels.min() < 0:
            yield (
                f"data/prepared/{name}: expected a label for every example of split '{split}', and at least two"
                f" different labels. Give the files labels, or empty datasets.{name}.probe in params.yaml."
            )
            return
    for size in options.labels:
        labels = prepared.split("train").labels
        classes = len(np.unique(labels))
        if size > len(labels):
            yield (
                f"{key}.labels: expected at most {len(labels)}, the number of training examples; found {size}."
                " Lower it, or give more examples."
            )
        if size < classes:
            yield f"{key}.labels: expected at least {classes}, the number of different labels; found {size}. Raise it."


def _probe_by_character(prepared: Prepared, name: str) -> Iterator[str]:
    """One sentence for each reason why the probes of an image data set with alphabets cannot be trained."""
    for split in ("train", "valid", "test"):
        images = prepared.images(split)
        if min(images.labels.min(), images.groups.min()) < 0:
            yield (
                f"data/prepared/{name}: expected a character and an alphabet for every image of {split}. Sort the"
                f" images into folders alphabet/character, or empty datasets.{name}.probe.per_character in params.yaml."
            )
            return
    training: list[Images] = [prepared.images("train"), prepared.images("valid")]
    labels, groups = (np.concatenate([getattr(part, each) for part in training]) for each in ("labels", "groups"))
    test = prepared.images("test").groups
    for group in np.unique(groups).tolist():
        characters, images_of_test = len(np.unique(labels[groups == group])), np.count_nonzero(test == group)
        if characters < 2 or not images_of_test:
            yield (
                f"data/prepared/{name}: expected at least two characters in training and at least one test image in"
                f" each alphabet; found {characters} and {images_of_test} in {prepared.summary['alphabets'][group]}."
                " Give more images, or leave out the alphabet."
            )
