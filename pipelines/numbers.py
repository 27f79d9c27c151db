"""Reads the most important numbers of an evaluation that a task of a rebuild has just finished."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from duvae.metrics import verdict
from duvae.report.cells import number
from pipelines.launcher import TaskResult

SHOWN = (("NLL", "nll"), ("KL", "kl"), ("MI", "mi"), ("use of z", "use"))
"""Labels and keys of the numbers, in nats per example. The NLL has its standard error in brackets."""


def of_task(result: TaskResult, cached_file: Callable[[str], Path]) -> str:
    """Puts the numbers of an evaluated model into words.

    Args:
        result: The result of a task.
        cached_file: Function that returns the path of a file in DVC's cache, by the hash of the file.

    Returns:
        Text such as `NLL 29.49 [0.34], KL 0.00, MI 0.00, use of z 0.00: collapsed`; empty if the task is no evaluation,
        or if this machine does not have its metrics.
    """
    for out in result.entry.get("outs", ()):
        if str(out["path"]).endswith("/metrics.json"):
            try:
                return text(json.loads(cached_file(out["md5"]).read_text(encoding="utf-8")))
            except (OSError, ValueError):
                return ""

    return ""


def text(metrics: Mapping[str, Any]) -> str:
    """Puts the numbers of a model into words.

    Args:
        metrics: Content of the model's metrics.json. A number that the model does not have is left out.
    """
    parts = []
    for label, key in SHOWN:
        value, error = metrics.get(key), metrics.get(f"{key}_stderr") if key == "nll" else None
        if value is not None:
            parts.append(f"{label} {number(value, 2)}" + (f" [{number(error, 2)}]" if error is not None else ""))
    state = verdict.of_setting([metrics])

    return ", ".join(parts) + (f": {state}" if state else "")
