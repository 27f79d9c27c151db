"""The peak memory of a process is its own, not that of the process that started it."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from duvae.project import provenance

ROOT = Path(__file__).parents[1]


def test_the_memory_of_the_parent_does_not_count() -> None:
    held = np.ones(400 * 2**20, np.uint8)
    program = "from duvae.project import provenance; print(provenance.peak_memory())"
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert provenance.peak_memory() > held.nbytes / 2**20
    assert 1 < float(done.stdout) < 200


def test_memory_that_was_given_back_counts() -> None:
    before = provenance.memory("VmRSS")
    held = np.ones(100 * 2**20, np.uint8)
    most = provenance.peak_memory()
    del held

    assert most >= before + 90
    assert provenance.peak_memory() >= most
