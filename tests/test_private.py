"""Private projects, for a user's own data: the data pass through all stages, and git keeps no trace of them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from duvae.errors import UserError
from duvae.project import private

ROOT = Path(__file__).parents[1]


def call(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    return done.stdout


def params() -> dict[str, Any]:
    """Parameters whose only data set is a tiny text of the user."""
    raw = tiny.small()
    secret = raw["datasets"]["own"]
    secret["optimisation"] = {**secret["optimisation"], "epochs": 1, "warmup": 1}

    return {
        **raw,
        "runs": {},
        "run": {"datasets": ["secret"], "settings": ["vae"], "seeds": [1]},
        "studies": {},
        "datasets": {"secret": {**secret, "nll_examples": 4}},
    }


def test_git_keeps_no_trace_of_private_data(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    call(root, "git", "init", "--quiet")
    call(root, "dvc", "init", "--quiet")
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    call(root, "git", "add", "--all")
    before = call(root, "git", "status", "--porcelain", "--untracked-files=all")

    folder = private.write(root, "mine", params())
    tiny.own(folder)
    call(folder, "dvc", "repro", "--quiet")

    assert (folder / "results/secret/vae/1/metrics.json").is_file()
    assert "secret" in (folder / "reports/index.html").read_text(encoding="utf-8")
    assert "secret" in (folder / "dvc.lock").read_text(encoding="utf-8")
    assert call(root, "git", "status", "--porcelain", "--untracked-files=all") == before
    assert call(root, "git", "check-ignore", "private/mine/dvc.lock").strip() == "private/mine/dvc.lock"
    outside = [path for path in root.rglob("*") if path.is_file() and folder not in path.parents]
    assert not [path for path in outside if b"secret" in path.read_bytes()]
    again = call(folder, "dvc", "repro")
    assert "Running stage 'own_files'" in again
    assert "Running stage 'train" not in again


@pytest.mark.parametrize("name", ["", "../up", "A", "a b", "a/b"])
def test_a_private_project_has_a_plain_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a name of lower-case letters"):
        private.write(tmp_path, name, {})
    assert not list(tmp_path.iterdir())


def test_the_graph_of_a_private_project_is_the_projects_own_without_figure_1() -> None:
    ours = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    theirs = yaml.safe_load(private.stages((ROOT / "dvc.yaml").read_text(encoding="utf-8")))["stages"]

    assert theirs.keys() == ours.keys() - {"figure1"}
    assert {name for name in theirs if theirs[name] != ours[name]} == {"fingerprint"}
