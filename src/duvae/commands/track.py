"""MLflow, filled from the results that are there."""

from pathlib import Path

from duvae.config import Params
from duvae.tracking import runs


def run(params: Params, root: Path = Path()) -> None:
    """Brings MLflow up to date and says what changed there.

    Args:
        params: All of params.yaml.
        root: The project's folder.
    """
    outcome = runs.track(params, root)
    counts = {
        "added": outcome.added,
        "replaced": outcome.replaced,
        "unchanged": outcome.unchanged,
        "without results": outcome.missing,
    }
    print(f"MLflow: {', '.join(f'{len(names)} {what}' for what, names in counts.items() if names)}")
    for line in outcome.stale:
        print(line)
    if outcome.missing:
        print(f"without results: {', '.join(outcome.missing)}. 'dvc repro' makes them.")
