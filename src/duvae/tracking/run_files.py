"""Lists the files from which an MLflow run is written, computes their digest, and finds their copies in the run."""

import hashlib
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Run

from duvae.config import Job, Params
from duvae.errors import UserError
from duvae.report import per_example, results

LAYOUT = 3
"""Version of the layout of a run. The digest covers this version, so `track` writes every run again when it changes."""


def files(params: Params, job: Job, root: Path) -> dict[Path, str | None]:
    """Lists the existing files from which a run is written.

    Args:
        params: All parameters of params.yaml.
        job: Data set, setting and seed of the run.
        root: Folder of the project.

    Returns:
        For each path, the folder of the run in which MLflow stores a copy of the file; None: no copy is stored.
    """
    model = root / "models" / job.folder
    found: dict[Path, str | None] = dict.fromkeys(results.commands(params, job, root), "results")
    found |= {model / "weights.safetensors": "model", model / "model.json": "model"}
    if params.dataset(job.dataset).kind in {"synthetic", "text"}:
        found[root / "data" / "prepared" / job.dataset / "vocabulary.txt"] = "model"
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
    copies = {f"{folder}/{path.name}": path.stat().st_size for path, folder in paths.items() if folder is not None}
    uri = str(run.info.artifact_uri)
    if uri.startswith(("file:", "/")):
        place = Path(urllib.request.url2pathname(urlsplit(uri).path)) if uri.startswith("file:") else Path(uri)
        sizes = {name: (place / name).stat().st_size for name in copies if (place / name).is_file()}
    else:
        folders = {folder for folder in paths.values() if folder is not None}
        known = [file for folder in folders for file in client.list_artifacts(run.info.run_id, folder)]
        # A server that names no size is believed.
        sizes = {file.path: file.file_size or copies[file.path] for file in known if file.path in copies}

    return sizes == copies
