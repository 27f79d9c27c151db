"""The list of jobs, written or checked."""

from pathlib import Path

from duvae.config import Params
from duvae.project import job_list
from duvae.project.files import write_text

CHECKED = Path("data/graph.txt")


def run(params: Params, check: bool = False) -> None:
    """Writes `pipelines/jobs.yaml`; with `check`, compares it and writes what all other stages wait for.

    That file's text never changes, so that a change of the list alone makes nothing else out of date.
    """
    if check:
        job_list.check(params)
        write_text(CHECKED, f"{job_list.JOBS} agrees with params.yaml.\n")
    elif job_list.write(params):
        print(f"wrote {job_list.JOBS}: {len(params.jobs())} jobs. Commit it together with params.yaml.")
    else:
        print(f"{job_list.JOBS} is up to date: {len(params.jobs())} jobs.")
