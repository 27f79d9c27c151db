"""MLflow's local store is created completely or not at all, and a half-made one is made anew."""

import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from command_line import call
from duvae.commands import track
from duvae.errors import UserError
from duvae.project import doctor, local_store
from duvae.tracking import runs, store
from serving import serve

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::sqlalchemy", "ignore:::alembic")


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete store without runs. Making one takes seconds, so tests copy it."""
    root = tmp_path_factory.mktemp("complete")

    return local_store.require(root)


@pytest.fixture
def here(complete: Path, tmp_path: Path) -> Path:
    (tmp_path / local_store.FILE).write_bytes(complete.read_bytes())

    return tmp_path / local_store.FILE


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def names(path: Path) -> set[str]:
    return {each.name for each in path.parent.iterdir()}


def test_a_new_store_is_complete_and_leaves_nothing_else(complete: Path) -> None:
    assert local_store.state(complete) == "complete"
    assert names(complete) <= {local_store.FILE, f"{local_store.FILE}.lock", "mlruns"}
    assert local_store.newest_schema() is not None


def without_tables(path: Path) -> None:
    path.unlink()
    change(path, "CREATE TABLE x (a)")


HALF: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b""),
    "without tables": without_tables,
    "between two versions": lambda path: change(path, "CREATE TABLE _alembic_tmp_experiments (a)"),
    "of an earlier version": lambda path: change(path, "UPDATE alembic_version SET version_num = '451aebb31d03'"),
    "without a version": lambda path: change(path, "DELETE FROM alembic_version"),
    "without runs": lambda path: change(path, "PRAGMA foreign_keys = OFF", "DROP TABLE runs"),
}


@pytest.mark.parametrize("name", HALF)
def test_a_half_made_store_is_made_anew(here: Path, name: str) -> None:
    HALF[name](here)
    assert local_store.state(here) == "half-made"

    local_store.require(here.parent)

    assert local_store.state(here) == "complete"


def test_a_journal_of_the_half_made_store_does_not_reach_the_new_one(here: Path) -> None:
    HALF["between two versions"](here)
    for end in ("-journal", "-wal", "-shm"):
        here.with_name(f"mlflow.db{end}").write_bytes(b"left over")

    local_store._create(here)  # not `require`, which opens the half-made store first; SQLite may then remove the files

    assert names(here) <= {local_store.FILE, f"{local_store.FILE}.lock", "mlruns"}


def test_a_store_with_runs_is_never_replaced(here: Path) -> None:
    change(
        here,
        "PRAGMA ignore_check_constraints = ON",
        "INSERT INTO runs (run_uuid, lifecycle_stage, experiment_id, status, source_type)"
        " VALUES ('a', 'active', 0, 'FINISHED', 'LOCAL')",
        "UPDATE alembic_version SET version_num = '451aebb31d03'",
    )
    content = here.read_bytes()

    assert local_store.state(here) == "of another version"
    local_store.require(here.parent)
    assert here.read_bytes() == content


def test_what_is_no_database_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / local_store.FILE).write_bytes(b"my own notes" * 1000)

    with pytest.raises(UserError, match="cannot be used as MLflow's store"):
        store.connect(tmp_path)
    assert (tmp_path / local_store.FILE).read_bytes() == b"my own notes" * 1000


def test_a_store_of_another_version_is_named_with_what_to_do(here: Path) -> None:
    test_a_store_with_runs_is_never_replaced(here)

    with pytest.raises(doctor.Problem, match="another version of MLflow"):
        doctor.store(here.parent)
    with pytest.raises(UserError, match=r"cannot be used as MLflow's store .*version"):
        store.connect(here.parent)


def test_a_locked_store_is_not_to_be_deleted(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says to wait, since a store that another process uses is not broken."""
    monkeypatch.setattr(local_store.state, "__defaults__", (0.1,))
    monkeypatch.setattr(doctor, "PATIENCE", 0.1)
    with closing(sqlite3.connect(here)) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="another process keeps it locked") as raised:
            store.connect(here.parent)
        with pytest.raises(doctor.Problem, match="is locked by another process"):
            doctor.store(here.parent)
    assert "delete" not in str(raised.value)


