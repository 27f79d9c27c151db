"""Measures CPU time, memory and the machine's arithmetic rate, and writes the table of results."""

import datetime
import multiprocessing
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from duvae.project import provenance
from duvae.project.files import write_text
from duvae.project.provenance import commit, processor


@dataclass(frozen=True)
class Row:
    """One row of the table of results.

    Attributes:
        name: Name of the measurement.
        value: The measured value, in `unit`.
        unit: Unit of the value. `s` and `ms` are CPU time, summed over all threads; `x` is a ratio.
        rate: Rate of a matrix product on this machine at about the time of the measurement, in GFLOP/s.
        must: Bound that the value must keep; None: no such bound.
        aim: Bound that the value should keep; None: no such bound.
        least: Whether the bounds are lower bounds instead of upper bounds.
        note: Remark on how the value was measured.
    """

    name: str
    value: float
    unit: str
    rate: float
    must: float | None = None
    aim: float | None = None
    least: bool = False
    note: str = ""

    def keeps(self, bound: float) -> bool:
        """Whether the value keeps a bound."""
        return self.value >= bound if self.least else self.value <= bound

    @property
    def met(self) -> str:
        """The strictest bound that the value keeps: `aim` or `must`; empty if the row has no bounds.

        `NO` means that the value misses the bound `must`. `not the aim` means that the value misses the bound `aim`,
        and that the row has no bound `must`.
        """
        if self.must is not None and not self.keeps(self.must):
            return "NO"
        if self.aim is not None:
            return "aim" if self.keeps(self.aim) else "must" if self.must is not None else "not the aim"

        return "must" if self.must is not None else ""

    def cells(self) -> list[str]:
        """The row as a list of texts, one for each column of the table."""
        sign = ">=" if self.least else "<="
        bounds = ["" if bound is None else f"{sign} {number(bound)}" for bound in (self.must, self.aim)]

        return [self.name, number(self.value), self.unit, *bounds, self.met, f"{self.rate:.0f}", self.note]


def number(value: float) -> str:
    """Formats a number with three significant digits. A number from 100 on is rounded to an integer instead.

    A number below 0.001 has one significant digit. Both limits apply to the absolute value.
    """
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

    return f"{value:.0e}"


def table(rows: Sequence[Row]) -> str:
    """Formats the table of results as text with aligned columns."""
    head = ["", "measured", "", "must", "aim", "met", "GFLOP/s", ""]
    cells = [head, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    right = {1, 6}
    lines = [
        "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]

    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def write_section(path: Path, title: str, report: str) -> None:
    """Writes a report to a Markdown file, as a section with a title. The other sections of the file stay.

    Args:
        path: The file; if it exists, its sections start with `# `.
        title: Title of the section. A section with the same title is replaced.
        report: Text of the section, which is shown as it is.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = {part.partition("\n")[0]: part for part in re.split(r"^# ", text, flags=re.MULTILINE) if part.strip()}
    sections[title] = f"{title}\n\n```\n{report}\n```\n"
    write_text(path, "\n".join(f"# {part.strip()}\n" for part in sections.values()))


def rate(repeats: int = 9) -> float:
    """Measures the rate of a float32 product of two 1,024 x 1,024 matrices on one thread, in GFLOP/s.

    A lower rate than usual shows that the machine, and not the code, is slow.

    Args:
        repeats: Number of measurements, of which the function takes the median.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one, other = torch.rand(1024, 1024), torch.rand(1024, 1024)
        torch.mm(one, other)
        seconds = [cpu(lambda: torch.mm(one, other)) for _ in range(repeats)]
    finally:
        torch.set_num_threads(threads)

    return 2 * 1024**3 / statistics.median(seconds) / 1e9


def cpu(call: Callable[[], Any]) -> float:
    """Measures the CPU seconds of a call, summed over all threads of this process."""
    started = time.process_time()
    call()

    return time.process_time() - started


def cpu_of(command: Sequence[str], folder: Path) -> tuple[float, float, str]:
    """Runs a command of this Python environment, and measures its time.

    Args:
        command: Name of the command and its arguments.
        folder: Folder in which the command runs.

    Returns:
        The CPU seconds of the command and its child processes, the wall seconds, and the output with the error output
        after it.
    """
    seconds, wall, _, output = run(command, folder)

    return seconds, wall, output


def run(command: Sequence[str], folder: Path) -> tuple[float, float, int, str]:
    """Does the same as `cpu_of`, and also returns the exit status, before the output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [shutil.which(command[0], path=path) or command[0], *command[1:]],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return seconds, wall, done.returncode, done.stdout + done.stderr


def peak(call: Callable[..., Any], *arguments: Any) -> float:
    """Measures by how many MiB a call raises the peak memory of a new process above the memory before the call."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_above_start, (call, arguments))


def whole_peak(call: Callable[..., Any], *arguments: Any) -> float:
    """Measures the peak memory, in MiB, of a new process that makes a call. Memory for imports is included."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_whole, (call, arguments))


def _whole(call: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    torch.set_num_threads(1)
    call(*arguments)

    return provenance.peak_memory()


def alone(call: Callable[..., Iterable[Row]]) -> list[Row]:
    """Makes a call in a new process with as many threads as this process, and returns the rows that the call yields."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_rows, (call, torch.get_num_threads()))


def _rows(call: Callable[..., Iterable[Row]], threads: int) -> list[Row]:
    torch.set_num_threads(threads)

    return list(call())


def _peak_above_start(call: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    torch.set_num_threads(1)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM; Linux only
        before = provenance.memory("VmRSS")
        call(*arguments)
        return provenance.memory("VmHWM") - before
    except OSError:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        peaks = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]
        call(*arguments)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return (peaks[1] - peaks[0]) / unit


def machine() -> list[str]:
    """The lines of text above the table. They give the date, the commit, the machine and the versions."""
    source = commit()
    state = f"commit {source['commit'] or 'unknown'}{', with changes' if source['dirty'] else ''}"

    return [
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, {state}",
        f"{processor()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; {platform.platform()}",
        f"Python {platform.python_version()}, torch {torch.__version__}",
    ]
