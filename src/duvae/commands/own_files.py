"""The stage `own_files`: computes digests (hashes) of the user's own files on every run."""

from pathlib import Path

from duvae.config import Params
from duvae.project import job_list, own_files


def run(params: Params, root: Path = Path()) -> None:
    """Writes one digest for each data set with files to `data/own.yaml`, on which the stage `fetch` depends.

    Args:
        params: All parameters.
        root: Folder of the project.
    """
    fetched = job_list.contents(params)["fetched"]
    if own_files.write(params, fetched, root):
        print(f"wrote {own_files.FILE}.")
    else:
        print(f"{own_files.FILE} is up to date: no file of your own has changed.")
