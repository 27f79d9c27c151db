"""The command `graph` writes the list of jobs; the stage `graph` of dvc.yaml checks the list.

A job is one training: a data set, a setting (a system with its hyperparameters) and a seed.
"""

from pathlib import Path

from duvae.config import Params
from duvae.project import job_list
from duvae.project.files import write_text
from duvae.report.paper_tables import require_rows

CHECKED = Path("data/graph.txt")
"""File that the check writes if the list of jobs agrees with params.yaml."""


def run(params: Params, check: bool = False) -> None:
    """Writes the list of jobs, `pipelines/jobs.yaml`, or checks that the list agrees with params.yaml.

    The check writes `data/graph.txt`. DVC stages that have no other input depend on `data/graph.txt`, so the check runs
    before these stages. The text of `data/graph.txt` never changes, so a new list of jobs makes no stage out of date.

    Args:
        params: All parameters of params.yaml.
        check: Whether to compare the list with params.yaml instead of writing it.

    Raises:
        UserError: With `check`, if the list is out of date. Also if a table of the paper has no rows for a data set,
            which the report would find only after all trainings.
    """
    require_rows(params)
    if check:
        job_list.check(params)
        write_text(CHECKED, f"{job_list.JOBS} agrees with params.yaml.\n")
    elif job_list.write(params):
        print(f"wrote {job_list.JOBS}: {len(params.jobs())} jobs. Commit it together with params.yaml.")
    else:
        print(f"{job_list.JOBS} is up to date: {len(params.jobs())} jobs.")
