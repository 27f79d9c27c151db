"""The stage `own_files`: computes digests (hashes) of the user's own files on every run of `dvc repro`."""

from pathlib import Path

from duvae.config import Params
from duvae.project import job_list, own_files


def run(params: Params, root: Path = Path()) -> None:
    """Writes one digest for each data set that has files to `data/own.yaml`.

    The stage `fetch` depends on `data/own.yaml`. The stage runs again for a data set whose files have changed.

    Args:
        params: All parameters of params.yaml.
        root: Folder of the project.
    """
    fetched = job_list.contents(params)["fetched"]
    if own_files.write(params, fetched, root):
        print(f"wrote {own_files.FILE}.")
    else:
        print(f"{own_files.FILE} is up to date: no file of your own has changed.")
