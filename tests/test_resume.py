"""A training that is killed at any moment and started again gives the same bits as an undisturbed training."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """The process that forks the trainings of this module (see `killed.py`)."""
    errors = (tmp_path_factory.mktemp("forks") / "errors").open("w+", encoding="utf-8")
    command = [sys.executable, str(KILLED)]
    with (
        errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        ) as process,
    ):
        yield process
        os.killpg(process.pid, signal.SIGKILL)


def killed(forks: subprocess.Popen[str], setting: str, *trainings: tuple[Path, str]) -> list[int]:
    """Trains in child processes, which are killed one after the other until one reaches the end.

    Args:
        forks: The process that forks them.
        setting: Name of the setting to train.
        trainings: Project's folder and way of killing for each training (see `killed.py`).

    Returns:
        The number of killed processes of each training.
    """
    assert forks.stdin
    assert forks.stdout
    forks.stdin.write(json.dumps([setting, *((str(folder), how) for folder, how in trainings)]) + "\n")
    forks.stdin.flush()
    answer = forks.stdout.readline()
    assert answer, "a training failed"
    counts: list[int] = json.loads(answer)

    return counts


def pair(
    prepared: Path, folder: Path, forks: subprocess.Popen[str], setting: str, how: str, **optimisation: object
) -> tuple[Path, Path, int]:
    """Trains twice in copies of the project: undisturbed, and in processes that are killed.

    Args:
        prepared: Folder of the project.
        folder: Folder for the copies.
        forks: The process that forks the trainings.
        setting: Name of the setting to train.
        how: Way of killing (see `killed.py`).
        optimisation: Changed values of the optimisation.

    Returns:
        The folders of the undisturbed and of the disturbed training, and the number of killed processes.
    """
    expected = project(prepared, folder / "undisturbed", **optimisation)
    disturbed = project(prepared, folder / "disturbed", **optimisation)
    none, count = killed(forks, setting, (expected, "never"), (disturbed, how))
    assert none == 0

    return expected, disturbed, count


def outputs(folder: Path) -> dict[str, bytes]:
    """The bytes of all files that a training writes, by path. The record is left out, since it holds durations."""
    files = [*(folder / "models").rglob("*"), *(folder / "results").rglob("*.csv")]

    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}


@pytest.mark.parametrize("setting", [family.setting(name) for name in family.NAMES])
def test_killed_at_random_moments(prepared: Path, tmp_path: Path, forks: subprocess.Popen[str], setting: str) -> None:
    expected, disturbed, count = pair(prepared, tmp_path, forks, setting, "moments")

    assert count >= 2
    assert outputs(disturbed) == outputs(expected)
    assert not list((disturbed / "checkpoints").iterdir())


@pytest.mark.parametrize(("how", "times"), [("writing", 4), ("outputs", 1)])
def test_killed_while_writing(
    prepared: Path, tmp_path: Path, forks: subprocess.Popen[str], how: str, times: int
) -> None:
    expected, disturbed, count = pair(prepared, tmp_path, forks, "du_vae", how)

    assert count == times
    assert outputs(disturbed) == outputs(expected)


def test_adam_goes_on_with_its_moments(prepared: Path, tmp_path: Path, forks: subprocess.Popen[str]) -> None:
    adam = {"optimiser": "adam", "learning_rate": 0.01}
    expected, disturbed, count = pair(prepared, tmp_path, forks, "du_vae", "moments", **adam)

    assert count >= 2
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


def test_interrupted(prepared: Path, tmp_path: Path, forks: subprocess.Popen[str]) -> None:
    expected, disturbed = (project(prepared, tmp_path / name) for name in ("undisturbed", "disturbed"))
    process = start(disturbed)
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "training stopped in epoch" in output
    assert "run the same command again to continue from there" in output
    assert "Traceback" not in output
    assert not (disturbed / "models").exists()
    assert killed(forks, "vae", (disturbed, "never"), (expected, "never")) == [0, 0]
    assert outputs(disturbed) == outputs(expected)


def test_a_changed_parameter_never_resumes_an_old_state(
    prepared: Path, tmp_path: Path, forks: subprocess.Popen[str]
) -> None:
    changed = {"learning_rate": 0.5}
    expected = project(prepared, tmp_path / "undisturbed", **changed)
    disturbed = project(prepared, tmp_path / "disturbed")
    process = start(disturbed)
    process.kill()
    process.communicate()
    assert list((disturbed / "checkpoints").glob("*.safetensors"))

    write_params(disturbed, **changed)
    assert killed(forks, "vae", (disturbed, "never"), (expected, "never")) == [0, 0]
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
