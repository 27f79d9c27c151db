"""The page of the check: what was measured on which card, with one table for each part."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.gpu.rows import Row, Value, counts
from benchmarks.measure import number

TITLES = {
    "rates": "Rates of the card",
    "parity": "CPU and GPU",
    "waits": "Waits in training steps",
    "bits": "Equal bits",
    "half": "bfloat16 and TF32",
    "compiled": "Compiled training",
    "speed": "Speed and memory at the paper's sizes",
    "failures": "Failures",
}
"""Titles of the tables, by part."""

HEAD = "| | measured | bound | unit | | remark |\n|---|---|---|---|---|---|"


def first_sentence(rows: Sequence[Row]) -> str:
    """Says how many rows passed, failed and do not apply. Rows without a bound are counted apart."""
    bounded = [row for row in rows if row.bound is not None]
    found, others = counts(bounded), len(rows) - len(bounded)

    return (
        f"Of {len(bounded)} rows with a bound, {found['passed']} passed, {found['failed']} failed and"
        f" {found['not on this device']} do not apply to this device. {others} rows have no bound."
    )


def markdown(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Writes the page.

    Args:
        about: What the check ran on: the values of `benchmarks.gpu.card.described`, and also `date`, `commit`, `dirty`,
            `seconds` (of each part) and `only` (the parts that ran if not all did).
        rows: The rows of all parts.
    """
    lines = ["# The check of a GPU", "", first_sentence(rows), "", *facts(about)]
    for part, title in TITLES.items():
        chosen = [row for row in rows if row.part == part]
        if chosen:
            lines += ["", f"## {title}", "", HEAD, *(line(row) for row in merged(chosen))]

    return "\n".join([*lines, ""])


def facts(about: Mapping[str, Any]) -> list[str]:
    """The lines about the card, the versions, the commit and the time."""
    gpu = about.get("gpu")
    card = (
        "no GPU: a dry run on the CPU, which says nothing about a GPU"
        if gpu is None
        else f"{gpu['card']}, {gpu['memory_gib']} GiB, driver {gpu['driver'] or 'unknown'}, CUDA {gpu['cuda']},"
        f" cuDNN {gpu['cudnn']}"
    )
    changes = ", with changes" if about["dirty"] else ""
    seconds = sum(about["seconds"].values())
    parts = ", ".join(f"{name} {value:.0f} s" for name, value in about["seconds"].items())
    only = [f"- Only these parts were run: {', '.join(about['only'])}."] if about["only"] else []

    return [
        f"- Card: {card}",
        f"- Machine: {about['processor']}, {about['cores']} cores, {about['system']}",
        f"- Versions: Python {about['python']}, torch {about['torch']}",
        f"- Code: commit {about['commit'] or 'unknown'}{changes}, {about['date']}",
        f"- Time: {seconds:.0f} s ({parts})",
        *only,
    ]


def merged(rows: Sequence[Row]) -> list[Row]:
    """Joins rows of the same name that passed for several systems into one, the row with the worst value.

    All other rows stay, so that each row that failed has a line of its own.
    """
    names = dict.fromkeys(row.name for row in rows)
    lines: list[Row] = []
    for name in names:
        same = [row for row in rows if row.name == name]
        passed = [row for row in same if row.status == "passed" and row.system]
        lines += [row for row in same if row not in passed]
        lines += passed if len(passed) < 2 else [worst(passed)]

    return lines


def worst(rows: Sequence[Row]) -> Row:
    """The row whose value is nearest to its bound, with the number of systems in its remark."""
    numbers = [row for row in rows if isinstance(row.value, float | int)]
    if not numbers:
        return replace(rows[0], system="", remark=f"{len(rows)} systems")
    choose = min if rows[0].sign == ">=" else max
    found = choose(numbers, key=lambda row: float(row.value or 0))
    remark = "; ".join(filter(None, [f"worst of {len(rows)} systems: {found.system}", found.remark]))

    return replace(found, system="", remark=remark)


def line(row: Row) -> str:
    """One line of a table in Markdown."""
    status = {"passed": "passed", "failed": "**FAILED**", "measured": "", "not on this device": row.status}[row.status]
    bound = "" if row.bound is None else f"{row.sign} {shown(row.bound)}"
    name = f"{row.name} ({row.system})" if row.system else row.name
    remark = "; ".join(filter(None, [row.missing, row.remark]))
    cells = [name, "" if row.value is None else shown(row.value), bound, row.unit, status, remark]

    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def shown(value: Value) -> str:
    """Formats a value for a table."""
    return value if isinstance(value, str) else number(value)
