"""Lists the files from which an MLflow run is written, computes their digest, and finds their copies in the run."""

import hashlib
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import FileInfo, Run

from duvae.config import Job, Params
from duvae.errors import UserError
from duvae.report import per_example, results

LAYOUT = 4
"""Version of the layout of a run. The digest covers this version, so `track` writes every run again when it changes."""

LOGGED, LOCATION = "duvae.model", "duvae.model_location"
"""Names of two tags of a run: the id of its logged model, and the address of the folder of the model's files."""

FILES = "data/model"
"""Folder of the model's own files inside the folder of a logged model. `duvae.inference.model.load` can load it."""

MODEL = "model"
"""The folder, in the result of `files`, of the files that belong to the logged model of a run."""


def files(params: Params, job: Job, root: Path) -> dict[Path, str | None]:
    """Lists the existing files from which a run is written.

    Args:
        params: All parameters of params.yaml.
        job: Data set, setting and seed of the run.
        root: Folder of the project.

    Returns:
        For each path, the folder of the run in which MLflow stores a copy of the file; None: no copy is stored;
        `MODEL`: the logged model of the run has the copy.
    """
    model = root / "models" / job.folder
    found: dict[Path, str | None] = dict.fromkeys(results.commands(params, job, root), "results")
    own = [model / "weights.safetensors", model / "model.json"]
    if all(path.exists() for path in own):  # the weights may be in DVC's remote alone
        found |= dict.fromkeys(own, MODEL)
        if params.dataset(job.dataset).kind in {"synthetic", "text"}:
            found[root / "data" / "prepared" / job.dataset / "vocabulary.txt"] = MODEL
    found[per_example.file_path(job, root)] = "results"
    if job in params.figure1_jobs():
        found[root / "reports" / "figure1.png"] = "figures"

    return {path: folder for path, folder in found.items() if path.exists()}


def digest(paths: Iterable[Path]) -> str:
    """Computes the SHA-256 digest of the names and contents of files, and of `LAYOUT`.

    Args:
        paths: The files, in any order.

    Raises:
        UserError: If a file cannot be read.
    """
    whole = hashlib.sha256(f"layout {LAYOUT}".encode())
    for path in sorted(paths):
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}). Make it readable, or delete it.") from error
        whole.update(f"{path.name} {content}\n".encode())

    return whole.hexdigest()


def has_copies(client: MlflowClient, run: Run, paths: Mapping[Path, str | None]) -> bool:
    """Whether a run has full copies of its files. MLflow's store may list a run whose files were deleted or cut.

    Args:
        client: Client of the store.
        run: The run of MLflow to check.
        paths: The files that the run copies, as `files` returns them.
    """
    model, location = (run.data.tags.get(name) for name in (LOGGED, LOCATION))
    of_run: dict[str, int] = {}
    of_model: dict[str, int] = {}
    for path, folder in paths.items():
        if folder == MODEL:
            of_model[f"{FILES}/{path.name}"] = path.stat().st_size
        elif folder is not None:
            of_run[f"{folder}/{path.name}"] = path.stat().st_size
    if of_model and (model is None or location is None):
        return False

    return _are_at(str(run.info.artifact_uri), of_run, partial(client.list_artifacts, run.info.run_id)) and _are_at(
        str(location), of_model, partial(client.list_logged_model_artifacts, str(model))
    )


def _are_at(uri: str, sizes: Mapping[str, int], listed: Callable[[str], Iterable[FileInfo]]) -> bool:
    """Whether files of the given sizes are in a folder.

    Args:
        uri: Address of the folder.
        sizes: Sizes of the files in bytes, by their paths in the folder.
        listed: Function that asks the server of MLflow for the files in a part of the folder.
    """
    if uri.startswith(("file:", "/")):
        place = Path(urllib.request.url2pathname(urlsplit(uri).path)) if uri.startswith("file:") else Path(uri)
        found = {name: (place / name).stat().st_size for name in sizes if (place / name).is_file()}
    else:
        known = [file for part in {name.rpartition("/")[0] for name in sizes} for file in listed(part)]
        # A server that names no size is believed.
        found = {file.path: file.file_size or sizes[file.path] for file in known if file.path in sizes}

    return found == sizes
