"""Trained weights for people who do not train: the artifacts of dvc.yaml, and the DVC remote `weights`."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from duvae import config
from duvae.inference.model import load
from duvae.registry import RECORDS
from serving import serve_folder
from small_project import call
from test_generation import project as model_of

ROOT = Path(__file__).parents[1]
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/use-a-model.md").read_text(encoding="utf-8")
NAMES = ("synthetic-du-vae", "synthetic-vocabulary")
JOB = "train@synthetic-du_vae-1"
MODEL = Path("models/synthetic/du_vae/1")


def test_each_system_of_the_synthetic_study_is_an_artifact() -> None:
    jobs = {job.folder for job in config.load(ROOT / "params.yaml").jobs() if job.dataset == "synthetic"}
    systems = [system for system in RECORDS if system != "bn_vae_fixed_beta"]  # it has no results on synthetic data
    assert len(systems) == 13
    expected = {f"synthetic-{system.replace('_', '-')}": f"models/synthetic/{system}/1" for system in systems}
    paths = {name: artifact["path"] for name, artifact in GRAPH["artifacts"].items()}
    assert paths.pop("synthetic-vocabulary") == "data/prepared/synthetic/vocabulary.txt"
    assert paths == expected
    assert {path.removeprefix("models/") for path in expected.values()} <= {str(folder) for folder in jobs}
    assert "models/${item.dataset}/${item.setting}/${item.seed}" in GRAPH["stages"]["train"]["do"]["outs"]
    for name, artifact in GRAPH["artifacts"].items():
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]*[a-z0-9]", name), "DVC allows no other names"
        assert artifact["type"] == ("vocabulary" if name == "synthetic-vocabulary" else "model")


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the remote of the real one, whose folder `weights` has a small model; a tag gives its version."""
    for name, value in (("NAME", "a"), ("EMAIL", "a@b")):
        for role in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{role}_{name}", value)
    root = tmp_path / "published"
    root.mkdir()
    model_of(root, "vae")
    (root / "models/synthetic/vae").rename(root / MODEL.parent)
    call(root, "git", "init", "--quiet")
    call(root, "dvc", "init", "--quiet")
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
    (root / "data/prepared/own").mkdir()
    (root / "data/prepared/own/train.txt").write_text("a private sentence")
    outputs = {"prepare@synthetic": "data/prepared/synthetic", JOB: str(MODEL), "prepare@own": "data/prepared/own"}
    stages: dict[str, dict[str, Any]] = {
        kind: {"foreach": {}, "do": {"cmd": "true", "outs": [{"${item.path}": {"persist": True}}]}}
        for kind in ("prepare", "train")
    }
    for stage, path in outputs.items():
        kind, _, name = stage.partition("@")
        stages[kind]["foreach"][name] = {"path": path}
    artifacts = {name: GRAPH["artifacts"][name] for name in NAMES}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages, "artifacts": artifacts}))
    call(root, "dvc", "commit", "--quiet", "--force")
    (command,) = re.findall(r"`(dvc push [^`]+)`", PAGE)
    call(root, *command.split())
    call(root, "git", "add", "--all")
    call(root, "git", "commit", "--quiet", "--message", "weights")
    for name in NAMES:
        call(root, "git", "tag", "--annotate", f"{name}@v1.0.0", "--message", "weights")

    return root


@pytest.fixture
def clone(published: Path, tmp_path: Path) -> Path:
    """A clone, in which git alone has put the files."""
    folder = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(published), str(folder))
    assert not (folder / MODEL).exists()

    return folder


def test_a_clone_gets_a_model_that_loads(clone: Path) -> None:
    pull, *get = re.findall(r"^(dvc (?:pull|artifacts get) .*)$", PAGE, re.MULTILINE)
    call(clone, *pull.split())
    assert load(clone / MODEL).encode(["w1 w2"]).mean.shape == (1, 3)
    assert len(get) == 2
    for command in get:
        call(clone, *command.split())
    assert load(clone / "du_vae").encode(["w1 w2"]).mean.shape == (1, 3)


def test_only_the_model_is_published(published: Path, clone: Path) -> None:
    stored = list((clone / "weights").rglob("*"))
    assert [path for path in stored if path.is_file()]
    assert not [path for path in stored if path.is_file() and b"a private sentence" in path.read_bytes()]
    with pytest.raises(AssertionError, match="no remote"):
        call(published, "dvc", "push")


def test_a_web_server_with_the_folder_is_a_remote(clone: Path, tmp_path: Path) -> None:
    (command,) = re.findall(r"`(dvc get GIT_ADDRESS [^`]+)`", PAGE)
    with serve_folder(clone / "weights") as server:
        words = command.replace("GIT_ADDRESS", clone.as_uri()).replace("https://SERVER/weights", server).split()
        call(tmp_path, *words, "--out", "fetched")
    assert {path.name for path in (tmp_path / "fetched").iterdir()} == {"model.json", "weights.safetensors"}


def test_a_remote_without_the_model_is_named_with_its_files(clone: Path) -> None:
    shutil.rmtree(clone / "weights")
    (pull,) = re.findall(r"^(dvc pull .*)$", PAGE, re.MULTILINE)
    with pytest.raises(AssertionError, match=str(MODEL)):
        call(clone, *pull.split())
