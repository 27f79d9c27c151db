"""`make fuzz`: runs commands on mutations of what a user gives, and finds those that do not end as they must.

Every mutation changes one thing of a sound project: a place of params.yaml, a file of documents, an npz file, a folder
of pictures, or a command line. Commands meet it one after the other: the first ones read it, and if they accept it,
`prepare` and a small training follow. Each must end with exit status 0 or 2, without a traceback, within its time and
memory. It must change nothing outside the project, and leave no unfinished file.

The seed and the number of a mutation give the mutation, so that one can be run again by itself.
"""

import argparse
import contextlib
import functools
import gc
import importlib
import os
import pkgutil
import random
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from fuzzed import arrays, bounds, lines, parameters, pictures, project, texts
from fuzzed.bounds import Child, Outcome
from fuzzed.mutation import Mutation, Work

MODULES = {"parameters": parameters, "texts": texts, "arrays": arrays, "pictures": pictures, "lines": lines}
CYCLE = ("parameters", "texts", "parameters", "arrays", "parameters", "pictures", "parameters", "lines", "parameters",
         "lines")  # fmt: skip
"""The kinds of ten mutations in a row."""

REAL = 50
"""One of this many mutations meets real processes, all others meet calls in one process."""

UNUSED = {"duvae.__main__", "duvae.commands.track", "duvae.tracking.pyfunc", "duvae.tracking.store"}
"""Modules that few mutations reach, and that take seconds to import."""


def mutation(seed: int, number: int) -> Mutation:
    """The mutation with this number, counted from 0."""
    kind = CYCLE[number % len(CYCLE)]
    within = number // len(CYCLE) * CYCLE.count(kind) + CYCLE[: number % len(CYCLE)].count(kind)

    return MODULES[kind].mutate(within, seed, random.Random(f"{seed} {number}"))


def is_real(number: int) -> bool:
    """Whether a mutation meets real processes."""
    return number % REAL == number // REAL % len(CYCLE)


def load_everything() -> None:
    """Imports all modules, so that commands start at once. A fork needs a process with one thread."""
    import duvae
    from duvae.cli import TELEMETRY_OFF

    os.environ.update(TELEMETRY_OFF)
    for module in pkgutil.walk_packages(duvae.__path__, "duvae."):
        if module.name not in UNUSED:
            importlib.import_module(module.name)
    import pandas  # noqa: F401
    import PIL.Image
    import sklearn.linear_model  # noqa: F401
    import torch

    PIL.Image.init()
    torch.set_num_threads(1)


def remember(sound: Path) -> None:
    """Computes what most children would compute anew: the content of the sound params.yaml, and all fingerprints."""
    import tiny
    from duvae import systems
    from duvae.config import yaml_text
    from duvae.project.fingerprint import KINDS, of_this_process

    yaml_text.read = tiny.remembering(yaml_text.read)
    yaml_text.read((sound / "params.yaml").read_text(encoding="utf-8"))
    for kind, (_, by_system) in KINDS.items():
        for system in systems.SYSTEMS if by_system else (None,):
            of_this_process(kind, system)


def require_one_thread() -> None:
    """Checks that this process can be forked."""
    names = [(task / "comm").read_text(encoding="utf-8").strip() for task in Path("/proc/self/task").iterdir()]
    others = [name for name in names if name != "jemalloc_bg_thd"]  # of pyarrow, which prepares it for a fork
    if len(others) > 1 or threading.active_count() > 1:
        raise SystemExit(f"expected one thread after the imports; found {', '.join(names)}")


def prepared(place: Path) -> Path:
    """Creates the sound project with its models in a folder."""

    def prepare() -> Work:
        project.write(place / "project")
        return Work(project.BUILD)

    # What the sound commands import, the parent imports too, so that no child needs seconds for it.
    child = bounds.start(place, prepare, after=lambda: (place / "modules").write_text("\n".join(sys.modules)))
    while (outcome := bounds.poll(child)) is None:
        time.sleep(0.01)
    if outcome.faults or any(outcome.codes) or len(outcome.codes) != len(project.BUILD):
        raise SystemExit(f"the sound project cannot be built: {outcome}")
    for module in (place / "modules").read_text(encoding="utf-8").split():
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    require_one_thread()

    return place / "project"


