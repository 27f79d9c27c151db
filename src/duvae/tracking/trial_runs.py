"""MLflow's store, and the runs of a study's trials, which it shows while they train."""

import contextlib
import logging
import math
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from duvae.errors import UserError
from duvae.project.progress import Row

STUDY, TRIAL = "duvae.study", "duvae.trial"


def connect(root: Path = Path()) -> MlflowClient:
    """The store that a plain `mlflow ui` opens in `root`, or the one that MLFLOW_TRACKING_URI names.

    A local store is made by the first connection; let one be made before several processes write to it.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    local = root.resolve() / "mlflow.db"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{local}"
    with usable(uri):
        if uri == f"sqlite:///{local}":
            # MLflow itself would try again for minutes.
            with closing(sqlite3.connect(local, timeout=60)) as database:
                database.executescript("BEGIN IMMEDIATE; ROLLBACK")
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)

    return client


@contextlib.contextmanager
def usable(uri: str) -> Iterator[None]:
    """Says of a store that fails in the body what can be done about it."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        why = " ".join(str(error).split("\n[SQL", maxsplit=1)[0].split())
        raise UserError(
            f"{uri}: cannot be used as MLflow's store ({why}). Expected one that can be opened and written to, with"
            " space left. Set MLFLOW_TRACKING_URI to another, or unset it. A local mlflow.db and mlruns may be"
            " deleted: 'duvae track' fills them again."
        ) from error


def experiment(client: MlflowClient, dataset: str, root: Path = Path()) -> str:
    """The id of a data set's experiment, which is made where it is missing."""
    place = None if os.environ.get("MLFLOW_TRACKING_URI") else str(root.resolve() / "mlruns" / dataset)
    known = client.get_experiment_by_name(dataset)
    if known is not None and place is not None and known.artifact_location != place:
        # The folder was moved or copied: what the old experiment would write and show lies elsewhere.
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
        "mlflow.note.content": f"The models trained on `{dataset}`, one a setting and seed. Filled by `duvae track`.",
    }

    return str(client.create_experiment(dataset, place, tags))


def epoch_metrics(row: Mapping[str, Any], at: int) -> Iterator[Metric]:
    """A row of the history, at the time when the epoch ended, in milliseconds."""
    for name, value in row.items():
        if name not in ("epoch", "best", "steps") and value is not None and not math.isnan(value):
            part, _, rest = name.partition("_")
            key = f"{part}/{rest}" if part in ("train", "valid") else f"train/{name}"
            yield Metric(key, float(value), at, int(row["epoch"]))


# ---------------------------------------------------------------------------------- studies


def study_run(study: str, dataset: str, said: str, root: Path = Path()) -> str:
    """The id of the run that a study's trials lie under, which is made where it is missing.

    Not by two processes at the same time: each would make one.

    Args:
        study: Its name with its key.
        dataset: The data set's name.
        said: What it does, in words.
        root: The project's folder.
    """
    client = connect(root)
    with usable(client.tracking_uri):
        where = experiment(client, dataset, root)
        for run in client.search_runs([where], f"tags.`{STUDY}` = '{study}' and tags.`{TRIAL}` = ''"):
            return str(run.info.run_id)
        tags = {STUDY: study, TRIAL: "", "dataset": dataset, "mlflow.note.content": said}

        return str(client.create_run(where, tags=tags, run_name=study).info.run_id)


def end_study(parent: str, found: Mapping[str, float | None], root: Path = Path()) -> None:
    """The study of this run has ended, with these numbers of its best trial."""
    client = connect(root)
    now = int(1000 * time.time())
    metrics = [Metric(f"best/{key}", float(value), now, 0) for key, value in found.items() if value is not None]
    with usable(client.tracking_uri):
        client.log_batch(parent, metrics=metrics)
        client.set_terminated(parent)


class TrialRun:
    """Shows a trial of a study while it trains; a trial that goes on later goes on in the same run.

    A store that fails is said once and then left alone, for the training matters more.

    Args:
        study: The study's name with its key.
        parent: The id of the study's run.
        number: The trial's.
        tags: What else is known of it.
        hyperparameters: What it trains with.
        root: The project's folder.
    """

    def __init__(
        self,
        study: str,
        parent: str,
        number: int,
        tags: Mapping[str, str],
        hyperparameters: Mapping[str, Any],
        root: Path = Path(),
    ) -> None:
        self.client = connect(root)
        self.run: str | None = None
        with self._spared():
            where = self.client.get_run(parent).info.experiment_id
            known = self.client.search_runs([where], f"tags.`{STUDY}` = '{study}' and tags.`{TRIAL}` = '{number}'")
            if known:
                self.run = str(known[0].info.run_id)
                self.client.update_run(self.run, "RUNNING")
            else:
                said = {STUDY: study, TRIAL: str(number), "mlflow.parentRunId": parent, **tags}
                name = f"trial {number}: {', '.join(f'{key} {value:.4g}' for key, value in hyperparameters.items())}"
                self.run = str(self.client.create_run(where, tags=said, run_name=name).info.run_id)
                params = [Param(key, str(value)) for key, value in hyperparameters.items()]
                self.client.log_batch(self.run, params=params)

    @contextlib.contextmanager
    def _spared(self) -> Iterator[None]:
        """What fails in the body is said, and nothing is told to the store from then on."""
        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            logging.getLogger(__name__).warning("MLflow is not told of this trial any more: %s", error)
            self.run = None

    def epoch(self, row: Row) -> None:
        """Takes one row of the history."""
        with self._spared():
            if self.run is not None:
                self.client.log_batch(self.run, metrics=list(epoch_metrics(row, int(1000 * time.time()))))

    def end(self, how: str, found: Mapping[str, float | None]) -> None:
        """The trial is complete, pruned or failed, with what the kept weights were measured by on validation."""
        now = int(1000 * time.time())
        metrics = [Metric(f"kept/{key}", float(value), now, 0) for key, value in found.items() if value is not None]
        with self._spared():
            if self.run is not None:
                self.client.log_batch(self.run, metrics=metrics, tags=[RunTag("state", how)])
                self.client.set_terminated(self.run, "FAILED" if how == "failed" else "FINISHED")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._spared():
            if self.run is not None and kind is not None:
                self.client.set_terminated(self.run, "KILLED")
