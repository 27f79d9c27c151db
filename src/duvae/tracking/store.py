"""Connects to MLflow's store, and creates one experiment per data set in the store."""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from duvae.errors import UserError


def connect(root: Path = Path()) -> MlflowClient:
    """Connects to the store that MLFLOW_TRACKING_URI names, or else to the one that `mlflow ui` opens in `root`.

    The first connection creates a local store. Connect once before several processes write to it.

    Args:
        root: Folder of the project.

    Raises:
        UserError: If the store cannot be opened.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    path = root.resolve() / "mlflow.db"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{path}"
    with store_errors(uri):
        if uri == f"sqlite:///{path}":
            # If the file cannot be locked, fail after a minute: MLflow itself would retry for minutes.
            with closing(sqlite3.connect(path, timeout=60)) as database:
                database.executescript("BEGIN IMMEDIATE; ROLLBACK")
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)

    return client


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turns errors of the store at `uri` into a `UserError` that says what to do."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = " ".join(str(error).split("\n[SQL", maxsplit=1)[0].split())
        raise UserError(
            f"{uri}: cannot be used as MLflow's store ({reason}). Expected a store that can be opened and written to,"
            " with space left. Set MLFLOW_TRACKING_URI to another store, or unset it. You may delete a local mlflow.db"
            " and mlruns: 'duvae track' fills them again."
        ) from error


def experiment(client: MlflowClient, dataset: str, root: Path = Path()) -> str:
    """Returns the id of a data set's experiment, and creates a missing experiment.

    Args:
        client: Client of the store.
        dataset: Name of the data set.
        root: Folder of the project.
    """
    location = None if os.environ.get("MLFLOW_TRACKING_URI") else str(root.resolve() / "mlruns" / dataset)
    known = client.get_experiment_by_name(dataset)
    if known is not None and location is not None and known.artifact_location != location:
        # The project was moved or copied, so the files of the old experiment are in another folder. A new experiment
        # replaces the old one.
        if known.lifecycle_stage == "active":
            client.rename_experiment(known.experiment_id, f"{dataset} of {known.artifact_location}")
            client.delete_experiment(known.experiment_id)
        known = None
    if known is not None:
        if known.lifecycle_stage == "deleted":
            client.restore_experiment(known.experiment_id)

        return str(known.experiment_id)
    tags = {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.note.content": f"The models trained on `{dataset}`, one per setting and seed. Filled by `duvae track`.",
    }

    return str(client.create_experiment(dataset, location, tags))
