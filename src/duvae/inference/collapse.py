"""Says of a trained model that its latent space has collapsed, where its evaluation is at hand."""

import json
from pathlib import Path

from duvae.inference.model_files import saved_digest
from duvae.metrics import verdict

FILE = "metrics.json"
"""Name of the file with the results of an evaluation."""


class Collapsed(UserWarning):
    """Warns that the latent space of a model has collapsed: its codes say next to nothing about the examples."""


def message(folder: Path) -> str | None:
    """Says that a model has collapsed.

    Args:
        folder: The folder of the model: `models/<data set>/<setting>/<seed>` in a project, or the folder `model` of a
            run in MLflow.

    Returns:
        One sentence; None if the model has not collapsed, if the results do not tell, or if there is no evaluation of
        these weights.
    """
    places = [folder / FILE]
    resolved = folder.resolve()
    if len(resolved.parents) > 3 and resolved.parents[2].name == "models":
        places.append(resolved.parents[3] / "results" / resolved.relative_to(resolved.parents[2]) / FILE)
    for path in places:
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
            collapsed = verdict.collapsed(metrics)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if not collapsed or metrics.get("weights") != saved_digest(folder):
            return None
        parts = [("use of z", metrics.get("use")), ("MI", metrics.get("mi")), ("KL", metrics.get("kl"))]
        numbers = ", ".join(f"{name} {round(value, 2) + 0.0:.2f} nats" for name, value in parts if value is not None)
        return f"the latent space of this model has collapsed ({numbers}): its codes say next to nothing about examples"

    return None
