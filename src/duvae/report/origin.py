"""What the pages say of how results came about: versions, machines, and mixtures of either."""

from collections.abc import Mapping, Sequence
from typing import Any

from duvae.report.names import label
from duvae.report.results import Result
from duvae.report.tables import listed

STAGES = {"train": "training", "evaluate": "evaluation", "probe": "probes"}
"""Kinds of stages that make the numbers of a table."""


def mixture(results: Sequence[Result]) -> str | None:
    """A warning where one table holds results of several versions of a library, or of different code.

    The rule: the records of all stages of STAGES, which know more than one version of a library, or more than one
    fingerprint for the same kind of stage and the same system. Of different systems fingerprints differ anyway.

    Args:
        results: The results of one table.

    Returns:
        One sentence; None where nothing is mixed, as far as it is known.
    """
    versions: dict[str, list[str]] = {}
    codes: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for stage in STAGES:
            record = result.provenance.get(stage, {})
            for library, version in record.get("versions", {}).items():
                versions.setdefault(library, []).append(version)
            if record.get("fingerprint"):
                codes.setdefault((stage, result.system), []).append(record["fingerprint"])
    parts = [f"{name} {listed(_each(found))}" for name, found in versions.items() if len(set(found)) > 1]
    code = [f"{STAGES[stage]} of {label(system)}" for (stage, system), f in codes.items() if len(set(f)) > 1]
    mixed = [f"versions ({', '.join(parts)})"] if parts else []
    mixed += [f"code ({', '.join(code)})"] if code else []

    return f"Its results are of different {listed(mixed)}: differences may come from those too." if mixed else None


def made_with(results: Sequence[Result]) -> list[str]:
    """The versions and machines of results, a sentence each; and which results have no record of them."""
    records = [record for result in results for record in result.provenance.values()]
    versions: dict[str, list[str]] = {}
    for record in records:
        for library, version in record.get("versions", {}).items():
            versions.setdefault(library, []).append(version)
    machines = _each([described(record["machine"]) for record in records if "machine" in record])
    lines = []
    if versions:
        lines.append(f"Made with {', '.join(f'{name} {listed(_each(of))}' for name, of in versions.items())}.")
    if machines:
        lines.append(f"CPU seconds are of {listed(machines)}.")
    without = [result for result in results if "train" not in result.provenance]
    if without:
        names = "any model" if len(without) == len(results) else listed(_each([result.name for result in without]))
        lines.append(f"No record is kept of the training of {names}.")

    return lines


def described(machine: Mapping[str, Any]) -> str:
    """A machine in words: `AMD EPYC 7763 (2 cores, Linux x86_64)`."""
    return f"{machine['processor']} ({machine['cores']} cores, {machine['system']})"


def _each(values: Sequence[str]) -> list[str]:
    """Each value once, in a fixed order."""
    return sorted(set(values))
