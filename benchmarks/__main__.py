"""Measures the speed of the library and prints one table: `make bench`.

The table has one row for each measurement. A time in `s` or `ms` is CPU time, summed over all threads, so other
processes on the machine change it little. But other processes still slow down the caches and the clock. Therefore each
row also shows the rate of a matrix product, measured at about the same time as the row. A low rate means that the
machine was slow. Most values are medians of several measurements.
"""

import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from benchmarks import images, large_text, measure, scale
from benchmarks.measure import Row
from benchmarks.synthetic import ROOT, TINY, Size, SyntheticBench, shrink
from duvae import config
from duvae.project.progress import Bar
from pipelines.arguments import Parser

GROUPS = ("steps", "semi_amortized", "settings", "flows", "information", "rest", "text", "images", "scale")
"""Names of the groups of rows in the table, for the option `--only`."""
APART = "scale"
"""The group that is measured only on request, since it takes as long as all others."""


def main() -> int:
    """Measures, prints the table, and returns the exit status.

    The status is 1 if a value violates a bound that must hold (`Row.must`), otherwise 0. With `--tiny` the status is
    always 0, since the bounds are meant for the full sizes.
    """
    parser = Parser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--full", action="store_true", help="train for all epochs instead of a few, and evaluate each setting"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="measure tiny sizes for a few seconds, as a test of the code"
    )
    parser.add_argument("--only", choices=GROUPS, help=f"measure only this group of rows; default: all but '{APART}'")
    parser.add_argument(
        "--output", type=Path, metavar="PATH", help="file with a section for the table: the section is replaced"
    )
    options = parser.parse_args()
    params = config.load(ROOT / "params.yaml")
    torch.set_num_threads(params.threads)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="duvae-bench-") as name:
        synthetic_params, size = (shrink(params), TINY) if options.tiny else (params, Size())
        bench = SyntheticBench(synthetic_params, size, Path(name), options.full)
        text = large_text.TextBench(large_text.TINY if options.tiny else large_text.TextSize())
        image = images.ImageBench(images.TINY if options.tiny else images.ImageSize())
        scales = scale.ScaleBench(scale.TINY if options.tiny else scale.ScaleSize())
        measurements: tuple[Callable[[], Iterable[Row]], ...] = (
            bench.steps,
            bench.semi_amortized,
            bench.settings,
            bench.flows,
            bench.information,
            bench.rest,
            text,
            image,
            scales,
        )
        chosen = [options.only] if options.only else [name for name in GROUPS if name != APART]
        groups = [group for name, group in zip(GROUPS, measurements, strict=True) if name in chosen]
        with Bar("benchmarks", len(groups)) as bar:
            for number, group in enumerate(groups, 1):
                rows += group()
                bar.done(number)
    report = "\n".join([*measure.machine(), "", measure.table(rows)])
    print(report)
    if options.output:
        arguments = f' ARGS="--only {options.only}"' if options.only else ""
        measure.write_section(options.output, f"The last `make bench{arguments}`", report)
    missed = [row.name for row in rows if row.met == "NO"]
    if missed and not options.tiny:
        print(f"\nThese bounds do not hold: {', '.join(missed)}", file=sys.stderr)
        return 1

    return 0


if __name__ == "__main__":
    sys.exit(main())
