"""Draws the bits of an image data set's validation and test once, into data/prepared/<data set>."""

from pathlib import Path

from duvae.config import ImageDataset, OmniglotDataset, Params
from duvae.data import images, store
from duvae.data.store import Prepared
from duvae.errors import UserError


def run(params: Params, dataset: str, root: Path = Path()) -> Prepared:
    """Binarizes a data set; training stays grey, for bits to be drawn each time an image is used.

    Args:
        params: All parameters.
        dataset: The name of a data set of images.
        root: The project's folder.
    """
    chosen = params.dataset(dataset)
    if not isinstance(chosen, OmniglotDataset | ImageDataset):
        raise UserError(f"params.yaml: datasets.{dataset} is of kind {chosen.kind}; only images are binarized.")
    prepared = images.binarize(store.read(root / "data/grey" / dataset), chosen.binarize.seed)
    store.write(root / "data/prepared" / dataset, prepared)
    print(f"{dataset}: bits of {', '.join(name for name, split in prepared.splits.items() if not split.drawn)} drawn")

    return prepared
