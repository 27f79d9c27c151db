"""How long stages will take, from what was recorded of them before."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

from duvae.project.provenance import unwrapped
from pipelines.devices import Device
from pipelines.graph import Graph

LISTED = 60
"""So many jobs of a plan are named one by one."""


def estimates(graph: Graph, cuda: bool = False, priors: Mapping[str, float] | None = None) -> dict[str, float]:
    """Seconds of each stage that has a record, its own or else those of its like with other seeds.

    Without a record they are those of `priors`, where it has the stage.

    A record is the output `*.run.json`. On the CPU its CPU seconds count, by the threads it had; on a GPU the wall
    clock's, and only records made on one.

    Args:
        graph: The stages.
        cuda: Whether they will run on GPUs.
        priors: Seconds of stages before anything like them has run.
    """
    own: dict[str, float] = {}
    for name in graph.found:
        for path in graph.outs(name):
            record = unwrapped(graph.recorded(path)) if path.endswith(".run.json") else None
            if isinstance(record, Mapping) and str(record.get("device")).startswith("cuda") == cuda:
                own[name] = _seconds(record, cuda)
    alike: dict[str, list[float]] = {}
    for name, seconds in own.items():
        alike.setdefault(_unseeded(name), []).append(seconds)

    known = {name: seconds for name, seconds in (priors or {}).items() if name in graph.stages}
    known |= {name: median(alike[_unseeded(name)]) for name in graph.stages if _unseeded(name) in alike}

    return known | {name: own[name] for name in graph.stages if name in own}


def _seconds(record: Mapping[str, object], cuda: bool) -> float:
    epochs = record.get("seconds_per_epoch")
    # A training that went on from a state has counted its last part alone.
    least = sum(map(float, epochs)) if isinstance(epochs, Sequence) and not isinstance(epochs, str) else 0.0
    if cuda:
        return max(least, _number(record.get("wall_seconds")))

    return max(_number(record.get("cpu_seconds")) / max(1.0, _number(record.get("threads"), 1.0)), 0.0)


def _number(value: object, otherwise: float = 0.0) -> float:
    return float(value) if isinstance(value, (int, float)) else otherwise


def _unseeded(name: str) -> str:
    return re.sub(r"-\d+$", "", name)


def hours(seconds: float) -> str:
    """For the reader: `3 s`, `12 min`, `1.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"

    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def plan(
    graph: Graph, run: Sequence[str], left: Sequence[str], known: Mapping[str, float], devices: Sequence[Device]
) -> str:
    """What a rebuild would do, and how long it would take.

    Args:
        graph: The stages.
        run: Those that would run as jobs.
        left: Those that would run when all is recorded.
        known: Seconds, of those of which they are known.
        devices: What they would run on.
    """
    lines = []
    if len(run) <= LISTED:
        lines += [f"  {name}  {hours(known[name]) if name in known else 'unknown'}" for name in run]
    else:
        groups: dict[tuple[str, str], list[str]] = {}
        for name in run:
            groups.setdefault((graph.stages[name].kind, _dataset(name)), []).append(name)
        for (kind, dataset), names in groups.items():
            unknown = sum(name not in known for name in names)
            seconds = sum(known.get(name, 0.0) for name in names)
            parts = [hours(seconds)] if unknown < len(names) else []
            parts += [f"{unknown} of unknown length"] if unknown else []
            lines.append(f"  {kind} {dataset}: {len(names)} job{_s(names)}, {', '.join(parts)}")
    kinds = Counter(graph.stages[name].kind for name in run)
    total, unknown = sum(known.get(name, 0.0) for name in run), sum(name not in known for name in run)
    several = f", {', '.join(f'{count} {kind}' for kind, count in kinds.items())}" if len(kinds) > 1 else ""
    lines.append(
        f"{len(run)} job{_s(run)} to run{several}; {len(graph.fresh)} stages up to date,"
        f" {len(graph.known) - len(graph.fresh)} in the run cache"
        + (f", {len(left)} run when all is recorded" if left else "")
    )
    said = f"estimated {total / 3600 / max(1, len(devices)):,.2f} hours a device"
    said += f" on {len(devices)} ({', '.join(device.name for device in devices)})"
    if unknown:
        said += f", without {unknown} job{'s' if unknown > 1 else ''} of unknown length: nothing like them has run yet"

    return "\n".join([*lines, said])


def _dataset(name: str) -> str:
    return name.partition("@")[2].partition("-")[0]


def _s(names: Sequence[str]) -> str:
    return "" if len(names) == 1 else "s"
