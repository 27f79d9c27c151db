"""Checks data/prepared/<data set> against what is expected of it, and writes its Data Docs."""

from pathlib import Path
from typing import Any

from duvae.config import ImageDataset, OmniglotDataset, Params
from duvae.data import store, validation
from duvae.project.files import remove, write_json


def run(params: Params, dataset: str, root: Path = Path()) -> dict[str, Any]:
    """Validates a data set; nothing is trained on one that fails.

    Args:
        params: All parameters.
        dataset: The name of a data set.
        root: The project's folder.

    Raises:
        UserError: With each expectation that is not met and an example row.
    """
    chosen = params.dataset(dataset)
    report, docs = root / "data" / "validated" / f"{dataset}.json", root / "reports" / "data_docs" / dataset
    remove(report)
    prepared = store.read(root / "data" / "prepared" / dataset, ids=False)  # an expectation looks at them
    outcomes = validation.validate(prepared, chosen, docs, dataset)
    images = isinstance(chosen, OmniglotDataset | ImageDataset)
    validation.complain(
        outcomes, dataset, docs, ("prepare", "binarize", "validate") if images else ("prepare", "validate")
    )
    said = validation.summary(outcomes, prepared, dataset)
    write_json(report, said)
    print(f"{dataset}: all {len(outcomes)} expectations are met; {docs / 'index.html'}")

    return said
