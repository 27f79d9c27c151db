"""Whether the parts of a result are of the same weights: a training made anew leaves the metrics of the last one."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace

from duvae.errors import UserError
from duvae.report.results import Result


def stale(result: Result, weights: str | None = None) -> dict[str, str]:
    """The parts of a result that are of other weights than its training made.

    Metrics without a digest of weights are of an earlier version. They belong to any training that has none either.

    Args:
        result: The result.
        weights: The digest of the weights that lie there; None: the digest in the record of the training.

    Returns:
        The command that makes each such part anew, by the part's file.
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


def said(files: dict[str, str]) -> list[str]:
    """A sentence for each part of `stale`."""
    return [
        f"{file}: left out, since it is of other weights than the last training made. '{command}' makes it anew."
        for file, command in files.items()
    ]


def apart(results: Iterable[Result]) -> tuple[list[Result], list[str]]:
    """The results without the parts that are of other weights.

    Args:
        results: Results as they were read.

    Returns:
        Results whose metrics are of their training's weights, without probes of other weights; and a sentence for
        each part that was left out, which standard error gets too.

    Raises:
        UserError: Where no result is left.
    """
    kept, lines = [], []
    for result in results:
        files = stale(result)
        lines += said(files)
        if not any(file.endswith("/metrics.json") for file in files):
            kept.append(replace(result, probe=None) if files else result)
    if lines and not kept:
        raise UserError("\n".join(lines))
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)

    return kept, lines


def require(results: Sequence[Result]) -> None:
    """Refuses results of which a part is of other weights.

    Raises:
        UserError: Naming each such part with its command.
    """
    lines = [line for result in results for line in said(stale(result))]
    if lines:
        raise UserError("\n".join(lines))
