"""The command `duvae track`: writes the existing results to MLflow."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from duvae.config import Job, Params
from duvae.project import local_store, name_lists
from duvae.tracking import runs


def run(params: Params, root: Path = Path(), jobs: Sequence[Job] | None = None) -> None:
    """Copies new and changed results to MLflow, and prints what was done.

    The output has the number of runs that were added, replaced or left unchanged. It also names the results that are
    missing, those that belong to other weights than the model, and those that other parameters have made.

    Args:
        params: All parameters of params.yaml.
        root: Folder of the project.
        jobs: The jobs; None: all jobs of `run` and of Figure 1.
    """
    # A server has no lock of the project; there, the next command removes a run that was written twice.
    server = os.environ.get("MLFLOW_TRACKING_URI")
    with nullcontext() if server else local_store.filled_by_one(root):
        tracked = runs.track(params, root, jobs)
    counts = {
        "added": tracked.added,
        "replaced": tracked.replaced,
        "unchanged": tracked.unchanged,
        "without results": tracked.missing,
    }
    print(f"MLflow: {', '.join(f'{len(names)} {change}' for change, names in counts.items() if names)}")
    for message in [*tracked.stale, *tracked.changed]:
        print(message)
    if tracked.missing:
        print(f"jobs without results: {name_lists.shortened(tracked.missing)}. Run 'dvc repro' to produce them.")
