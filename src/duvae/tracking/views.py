"""Chooses the columns that MLflow's pages show, by a view of an experiment that a link can open.

MLflow's pages keep the view of an experiment, such as its columns and its order, in the browser. A user can share a
view. Then MLflow writes it as JSON into a tag of the experiment, and the link has the key of the tag. This module
writes such a tag.
"""

import json
from collections.abc import Mapping

from mlflow import MlflowClient

KEY = "duvae"
"""Key of the shared view, in the tag and in links."""

TAG = f"mlflow.sharedViewState.{KEY}"
"""Name of the tag of an experiment that holds the view."""

MODELS = ("test/nll", "spread/nll", "test/kl", "test/mi", "test/use", "test/au", "work/epochs", "work/seconds")
"""Metrics that the view of a data set's models shows. MLflow puts their columns in alphabetical order."""

TRIALS = ("kept/nll", "kept/mi", "valid/kl")
"""Metrics that the view of a data set's studies shows."""


WORKFLOW = "workflowType=machine_learning"
"""Parameter of links. Without it, MLflow's pages may open as those of another kind of work."""


def addresses(experiment: str) -> dict[str, str]:
    """The parts of links after `#` that open the runs of an experiment in this view, their charts, and the models.

    Args:
        experiment: Id of the experiment.
    """
    runs = f"/experiments/{experiment}/runs?{WORKFLOW}&viewStateShareKey={KEY}"

    return {
        "runs": runs,
        "charts": f"{runs}&compareRunsMode=CHART",
        "models": f"/experiments/{experiment}/models?{WORKFLOW}",
    }


def state(metrics: tuple[str, ...]) -> str:
    """The view as JSON.

    Args:
        metrics: Names of the metrics to show. The rows are in the order of their dates, since MLflow puts runs below
            their parents only in this order.
    """
    return json.dumps({"selectedColumns": [f"metrics.`{name}`" for name in metrics]})


def share(client: MlflowClient, experiment: str, tags: Mapping[str, str], metrics: tuple[str, ...]) -> None:
    """Writes the view into the tag of an experiment, unless it is there.

    Args:
        client: Client of the store.
        experiment: Id of the experiment.
        tags: The tags that the experiment has.
        metrics: Names of the metrics to show.
    """
    if tags.get(TAG) != state(metrics):
        client.set_experiment_tag(experiment, TAG, state(metrics))
