"""A stage that `dvc repro` runs keeps its earlier outputs until it has new ones, however it ends."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from duvae import __main__, cli
from duvae.project import earlier_outputs
from duvae.project.files import write_text
from small_project import call, commit

STAGE = """
import sys, time
from pathlib import Path
from duvae.cli import dispatch, main
from duvae.errors import UserError
from duvae.project.files import write_text

def work(*_, **__):
    mode = Path("mode.txt").read_text()
    if mode == "fail":
        raise UserError("expected something else")
    if mode == "wait":
        Path("started").touch()
        for _ in range(6000):  # Python handles a signal that comes just before a sleep only after it
            time.sleep(0.1)
    write_text(Path("model/weights"), mode)
    if mode != "forget":
        write_text(Path("results/a.json"), '{"nll": 1}')

dispatch.run, dispatch.load_params = work, lambda path: None
sys.argv = ["duvae", "graph"]
main()
"""

GRAPH = {
    "stages": {
        "slow": {
            "cmd": "python stage.py",
            "deps": ["mode.txt"],
            "outs": ["model"],
            "metrics": [{"results/a.json": {"cache": False}}],
        }
    }
}

RESULT = '{"nll": 1}'
MD5 = hashlib.md5(RESULT.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose only stage has run. Git holds the stage's metric, and DVC holds its folder `model`."""
    folder = tmp_path_factory.mktemp("earlier") / "project"
    folder.mkdir()
    call(folder, "git", "init", "--quiet")
    call(folder, "dvc", "init", "--quiet")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(GRAPH))
    (folder / "stage.py").write_text(STAGE)
    (folder / "mode.txt").write_text("first")
    (folder / ".gitignore").write_text("/model\n/started\n")
    call(folder, "dvc", "repro", "--quiet")
    commit(folder)

    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "project"))


def changed(folder: Path) -> list[str]:
    """The files that differ from the last commit."""
    return [line[3:] for line in call(folder, "git", "status", "--porcelain").stdout.splitlines()]


def stopped(folder: Path, number: signal.Signals) -> tuple[int, str]:
    """Runs `dvc repro`, and sends a signal to DVC and to its stage once the stage works.

    Returns:
        The exit status of DVC, and the output.
    """
    (folder / "mode.txt").write_text("wait")
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not (folder / "started").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (folder / "model").exists()  # DVC removed it
    os.killpg(process.pid, number)  # a terminal sends Ctrl-C to all processes too
    output, _ = process.communicate(timeout=120)

    return process.returncode, output


def test_after_ctrl_c_the_results_are_there_and_the_model_is_one_command_away(project: Path) -> None:
    code, output = stopped(project, signal.SIGINT)

    assert code != 0
    assert (project / "results/a.json").read_text() == RESULT
    assert changed(project) == ["mode.txt"]
    assert "interrupted: no file is half-written" in output
    assert "To get the last version back, run 'dvc checkout model'." in output
    call(project, "dvc", "checkout", "model")
    assert (project / "model/weights").read_text() == "first"
    (project / "mode.txt").write_text("first")
    (project / "dvc.lock").unlink()
    assert "is cached - skipping run" in call(project, "dvc", "repro").stdout  # the run cache still has this stage


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_without_dvcs_cache_git_gives_the_results_back(project: Path, number: signal.Signals) -> None:
    shutil.rmtree(project / ".dvc/cache")
    stopped(project, number)

    assert (project / "results/a.json").read_text() == RESULT
    assert changed(project) == ["mode.txt"]


def test_after_a_failure_the_results_are_those_of_before(project: Path) -> None:
    (project / "mode.txt").write_text("fail")
    done = call(project, "dvc", "repro", check=False)

    assert done.returncode != 0
    assert "error: expected something else" in done.stderr
    assert "run 'dvc checkout model'" in done.stderr
    assert changed(project) == ["mode.txt"]


def test_a_stage_that_forgets_an_output_still_fails(project: Path) -> None:
    (project / "mode.txt").write_text("forget")
    done = call(project, "dvc", "repro", check=False)

    assert done.returncode != 0
    assert "results/a.json" in done.stderr
    assert not (project / "results/a.json").exists()
    assert "forget" not in (project / "dvc.lock").read_text()


# ---------------------------------------------------------------------------------- without DVC


def as_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(earlier_outputs.STAGE, "slow")
    monkeypatch.setenv(earlier_outputs.ROOT, str(folder))


def test_results_that_git_has_only_in_another_version_are_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_stage(project, monkeypatch)
    shutil.rmtree(project / ".dvc/cache")
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    for out in lock["stages"]["slow"]["outs"]:
        out["md5"] = "0" * 32
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))
    (project / "results/a.json").unlink()

    assert earlier_outputs.put_back() == {}
    earlier_outputs.print_advice()
    assert "run 'git checkout -- results/a.json'" in capsys.readouterr().err


@pytest.mark.parametrize("leave", [lambda: None, sys.exit, lambda: sys.exit(0)])
@pytest.mark.parametrize("writes", [True, False])
def test_after_success_only_results_that_the_stage_has_written_are_left(
    project: Path, leave: Callable[[], None], writes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the new result equals the earlier one."""
    as_stage(project, monkeypatch)
    (result := project / "results/a.json").unlink()
    with suppress(SystemExit), earlier_outputs.kept():
        assert result.read_text() == RESULT
        if writes:
            write_text(result, RESULT)
        leave()

    assert result.exists() is writes


def test_a_process_that_dvc_has_not_started_finds_no_earlier_results(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_stage(project, monkeypatch)
    monkeypatch.setattr(earlier_outputs, "_last_run", lambda *_: [{"path": "results/a.json", "md5": MD5}])
    (project / "results/a.json").unlink()
    monkeypatch.delenv(earlier_outputs.STAGE)
    assert earlier_outputs.put_back() == {}
    monkeypatch.setenv(earlier_outputs.STAGE, "slow")
    assert list(earlier_outputs.put_back()) == [project / "results/a.json"]


def test_ctrl_c_while_modules_are_imported_gives_the_results_back(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    as_stage(project, monkeypatch)
    monkeypatch.setattr(cli, "main", interrupted)
    (project / "results/a.json").unlink()
    shutil.rmtree(project / "model")
    with pytest.raises(SystemExit) as leaving:
        __main__.main()

    assert leaving.value.code == 130
    assert (project / "results/a.json").read_text() == RESULT
    assert "run 'dvc checkout model'" in capsys.readouterr().err


OUTSIDE: dict[str, Callable[[Path], str]] = {
    "no lock": lambda _: "",
    "no mapping": lambda _: "[1, 2]",
    "conflict": lambda _: "<<<<<<< HEAD\n",
    "outside": lambda _: yaml.safe_dump({"stages": {"slow": {"outs": [{"path": "../x", "md5": "0" * 32}]}}}),
    "no hash": lambda _: yaml.safe_dump({"stages": {"slow": {"outs": [{"path": "x", "md5": "../../y"}]}}}),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_lock_that_cannot_be_read_gives_nothing_back(
    project: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_stage(project, monkeypatch)
    (project / "dvc.lock").write_text(OUTSIDE[name](project))

    assert earlier_outputs.put_back() == {}
    earlier_outputs.print_advice()
    assert capsys.readouterr().err == ""


def test_a_command_without_dvc_restores_nothing(project: Path) -> None:
    (project / "results/a.json").unlink()
    (project / "mode.txt").write_text("fail")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    done = subprocess.run(
        [sys.executable, "stage.py"], cwd=project, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr == "error: expected something else\n"
    assert not (project / "results/a.json").exists()
