"""Every system on a simulated GPU: nothing that a real GPU refuses, and no wait or launch more than expected.

The simulation knows shapes, types and devices of tensors, but no values (see simulated/gpu.py).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import family
from simulated import library

TESTS = Path(__file__).parent
WAITS = yaml.safe_load((TESTS / "simulated" / "waits.yaml").read_text(encoding="utf-8"))

MOST_LAUNCHES = {"text": 400, "images": 430}
"""Bounds of the launches of a training step of the small models."""

MORE_LAUNCHES = {"sa_vae": {"text": 1000, "images": 1700}, "agg_vae": {"text": 850, "images": 650}}
"""The same bounds for SA-VAE, which takes steps on z and goes back through them, and for Agg-VAE's inner steps."""

MOST_AT_FULL_SIZE = {"yahoo": 260, "omniglot": 180}
"""Bounds of the launches of the likelihood of one document or image, at the paper's sizes, with 500 samples."""

pytestmark = pytest.mark.program(library.COMPILER)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the simulation found, in a process of its own, because a failure inside of PyTorch would end this one."""
    folder = tmp_path_factory.mktemp("simulated")
    results = folder / "results.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])}
    done = subprocess.run(
        [sys.executable, "-m", "simulated.run", str(library.compiled(folder)), str(results)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr

    return json.loads(results.read_text())


def test_a_gpu_refuses_nothing(found: Any) -> None:
    """Types and devices of all products go together, and random generators belong to the device of their draws."""
    assert set(found["float32"]["text"]) == set(found["float32"]["images"]) == set(family.NAMES)
    assert set(found["bfloat16"]["text"]) == set(family.NAMES)
    assert {run: phases["error"] for run, phases in runs(found).items() if "error" in phases} == {}


def runs(found: Any) -> dict[tuple[str, str, str], Any]:
    """The phases of each run, by precision, kind of data and system."""
    return {
        (precision, kind, system): phases
        for precision in ("float32", "bfloat16")
        for kind, systems in found[precision].items()
        for system, phases in systems.items()
    }


def test_the_waits_are_those_of_the_list(found: Any) -> None:
    waits: dict[str, set[str]] = {}
    for phases in runs(found).values():
        for phase, record in phases.items():
            waits.setdefault(phase, set()).update(record["waits"])

    assert {phase: sorted(lines) for phase, lines in waits.items() if lines} == WAITS


def test_only_agg_vae_waits_in_a_training_step(found: Any) -> None:
    """Agg-VAE reads a loss on the processor, once in each window of its inner steps."""
    assert {system for (_, _, system), phases in runs(found).items() if phases["step"]["waits"]} == {"agg_vae"}


def test_a_training_step_starts_few_kernels(found: Any) -> None:
    for (_, kind, system), phases in runs(found).items():
        assert 50 < phases["step"]["launches"] <= MORE_LAUNCHES.get(system, MOST_LAUNCHES)[kind], (kind, system)


def test_the_likelihood_of_an_example_starts_few_kernels(found: Any) -> None:
    for dataset, most in MOST_AT_FULL_SIZE.items():
        assert 0 < found["full size"][dataset] <= most
