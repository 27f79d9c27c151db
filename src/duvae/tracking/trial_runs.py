"""Writes the MLflow runs of studies and trials. The run of a trial shows each epoch as soon as the epoch has ended.

A study is a search for hyperparameters, and a trial is one training of the study. A study has a run of its own, which
is the parent of the runs of its trials.
"""

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from duvae.project.progress import Row
from duvae.tracking.store import connect, experiment, store_errors

STUDY, TRIAL = "duvae.study", "duvae.trial"
"""Names of two tags of a run: the name of the study, and the number of the trial.

In the study's own run, the tag for the number is empty.
"""


def epoch_metrics(row: Mapping[str, Any], time_ms: int, seed: int | None = None) -> Iterator[Metric]:
    """Yields the values of one epoch as MLflow metrics, with names such as `train/loss` and `valid/kl`.

    Args:
        row: Row of the training history for this epoch. The columns `epoch`, `best` and `steps` are left out, and so
            are values of None or NaN.
        time_ms: Time at which the epoch ended, in milliseconds since 1970.
        seed: Seed of the training, which the names then end with, as in `valid/kl/seed 2`; None: names without a seed.
    """
    end = "" if seed is None else f"/seed {seed}"
    for name, value in row.items():
        if name not in ("epoch", "best", "steps") and value is not None and not math.isnan(value):
            part, _, rest = name.partition("_")
            key = f"{part}/{rest}" if part in ("train", "valid") else f"train/{name}"
            yield Metric(f"{key}{end}", float(value), time_ms, int(row["epoch"]))


def study_run(study: str, dataset: str, description: str, root: Path = Path()) -> str:
    """Returns the id of a study's own run, and creates the run if it is missing.

    Two processes must not call this function at the same time, because each of them would create a run.

    Args:
        study: Name of the study, followed by the first digits of the hash that identifies the study.
        dataset: Name of the data set.
        description: Description of the search in one sentence.
        root: Folder of the project.
    """
    client = connect(root)
    with store_errors(client.tracking_uri):
        experiment_id = experiment(client, dataset, root, studies=True)
        for run in client.search_runs([experiment_id], f"tags.`{STUDY}` = '{study}' and tags.`{TRIAL}` = ''"):
            return str(run.info.run_id)
        tags = {STUDY: study, TRIAL: "", "dataset": dataset, "mlflow.note.content": description}

        return str(client.create_run(experiment_id, tags=tags, run_name=study).info.run_id)


def end_study(parent: str, best: Mapping[str, float | None], root: Path = Path()) -> None:
    """Ends a study's own run, and logs the measures of the best trial in this run.

    Args:
        parent: Id of the study's own run.
        best: Measures of the best trial, by name. Measures of None are left out.
        root: Folder of the project.
    """
    client = connect(root)
    now = int(1000 * time.time())
    metrics = [Metric(f"best/{key}", float(value), now, 0) for key, value in best.items() if value is not None]
    with store_errors(client.tracking_uri):
        client.log_batch(parent, metrics=metrics)
        client.set_terminated(parent)


class TrialRun:
    """The MLflow run of a trial. If a trial is interrupted and resumes later, it continues in the same run.

    If MLflow's store fails, this object logs one warning and writes nothing more. The training goes on without MLflow.

    Args:
        study: Name of the study, as in `study_run`.
        parent: Id of the study's own run.
        number: Number of the trial.
        tags: Further tags of the run.
        hyperparameters: Hyperparameters of the trial.
        root: Folder of the project.
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
        with self._tolerant():
            experiment_id = self.client.get_run(parent).info.experiment_id
            query = f"tags.`{STUDY}` = '{study}' and tags.`{TRIAL}` = '{number}'"
            known = self.client.search_runs([experiment_id], query)
            if known:
                self.run = str(known[0].info.run_id)
                self.client.update_run(self.run, "RUNNING")
            else:
                tags = {STUDY: study, TRIAL: str(number), "mlflow.parentRunId": parent, **tags}
                name = f"trial {number}: {', '.join(f'{key} {value:.4g}' for key, value in hyperparameters.items())}"
                self.run = str(self.client.create_run(experiment_id, tags=tags, run_name=name).info.run_id)
                params = [Param(key, str(value)) for key, value in hyperparameters.items()]
                self.client.log_batch(self.run, params=params)

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Logs an error of MLflow's store in the `with` block as a warning. The object then writes nothing more."""
        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            logging.getLogger(__name__).warning("MLflow does not show the rest of this trial: %s", error)
            self.run = None

    def epoch(self, row: Row, seed: int | None = None) -> None:
        """Logs the values of one epoch in the run.

        Args:
            row: Row of the training history for this epoch.
            seed: Seed of the training; None: all trainings have one seed, and the names of the metrics leave it out.
        """
        with self._tolerant():
            if self.run is not None:
                self.client.log_batch(self.run, metrics=list(epoch_metrics(row, int(1000 * time.time()), seed)))

    def end(self, state: str, measures: Mapping[str, float | None]) -> None:
        """Ends the run of the trial, and logs the state and the measures of the trial in this run.

        Args:
            state: State of the trial: complete, pruned (ended early) or failed.
            measures: Measures of the trial's best weights on the validation set, by name. Measures of None are left
                out.
        """
        now = int(1000 * time.time())
        metrics = [Metric(f"kept/{key}", float(value), now, 0) for key, value in measures.items() if value is not None]
        with self._tolerant():
            if self.run is not None:
                self.client.log_batch(self.run, metrics=metrics, tags=[RunTag("state", state)])
                self.client.set_terminated(self.run, "FAILED" if state == "failed" else "FINISHED")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._tolerant():
            if self.run is not None and kind is not None:
                self.client.set_terminated(self.run, "KILLED")
