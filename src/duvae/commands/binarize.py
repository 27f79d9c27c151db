"""The stage `binarize`: draws the bits of the validation and test images, and writes data/prepared/<data set>.

A bit is a pixel of 0 or 1. It is drawn at random; the grey value of the pixel is the probability of 1.
"""

from pathlib import Path

from duvae.config import ImageDataset, OmniglotDataset, Params
from duvae.data import images, store
from duvae.data.store import Prepared
from duvae.errors import UserError


def run(params: Params, dataset: str, root: Path = Path()) -> Prepared:
    """Draws the bits of the validation and test images, and writes them beside the grey training images.

    The validation and test images keep these bits. Training images stay grey, because a training draws new bits each
    time it uses an image.

    Args:
        params: All parameters of params.yaml.
        dataset: Name of a data set of images.
        root: Folder of the project.

    Returns:
        The prepared data set.

    Raises:
        UserError: If the data set does not consist of images, or if `duvae prepare` has not written its grey values.
    """
    chosen = params.dataset(dataset)
    if not isinstance(chosen, OmniglotDataset | ImageDataset):
        raise UserError(
            f"params.yaml: datasets.{dataset} is of kind {chosen.kind}; only images are binarized. Leave out this step."
        )
    prepared = images.binarized(store.read(root / "data/grey" / dataset), chosen.binarize.seed)
    store.write(root / "data/prepared" / dataset, prepared)
    print(
        f"{dataset}: drew the bits of {', '.join(name for name, split in prepared.splits.items() if not split.is_grey)}"
    )

    return prepared
