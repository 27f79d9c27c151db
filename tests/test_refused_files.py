"""Files that the system refuses to read or write end a command with exit status 2 and a message that names the file."""

import errno
import os
import runpy
import sys
from pathlib import Path

import pytest

from command_line import call
from duvae.cli import dispatch, usage
from duvae.errors import UserError
from duvae.tracking.store import store_errors
from pipelines import prefect_server, rebuild, signals

ROOT = Path(__file__).parents[1]


def refusal(number: int, name: str | None = "results/a/metrics.json") -> OSError:
    return OSError(number, os.strerror(number), name)


def refuse(*_: object, **__: object) -> None:
    raise refusal(errno.EACCES)


def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "params.yaml").symlink_to(ROOT / "params.yaml")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ELOOP, errno.EIO, errno.ENOSPC])
def test_the_command_names_the_file(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise refusal(number)

    in_folder(tmp_path, monkeypatch)
    monkeypatch.setattr(dispatch, "run", refused)

    assert call("graph", monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: results/a/metrics.json: cannot be read or written ({os.strerror(number)})")


def test_a_disk_that_refuses_an_open_file_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    in_folder(tmp_path, monkeypatch)
    monkeypatch.setattr(dispatch, "run", refused)

    assert call("graph", monkeypatch) == 2
    assert capsys.readouterr().err.startswith("error: a file: cannot be read or written (No space left on device)")


def test_a_missing_file_that_no_command_expects_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands check which files they need. A file that is missing nevertheless is a mistake of the program."""

    def missing(*_: object, **__: object) -> None:
        raise refusal(errno.ENOENT)

    in_folder(tmp_path, monkeypatch)
    monkeypatch.setattr(dispatch, "run", missing)

    with pytest.raises(FileNotFoundError):
        call("graph", monkeypatch)


def test_a_folder_in_place_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_folder(tmp_path, monkeypatch)
    (tmp_path / "docs/parameters.md").mkdir(parents=True)

    assert call("parameters", monkeypatch) == 2
    assert "docs/parameters.md: cannot be read or written (Is a directory)" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["rebuild", "server", "study"])
def test_the_programs_beside_the_command_name_the_file(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signals, "install", lambda: None)
    monkeypatch.setattr(sys, "argv", [program, *(["--plan"] if program == "rebuild" else [])])
    monkeypatch.setattr(rebuild, "plan", refuse)
    monkeypatch.setattr(prefect_server, "serve", refuse)
    monkeypatch.setattr(usage, "program", refuse)
    monkeypatch.delitem(sys.modules, "pipelines.parallel_study", raising=False)  # runpy warns of an imported module
    start = {
        "rebuild": rebuild.main,
        "server": prefect_server.main,
        "study": lambda: runpy.run_module("pipelines.parallel_study", run_name="__main__"),
    }
    with pytest.raises(SystemExit) as leaving:
        start[program]()

    assert leaving.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: results/a/metrics.json: cannot be read or written (Permission")


def test_a_result_that_cannot_be_read_is_no_fault_of_the_store() -> None:
    """The advice to delete MLflow's store would not help."""
    with pytest.raises(UserError) as raised, store_errors("sqlite:///mlflow.db"):
        refuse()

    assert str(raised.value).startswith("results/a/metrics.json: cannot be read or written")
    assert "mlflow.db" not in str(raised.value)
