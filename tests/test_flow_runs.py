"""The names of runs on Prefect's page, and the folder of Prefect's database."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import flow_runs, prefect_home

ROOT = Path(__file__).parents[1]

JOBS = ["synthetic-vae-1", "synthetic-du_vae-1", "yahoo-vae-1"]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([], "rebuild: no tasks"),
        (["train@synthetic-vae-1"], "rebuild: train synthetic-vae-1"),
        (
            [f"{kind}@{job}" for kind in ("train", "evaluate") for job in JOBS],
            "rebuild: 3 trainings on synthetic and yahoo",
        ),
        ([f"{kind}@{job}" for kind in ("prepare", "train") for job in JOBS[:2]], "rebuild: 2 trainings on synthetic"),
        (["train@a-vae-1", "train@b-vae-1", "train@c-vae-1"], "rebuild: 3 trainings on 3 data sets"),
        (["train@a-vae-1", "evaluate@b-vae-1"], "rebuild: 1 training on a"),
        (["evaluate@a-vae-1", "evaluate@a-vae-2", "probe@a-vae-1"], "rebuild: 2 evaluations on a"),
        (["search@synthetic_grid", "figure2@synthetic_grid"], "rebuild: 1 study"),
        (["probe@a-vae-1", "samples@a-vae-1"], "rebuild: 2 tasks"),
    ],
)
def test_a_run_is_named_by_its_most_important_stages(stages: list[str], expected: str) -> None:
    assert flow_runs.title(stages) == expected


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of a user who has chosen nothing about Prefect."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PREFECT_HOME", "PREFECT_PROFILES_PATH"):
        monkeypatch.setenv(name, "")  # pytest restores the variable at the end, even if `use` has set it
    (tmp_path / "project" / ".dvc").mkdir(parents=True)

    return tmp_path / "project"


def test_the_database_is_in_the_project(project: Path) -> None:
    prefect_home.use(project)

    assert os.environ["PREFECT_HOME"] == str(project / ".dvc" / "tmp" / "prefect")
    assert not os.environ["PREFECT_PROFILES_PATH"]


def test_the_settings_of_the_user_stay(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_PROFILES_PATH")
    profiles = project.parent / ".prefect" / "profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text('active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n')
    prefect_home.use(project)
    assert os.environ["PREFECT_PROFILES_PATH"] == str(profiles)

    code = "from pipelines import prefect_api; print(prefect_api.chosen())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "http://127.0.0.1:9/api\n"


def test_a_folder_that_the_user_has_chosen_stays(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", "/elsewhere")
    prefect_home.use(project)

    assert os.environ["PREFECT_HOME"] == "/elsewhere"


def test_a_folder_that_is_no_project_stays_as_it_is(project: Path) -> None:
    prefect_home.use(project.parent)

    assert not os.environ["PREFECT_HOME"]
