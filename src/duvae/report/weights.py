"""Finds parts of a result that are stale: they belong to weights from before the last training.

The parts are the metrics and the probe of a model. Each part, and the record of the training (train.run.json), names
the digest of the weights: a hash that is equal only for equal weights.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace

from duvae.errors import UserError
from duvae.report.results import Result


def stale(result: Result, weights: str | None = None) -> dict[str, str]:
    """Finds the parts of a result that were computed from other weights than those of the last training.

    A part that an earlier version wrote has no digest of weights. Such a part counts as current if neither the record
    of the training nor the metrics have a digest.

    Args:
        result: The result.
        weights: The digest of the model's weights; None: the digest in the record of the training or, if the record has
            none, in the metrics.

    Returns:
        Commands that compute the stale parts again, by the file of the part.
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
    """One sentence for each stale part.

    Args:
        files: Commands by stale file, as `stale` returns them.
    """
    return [
        f"{file}: left out, since it belongs to other weights than those of the last training. Run '{command}' to make"
        " it again."
        for file, command in files.items()
    ]


def current_results(results: Iterable[Result]) -> tuple[list[Result], list[str]]:
    """Leaves out stale parts of results: the whole result if its metrics are stale, otherwise only a stale probe.

    For each part that it leaves out, the function prints a warning to standard error.

    Args:
        results: Results as `results.read` returns them.

    Returns:
        The results whose metrics belong to the last training, without stale probes; and one sentence for each stale
        part.

    Raises:
        UserError: If no result is left.
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

    Raises:
        UserError: If a part belongs to other weights; the message names each such part and its command.
    """
    lines = [line for result in results for line in messages(stale(result))]
    if lines:
        raise UserError("\n".join(lines))
