"""Describes the library versions and machines that results come from. Warns if one table mixes versions or code.

Each stage of a model, such as its training, writes a record. The record states the library versions, the machine and a
fingerprint (a hash) of the stage's code. `Result.provenance` holds the records of one result.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from duvae.report.cells import word_list
from duvae.report.names import label
from duvae.report.results import Result

STAGES = {"train": "training", "evaluate": "evaluation", "probe": "probes"}
"""The stages that compute the numbers of a table, with their names on the pages."""


def mixture_warning(results: Sequence[Result]) -> str | None:
    """Warns where one table mixes results of different code or of different versions of a library.

    The function compares the records of all `STAGES`. Results are mixed if these records name two versions of one
    library, or two fingerprints for one stage of one system. The fingerprints of two systems always differ, so the
    function does not compare them.

    Args:
        results: The results of one table.

    Returns:
        One sentence; None where the records show no mixture.
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
    parts = [f"{name} {word_list(_unique(values))}" for name, values in versions.items() if len(set(values)) > 1]
    code = [
        f"{STAGES[stage]} of {label(system)}"
        for (stage, system), fingerprints in codes.items()
        if len(set(fingerprints)) > 1
    ]
    mixed = [f"versions ({', '.join(parts)})"] if parts else []
    mixed += [f"code ({', '.join(code)})"] if code else []

    return f"Its results come from different {word_list(mixed)}, which may cause differences too." if mixed else None


def provenance_lines(results: Sequence[Result]) -> list[str]:
    """Writes sentences that name the versions and machines of results, and the models without a record of training."""
    records = [record for result in results for record in result.provenance.values()]
    versions: dict[str, list[str]] = {}
    for record in records:
        for library, version in record.get("versions", {}).items():
            versions.setdefault(library, []).append(version)
    machines = _unique([machine_name(record["machine"]) for record in records if "machine" in record])
    lines = []
    if versions:
        libraries = ", ".join(f"{name} {word_list(_unique(values))}" for name, values in versions.items())
        lines.append(f"Made with {libraries}.")
    if machines:
        lines.append(f"CPU seconds were measured on {word_list(machines)}.")
    without = [result for result in results if "train" not in result.provenance]
    if without:
        names = "any model" if len(without) == len(results) else word_list(_unique([result.name for result in without]))
        lines.append(f"There is no record of the training of {names}.")

    return lines


def machine_name(machine: Mapping[str, Any]) -> str:
    """The name of a machine, such as `AMD EPYC 7763 (2 cores, Linux x86_64)`."""
    return f"{machine['processor']} ({machine['cores']} cores, {machine['system']})"


def _unique(values: Sequence[str]) -> list[str]:
    """Each value once, sorted."""
    return sorted(set(values))
