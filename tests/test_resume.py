"""A training that is killed at any moment and started again gives the same bits as an undisturbed training."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import family
from duvae.errors import UserError
from duvae.training import checkpoints
from duvae.training.checkpoints import Checkpoint, Snapshot
from prepared_project import create, write_params

ROOT = Path(__file__).parents[1]
KILLED = Path(__file__).with_name("killed.py")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes a project with small parameters and prepared data; returns its folder."""
    return create(tmp_path_factory.mktemp("prepared"))


def project(prepared: Path, folder: Path, **optimisation: object) -> Path:
    """Copies the project, and changes the given values of the copy's optimisation."""
    shutil.copytree(prepared, folder)
    write_params(folder, **optimisation)

    return folder


def train_and_kill(folder: Path, setting: str, how: str, seconds: float = 1.0, seed: int = 1) -> tuple[int, float]:
    """Trains in child processes, which are killed one after the other until one reaches the end.

    Args:
        folder: The project's folder.
        setting: Name of the setting to train.
        how: When a process is killed; `never`: the first process reaches the end.
        seconds: Longest time before a kill at a random moment.
        seed: Seed of the moments of the kills.

    Returns:
        The number of killed processes, and the duration of the process that reached the end, in seconds.
    """
    command = [sys.executable, str(KILLED), str(folder), setting, str(seed), how, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr

    count, duration = done.stdout.split()

    return int(count), float(duration)


def killed(folder: Path, setting: str, how: str, seconds: float = 1.0, seed: int = 1) -> int:
    """Does the same as `train_and_kill`, and returns the number of killed processes alone."""
    return train_and_kill(folder, setting, how, seconds, seed)[0]


def undisturbed(prepared: Path, folder: Path, setting: str, **optimisation: object) -> tuple[Path, float]:
    """Trains without a kill in a copy of the project; returns the copy's folder and the training's seconds."""
    project(prepared, folder, **optimisation)
    count, seconds = train_and_kill(folder, setting, "never")
    assert count == 0

    return folder, seconds


def outputs(folder: Path) -> dict[str, bytes]:
    """The bytes of all files that a training writes, by path. The record is left out, since it holds durations."""
    files = [*(folder / "models").rglob("*"), *(folder / "results").rglob("*.csv")]

    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}


@pytest.mark.parametrize("setting", [family.setting(name) for name in family.NAMES])
def test_killed_at_random_moments(prepared: Path, tmp_path: Path, setting: str) -> None:
    expected, seconds = undisturbed(prepared, tmp_path / "undisturbed", setting)
    disturbed = project(prepared, tmp_path / "disturbed")

    assert killed(disturbed, setting, "moments", seconds / 4) >= 2
    assert outputs(disturbed) == outputs(expected)
    assert not list((disturbed / "checkpoints").iterdir())


@pytest.mark.parametrize(("how", "times"), [("writing", 4), ("outputs", 1)])
def test_killed_while_writing(prepared: Path, tmp_path: Path, how: str, times: int) -> None:
    expected, _ = undisturbed(prepared, tmp_path / "undisturbed", "du_vae")
    disturbed = project(prepared, tmp_path / "disturbed")

    assert killed(disturbed, "du_vae", how) == times
    assert outputs(disturbed) == outputs(expected)


def test_adam_goes_on_with_its_moments(prepared: Path, tmp_path: Path) -> None:
    adam = {"optimiser": "adam", "learning_rate": 0.01}
    expected, seconds = undisturbed(prepared, tmp_path / "undisturbed", "du_vae", **adam)
    disturbed = project(prepared, tmp_path / "disturbed", **adam)

    assert killed(disturbed, "du_vae", "moments", seconds / 4) >= 2
    assert outputs(disturbed) == outputs(expected)


def start(folder: Path) -> subprocess.Popen[str]:
    """Starts a training, and waits until it has saved a first state."""
    command = [sys.executable, "-m", "duvae", "train", "--dataset", "synthetic", "--setting", "vae", "--seed", "1"]
    process = subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    while process.poll() is None and not list((folder / "checkpoints").glob("*.safetensors")):
        time.sleep(0.01)

    return process


def test_interrupted(prepared: Path, tmp_path: Path) -> None:
    expected, _ = undisturbed(prepared, tmp_path / "undisturbed", "vae")
    disturbed = project(prepared, tmp_path / "disturbed")
    process = start(disturbed)
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "training stopped in epoch" in output
    assert "run the same command again to continue from there" in output
    assert "Traceback" not in output
    assert not (disturbed / "models").exists()
    assert killed(disturbed, "vae", "never") == 0
    assert outputs(disturbed) == outputs(expected)


def test_a_changed_parameter_never_resumes_an_old_state(prepared: Path, tmp_path: Path) -> None:
    changed = {"learning_rate": 0.5}
    expected, _ = undisturbed(prepared, tmp_path / "undisturbed", "vae", **changed)
    disturbed = project(prepared, tmp_path / "disturbed")
    process = start(disturbed)
    process.kill()
    process.communicate()
    assert list((disturbed / "checkpoints").glob("*.safetensors"))

    write_params(disturbed, **changed)
    assert killed(disturbed, "vae", "never") == 0
    assert outputs(disturbed) == outputs(expected)


def test_a_broken_state_is_not_taken_for_one(tmp_path: Path) -> None:
    import torch

    checkpoint = Checkpoint(tmp_path / "state.safetensors", 0.0)
    assert checkpoint.load() is None
    checkpoint.save(Snapshot({"a": torch.arange(3.0)}, {"state": {"epoch": 2, "best_loss": float("inf")}}))
    snapshot = checkpoint.load()
    assert snapshot is not None
    assert snapshot.values == {"state": {"epoch": 2, "best_loss": float("inf")}}
    assert torch.equal(snapshot.tensors["a"], torch.arange(3.0))

    whole = checkpoint.path.read_bytes()
    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        checkpoint.path.write_bytes(whole[:size])
        assert checkpoint.load() is None
    checkpoint.remove()
    assert not checkpoint.path.exists()


def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path: Path) -> None:
    import torch

    checkpoint = Checkpoint(tmp_path / "state.safetensors", 0.0)
    checkpoint.save(Snapshot({"a": torch.arange(3.0)}, {}))
    (tmp_path / ".state.safetensors.1.part").write_bytes(b"half")
    (tmp_path / ".state.safetensors.2.part").mkdir()
    (tmp_path / ".state.safetensors.2.part" / "state").write_bytes(b"half")
    (tmp_path / ".other.safetensors.3.part").mkdir()

    assert checkpoint.load() is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.safetensors.3.part", "state.safetensors"]


def test_a_full_disk_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors import SafetensorError

    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    checkpoint = Checkpoint(tmp_path / "state.safetensors", 0.0)
    checkpoint.save(Snapshot({"a": torch.arange(3.0)}, {"of": 1}))
    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(UserError, match=r"state\.safetensors: cannot be written .*No space left"):
        checkpoint.save(Snapshot({"a": torch.arange(3.0)}, {"of": 2}))
    snapshot = checkpoint.load()

    assert snapshot is not None
    assert snapshot.values == {"of": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
