"""Finds the jobs of `run` in params.yaml that have no results yet, so that the pages can show the others.

A job is one training: a data set, a setting and a seed.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from duvae.config import Job, Params
from duvae.report.cells import word_list
from duvae.report.results import commands


def split_by_results(params: Params, jobs: Iterable[Job], root: Path = Path()) -> tuple[list[Job], list[Job]]:
    """Separates the jobs that have results from those that were never run.

    A job was never run if none of the files of its result exists. A job with only some of the files counts as run, so
    that `read` reports the missing ones. If no job was run, all of them count as run, for the same reason.

    Args:
        params: All of params.yaml.
        jobs: The jobs.
        root: The project's folder.

    Returns:
        The jobs with results, and the other jobs, both in the order of `jobs`.
    """
    jobs = list(jobs)
    run = [job for job in jobs if any(path.exists() for path in commands(params, job, root))]
    if not run:
        return jobs, []

    return run, [job for job in jobs if job not in run]


def sentences(jobs: Sequence[Job]) -> list[str]:
    """Names the jobs that were never run, in one sentence; no sentence if there are none."""
    if not jobs:
        return []
    by_dataset: dict[str, list[str]] = {}
    for job in jobs:
        by_dataset.setdefault(job.dataset, []).append(f"{job.setting} (seed {job.seed})")
    parts = [f"on {dataset} {word_list(list(names))}" for dataset, names in by_dataset.items()]

    return [f"Not run yet: {'; '.join(parts)}. Run 'dvc repro' or 'make rebuild' to train them."]
