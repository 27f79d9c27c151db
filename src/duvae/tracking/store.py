"""Connects to MLflow's store, the database of all runs, and creates one experiment per data set in the store."""

import contextlib
import http.client
import logging
import os
import re
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from duvae.errors import UserError, as_user_error
from duvae.project import local_store
from duvae.tracking import views

STUDIES = "-studies"
"""The end of the name of the experiment of a data set's studies. Names of data sets have no hyphen."""

NOTE = "mlflow.note.content"
"""Name of the tag with the description of an experiment."""

OF_MODELS = (
    "The models trained on `{dataset}`: a row for each setting, with means over its seeds, and below it the seeds. Look"
    " first at `test/nll` (nats per example; lower is better) beside `test/use` (nats that the decoder gains from z;"
    " near 0: collapsed). `spread/…` are standard deviations over seeds. Differences of `test/nll` between settings are"
    " not tested here: the report compares them in pairs. The tab Models has the trained models. Filled by"
    " `duvae track`."
)
"""Description of the experiment of a data set's models."""

OF_STUDIES = (
    "The studies on `{dataset}`: a row for each study, and below it its trials. Look first at `kept/nll`, the NLL on"
    " validation of a trial's best epoch (nats per example; lower is better), beside `kept/mi`. Filled by"
    " `duvae search`."
)
"""Description of the experiment of a data set's studies."""

ANSWER = 10.0
"""Seconds to wait for the answer of a server of MLflow."""


def connect(root: Path = Path()) -> MlflowClient:
    """Connects to the store that the environment variable MLFLOW_TRACKING_URI names.

    If the variable is not set, the store is the local file `mlflow.db` in the project, which `mlflow ui` opens there.
    The first connection creates this file. Call this function once before you start several processes that write to the
    store.

    Args:
        root: Folder of the project.

    Returns:
        A client of the store.

    Raises:
        UserError: If the store cannot be opened, or MLflow would write to another folder than the project's.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # MLflow logs the traceback of each error of the database. `store_errors` reports these errors.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if not named or "sqlite:" in named:
        _require_plain(root.resolve())
    uri = named or f"sqlite:///{root.resolve() / local_store.FILE}"
    with store_errors(uri):
        if file := _sqlite_file(uri):
            # If another process keeps the file locked, this line fails after a minute. MLflow itself would retry for
            # several minutes.
            local_store.require_at(file)
        elif uri.startswith(("http://", "https://")):
            _require_answer(uri)
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)

    return client


def _require_plain(folder: Path) -> None:
    """Checks that MLflow takes the path of a folder literally.

    MLflow reads the path as a part of an address, in which `?` begins the options, and `%20` is a space. It would write
    the store and the files of the runs to another folder, where no later command finds them.

    Raises:
        UserError: If the path has such a part.
    """
    path = str(folder)
    if part := re.search(r"\?|%[0-9a-fA-F]{2}", path):
        raise UserError(
            f"{path}: expected the path of a project without ? and without % before two digits or letters from A to F;"
            f" found {part.group()!r}, with which MLflow would write to another folder. Rename the folder, or set"
            " MLFLOW_TRACKING_URI to the address of a server."
        )


def _sqlite_file(uri: str) -> Path | None:
    """The file of a store in SQLite; None for a store of another kind, and for one in memory."""
    try:
        url = make_url(uri)
    except ArgumentError:
        return None
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:" or url.query:
        return None

    return Path(url.database).resolve()


def _require_answer(uri: str) -> None:
    """Checks that a server answers. MLflow itself would try for minutes, without a word.

    Raises:
        UserError: If no server answers.
    """
    try:
        urllib.request.urlopen(uri, timeout=ANSWER).close()  # noqa: S310 (the address of the user)
    except urllib.error.HTTPError:
        pass  # a server answers, though perhaps not for this address
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(
            f"{uri}: no server of MLflow answers within {ANSWER:.0f} seconds ({getattr(error, 'reason', error)})."
            " Start the server, correct MLFLOW_TRACKING_URI, or unset it to use the local mlflow.db."
        ) from error


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turns errors of MLflow's store inside the `with` block into a `UserError` that says what to do.

    Args:
        uri: Address of the store, for the message.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        if isinstance(error, OSError) and not _of_store(error) and (refusal := as_user_error(error)):
            raise refusal from error  # the file belongs to a result
        reason = " ".join(str(error).split("\n[SQL", maxsplit=1)[0].split())
        if "database is locked" in reason:
            raise UserError(
                f"{uri}: cannot be used as MLflow's store now, since another process keeps it locked. Wait until this"
                " process has ended, then run the same command again."
            ) from error
        raise UserError(
            f"{uri}: cannot be used as MLflow's store ({reason}). Expected a store that can be opened and written to,"
            " with space left. Set MLFLOW_TRACKING_URI to another store, or unset it. You may delete a local mlflow.db"
            " and mlruns: 'duvae track' fills them again."
        ) from error


def _of_store(error: OSError) -> bool:
    """Whether a file that the system refuses belongs to the store. An error without a file may be of any."""
    return error.filename is None or "mlruns" in Path(str(error.filename)).parts


def experiment(client: MlflowClient, dataset: str, root: Path = Path(), studies: bool = False) -> str:
    """Returns the id of a data set's experiment, and creates the experiment if it is missing.

    The experiment gets a note, and a view with the columns that matter.

    Args:
        client: Client of the store.
        dataset: Name of the data set.
        root: Folder of the project.
        studies: Whether it is the experiment of the data set's studies, and not that of its models.
    """
    name = f"{dataset}{STUDIES}" if studies else dataset
    found = _experiment(client, name, root)
    wanted = {NOTE: (OF_STUDIES if studies else OF_MODELS).format(dataset=dataset)}
    tags = client.get_experiment(found).tags
    for tag, value in wanted.items():
        if tags.get(tag) != value:
            client.set_experiment_tag(found, tag, value)
    views.share(client, found, tags, views.TRIALS if studies else views.MODELS)

    return found


def _experiment(client: MlflowClient, name: str, root: Path) -> str:
    """Returns the id of an experiment, and creates the experiment if it is missing."""
    location = None if os.environ.get("MLFLOW_TRACKING_URI") else str(root.resolve() / "mlruns" / name)
    known = client.get_experiment_by_name(name)
    if known is not None and location is not None and known.artifact_location != location:
        # The project was moved or copied, so the known experiment would store its files in the project's old folder.
        # A new experiment with the present folder replaces the known one.
        if known.lifecycle_stage == "active":
            client.rename_experiment(known.experiment_id, f"{name} of {known.artifact_location}")
            client.delete_experiment(known.experiment_id)
        known = None
    if known is not None:
        if known.lifecycle_stage == "deleted":
            client.restore_experiment(known.experiment_id)

        return str(known.experiment_id)

    return str(client.create_experiment(name, location, {"mlflow.experimentKind": "custom_model_development"}))
