"""Writes and checks `pipelines/jobs.yaml`, the list of jobs. DVC runs a stage such as `train` once for each job.

A job is one training: a data set, a setting and a seed. A setting is a system, such as DU-VAE, with hyperparameters.
DVC can run a stage over all combinations of data sets, settings and seeds. DVC cannot run a stage over only some of
these combinations, nor over the union of two lists. So `duvae graph` writes the list from params.yaml, and git keeps
the list. If the list disagrees with params.yaml, the function `check` raises an error before any stage runs.
"""

from pathlib import Path
from typing import Any

import yaml

from duvae.config import APART, Job, Params, StudyReference, best_params_path
from duvae.errors import UserError
from duvae.project.files import write_text

JOBS = Path("pipelines/jobs.yaml")
"""The list's path in the project."""

FIRST = "data/graph.txt"
"""The file that the first stage of every run writes; its text never changes.

Stages that need no other file depend on this file.
"""

IMAGES = {"omniglot", "images"}
"""Kinds of data sets whose examples are images."""

MOST_LINES = 12
"""Largest number of differing lines that a message shows."""

HEADER = """\
# What the stages of dvc.yaml run over. Written by 'duvae graph' from params.yaml; do not edit.
"""


def contents(params: Params) -> dict[str, Any]:
    """Computes the content of `pipelines/jobs.yaml`.

    Args:
        params: The project's parameters.

    Returns:
        A dictionary with these keys, where `run` is the key of params.yaml that chooses what to rebuild:

        - `sets`: all data sets that a job or a study (a search over hyperparameters) needs.
        - `fetched`: the data sets of `sets` that are read from files, published or the user's own.
        - `prepared`: one row for each data set, with the input (`after`) and the output (`to`) of the stage `prepare`.
        - `images`: the data sets of `sets` that hold images.
        - `synthetics`: the synthetic data sets of `sets` whose true likelihood is computed.
        - `apart`: the data sets of `run` whose examples git does not keep, because they may be private.
        - `searches`: one row for each study. These are the studies of `run`, the studies with which the studies of
          `run` are compared, and the studies from which a job takes its hyperparameters.
        - `jobs`: one row for each training of `run` and of Figure 1, by the name of the job.

        In a row, `after` is the file or folder that has to exist before the stages of the row run. `key` is the key of
        params.yaml that declares the row's setting. The stages of the row depend on the value of that key.
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
        "synthetics": [name for name in sets if getattr(params.dataset(name), "truth", None) is not None],
        "searches": studies,
        "jobs": {job.name: _job(params, job, searched.get(job)) for job in jobs},
    }


def _prepared(name: str, kind: str) -> dict[str, str]:
    """The row of one data set, with the input and the output of the stage `prepare`.

    For images this output holds grey values, which the stage `binarize` turns into bits.
    """
    return {
        "dataset": name,
        "after": FIRST if kind == "synthetic" else f"data/raw/{name}",
        "to": f"data/grey/{name}" if kind in IMAGES else f"data/prepared/{name}",
    }


def _job(params: Params, job: Job, study: str | None) -> dict[str, Any]:
    """The row of one training.

    Args:
        params: Parameters of the project, from params.yaml.
        job: Data set, setting and seed of the training.
        study: Name of the study that chooses the training's hyperparameters; None: params.yaml states the values of the
            hyperparameters.
    """
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
    """The rows of studies, by the name of the study.

    If a study is compared with another study, the row of the other study comes first.
    """
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
    """The text of `pipelines/jobs.yaml`, which depends on the parameters alone."""
    lines = []
    for key, value in contents(params).items():
        if isinstance(value, dict) and value:
            lines += [f"{key}:", *(f"  {name}: {_on_one_line(row)}" for name, row in value.items())]
        else:
            lines.append(f"{key}: {_on_one_line(value)}")

    return HEADER + "\n".join(lines) + "\n"


def write(params: Params, path: Path = JOBS) -> bool:
    """Writes the list, if its text has changed.

    Args:
        params: The project's parameters.
        path: The file to write.

    Returns:
        Whether the file was out of date and has been written.
    """
    text = render(params)
    if path.exists() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)

    return True


def check(params: Params, path: Path = JOBS) -> None:
    """Checks that the list agrees with the parameters.

    Args:
        params: The project's parameters.
        path: The file to check.

    Raises:
        UserError: If the list is missing, cannot be read or is out of date. The message shows the lines that differ.
    """
    expected = render(params)
    try:
        actual = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Delete it and run 'duvae graph'.") from error
    if actual == expected:
        return
    if not actual:
        raise UserError(f"{path}: not there. Run 'duvae graph', which writes it from params.yaml.")
    old, new = actual.splitlines(), expected.splitlines()
    lines = [f"  - {line}" for line in old if line not in new] + [f"  + {line}" for line in new if line not in old]
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"  ... and {len(lines) - MOST_LINES} more"]
    raise UserError(
        "\n".join(
            [
                f"{path}: out of date, since params.yaml gives another list (- line of the file, + expected line):",
                *lines,
                "Run 'duvae graph', then the same command again.",
            ]
        )
    )


def _on_one_line(value: Any) -> str:
    """Formats a value as YAML on one line."""
    # The dumper in C writes the same, in a tenth of the time; some installations of PyYAML do not have it.
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    return str(yaml.dump(value, Dumper=dumper, default_flow_style=True, sort_keys=False, width=10_000)).strip()
