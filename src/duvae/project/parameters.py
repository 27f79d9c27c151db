"""Updates the two files of parameters that the project itself writes: `fingerprints.yaml` and `data/own.yaml`.

The files have to be up to date before DVC reads dvc.yaml, because the stages depend on the hashes in these files.
"""

from pathlib import Path

from duvae.config import Params
from duvae.project import fingerprint, job_list, own_files


def write(params: Params, root: Path = Path()) -> list[Path]:
    """Writes `fingerprints.yaml` (hashes of the code) and `data/own.yaml` (hashes of the user's own files).

    Each of the two files is written only if its text has changed.

    Args:
        params: The project's parameters.
        root: The project's folder.

    Returns:
        Paths of the files that were out of date and have been written, relative to `root`.
    """
    changed = [fingerprint.FILE] if fingerprint.write(root) else []
    fetched = job_list.contents(params)["fetched"]

    return changed + ([own_files.FILE] if own_files.write(params, fetched, root) else [])
