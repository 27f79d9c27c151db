"""Arguments of commands: names and numbers that cannot be meant are refused, with exit status 2 and one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from duvae import cli
from duvae.data.user_images import read_images
from duvae.errors import UserError

JOB = ["--dataset", "synthetic", "--setting", "vae", "--seed", "1"]
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the project's parameters. In the checkout itself, the commands could change the user's files."""
    folder = tmp_path / "project"
    (folder / "results").mkdir(parents=True)
    for name in ("params.yaml", "README.md"):
        shutil.copy(ROOT / name, folder)
    monkeypatch.chdir(folder)


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Runs the command line in this process. Returns the exit status and the text on standard error."""
    monkeypatch.setattr(sys, "argv", ["duvae", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()

    return int(ended.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize("command", ["generate", "interpolate", "reconstruct", "encode"])
@pytest.mark.parametrize(
    "output",
    [
        *("", "/", ".", "..", "results", "x" * 201 + ".csv", "/".join(["x" * 100] * 11), "x" * 5000),
        *("-", "a\nb", "/dev/null", "/dev/full", "README.md/x"),
    ],
)
def test_outputs_that_name_no_file(
    command: str, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = run(monkeypatch, capsys, command, *JOB, "--output", output)

    assert code == 2
    assert error.startswith("error: --output ")
    assert "expected" in error
    assert error.count("\n") == 1


MIRRORS = ["x" * 5000, "nowhere", "ftp://a.example", "http://", "http://[::1", "http://a.example:99999", "/dev/null"]


@pytest.mark.parametrize("mirror", MIRRORS)
def test_mirrors_that_name_no_place(
    mirror: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = run(monkeypatch, capsys, "fetch", "--dataset", "short_yelp", "--mirror", mirror)

    assert code == 2
    assert error.startswith("error: mirror ")
    assert "expected a folder or a URL" in error
    assert len(error) < 600


def test_paths_that_are_too_long_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", lambda **_: Path("x" * 5000).stat())
    code, error = run(monkeypatch, capsys)

    assert code == 2
    assert "expected a shorter path" in error
    assert len(error) < 300


@pytest.mark.parametrize("place", [["--output", "x\udcff.csv"], ["--input", "\udcff"], ["--sentence", "\udcff"]])
def test_arguments_that_are_not_utf8(
    place: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = run(monkeypatch, capsys, "encode", *JOB, *place)

    assert code == 2
    assert r"\xff" in error
    assert "expected a name in UTF-8" in error


NUMBERS = ["-1", "1000000000000000000000000000000", "1e300", "nan", "inf", "", "x"]
COUNTS = [
    *(("generate", "--rows"), ("generate", "--columns"), ("generate", "--temperature"), ("generate", "--beams")),
    *(("interpolate", "--top-p"), ("interpolate", "--repetition-penalty"), ("reconstruct", "--no-repeat-ngram")),
    *(("interpolate", "--pairs"), ("interpolate", "--steps"), ("reconstruct", "--examples")),
]


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        *((command, option, value) for command, option in COUNTS for value in ["0", *NUMBERS]),
        *(("encode", "--draw-seed", value) for value in NUMBERS),  # 0 is a seed
    ],
)
def test_numbers_out_of_range(
    command: str, option: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = run(monkeypatch, capsys, command, *JOB, option, value)

    assert code == 2
    assert option in error
    assert "Traceback" not in error


@pytest.mark.parametrize("value", ["-1", "2147483648", "1000000000000000000000000000000", "1e300", "", "x"])
def test_the_seed_of_the_training_has_bounds(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = run(monkeypatch, capsys, "encode", *JOB[:-1], value)

    assert code == 2
    assert "Invalid value for '--seed'" in error


def test_the_root_folder_is_refused_at_once() -> None:
    with pytest.raises(UserError, match=r"expected a (picture|file|name)|cannot be read|a link"):
        read_images(Path("/"), 6, "dark")


def test_a_folder_of_other_files_is_refused_before_the_folders_in_it_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listing all folders of a machine takes minutes."""
    (tmp_path / "a.txt").touch()
    (tmp_path / "b").mkdir()
    listed: list[Path] = []
    list_folder = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: listed.append(self) or list_folder(self))

    with pytest.raises(UserError, match=r"a\.txt: expected a picture"):
        read_images(tmp_path, 6, "dark")
    assert listed == [tmp_path]


@pytest.mark.parametrize("bytes_", [2**62, 8 * 2**40])
def test_memory_that_no_machine_has_is_a_mistake_and_not_a_passing_failure(
    bytes_: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy(**_: object) -> None:
        np.ones(bytes_, np.uint8)

    monkeypatch.setattr(cli, "app", greedy)
    code, error = run(monkeypatch, capsys)

    assert code == 2
    assert f"asked for {bytes_ / 2**30:,.1f} GiB of memory" in error


def test_memory_that_no_machine_has_is_a_mistake_for_torch_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy(**_: object) -> None:
        import torch

        torch.empty(8 * 2**40, dtype=torch.uint8)

    monkeypatch.setattr(cli, "app", greedy)
    code, error = run(monkeypatch, capsys)

    assert code == 2
    assert "asked for 8,192.0 GiB of memory" in error


def test_memory_that_is_not_free_now_has_a_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cli, "app", full)

    assert run(monkeypatch, capsys)[0] == 71


EARLY = """
import sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
sys.argv = ["duvae", "systems"]
from duvae.__main__ import main
main()
"""


@pytest.mark.parametrize("name", ["duvae.cli", "typer", "duvae.cli.use", "duvae.commands.systems"])
def test_an_interruption_during_an_import_has_no_traceback(name: str) -> None:
    """Importing the modules takes the first 0.3 seconds of a command."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", EARLY.format(name=name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False, timeout=60)

    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "interrupted: no file is half-written" in done.stderr
