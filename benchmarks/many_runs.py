"""Copies the runs in a project's store of MLflow, for the benchmark of `benchmarks.scale`.

`duvae track` draws figures for each run that it writes. So a thousand runs would take a quarter of an hour. A copy of a
run has as many metrics, parameters and files as a run that `duvae track` writes.
"""

import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from duvae.config import Job, Params
from duvae.project import local_store
from duvae.tracking import run_files
from duvae.tracking.runs import DIGEST, KEY

OWNERS = {"run_uuid": "", "destination_id": "destination_type = 'RUN'"}
"""Columns that hold the id of a run, with a condition on the rows; empty: no condition."""


def copy_runs(folder: Path, params: Params, known: Sequence[Job]) -> None:
    """Copies runs, so that each job of `params.run_jobs()` has a run that is up to date.

    A job is a data set, a setting and a seed. The files of a copied run are links to the results of its job,
    or else to the files of the original. The runs of settings and the registered model are not copied: the next
    `duvae track` writes them.

    Args:
        folder: Folder of the project, with the results of all jobs.
        params: Parameters of the project.
        known: Jobs that have runs already; their runs are copied in turns.
    """
    with closing(sqlite3.connect(folder / local_store.FILE)) as store, store:
        keys = dict(store.execute("SELECT value, run_uuid FROM tags WHERE key = ?", [KEY]).fetchall())
        originals = [keys[job.folder.as_posix()] for job in known]
        jobs = [job for job in params.run_jobs() if job.folder.as_posix() not in keys]
        for number, job in enumerate(jobs):
            original, copy = originals[number % len(originals)], f"{number + len(keys):032x}"
            copy_rows(store, original, copy)
            (uri,) = store.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", [original]).fetchone()
            target = Path(str(uri).replace(original, copy))
            shutil.copytree(uri, target, copy_function=os.link)
            files = run_files.files(params, job, folder)
            tags = {KEY: job.folder.as_posix(), DIGEST: run_files.digest(files)}
            tags |= {"setting": job.setting, "seed": str(job.seed)}
            places = {part: target / part for part in files.values() if part is not None}
            query = "SELECT value FROM tags WHERE key = ? AND run_uuid = ?"
            if location := store.execute(query, [run_files.LOCATION, original]).fetchone():
                model = Path(location[0]).parents[1] / copy / "artifacts"
                shutil.copytree(location[0], model, copy_function=os.link)
                tags[run_files.LOCATION] = str(model)
                places[run_files.MODEL] = model / run_files.FILES
            for path, part in files.items():
                if part is not None:
                    (places[part] / path.name).unlink(missing_ok=True)
                    os.link(path, places[part] / path.name)
            for key, value in tags.items():
                store.execute("UPDATE tags SET value = ? WHERE key = ? AND run_uuid = ?", [value, key, copy])
            store.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", [str(target), copy])


def copy_rows(store: sqlite3.Connection, original: str, copy: str) -> None:
    """Copies all rows of a run, in every table that has rows of runs.

    Args:
        store: The database.
        original: Id of the run to copy.
        copy: Id of the new run.
    """
    tables = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
    for table in tables:
        columns = [row[1] for row in store.execute(f"PRAGMA table_info({table})")]
        for owner, condition in OWNERS.items():
            if owner in columns:
                values = ", ".join("?" if column == owner else column for column in columns)
                where = f"{owner} = ?" + (f" AND {condition}" if condition else "")
                store.execute(
                    f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table} WHERE {where}",  # noqa: S608
                    [copy, original],
                )
