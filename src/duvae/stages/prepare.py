"""Turns a data set's files, or the synthetic generator's draws, into data/prepared/<data set>."""

from pathlib import Path

from duvae.config import Params, SyntheticDataset
from duvae.data import store, text
from duvae.data.store import Prepared


def run(params: Params, dataset: str, root: Path = Path()) -> Prepared:
    """Prepares a data set.

    Args:
        params: All parameters.
        dataset: The name of a data set.
        root: The project's folder.
    """
    chosen = params.dataset(dataset)
    folder = root / "data" / "prepared" / dataset
    if isinstance(chosen, SyntheticDataset):
        from duvae.data import synthetic

        prepared, arrays = synthetic.generate(chosen.source)
        store.write(folder, prepared, arrays)
    else:
        prepared = text.prepare(chosen.source, root / "data" / "raw" / dataset)
        store.write(folder, prepared)
    sizes = ", ".join(f"{name} {len(split)}" for name, split in prepared.splits.items())
    print(f"{dataset}: {sizes}; {len(prepared.vocabulary)} words in the vocabulary")

    return prepared
