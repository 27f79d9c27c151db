"""Checks that everything works on a GPU, and how fast: `make gpu-check`.

The exit status is 0 if every bound holds, 1 if a row fails, and 2 if torch can use no GPU.
"""

import argparse
import datetime
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import (
    bits,
    card,
    compiled,
    failures,
    half,
    page,
    parity,
    process,
    rates,
    speed,
    waits,
)
from benchmarks.gpu.check import Check
from benchmarks.gpu.rows import Row, counts
from duvae import config, streams
from duvae.errors import UserError
from duvae.project.files import as_json, require_writable, write_text
from duvae.project.provenance import commit
from duvae.systems import SYSTEMS
from pipelines.arguments import Parser

ROOT = Path(__file__).parents[2]

TO_DESCRIBE = 60.0
"""Time limit of the process that describes the card, in seconds."""


PATIENCE_OF_DRY_RUN = 10
"""Factor of all time limits in a dry run, whose CPU may be slow or busy."""


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Attributes:
        run: Function that yields the rows of the part.
        limit: Time limit in seconds.
    """

    run: Callable[[Check], Iterable[Row]]
    limit: float


PARTS = {
    "rates": Part(rates.run, 30),
    "parity": Part(parity.run, 110),
    "waits": Part(waits.run, 45),
    "bits": Part(bits.run, 80),
    "half": Part(half.run, 45),
    "compiled": Part(compiled.run, 100),
    "speed": Part(speed.run, 110),
    "failures": Part(failures.run, 80),
}
"""The parts of the check. On an H100 all of them together should take less than eight minutes."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts, writes the page and the rows, and returns the exit status.

    Args:
        arguments: Arguments of the command line; None: those of this process.
    """
    options = _parser().parse_args(arguments)
    try:
        return check(options)
    except UserError as error:
        streams.print_error(error)
        return error.status
    except KeyboardInterrupt:
        streams.say("interrupted: no file was written")
        return 130


def check(options: argparse.Namespace) -> int:
    """Runs the parts that the options name.

    Raises:
        UserError: If an option is wrong, if torch can use no GPU, or if the files cannot be written.
    """
    if not options.patience > 0:
        raise UserError(f"--patience {options.patience:g}: expected a number above 0. Correct the argument.")
    device, only = torch.device(options.device), options.only or []
    folder = options.output or (ROOT / "benchmarks" if device.type == "cuda" and not only else None)
    if folder is not None:
        require_writable(folder / "gpu.md")
    about = described(device)
    if device.type == "cpu":
        importlib.import_module("torch._dynamo")  # most parts import it, which takes seconds; not tried beside CUDA
    chosen = Check(device, config.load(ROOT / "params.yaml"), tuple(options.systems or SYSTEMS))
    rows: list[Row] = []
    about["seconds"], about["only"] = {}, only
    for name in only or PARTS:
        part = PARTS[name]
        found, seconds = rows_of(name, part, chosen, options.patience)
        rows += found
        about["seconds"][name] = round(seconds, 1)
        total = counts(found)
        streams.say(f"{name}: {len(found)} rows, {total['failed']} failed, {seconds:.0f} s")
    text = page.markdown(about, rows)
    if folder is None:
        print(text)
    else:
        write_text(folder / "gpu.json", as_json({"about": about, "rows": [row.as_json() for row in rows]}))
        write_text(folder / "gpu.md", text)
        streams.say(f"The page: {folder / 'gpu.md'}")
    print(page.first_sentence(rows))

    return 1 if counts(rows)["failed"] else 0


def described(device: torch.device) -> dict[str, Any]:
    """Describes the device and the code.

    Raises:
        UserError: If torch can use no GPU.
    """
    outcome = process.run(partial(card.described, device), TO_DESCRIBE)
    problem = outcome.values[0]["problem"] if outcome.values else f"the first use of it {outcome.end}: {outcome.last}"
    if problem:
        raise UserError(
            f"expected a GPU that torch can use, but {problem}. No file was written. See what 'nvidia-smi' says. 'make"
            " clean', then 'make environment TORCH_INDEX=https://download.pytorch.org/whl/cu130' install a torch for"
            " GPUs. To try the check without a GPU, run 'make gpu-check ARGS=\"--device cpu\"'."
        )
    source = commit(ROOT)

    return {**outcome.values[0], **source, "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"}


def rows_of(name: str, part: Part, chosen: Check, patience: float) -> tuple[list[Row], float]:
    """Runs a part in a process of its own.

    Args:
        name: Name of the part.
        part: The part.
        chosen: Device, parameters and systems of the check.
        patience: Factor of the time limit.

    Returns:
        The rows of the part, and the seconds that it took. The last row says how the process ended.
    """
    limit = patience * part.limit * (1 if chosen.real else PATIENCE_OF_DRY_RUN)
    outcome = process.run(partial(_as_json, part, chosen), limit)
    rows = [replace(Row.of_json(values), part=name) for values in outcome.values]
    remark = f"{outcome.seconds:.0f} s" if outcome.end == process.ENDED else outcome.last
    rows.append(Row("the process of this part", outcome.end, "", process.ENDED, "==", remark=remark, part=name))

    return rows, outcome.seconds


def _as_json(part: Part, chosen: Check) -> Iterator[dict[str, Any]]:
    """Yields the rows of a part in a form for JSON."""
    for row in part.run(chosen):
        yield row.as_json()


def _parser() -> argparse.ArgumentParser:
    """Builds the parser of the command line."""
    parser = Parser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="'cpu' tests the check itself, with small models and without the bounds that are about a GPU",
    )
    parser.add_argument("--only", choices=tuple(PARTS), action="append", help="run only this part; may be repeated")
    parser.add_argument(
        "--systems", choices=tuple(SYSTEMS), nargs="+", metavar="SYSTEM", help="check only these systems; default: all"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder of gpu.md and gpu.json; default: benchmarks/ after a whole check of a GPU, otherwise no file",
    )
    parser.add_argument(
        "--patience", type=float, default=1.0, metavar="FACTOR", help="multiply the time limit of each part"
    )

    return parser


if __name__ == "__main__":
    sys.exit(main())
