"""The files of parameters that stages write and other stages read, brought up to date before DVC reads them."""

from pathlib import Path

from duvae.config import Params
from duvae.project import fingerprint, job_list, own_files


def write(params: Params, root: Path = Path()) -> list[Path]:
    """Writes `fingerprints.yaml` and `data/own.yaml` where they have changed; returns the files that had.

    Args:
        params: All of params.yaml.
        root: The project's folder.
    """
    changed = [fingerprint.FILE] if fingerprint.write(root) else []

    return changed + ([own_files.FILE] if own_files.write(params, job_list.graph(params)["fetched"], root) else [])
