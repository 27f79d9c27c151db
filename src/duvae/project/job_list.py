"""What DVC's graph runs over, written from params.yaml into `pipelines/jobs.yaml`.

DVC can run a stage over a matrix, but not over the valid triples of data set, setting and seed,
nor over the union of two lists. So the list is written out here and committed, and dvc.yaml
runs over it. A list that params.yaml no longer gives is an error before anything is made.
"""

from pathlib import Path
from typing import Any

import yaml

from duvae.config import APART, Job, Params, StudyReference, best_params_path
from duvae.errors import UserError
from duvae.project.files import write_text

JOBS = Path("pipelines/jobs.yaml")

FIRST = "data/graph.txt"
"""The output of the first stage of every run; its text never changes."""

IMAGES = {"omniglot", "images"}
"""Kinds of data sets whose examples are images."""

MOST_LINES = 12
"""How many differing lines a message shows."""

HEADER = """\
# What the stages of dvc.yaml run over. Written by 'duvae graph' from params.yaml; do not edit.
"""


def graph(params: Params) -> dict[str, Any]:
    """The data sets and trainings of the graph.

    Returns:
        `sets`: every data set that a job or a study needs. `fetched`: those with files, published or the user's own.
        `prepared`: for each data set what `prepare` waits for and what it writes. `images` and `synthetics`: the data
        sets of those kinds. `apart`: the data sets of `run` whose examples git does not keep. `searches`: the studies
        of `run`, those that they are compared with, and those that a job takes its hyperparameters from. `jobs`: the
        trainings by name, the union of those of `run` and of Figure 1. `key`: the key of params.yaml that declares a
        row's setting, which the stages of the row depend on.
        `after` is always the file that must be there before.
    """
    jobs = params.jobs()
    searched = {
        job: given.study for job in jobs if isinstance(given := params.column(job.setting, job.dataset), StudyReference)
    }
    studies = _studies(params, [*params.run_studies(), *searched.values()])
    sets = list(dict.fromkeys([*(job.dataset for job in jobs), *(row["dataset"] for row in studies.values())]))
    kinds = {name: params.dataset(name).kind for name in sets}

    return {
        "sets": sets,
        "fetched": [name for name in sets if kinds[name] != "synthetic"],
        "prepared": {name: _prepared(name, kinds[name]) for name in sets},
        "images": [name for name in sets if kinds[name] in IMAGES],
        "apart": list(dict.fromkeys(job.dataset for job in params.run_jobs() if kinds[job.dataset] in APART)),
        "synthetics": [name for name in sets if kinds[name] == "synthetic"],
        "searches": studies,
        "jobs": {job.name: _job(params, job, searched.get(job)) for job in jobs},
    }


def _prepared(name: str, kind: str) -> dict[str, str]:
    """What `prepare` waits for and writes: images become grey values, from which bits are drawn later."""
    return {
        "dataset": name,
        "after": FIRST if kind == "synthetic" else f"data/raw/{name}",
        "to": f"data/grey/{name}" if kind in IMAGES else f"data/prepared/{name}",
    }


def _job(params: Params, job: Job, study: str | None) -> dict[str, Any]:
    """What the stages of one training run over."""
    return {
        "dataset": job.dataset,
        "setting": job.setting,
        "system": params.setting(job.setting).system,
        "seed": job.seed,
        "column": job.column,
        "key": params.declaration(job.setting),
        "after": best_params_path(study).as_posix() if study else FIRST,
    }


def _studies(params: Params, names: list[str]) -> dict[str, dict[str, str]]:
    """What the stage `search` runs over: each study after the grid that it is compared with."""
    rows: dict[str, dict[str, str]] = {}
    for name in names:
        study = params.study(name)
        if study.against is not None:
            rows |= _studies(params, [study.against])
        rows[name] = {
            "study": name,
            "dataset": study.dataset,
            "setting": study.setting,
            "system": params.setting(study.setting).system,
            "column": params.dataset(study.dataset).column,
            "key": params.declaration(study.setting),
            "after": f"results/studies/{study.against}/study.json" if study.against else FIRST,
        }

    return rows


def render(params: Params) -> str:
    """The text of `pipelines/jobs.yaml`, a function of the parameters alone."""
    rows = graph(params)
    lines = []
    for key, of in rows.items():
        if isinstance(of, dict) and of:
            lines += [f"{key}:", *(f"  {name}: {_flow(row)}" for name, row in of.items())]
        else:
            lines.append(f"{key}: {_flow(of)}")

    return HEADER + "\n".join(lines) + "\n"


def write(params: Params, path: Path = JOBS) -> bool:
    """Writes the list where it has changed; returns whether it had."""
    text = render(params)
    if path.exists() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)

    return True


def check(params: Params, path: Path = JOBS) -> None:
    """Compares the list with what params.yaml asks for.

    Raises:
        UserError: With the lines that differ, where it is out of date or missing.
    """
    wanted = render(params)
    try:
        found = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Delete it and run 'duvae graph'.") from error
    if found == wanted:
        return
    if not found:
        raise UserError(f"{path}: not there. Run 'duvae graph', which writes it from params.yaml.")
    old, new = found.splitlines(), wanted.splitlines()
    lines = [f"  - {line}" for line in old if line not in new] + [f"  + {line}" for line in new if line not in old]
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"  ... and {len(lines) - MOST_LINES} more"]
    raise UserError(
        "\n".join(
            [
                f"{path}: out of date, params.yaml now asks for another list (- what is there, + what should be):",
                *lines,
                "Run 'duvae graph', then the same command again.",
            ]
        )
    )


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip()
