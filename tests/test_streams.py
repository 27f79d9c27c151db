"""A command whose standard streams are closed, full or broken ends without a traceback and loses no file."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import duvae.__main__

ROOT = Path(__file__).parents[1]


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of the shell in which `duvae` is the command line of this project."""
    command = f'duvae() {{ "{sys.executable}" -m duvae "$@"; }}; {line}'

    return subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


@pytest.mark.parametrize("buffered", ["", "PYTHONUNBUFFERED=1 "])
def test_full_output(buffered: str) -> None:
    """With a buffer the error comes at the end of the command, without one at the first line."""
    done = shell(f"{buffered}duvae systems du_vae > /dev/full")

    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output: cannot be written (No space left on device)")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_full_errors() -> None:
    """The exit status is that of the error, although its message cannot be written."""
    done = shell("duvae graph --params nowhere.yaml 2> /dev/full")

    assert done.returncode == 2
    assert done.stderr == ""


def test_closed_streams(tmp_path: Path) -> None:
    """The text of the command does not reach the first file that it opens."""
    done = shell("duvae systems >&- && duvae systems <&- >&-")

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_reader_that_wants_no_more() -> None:
    done = shell("duvae systems | head -1")

    assert done.stderr == ""


def test_ctrl_c_is_handled_while_modules_are_imported() -> None:
    """The module of the command imports nothing before its handler of Ctrl-C begins."""
    tree = ast.parse(Path(duvae.__main__.__file__).read_text(encoding="utf-8"))
    imported = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]

    assert imported == ["sys"]
    assert not [node for node in tree.body if isinstance(node, ast.ImportFrom)]