def test_a_file_that_the_environment_names_is_also_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(local_store, "_create", made.append)
    monkeypatch.setattr(store, "MlflowClient", lambda uri: SimpleNamespace(search_experiments=lambda **_: [], uri=uri))
    monkeypatch.chdir(tmp_path)
    for uri in ("sqlite:///own.db", f"sqlite:///{tmp_path}/own.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        store.connect(tmp_path)

    assert made == [tmp_path / "own.db"] * 2


def test_a_link_stays_a_link(here: Path) -> None:
    """A store on another disk is made where the link leads, even if it is not there yet."""
    target = here.with_name("elsewhere.db")
    here.rename(target)
    here.symlink_to(target)
    HALF["between two versions"](target)

    assert local_store.require(here.parent) == target
    assert here.is_symlink()
    assert local_store.state(target) == "complete"


def test_a_half_made_store_that_another_process_has_open_is_left_to_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow ui` may be creating the store. Its file must not be taken away."""
    HALF["between two versions"](here)
    monkeypatch.setattr(local_store, "PATIENCE", 0.1)
    code = f"f = open({str(here)!r}); print(flush=True); input()"
    content = here.read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(UserError, match=f"process {process.pid} has it open"):
            local_store.require(here.parent)
        process.stdin.close()
    assert here.read_bytes() == content

    local_store.require(here.parent)
    assert local_store.state(here) == "complete"


def test_two_processes_make_one_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=local_store.require, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)

    assert [process.exitcode for process in processes] == [0, 0]
    assert local_store.state(tmp_path / local_store.FILE) == "complete"


def test_one_process_at_a_time_creates_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a slow process could replace a store to which a fast one has already written runs."""
    monkeypatch.setattr(local_store, "PATIENCE", 0.1)
    with (
        FileLock(tmp_path / f"{local_store.FILE}.lock"),
        pytest.raises(UserError, match=r"mlflow\.db: another process has been creating MLflow's store"),
    ):
        local_store.require(tmp_path)
    assert not (tmp_path / local_store.FILE).exists()


def test_only_one_of_two_processes_creates_the_store(
    complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that waited for the lock finds the store of the other process, and keeps it."""

    class LateLock(FileLock):
        def acquire(self, *args: Any, **options: Any) -> Any:
            shutil.copy(complete, tmp_path / local_store.FILE)  # by the other process, which held the lock
            change(tmp_path / local_store.FILE, "CREATE TABLE of_the_other (a)")
            return super().acquire(*args, **options)

    monkeypatch.setattr(local_store, "FileLock", LateLock)
    local_store.require(tmp_path)

    change(tmp_path / local_store.FILE, "DROP TABLE of_the_other")


def test_a_process_that_is_killed_leaves_no_store(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from duvae.project import local_store; local_store.require(Path())"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=os.environ)
    until = time.monotonic() + 120
    while not list(tmp_path.glob(".mlflow.db.*.part")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert local_store.state(tmp_path / local_store.FILE) == "missing"

    local_store.require(tmp_path)

    assert local_store.state(tmp_path / local_store.FILE) == "complete"


@pytest.mark.parametrize(("name", "part"), [("a?b=1", "?"), ("a%20b", "%20"), ("a%2Fb", "%2F")])
@pytest.mark.parametrize("uri", ["", "sqlite:///runs.db"])
def test_a_folder_whose_name_mlflow_would_change_is_refused(
    name: str,
    part: str,
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """MLflow would write the store to `a`, and the files of the runs to `a b` or `a/b`."""
    (folder := tmp_path / name).mkdir()
    (folder / "params.yaml").symlink_to(Path(__file__).parents[1] / "params.yaml")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    assert call("track", monkeypatch) == 2
    error = capsys.readouterr().err
    assert f"{folder}: expected the path of a project without ? and without %" in error
    assert f"found {part!r}" in error
    assert list(tmp_path.iterdir()) == [folder]
    assert {path.name for path in folder.iterdir()} <= {"params.yaml", local_store.FILLING_LOCK}


@pytest.mark.parametrize("name", ["a#b 100% %s;é", "a\nb'\"[c]*", "file:"])
def test_mlflow_keeps_to_folders_with_other_names(
    name: str, complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / name).mkdir()
    (folder / local_store.FILE).write_bytes(complete.read_bytes())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = store.connect(folder)
    run = client.create_run(store.experiment(client, "own", folder)).info.run_id
    client.log_text(run, "some words", "a/text.txt")

    assert [path.read_text() for path in folder.glob("mlruns/own/*/artifacts/a/text.txt")] == ["some words"]
    assert [file.path for file in client.list_artifacts(run, "a")] == ["a/text.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_server_that_does_not_answer_is_named_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # MLflow's own message then comes at once

    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9: no server of MLflow answers"):
        store.connect(tmp_path)


def test_any_answer_of_a_server_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as server:
        store._require_answer(server.url)


def test_only_one_command_at_a_time_fills_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second `duvae track` waits for the first one. Otherwise each of them would write a run of the same job."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    began, go_on, calls = threading.Event(), threading.Event(), list[str]()

    def fill(params: object, root: Path, jobs: object) -> runs.TrackedJobs:
        calls.append("first" if not calls else "second")
        began.set()
        go_on.wait(60)
        return runs.TrackedJobs()

    monkeypatch.setattr(runs, "track", fill)
    threads = [threading.Thread(target=track.run, args=(None, tmp_path)) for _ in range(2)]
    threads[0].start()
    assert began.wait(60)
    threads[1].start()
    until = time.monotonic() + 60
    while "waiting for its end" not in (waiting := capsys.readouterr().err) and time.monotonic() < until:
        time.sleep(0.01)
    assert "waiting for its end" in waiting
    assert calls == ["first"]
    go_on.set()
    for thread in threads:
        thread.join(60)

    assert calls == ["first", "second"]
