"""Rebuilds, the creation of MLflow's store, and searches that are killed give what undisturbed ones give.

See torture.py, which runs many such rounds.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import torture_rebuild
from tiny import ROOT

TRAINING = ("train@synthetic-vae-1",)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A small project with prepared data, and the hashes of the outputs of an undisturbed rebuild."""
    place = tmp_path_factory.mktemp("torture")
    torture_rebuild.create(place / "prepared")

    return place / "prepared", torture_rebuild.undisturbed(place / "prepared", place / "undisturbed", TRAINING)


def test_killed_in_training_in_writing_and_in_recording(prepared: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    project, expected = prepared
    assert any(path.startswith("models/") for path in expected)
    killed = torture_rebuild.torture(project, expected, tmp_path / "killed", 1, TRAINING)
    assert len(killed) >= 3, killed


def test_a_rebuild_whose_terminal_closes_leaves_no_process(
    prepared: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    project, expected = prepared
    killed = torture_rebuild.ended_by_signals(project, expected, tmp_path / "closed", 1, TRAINING, [signal.SIGHUP])
    assert killed == ["SIGHUP"]


def test_killed_while_the_store_is_created_and_in_two_searches() -> None:
    command = [sys.executable, str(ROOT / "tests/torture.py"), "--rounds", "1", "--parts", "store", "search"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}  # as in the Makefile
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 1: store: " in done.stdout
