"""Rebuilds of a small project with several processes, by `pipelines.rebuild`.

A rebuild gives the same bits as `dvc repro` and runs no stage twice. The tests also cover failures and kills.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import small_project
from duvae.errors import DEVICE_LOST, HOST_UNAVAILABLE, OUT_OF_MEMORY, UserError
from pipelines import launcher, owners, record, workspaces
from pipelines.failures import Failure, TaskFailedError
from pipelines.launcher import Machine
from pipelines.lockfile import update
from pipelines.owners import OWNER_VARIABLE
from pipelines.scheduler import Progress
from pipelines.stage_graph import StageGraph
from pipelines.workspaces import WORK_FOLDER, ProjectSnapshot
from small_project import EACH, call, change, commit, lock, rebuild

STAGES = {"base", "each@a", "each@b", "each@c", "after", "all"}


def ran(progress: Progress) -> set[str]:
    """Names of the stages whose command a rebuild ran."""
    return {name for name, result in progress.done.items() if result.ran}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that `dvc repro` alone built."""
    folder = small_project.create(tmp_path_factory.mktemp("plain") / "project")
    call(folder, "dvc", "repro")

    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Progress]:
    """A project that a rebuild built, and the progress of that rebuild."""
    folder = small_project.create(tmp_path_factory.mktemp("first") / "project")

    return folder, rebuild(folder)


@pytest.fixture
def built(first: tuple[Path, Progress], tmp_path: Path) -> Path:
    """A copy of the rebuilt project, which a test may change."""
    call(tmp_path, "cp", "-r", str(first[0]), str(tmp_path / "project"))

    return tmp_path / "project"


def test_the_outputs_are_those_of_dvc_repro(plain: Path, first: tuple[Path, Progress]) -> None:
    folder, progress = first
    assert ran(progress) == STAGES - {"all"}
    assert progress.deferred == ["all"]
    assert lock(folder) == lock(plain)
    for name in ("base.txt", "each/b.txt", "after.txt", "results/c.json", "all.txt"):
        assert (folder / name).read_bytes() == (plain / name).read_bytes()
    assert "up to date" in call(folder, "dvc", "status").stdout
    assert not list((folder / WORK_FOLDER / "workspaces").iterdir())


def test_stages_that_are_up_to_date_or_cached_are_not_run(built: Path) -> None:
    again = rebuild(built)
    assert set(again.up_to_date) == STAGES
    assert not again.done

    (built / "dvc.lock").unlink()
    for name in ("base.txt", "after.txt", "all.txt", "each/a.txt"):
        (built / name).unlink()
    cached = rebuild(built)
    assert set(cached.cached) == STAGES - {"all"}
    assert not cached.done
    assert (built / "each/a.txt").is_file()
    # DVC did not write dvc.lock once for each stage, since the rebuild wrote all entries at once.
    # Only the stage `all` is left to DVC: it gathers the outputs of other stages.
    log = (built / WORK_FOLDER / "logs" / "recording.log").read_text(encoding="utf-8")
    assert set(re.findall(r"Stage '(\S+)' is cached", log)) <= {"all"}
    assert set(re.findall(r"Stage '(\S+)' didn't change", log)) == STAGES - {"all"}
    assert "up to date" in call(built, "dvc", "status").stdout


