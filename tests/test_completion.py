"""The key Tab completes commands, options and the names in params.yaml, and never prints an error."""

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from duvae import cli, config
from duvae.registry import RECORDS

ROOT = Path(__file__).parents[1]
PARAMS = config.load(ROOT / "params.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with this project's params.yaml."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)

    return tmp_path


def completed(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What bash offers after the key Tab at the end of a line. Nothing is written to standard error."""
    words = line.split()
    for name, value in {
        "_DUVAE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - (not line.endswith(" "))),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["duvae"])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    output = capsys.readouterr()

    assert (leaving.value.code, output.err) == (0, "")
    return output.out.split()


def test_names_of_commands_and_options(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = set(get_command(cli.app).commands)  # type: ignore[attr-defined]

    assert set(completed("duvae ", monkeypatch, capsys)) == names
    assert set(completed("duvae tr", monkeypatch, capsys)) == {name for name in names if name.startswith("tr")}
    assert completed("duvae train --se", monkeypatch, capsys) == ["--setting", "--seed", "--set"]


def test_names_of_own_data(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, name in (("datasets", "syn_reviews"), ("settings", "du_vae_mine")):
        (project / folder).mkdir()
        (project / folder / f"{name}.yaml").write_text("kind: text\n", encoding="utf-8")
    known = [name for name in PARAMS.datasets if name.startswith("syn")]

    assert completed("duvae run syn", monkeypatch, capsys) == [*known, "syn_reviews"]
    assert completed("duvae generate --dataset syn_", monkeypatch, capsys) == ["syn_reviews"]
    assert completed("duvae run syn_reviews --settings du_vae_m", monkeypatch, capsys) == ["du_vae_mine"]
    assert completed("duvae run syn_reviews --settings vae,du_vae_m", monkeypatch, capsys) == ["vae,du_vae_mine"]
    assert completed("duvae run syn_reviews --settings du_vae_mine,du_vae_m", monkeypatch, capsys) == []


def test_names_of_the_parameters(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fitting = [name for name, setting in PARAMS.settings.items() if "synthetic" in setting.columns]
    assert fitting != list(PARAMS.settings)

    assert completed("duvae train --dataset ", monkeypatch, capsys) == list(PARAMS.datasets)
    assert completed("duvae results --dataset omniglot_", monkeypatch, capsys) == ["omniglot_small"]
    assert completed("duvae train --setting ", monkeypatch, capsys) == list(PARAMS.settings)
    assert completed("duvae train --dataset synthetic --setting ", monkeypatch, capsys) == fitting
    assert completed("duvae search --study ", monkeypatch, capsys) == list(PARAMS.studies)
    assert completed("duvae systems ", monkeypatch, capsys) == list(RECORDS)
    assert completed("duvae systems du_v", monkeypatch, capsys) == ["du_vae"]


def test_names_of_another_file(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "params.yaml").rename(project / "other.yaml")

    assert completed("duvae prepare --dataset ", monkeypatch, capsys) == []
    assert completed("duvae prepare --params other.yaml --dataset omniglot_", monkeypatch, capsys) == ["omniglot_small"]


@pytest.mark.parametrize(
    "content", [None, b"", b"datasets: [", b"datasets: {a: 1}\n", b"\xff\xfe", b"- a\n", b"seed: 1\nseed: 2\n"]
)
def test_a_file_with_a_mistake_completes_nothing(
    content: bytes | None, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "params.yaml").unlink()
    if content is not None:
        (project / "params.yaml").write_bytes(content)

    for line in ("duvae train --dataset ", "duvae train --setting d", "duvae search --study "):
        assert completed(line, monkeypatch, capsys) == []


def test_the_script_for_bash_completes_a_line(project: Path) -> None:
    """bash itself calls the function of the script that `_DUVAE_COMPLETE=source_bash duvae` prints."""
    script = """
        eval "$(_DUVAE_COMPLETE=source_bash duvae)"
        COMP_WORDS=(duvae prepare --dataset omniglot_) COMP_CWORD=3
        _duvae_completion duvae omniglot_ --dataset
        echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=True)

    assert (done.stdout, done.stderr) == ("omniglot_small\n", "")
