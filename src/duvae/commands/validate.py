"""The stage `validate`: checks data/prepared/<data set>, and writes Data Docs, HTML pages with the results."""

from pathlib import Path
from typing import Any

from duvae.config import ImageDataset, OmniglotDataset, Params
from duvae.data import store, validation
from duvae.data.enough import require_enough
from duvae.project.files import remove, write_json


def run(params: Params, dataset: str, root: Path = Path()) -> dict[str, Any]:
    """Checks that a data set meets all its expectations, each of which is one check of the data.

    A training does not start on a data set that fails a check.

    Args:
        params: All parameters of params.yaml.
        dataset: Name of the data set.
        root: Folder of the project.

    Returns:
        The content of data/validated/<data set>.json: the results of the checks.

    Raises:
        UserError: If an expectation is not met. The message shows an example row for each such expectation. Also if
            there are too few examples or labels for the probes and the interpolations.
    """
    chosen = params.dataset(dataset)
    report, docs = root / "data" / "validated" / f"{dataset}.json", root / "reports" / "data_docs" / dataset
    remove(report)
    # With `ids=False`, the function `store.read` does not check the word ids, because the expectations check them.
    folder = root / "data" / "prepared" / dataset
    prepared = store.read(folder, ids=False)
    results = validation.run_expectations(prepared, chosen, docs, dataset)
    images = isinstance(chosen, OmniglotDataset | ImageDataset)
    validation.require_all_met(
        results, dataset, docs, ("prepare", "binarize", "validate") if images else ("prepare", "validate")
    )
    require_enough(prepared, chosen, dataset)
    summary = {**validation.summary(results, prepared, dataset), store.DATA: store.digest(folder)}
    write_json(report, summary)
    print(f"{dataset}: all {len(results)} expectations are met; {docs / 'index.html'} shows them")

    return summary