def test_new_entries_of_the_lock_file_keep_the_others(built: Path) -> None:
    before = lock(built)
    assert list(before)[-1] == "all"
    entry = before.pop("each@b")
    (built / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": before}, sort_keys=False))
    (built / "each/b.txt").write_text("something else")
    for name in ("b", "c"):
        (built / f"results/{name}.json").unlink()
    update(built, {"each@b": entry})
    assert lock(built) == {**before, "each@b": entry}
    assert list(lock(built)) == [*before, "each@b"]
    assert "up to date" in call(built, "dvc", "status", "each@b").stdout
    assert not (built / "results/c.json").exists()  # `update` restores the outputs of the new entries alone

    missing = {**entry, "outs": [{**entry["outs"][0], "md5": "0" * 32}]}
    with pytest.raises(
        UserError, match=r"(?s)pipelines.lockfile' in .* failed, .*not recorded.*run the same command again"
    ):
        record.record(built, {"each@b": missing})


def test_an_uncommitted_change_reruns_only_the_stages_that_it_affects(built: Path) -> None:
    change(built, b=20)
    assert ran(rebuild(built)) == {"each@b"}
    (built / "words.txt").write_text("other words\n")
    assert ran(rebuild(built, "after")) == {"base", "each@a", "after"}
    assert (built / "each/a.txt").read_text() == "other words a\n"
    assert (built / "each/b.txt").read_text() == "some words b\n"
    (built / "each.sh").unlink()
    (built / "new.sh").write_text(EACH.format("$1"))
    graph = yaml.safe_load((built / "dvc.yaml").read_text().replace("each.sh", "new.sh"))
    (built / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    assert ran(rebuild(built)) == {"each@a", "each@b", "each@c"}


def test_identical_outputs_do_not_rerun_the_stages_downstream(built: Path) -> None:
    (built / "words.txt").write_text("some  words\n")  # the command `echo` of `base` replaces two spaces by one
    progress = rebuild(built)
    assert ran(progress) == {"base", "each@a", "each@b", "each@c"}
    assert "after" in {*progress.cached, *progress.up_to_date}


def test_outputs_that_are_missing_in_the_cache_are_made_again(built: Path) -> None:
    call(built, "rm", "-rf", ".dvc/cache/files")
    assert ran(rebuild(built)) == STAGES - {"all"}


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_failure_stops_the_stages_that_need_the_failed_one(tmp_path: Path, keep_going: bool) -> None:
    script = f'if [ $1 = a ]; then echo "a is wrong" >&2; exit 2; fi; {EACH.format("$1")}'
    folder = small_project.create(tmp_path / "project", script)
    progress = rebuild(folder, keep_going=keep_going, slots=1)
    failed = progress.failed["each@a"]
    assert failed.failure is Failure.FINAL
    assert "exited with 2" in failed.reason
    assert "a is wrong" in failed.log
    recorded = {"base", "each@b", "each@c"} if keep_going else {"base"}
    assert set(lock(folder)) == recorded
    assert {"after"} <= set(progress.skipped)
    (folder / "each.sh").write_text(EACH.format("$1") + "\n")
    assert not rebuild(folder).failed
    assert set(lock(folder)) == STAGES


def run_task(folder: Path, name: str, timeout: float | None = None) -> Any:
    """Runs one task (the command of one stage) outside a rebuild; returns the task's result."""
    graph = StageGraph(folder)
    try:
        return launcher.run(name, Machine(folder, graph.cache, None, timeout), ProjectSnapshot.take(folder), {}, None)
    finally:
        graph.close()


@pytest.mark.parametrize(
    ("command", "failure", "message"),
    [
        ("exit 2", Failure.FINAL, "exited with 2$"),
        (f"exit {HOST_UNAVAILABLE}", Failure.TEMPORARY, "temporary: a host did not answer"),
        (f"exit {OUT_OF_MEMORY}", Failure.MEMORY, "memory ran out"),
        (f"exit {DEVICE_LOST}", Failure.DEVICE, "its GPU was lost"),
        ("kill -9 $PPID; sleep 60", Failure.KILLED, "ended with exit code -9 .*it was killed"),
        ("true", Failure.FINAL, "does not exist"),
        ("sleep 60", Failure.FINAL, "longer than 3 seconds"),
    ],
)
def test_failures_have_kinds(tmp_path: Path, command: str, failure: Failure, message: str) -> None:
    folder = small_project.create(tmp_path / "project")
    graph = yaml.safe_load((folder / "dvc.yaml").read_text())
    graph["stages"]["base"]["cmd"] = command
    (folder / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    with pytest.raises(TaskFailedError, match=message) as caught:
        run_task(folder, "base", 3.0 if command == "sleep 60" else None)
    assert caught.value.failure is failure
    assert not marked(os.getpid())  # no process of the task is left
    assert not list((folder / WORK_FOLDER / "workspaces").iterdir())


def test_a_change_during_the_rebuild_stops_the_recording(tmp_path: Path) -> None:
    project = tmp_path / "project"
    folder = small_project.create(project, f'echo "b: 20" > {project}/params.yaml; {EACH.format("$1")}')
    with pytest.raises(UserError, match="files changed while the rebuild ran"):
        rebuild(folder, "each@b")
    assert not (folder / "dvc.lock").exists()


def test_a_workspace_has_own_files_that_git_does_not_know(built: Path) -> None:
    (built / ".gitignore").write_text(small_project.IGNORED + "/own/\n")
    (built / "own").mkdir()
    (built / "own/text.txt").write_text("mine\n")
    graph = yaml.safe_load((built / "dvc.yaml").read_text())
    graph["stages"]["base"]["cmd"] = "cat own/text.txt words.txt > base.txt"
    (built / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    rebuild(built, "base", own=("own/text.txt", "elsewhere.txt"))
    assert (built / "base.txt").read_text() == "mine\nsome words\n"


def test_one_rebuild_at_a_time(built: Path) -> None:
    from pipelines.orchestration import exclusive

    with exclusive(built), pytest.raises(UserError, match="another rebuild runs here"):
        rebuild(built)


def test_a_project_without_git_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs git"):
        ProjectSnapshot.take(tmp_path)


# ---------------------------------------------------------------------------------- after a kill


STARTED = """
import sys
from pathlib import Path
from small_project import rebuild
rebuild(Path(sys.argv[1]))
"""


def test_the_tasks_of_a_killed_rebuild_end(tmp_path: Path) -> None:
    folder = small_project.create(tmp_path / "project", f"sleep ${{SLEEP:-0}}; {EACH.format('$1')}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "SLEEP": "300"}
    process = subprocess.Popen([sys.executable, "-c", STARTED, str(folder)], env=environment)
    try:
        wait(lambda: len(marked(process.pid)) >= 3, "no task started")
        assert call(folder, "git", "status", "--short").stdout == ""
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait(lambda: not marked(process.pid), "tasks outlived the rebuild")
    assert list((folder / WORK_FOLDER / "workspaces").iterdir())
    progress = rebuild(folder)
    assert set(progress.cached) == {"base"}
    assert ran(progress) == STAGES - {"base", "all"}
    assert not list((folder / WORK_FOLDER / "workspaces").iterdir())


def test_processes_and_workspaces_of_a_dead_rebuild_are_removed(tmp_path: Path) -> None:
    """`workspaces.clean` kills the processes and removes the workspaces of a dead rebuild, and of no other rebuild.

    Normally the first process of a task watches the rebuild and ends with it. Here this process was killed too.
    """
    owner = subprocess.run(
        [sys.executable, "-c", "from pipelines.owners import owner; print(owner())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    left = subprocess.Popen(["sleep", "300"], env={**os.environ, OWNER_VARIABLE: owner})
    mine = subprocess.Popen(["sleep", "300"], env={**os.environ, OWNER_VARIABLE: owners.owner()})
    place = tmp_path / WORK_FOLDER / "workspaces"
    kept = [f"{owners.owner()}.a.x", "elsewhere-1-1.b.x", "something"]
    for name in (f"{owner}.train.x", *kept):
        (place / name).mkdir(parents=True)
    try:
        workspaces.clean(tmp_path)
        assert left.wait(10) == -signal.SIGKILL
        assert mine.poll() is None
        assert {path.name for path in place.iterdir()} == set(kept)
    finally:
        for process in (left, mine):
            process.kill()
            process.wait()


def marked(owner: int) -> list[psutil.Process]:
    """The running processes of the rebuild that has the process id `owner`."""
    processes = []
    for process in psutil.process_iter():
        try:
            if f"-{owner}-" in process.environ().get(OWNER_VARIABLE, "") and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
        except psutil.Error:
            continue

    return processes


def wait(condition: Any, message: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.05)


def test_stale_locks_are_removed_and_held_ones_are_not(built: Path) -> None:
    path = built / record.RWLOCK
    gone = subprocess.Popen(["true"])
    gone.wait()
    info = '{"write": {"/x": {"pid": %d, "cmd": "dvc repro"}}, "read": {}}'
    path.write_text(info % gone.pid)
    assert record.repair(built)
    assert not path.exists()

    path.write_text(info % os.getpid())
    assert not record.repair(built)
    assert path.exists()

    os.utime(path, (1e9, 1e9))  # the lock is older than the process with the id in it
    assert record.repair(built)

    path.write_text('{"write": {"/x": {"pi')
    os.utime(path, (1e9, 1e9))
    assert record.repair(built)
    assert not path.exists()


@pytest.mark.parametrize(
    ("target", "hint"),
    [("eech", "did you mean 'each'?"), ("each@x", "did you mean 'each@"), ("x" * 30, "")],
)
def test_a_misspelt_target_is_an_error_with_the_closest_name(built: Path, target: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"^{target}: no stage, kind of stage or output") as raised:
        rebuild(built, target)
    assert hint in str(raised.value)
    assert ("did you mean" in str(raised.value)) == bool(hint)


@pytest.mark.parametrize("left", ["nothing", "a truncated entry"])
def test_a_run_cache_that_a_kill_has_left_half_made_stops_nothing(built: Path, left: str) -> None:
    """DVC itself fails at an empty folder of its run cache."""
    for entry in (path for path in (built / ".dvc/cache/runs").glob("*/*/*") if path.is_file()):
        if left == "nothing":
            entry.unlink()
        else:
            entry.write_text(entry.read_text(encoding="utf-8")[:20], encoding="utf-8")
        os.utime(entry.parent, (1e9, 1e9))
    (built / "dvc.lock").unlink()
    again = rebuild(built)
    assert not again.failed
    assert any(result.ran for result in again.done.values())
    assert "up to date" in call(built, "dvc", "status").stdout


def test_a_truncated_lock_file_is_restored(built: Path) -> None:
    whole = (built / "dvc.lock").read_bytes()
    for size in (0, 20, len(whole) // 2, len(whole) - 30):
        (built / record.BACKUP).write_bytes(whole)
        (built / "dvc.lock").write_bytes(whole[:size])
        record.repair(built)
        assert (built / "dvc.lock").read_bytes() in {whole, whole[: len(whole) - 30]}
        assert not (built / record.BACKUP).exists()
        assert set(rebuild(built).up_to_date) | {"all"} >= STAGES - {"all"}
        (built / "dvc.lock").write_bytes(whole)
    (built / "dvc.lock").write_bytes(b"schema: [")
    with pytest.raises(UserError, match="git checkout"):
        record.repair(built)


def test_a_commit_while_nothing_runs_changes_nothing(built: Path) -> None:
    commit(built)
    assert set(rebuild(built).up_to_date) == STAGES