def run(place: Path, numbers: Sequence[int], seed: int, workers: int = 2) -> Iterator[tuple[int, Outcome]]:
    """Runs mutations, several at a time.

    Args:
        place: Folder for the projects.
        numbers: Numbers of the mutations.
        seed: Seed of the mutations.
        workers: How many mutations run at a time.

    Yields:
        The number of a mutation and its outcome, in the order in which the mutations end.
    """
    sound = prepared(place)
    remember(sound)
    parameters.warm(seed)
    gc.collect()
    gc.freeze()  # a collection in a child would copy the memory that it shares with this process
    running: dict[int, Child] = {}
    waiting = iter(numbers)
    while True:
        while len(running) < workers and (number := next(waiting, None)) is not None:
            here = place / f"{number}"
            here.mkdir()
            running[number] = bounds.start(here, functools.partial(put, seed, number, sound, here))
        if not running:
            return
        ended = [(number, outcome) for number, child in running.items() if (outcome := bounds.poll(child))]
        for number, outcome in ended:
            yield number, outcome
            shutil.rmtree(running.pop(number).place, ignore_errors=True)
        if not ended:
            time.sleep(0.005)


def put(seed: int, number: int, sound: Path, here: Path) -> Work:
    """Puts the changed project into a folder; returns the commands that meet it."""
    chosen = mutation(seed, number)
    project.copied(sound, here / "project")
    chosen.change(here / "project")
    # Nothing keeps a real process from writing elsewhere, so only calls in the child get paths out of the project.
    inside = not any(part.startswith(("/", "..", "~")) for command in chosen.commands for part in command)

    return Work(chosen.commands, chosen.stdin, is_real(number) and inside)


def table(counts: Counter[tuple[str, str]]) -> str:
    """The numbers of mutations by kind and verdict."""
    verdicts = ("accepted", "refused", "fault")
    rows = [("", *verdicts), *((kind, *(str(counts[kind, each]) for each in verdicts)) for kind in MODULES)]
    rows.append(("all", *(str(sum(counts[kind, each] for kind in MODULES)) for each in verdicts)))

    return "\n".join(f"{row[0]:12}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in rows)


def main() -> int:
    """Runs mutations, prints those that end with a fault, and a table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mutations", type=int, default=10_000, metavar="N", help="number of mutations; default: 10000"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the mutations; default: 1")
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        metavar="N",
        help="number of the first mutation, to run many in parts; default: 0",
    )
    parser.add_argument("--only", type=int, action="append", metavar="N", help="run only the mutation of this number")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument("--verbose", action="store_true", help="print every mutation with its outcome")
    arguments = parser.parse_args()
    started = told = time.monotonic()
    warnings.simplefilter("ignore")
    load_everything()
    warnings.resetwarnings()
    counts: Counter[tuple[str, str]] = Counter()
    numbers = arguments.only or range(arguments.first, arguments.first + arguments.mutations)
    slowest = (0.0, -1)
    with tempfile.TemporaryDirectory(prefix="duvae-fuzz-") as place:
        for number, outcome in run(Path(place), numbers, arguments.seed, arguments.workers):
            counts[CYCLE[number % len(CYCLE)], outcome.verdict] += 1
            slowest = max(slowest, (outcome.seconds, number))
            if outcome.faults or arguments.only or arguments.verbose:
                chosen = mutation(arguments.seed, number)
                print(f"{number}: {outcome.verdict}: {chosen.what}: {outcome.codes}, {outcome.seconds:.1f} s")
                print("".join(f"    {fault}\n" for fault in outcome.faults), end="", flush=True)
            if outcome.faults or arguments.only:
                print("".join(f"    duvae {' '.join(command)[:200]}\n" for command in chosen.commands), end="")
                print("".join(f"    | {line[:300]}\n" for line in outcome.output.splitlines()[-25:]), flush=True)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print(f"{counts.total()} of {len(numbers)} after {told - started:.0f} s", flush=True)
    print(table(counts))
    print(
        f"seed {arguments.seed}, {time.monotonic() - started:.0f} s; the slowest mutation is number {slowest[1]} with"
        f" {slowest[0]:.1f} s of CPU time"
    )
    faults = sum(count for (_, verdict), count in counts.items() if verdict == "fault")
    if faults:
        print(f"{faults} faults. Run one again with: make fuzz ARGS='--seed {arguments.seed} --only NUMBER'")

    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
