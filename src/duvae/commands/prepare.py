"""The stage `prepare`: writes a data set to data/prepared/<data set>, from files or from the synthetic generator.

A data set of images is an exception: its grey values go to data/grey/<data set>, where the stage `binarize` reads them.
"""

from pathlib import Path

from duvae.config import ImageDataset, OmniglotDataset, Params, SyntheticDataset, TextDataset
from duvae.data import fetched, omniglot, sources, store, text, user_images
from duvae.data.split_names import misplaced
from duvae.data.store import Prepared


def run(params: Params, dataset: str, root: Path = Path()) -> Prepared:
    """Converts a data set to the form that trainings read, prints its sizes and warnings, and writes it.

    Args:
        params: All parameters of params.yaml.
        dataset: Name of the data set.
        root: Folder of the project.

    Returns:
        The prepared data set.

    Raises:
        UserError: If a file cannot be used, or has changed since `duvae fetch` wrote it. The message names the file.
    """
    chosen = params.dataset(dataset)
    raw, folder = (root / "data" / kind / dataset for kind in ("raw", "prepared"))
    fetched.check(raw, root)
    if isinstance(chosen, SyntheticDataset):
        from duvae.data import synthetic

        prepared, arrays = synthetic.prepared_synthetic(chosen.source)
        store.write(folder, prepared, arrays)
    elif isinstance(chosen, OmniglotDataset | ImageDataset):
        if isinstance(chosen, OmniglotDataset):
            prepared = omniglot.prepared_omniglot(chosen.source, raw)
        else:
            prepared = user_images.prepared_images(chosen.source, raw)
        folder = root / "data" / "grey" / dataset
        store.write(folder, prepared)
    else:
        prepared = text.prepared_text(chosen.source, raw)
        store.write(folder, prepared)
    sizes = ", ".join(f"{name} {len(split)}" for name, split in prepared.splits.items())
    values = "grey values" if folder.parent.name == "grey" else f"{len(prepared.vocabulary)} words in the vocabulary"
    print(f"{dataset}: {sizes}; {values}")
    warnings = []
    if isinstance(chosen, TextDataset):
        source = chosen.source
        files = {"train": source.train, "valid": source.valid, "test": source.test}
        own = {split: [file.path for file in of if file.path not in sources.SOURCES] for split, of in files.items()}
        warnings = [*misplaced(own), *text.warnings(prepared.summary)]
    for warning in [*prepared.summary.get("warnings", []), *warnings]:
        print(f"warning: {dataset}: {warning}")

    return prepared
