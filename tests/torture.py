"""`make torture`: kills rebuilds, the creation of MLflow's store, and searches, and compares what they leave.

Each round has four parts, and its seed gives the kills and their moments:

- `rebuild`: a small rebuild is killed in each of its phases;
- `signals`: a rebuild ends by SIGHUP and by another signal, and leaves no process;
- `store`: `duvae track` is killed while it creates MLflow's store, also two at once;
- `search`: two `duvae search` on one study are killed.

After the kills the same commands must succeed, and their results must equal those of an undisturbed run.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torture_commands
import torture_rebuild

PARTS = ("rebuild", "signals", "store", "search")

Part = Callable[[int], str]


def prepare(parts: Sequence[str], place: Path) -> dict[str, Part]:
    """Creates the projects and their undisturbed results.

    Args:
        parts: Names of the parts.
        place: Folder for the projects.

    Returns:
        For each part, a function that runs the part with a seed, and returns a description of its kills.
    """
    functions: dict[str, Part] = {}
    # These parts fork this process. So they come first, before any other part may start a thread.
    if {"store", "search"}.intersection(parts):
        project = torture_commands.create(place / "commands")
        if "store" in parts:
            functions["store"] = torture_commands.Tracking(project, place).round
        if "search" in parts:
            functions["search"] = torture_commands.Searching(project, place).round
    if {"rebuild", "signals"}.intersection(parts):
        prepared = place / "prepared"
        torture_rebuild.create(prepared)
        expected = torture_rebuild.undisturbed(prepared, place / "undisturbed")

        def part(name: str) -> Part:
            kill = {"rebuild": torture_rebuild.torture, "signals": torture_rebuild.ended_by_signals}[name]

            def run(seed: int) -> str:
                folder = place / f"{name}-{seed}"
                killed = kill(prepared, expected, folder, seed)
                shutil.rmtree(folder)
                return f"{name}: {', '.join(killed)}; {len(expected)} outputs as expected"

            return run

        functions |= {name: part(name) for name in ("rebuild", "signals") if name in parts}

    return functions


def main() -> None:
    """Runs some rounds, and prints the kills of each round on one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="number of rounds; default: 20")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="seed of the first round; default: 1")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="parts of each round; default: all")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="duvae-") as place:
        functions = prepare(arguments.parts, Path(place))
        for seed in range(arguments.first, arguments.first + arguments.rounds):
            lines = [functions[name](seed) for name in arguments.parts]
            print(f"seed {seed}: {' | '.join(lines)}", flush=True)
    print(f"{arguments.rounds} rounds in {time.monotonic() - started:.0f} s: everything as in undisturbed runs")


if __name__ == "__main__":
    main()
