"""The commands of docs/results.md that show the numbers of a data set by DVC itself."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from small_project import call, commit

PAGE = (Path(__file__).parents[1] / "docs/results.md").read_text(encoding="utf-8")
ONE, DATASET = re.findall(r"^(dvc metrics diff (?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
RECORD = {"record": [{"stage": "train", "wall_seconds": 1.5, "peak_memory_mib": 506}]}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with results of two settings in two commits. In the second commit, the NLL of one is another."""
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "dvc", "init", "--quiet")
    for nll in (30.0, 29.0):
        for setting in ("vae", "du_vae"):
            folder = tmp_path / "results/synthetic" / setting / "1"
            folder.mkdir(parents=True, exist_ok=True)
            metrics = {"setting": setting, "nll": nll if setting == "du_vae" else 31.0, "kl_by_dimension": [1.0, 0.5]}
            (folder / "metrics.json").write_text(json.dumps(metrics))
            (folder / "train.run.json").write_text(json.dumps(RECORD))
        commit(tmp_path)

    return tmp_path


def table(project: Path, command: str) -> list[list[str]]:
    """The rows of what a command of the page prints; the shell expands names with stars."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=project, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100

    return [re.split(r"\s{2,}", line.strip()) for line in done.stdout.splitlines()]


def test_all_numbers_of_a_setting_stand_one_below_the_other(project: Path) -> None:
    head, *rows = table(project, ONE)
    assert head == ["Metric", "HEAD", "workspace", "Change"]
    assert rows == [["nll", "29.0", "29.0", "0.0"], ["setting", "du_vae", "du_vae", "-"]]


def test_the_numbers_of_a_data_set_that_differ_from_a_commit(project: Path) -> None:
    head, *rows = table(project, DATASET)
    assert head == ["Path", "Metric", "HEAD~1", "workspace", "Change"]
    assert rows == [["results/synthetic/du_vae/1/metrics.json", "nll", "30.0", "29.0", "-1.0"]]
