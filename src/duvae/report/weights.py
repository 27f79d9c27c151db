"""Finds parts of a model's result that are stale: they were computed from weights that are not the model's weights now.

A result has two parts: the metrics (metrics.json) and the accuracies of the linear probe (probe.json). Each part
contains the digest of the weights that it was computed from. A digest is a hash that is equal only for equal weights.
The record of the training (train.run.json) contains the digest of the weights that the last training wrote. A part is
stale if its digest differs from the training's digest.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from duvae.config import Job, Params
from duvae.errors import UserError
from duvae.report.results import Result, in_paper_order, read


def stale(result: Result, weights: str | None = None) -> dict[str, str]:
    """Finds the parts of a result that were computed from other weights than those of the last training.

    Earlier versions of the project wrote no digests. No part is stale if `weights` is None and neither the record of
    the training nor the metrics have a digest.

    Args:
        result: The result to check.
        weights: The digest of the model's weights. None: the function takes the digest from the record of the training
            or, if the record has no digest, from the metrics.

    Returns:
        For each stale part, the command that computes it again. The keys are the paths of the files of these parts.
    """
    job = result.job
    known = weights or result.provenance.get("train", {}).get("weights") or result.metrics.get("weights")
    if known is None:
        return {}
    arguments = f"--dataset {job.dataset} --setting {job.setting} --seed {job.seed}"
    parts = {"metrics.json": ("evaluate", result.metrics)}
    if result.probe is not None:
        parts["probe.json"] = ("probe", result.probe)

    return {
        f"results/{job.folder.as_posix()}/{file}": f"duvae {command} {arguments}"
        for file, (command, content) in parts.items()
        if content.get("weights") != known
    }


def messages(files: dict[str, str]) -> list[str]:
    """Writes one sentence for each stale part.

    Args:
        files: The result of `stale`: the command for each file of a stale part.
    """
    return [
        f"{file}: left out, since it belongs to other weights than those of the last training. Run '{command}' to make"
        " it again."
        for file, command in files.items()
    ]


def current_models(params: Params, jobs: Iterable[Job], root: Path = Path()) -> list[Result]:
    """Reads the results of some jobs, without stale parts, in the order of the paper.

    Args:
        params: All parameters of params.yaml.
        jobs: Data set, setting and seed of each model.
        root: Folder of the project, with `results`.

    Raises:
        UserError: If results are missing or unreadable, or if there are stale parts and no result is left.
    """
    return in_paper_order(current_results(read(params, jobs, root))[0])


def current_results(results: Iterable[Result]) -> tuple[list[Result], list[str]]:
    """Leaves out stale parts of results: the whole result if its metrics are stale, otherwise only a stale probe.

    For each stale part, the function prints a warning to standard error.

    Args:
        results: Results as the function `duvae.report.results.read` returns them.

    Returns:
        A pair. Its first element is the list of the results whose metrics belong to the last training, without stale
        probes. Its second element is a list with one sentence for each stale part.

    Raises:
        UserError: If there are stale parts and no result is left.
    """
    current, lines = [], []
    for result in results:
        files = stale(result)
        lines += messages(files)
        if not any(file.endswith("/metrics.json") for file in files):
            current.append(replace(result, probe=None) if files else result)
    if lines and not current:
        raise UserError("\n".join(lines))
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)

    return current, lines


def require_current(results: Sequence[Result]) -> None:
    """Checks that every part of the results belongs to the weights of the last training.

    Args:
        results: The results to check.

    Raises:
        UserError: If a part belongs to other weights. The message names each such part, and the command that computes
            it again.
    """
    lines = [line for result in results for line in messages(stale(result))]
    if lines:
        raise UserError("\n".join(lines))
