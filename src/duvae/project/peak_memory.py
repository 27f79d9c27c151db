"""Measures the memory of this process."""

import sys
from pathlib import Path

MIB = 2**20


def peak() -> float:
    """The largest memory that this process has used since its program began, in MiB.

    Linux counts in `ru_maxrss` also the memory of the process that started this one. So the value comes from the
    process's status, where there is one.
    """
    import resource

    try:
        return resident("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 2**10)


def resident(name: str) -> float:
    """Reads one value about the memory of this process from /proc/self/status, in MiB.

    Args:
        name: Name of the value: `VmRSS` for the present memory, `VmHWM` for the peak memory.

    Raises:
        OSError: If the system has no such file.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    values = dict(line.split(":", 1) for line in lines)

    return int(values[name].split()[0]) / 2**10
