"""What killed commands leave is removed later: unfinished files, and states of trainings with other parameters."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from duvae.project import files, leftovers
from pipelines import orchestration
from prepared_project import create, write_params

ROOT = Path(__file__).parents[1]
KEPT: list[object] = []
"""Writers of unfinished files. They would remove their files when Python frees them."""

OTHER = "synthetic-vae-1.0123456789abcdef.safetensors"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with small parameters and prepared data."""
    folder = tmp_path / "project"
    folder.mkdir()

    return create(folder)


def start(folder: Path, command: str = "train") -> "subprocess.Popen[str]":
    job = ["--dataset", "synthetic", "--setting", "vae", "--seed", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}

    return subprocess.Popen(
        [sys.executable, "-m", "duvae", command, *job], cwd=folder, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait(process: "subprocess.Popen[str]", condition: Callable[[], object]) -> None:
    """Waits for a condition while a process runs."""
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def states(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("*.safetensors"))


def unfinished(folder: Path) -> dict[str, Path]:
    """Makes unfinished files, as a killed process leaves them: one day old, and beside a file with a similar name."""
    paths = {}
    for name in ("dvc.lock", "results/a/b/1/x.json", "models/a/b/1", "checkpoints/y.safetensors", "data/prepared/own"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        writing = files.scratch(folder / name) if "models" in name else files.whole(folder / name)
        KEPT.append(writing)
        path = writing.__enter__()
        if path.is_dir():
            (path / "new").mkdir()
            (path / "new/weights").write_bytes(b"half")
        else:
            path.write_bytes(b"half")
        for each in (*path.rglob("*"), path):
            os.utime(each, (time.time() - 86_400,) * 2)
        paths[name] = path
    (folder / "data/mine.part").write_text("mine")
    (folder / "data/.mine.part").write_text("mine")

    return paths


def test_unfinished_files_are_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = unfinished(tmp_path)
    leftovers.remove_unfinished(tmp_path)

    assert not [path for path in paths.values() if path.exists()]
    assert (tmp_path / "data/mine.part").exists()
    assert (tmp_path / "data/.mine.part").exists()
    error = capsys.readouterr().err
    assert error.startswith("removed ")
    assert error.endswith(" and 4 more (20 bytes): a command was killed before it had finished them\n")
    leftovers.remove_unfinished(tmp_path)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("place", [".", "checkpoints"])
def test_a_file_that_a_running_process_may_write_stays(tmp_path: Path, place: str) -> None:
    """The writer works in the project, or in a workspace that shares its checkpoints."""
    paths, workspace = unfinished(tmp_path), tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "checkpoints").symlink_to(tmp_path / "checkpoints")
    code = "import sys, time; print('ready', flush=True); time.sleep(300)"
    writer = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    # A process does not wait for those that it has started itself. So another one looks for unfinished files.
    look = "import sys; from pathlib import Path; from duvae.project.leftovers import remove_unfinished"
    command = [sys.executable, "-c", f"{look}; remove_unfinished(Path(sys.argv[1]))"]
    command += [str(tmp_path if place == "." else workspace)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    written = [path for name, path in paths.items() if place == "." or name.startswith(place)]
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        for path in written:
            for each in (path, *path.rglob("*")):
                os.utime(each, None)
        subprocess.run(command, check=True, cwd="/", env=environment)
        assert [path for path in written if path.exists()] == written
    finally:
        writer.kill()
        writer.communicate()
    subprocess.run(command, check=True, cwd="/", env=environment)
    if place == ".":
        assert not [path for path in written if path.exists()]


def test_the_next_start_of_a_stage_removes_what_a_killed_one_left(project: Path) -> None:
    """The state of the killed training stays, and the training resumes from it."""
    process = start(project)
    wait(process, lambda: states(project) and list((project / "checkpoints").glob(".*.part")))
    process.send_signal(signal.SIGSTOP)  # so that it cannot finish the file before it is killed
    paths = unfinished(project)
    process.kill()
    process.communicate()
    assert len(states(project)) == 1

    again = start(project)
    _, errors = again.communicate(timeout=240)
    assert again.returncode == 0, errors
    assert not [path for path in paths.values() if path.exists()]
    assert "a command was killed before it had finished them" in errors
    assert not list((project / "checkpoints").iterdir())


def test_states_of_other_parameters_go_when_the_training_has_finished(project: Path) -> None:
    process = start(project)
    wait(process, lambda: states(project))
    process.kill()
    process.communicate()
    (old,) = states(project)
    for name in ("synthetic-vae-11.0123456789abcdef.safetensors", "synthetic-du_vae-1.0123456789abcdef.safetensors"):
        (project / "checkpoints" / name).write_bytes(b"another job")

    write_params(project, learning_rate=0.5)
    changed = start(project)
    wait(changed, lambda: len(states(project)) == 4)  # the old state is still there: the change may be taken back
    _, errors = changed.communicate(timeout=240)
    assert changed.returncode == 0, errors
    assert f"removed {old} from checkpoints: states of synthetic-vae-1 with other parameters, data or code" in errors
    left = {path.name for path in (project / "checkpoints").iterdir()}
    assert left == {
        "synthetic-vae-11.0123456789abcdef.safetensors",
        "synthetic-du_vae-1.0123456789abcdef.safetensors",
    }


def test_states_stay_while_another_process_trains_the_same_job(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / OTHER).write_bytes(b"state")
    inside, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with leftovers.training("synthetic-vae-1", tmp_path):
            inside.set()
            go_on.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    with leftovers.training("synthetic-vae-1", tmp_path):
        pass
    assert states(tmp_path) == [OTHER]
    go_on.set()
    thread.join()
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_training_that_fails_removes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), leftovers.training("synthetic-vae-1", tmp_path):
        raise ZeroDivisionError
    assert not (tmp_path / "checkpoints").exists()

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / OTHER).write_bytes(b"state")
    with pytest.raises(ZeroDivisionError), leftovers.training("synthetic-vae-1", tmp_path):
        raise ZeroDivisionError
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [OTHER]


def test_a_folder_that_cannot_be_locked_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with leftovers.training("synthetic-vae-1", tmp_path):
        pass
    assert (tmp_path / "checkpoints").read_text() == "a file"


def test_a_rebuild_removes_unfinished_files(tmp_path: Path) -> None:
    paths = unfinished(tmp_path)
    with orchestration.exclusive(tmp_path):
        pass

    assert not [path for path in paths.values() if path.exists()]
