"""The counted work of today's code: a program counts some systems anew, and the file of counts has the same numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.gpu_times import COUNTS, read
from simulated import library

TESTS = Path(__file__).parent
COUNTED = ("synthetic:agg_vae", "short_yelp:ae", "omniglot_small:ae")
"""Data sets and systems that are counted anew: inner steps and an NLL, other sizes, and images."""


@pytest.mark.program(library.COMPILER)
def test_the_counts_are_those_of_todays_code() -> None:
    """If this fails, run `make counts`: it writes the counts and the estimates of docs/paper-runs.md anew."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "simulated.counts", *COUNTED],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    found, counts = json.loads(done.stdout), read(COUNTS)["datasets"]
    compared = 0
    for dataset, systems in found.items():
        for system, rows in systems.items():
            assert set(rows) == set(counts[dataset]["systems"][system])
            for name, values in rows.items():
                assert values == pytest.approx(counts[dataset]["systems"][system][name], rel=0.01), (system, name)
                compared += 1

    assert compared == 5 + 3 + 3
