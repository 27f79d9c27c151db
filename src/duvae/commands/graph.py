"""The command and the stage `graph`: writes or checks the list of jobs.

A job is one training: a data set, a setting (a system with its hyperparameters) and a seed.
"""

from pathlib import Path

from duvae.config import Params
from duvae.project import job_list
from duvae.project.files import write_text

CHECKED = Path("data/graph.txt")


def run(params: Params, check: bool = False) -> None:
    """Writes `pipelines/jobs.yaml`, or checks it.

    The check writes `data/graph.txt`. Stages without another input depend on this file, so the check runs before them.
    The text of the file never changes, so a new list of jobs does not make any stage out of date.

    Args:
        params: All parameters.
        check: Whether to compare the list with params.yaml instead of writing it.

    Raises:
        UserError: With `check`, if the list is out of date.
    """
    if check:
        job_list.check(params)
        write_text(CHECKED, f"{job_list.JOBS} agrees with params.yaml.\n")
    elif job_list.write(params):
        print(f"wrote {job_list.JOBS}: {len(params.jobs())} jobs. Commit it together with params.yaml.")
    else:
        print(f"{job_list.JOBS} is up to date: {len(params.jobs())} jobs.")
