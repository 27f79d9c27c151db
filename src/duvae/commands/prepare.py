"""Turns a data set's files, or the synthetic generator's draws, into data/prepared/<data set>.

Images become grey values in data/grey/<data set>, which the stage `binarize` goes on from.
"""

from pathlib import Path

from duvae.config import ImageDataset, OmniglotDataset, Params, SyntheticDataset
from duvae.data import images, omniglot, store, text
from duvae.data.store import Prepared


def run(params: Params, dataset: str, root: Path = Path()) -> Prepared:
    """Prepares a data set.

    Args:
        params: All parameters.
        dataset: The name of a data set.
        root: The project's folder.
    """
    chosen = params.dataset(dataset)
    raw, folder = (root / "data" / place / dataset for place in ("raw", "prepared"))
    if isinstance(chosen, SyntheticDataset):
        from duvae.data import synthetic

        prepared, arrays = synthetic.generate(chosen.source)
        store.write(folder, prepared, arrays)
    elif isinstance(chosen, OmniglotDataset | ImageDataset):
        if isinstance(chosen, OmniglotDataset):
            prepared = omniglot.prepare(chosen.source, raw)
        else:
            prepared = images.prepare(chosen.source, raw)
        folder = root / "data" / "grey" / dataset
        store.write(folder, prepared)
    else:
        prepared = text.prepare(chosen.source, raw)
        store.write(folder, prepared)
    sizes = ", ".join(f"{name} {len(split)}" for name, split in prepared.splits.items())
    values = "grey values" if folder.parent.name == "grey" else f"{len(prepared.vocabulary)} words in the vocabulary"
    print(f"{dataset}: {sizes}; {values}")
    if not isinstance(chosen, SyntheticDataset | OmniglotDataset | ImageDataset):
        for warning in text.warnings(prepared.summary):
            print(f"warning: {dataset}: {warning}")

    return prepared
