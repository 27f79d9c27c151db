"""Names results that earlier parameters made, or an earlier version of duvae that kept no record of a training.

A training that ended at its limit of epochs shows which limit it had. If params.yaml has another limit now, the result
belongs to earlier parameters.
"""

import re
from collections.abc import Sequence

from duvae.config import Params
from duvae.report.cells import word_list
from duvae.report.results import Result


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


def sentences(params: Params, results: Sequence[Result]) -> list[str]:
    """Writes sentences about the results of one data set that are of earlier parameters or have no record.

    Args:
        params: All parameters of params.yaml.
        results: Results of all models of one data set.
    """
    groups: dict[tuple[int, int], list[Result]] = {}
    for result, then, now in other_limits(params, results):
        groups.setdefault((then, now), []).append(result)
    lines = [
        f"{_names(models, results)} {_verb(models)} trained with a limit of {then} epochs; params.yaml now has {now}:"
        f" {'this result is' if len(models) == 1 else 'these results are'} of earlier parameters."
        for (then, now), models in groups.items()
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
