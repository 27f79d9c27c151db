"""Names results that earlier parameters or earlier code made, or a version of duvae that kept no record of a training.

The record of a training has its parameters, and the record of each stage has the fingerprint of the stage's code.
Results without such a record still show one parameter: a training that ended at its limit of epochs had that limit.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from duvae.config import Params
from duvae.project.fingerprint import FILE
from duvae.report.cells import word_list
from duvae.report.results import Result
from duvae.report.then_and_now import PARAMETERS, changes

STAGES = {"train": "training", "evaluate": "evaluation", "probe": "probes"}
"""The words for the stages whose code the pages compare."""


def limit(result: Result) -> int | None:
    """The limit of epochs at which a training ended; None if a rule for the learning rate ended it."""
    kind, stopped = result.metrics.get("ending"), str(result.metrics.get("stopped"))
    if kind:
        return int(result.metrics["epochs"]) if kind == "epochs" else None
    found = re.fullmatch(r"after (\d+) epochs?", stopped)  # results of earlier versions have no `ending`

    return int(found[1]) if found else None


def other_limits(params: Params, results: Sequence[Result]) -> list[tuple[Result, int, int]]:
    """Finds the trainings that ended at another limit of epochs than that in params.yaml.

    Args:
        params: All parameters of params.yaml.
        results: Results of models, of any data sets and settings in params.yaml.

    Returns:
        Each such result with the limit of its training and the limit that its setting has on its data set now.
    """
    found = []
    for result in results:
        then = limit(result)
        now = params.optimisation(result.job.setting, result.job.dataset).epochs
        if then is not None and then != now:
            found.append((result, then, now))

    return found


def fingerprints(root: Path = Path()) -> Mapping[str, Any]:
    """Reads the fingerprints of today's code; empty where the project has no such file.

    Args:
        root: The project's folder.
    """
    path = root / FILE
    if not path.is_file():
        return {}
    content = yaml.safe_load(path.read_text(encoding="utf-8"))

    return content if isinstance(content, dict) else {}


def other_code(results: Sequence[Result], today: Mapping[str, Any]) -> list[tuple[Result, list[str]]]:
    """Finds the results that other code made than today's.

    Args:
        results: Results of models.
        today: The fingerprints of today's code, as `fingerprints` returns them.

    Returns:
        Each such result with the stages whose code has changed.
    """
    found = []
    for result in results:
        stages = []
        for stage in STAGES:
            own = result.provenance.get(stage, {}).get("fingerprint")
            now = today.get(stage, {}).get(result.system)
            if own and now and own != now:
                stages.append(stage)
        if stages:
            found.append((result, stages))

    return found


def sentences(params: Params, results: Sequence[Result], root: Path = Path()) -> list[str]:
    """Writes sentences about the results of one data set that are of earlier parameters or code, or have no record.

    Args:
        params: All parameters of params.yaml.
        results: Results of all models of one data set.
        root: The project's folder.
    """
    groups: dict[tuple[int, int], list[Result]] = {}
    for result, then, now in other_limits(params, results):
        if PARAMETERS not in result.provenance.get("train", {}):
            groups.setdefault((then, now), []).append(result)
    lines = [
        f"{_names(models, results)} {_verb(models)} trained with a limit of {then} epochs; params.yaml now has {now}:"
        f" {'this result is' if len(models) == 1 else 'these results are'} of earlier parameters."
        for (then, now), models in groups.items()
    ]
    values: dict[str, list[Result]] = {}
    for result in results:
        record = result.provenance.get("train", {})
        if PARAMETERS in record:
            changed = [text for texts in changes(params, result.job, result.metrics, record, root) for text in texts]
            if changed:
                values.setdefault(", ".join(changed), []).append(result)
    lines += [
        f"{_names(models, results)} {_verb(models)} made with {text}: earlier parameters."
        for text, models in values.items()
    ]
    codes: dict[str, list[Result]] = {}
    for result, stages in other_code(results, fingerprints(root)):
        codes.setdefault(word_list([STAGES[stage] for stage in stages]), []).append(result)
    lines += [
        f"{_names(models, results)} {_verb(models)} made by earlier code of {text}; 'dvc repro' makes"
        f" {'it' if len(models) == 1 else 'them'} again."
        for text, models in codes.items()
    ]
    without = [result for result in results if "train" not in result.provenance]
    if without:
        lines.append(
            f"{_names(without, results)} {_verb(without)} made by an earlier version that kept no record of the"
            " training, so the commit is not known."
        )

    return lines


def _names(models: Sequence[Result], results: Sequence[Result]) -> str:
    """The names of some models; `All models` if these are all of the results, and more than one."""
    if len(models) == len(results) > 1:
        return "All models"

    return word_list(list(dict.fromkeys(model.name for model in models)))


def _verb(models: Sequence[Result]) -> str:
    return "was" if len({model.name for model in models}) == 1 else "were"
