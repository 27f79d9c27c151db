"""The run `paper` of params.yaml has every result of the paper once.

The results are each row of the paper's tables and each cell of Figure 2. `run: paper` chooses this run. A job is one
training: a data set, a setting and a seed.
"""

import csv
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from duvae import config
from duvae.config import Job, Params
from duvae.errors import UserError
from duvae.project import job_list
from pipelines.durations import default_durations
from pipelines.gpu_times import card

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "src/duvae/report/paper_tables"
DATASETS = {"table2_short_yelp_probe": "short_yelp", "table3_omniglot_probe": "omniglot"}
DATASETS |= {"tableS2_short_yelp_fixed_beta": "short_yelp"}
FIGURE2 = ("yahoo", "yelp", "omniglot")
GRID = set(product((0.4, 0.5, 0.6, 0.7), (1.0, 0.9, 0.8, 0.7, 0.6)))


def raw() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))

    return {**found, "run": "paper"}


@pytest.fixture(scope="module")
def paper() -> Params:
    return config.parse(raw())


def hyperparameters(params: Params, job: Job) -> dict[str, Any]:
    return params.hyperparameters(job.setting, job.dataset).model_dump()


@pytest.mark.parametrize("table", sorted(path.stem for path in TABLES.glob("*.csv")))
def test_every_row_of_the_tables_is_a_job(paper: Params, table: str) -> None:
    with (TABLES / f"{table}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    jobs = paper.run_jobs()
    assert rows
    for row in rows:
        dataset = row.get("dataset") or DATASETS[table]
        if dataset not in paper.datasets:
            continue
        found = [job for job in jobs if job.dataset == dataset and paper.setting(job.setting).system == row["system"]]
        assert found, row
        if "beta" in row:
            assert float(row["beta"]) in [hyperparameters(paper, job)["beta"] for job in found], row
        elif row["system"] == "du_vae" and table == "table1_likelihood":
            pair = [float(value) for value in row["hyperparameters"].split()]
            assert pair in [list(hyperparameters(paper, job).values()) for job in found], row


def test_figure_2_is_a_grid_with_each_cell_once() -> None:
    """The jobs of each data set in Figure 2 have each pair (gamma, p) of the grid once.

    The test makes up the data sets that params.yaml lacks, so that it covers each column of Figure 2.
    """
    given = raw()
    for name in FIGURE2:
        given["datasets"].setdefault(name, {**given["datasets"]["short_yelp"], "column": name})
    every = [name for name, setting in given["settings"].items() if setting["system"] == "du_vae"]
    every += given["setting_grids"]
    given["runs"] = {"paper": [{"datasets": list(FIGURE2), "settings": every, "seeds": [1]}]}
    params = config.parse(given)
    for dataset in FIGURE2:
        jobs = [job for job in params.run_jobs() if job.dataset == dataset]
        cells = [tuple(hyperparameters(params, job).values()) for job in jobs]
        assert len(cells) == len(set(cells)) == len(GRID)
        assert set(cells) == GRID


@pytest.mark.parametrize("dataset", FIGURE2)
def test_figure_2_is_part_of_it(paper: Params, dataset: str) -> None:
    jobs = [job for job in paper.run_jobs() if job.dataset == dataset]
    cells = {
        tuple(hyperparameters(paper, job).values()) for job in jobs if paper.setting(job.setting).system == "du_vae"
    }

    assert cells == (GRID if dataset in paper.datasets else set())


def test_blocks_are_united_and_each_job_is_there_once(paper: Params) -> None:
    jobs = paper.run_jobs()
    assert len(jobs) == len(set(jobs))
    assert {job.dataset for job in jobs} <= set(paper.datasets)
    assert set(jobs) < {*jobs, *paper.figure1_jobs()} or set(paper.figure1_jobs()) <= set(jobs)
    assert list(yaml.safe_load(job_list.render(paper))["jobs"]) == [job.name for job in paper.jobs()]


# ---------------------------------------------------------------------------------- before the run


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with `run: paper` and without data."""
    folder = tmp_path_factory.mktemp("paper")
    for name in ("src", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(raw()), encoding="utf-8")
    call(folder, "-m", "dvc", "init", "--no-scm", "--quiet")
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    call(folder, "-m", "dvc", "config", "core.no_scm", "true")
    call(folder, "-m", "duvae", "graph")

    return folder


def call(folder: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    return done.stdout


def test_a_dry_run_names_each_stage_once(workspace: Path, paper: Params) -> None:
    said = call(workspace, "-m", "dvc", "repro", "--dry", "--force")
    named = re.findall("^Running stage '(.+)':$", said, re.MULTILINE)
    assert len(named) == len(set(named))
    for kind in ("train", "evaluate", "probe", "samples"):
        jobs = [name.partition("@")[2] for name in named if name.startswith(f"{kind}@")]
        assert sorted(jobs) == sorted(job.name for job in paper.jobs())
    assert not (workspace / "data").exists()


def test_a_cell_of_figure_2_depends_on_its_grid_without_the_other_cells(workspace: Path) -> None:
    """A cell's training does not depend on the grid's lists of values, since the cell's name holds its own values.

    A new value in the grid therefore makes no finished cell stale.
    """
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    with Repo(str(workspace)) as repo:
        (stage,) = [s for s in repo.index.stages if s.name == "train@yahoo-figure2_g04_p10-1"]
        read = {}
        for dependency in stage.deps:
            if isinstance(dependency, ParamsDependency):
                read |= dependency.read_params()

    declared = raw()["setting_grids"]["figure2"]
    assert {key: value for key, value in read.items() if key.startswith("setting")} == {
        "setting_grids.figure2.columns.yahoo": {},
        "setting_grids.figure2.optimisation": {},
        "setting_grids.figure2.parts": declared["parts"],
    }


@pytest.mark.parametrize("devices", ["cpu", "0,1,2,3"])
def test_the_plan_has_the_number_of_tasks_and_hours(workspace: Path, paper: Params, devices: str) -> None:
    plan = call(workspace, "-m", "pipelines.rebuild", "--plan", "--devices", devices, "--slots", "1")
    cuda = devices != "cpu"
    seconds = default_durations(paper, card() if cuda else None)
    hours = sum(seconds.values()) / 3600
    assert f"{len(paper.jobs())} train, {len(paper.jobs())} evaluate" in plan
    (found,) = re.findall(r"estimated ([\d,.]+) hours of tasks, ([\d,.]+) hours from start to end", plan)
    total, ahead = (float(number.replace(",", "")) for number in found)
    assert total == pytest.approx(hours, abs=0.01)
    # One task at a time takes the sum of all. Several GPUs share the work, but none takes less than the longest task.
    assert ahead == pytest.approx(hours, abs=0.01) if not cuda else hours / 4 <= ahead < hours / 2
    assert ahead >= max(seconds.values()) / 3600
    assert ("at the assumed speed of an H100" in plan) == cuda


def test_every_training_of_the_paper_has_a_default_duration(paper: Params) -> None:
    """Each training and each evaluation has an assumed duration, with the numbers of docs/paper-runs.md.

    On each data set SA-VAE takes longest, although its trainings on text have a quarter of the epochs. Twice the epochs
    take twice the time.
    """
    seconds = default_durations(paper)
    assert set(seconds) == {f"{kind}@{job.name}" for kind in ("train", "evaluate") for job in paper.jobs()}
    assert seconds["train@yahoo-vae-1"] == pytest.approx(3125 * 120 * 2.9)
    for dataset, name in (("yahoo", "sa_vae"), ("yelp", "sa_vae"), ("omniglot", "sa_vae_image")):
        longest = max(value for key, value in seconds.items() if key.startswith(f"train@{dataset}-"))
        assert seconds[f"train@{dataset}-{name}-1"] == longest
    assert seconds["train@yahoo-sa_vae-1"] == pytest.approx(3125 * 30 * 2.9 * 28)
    raised = raw()
    raised["datasets"]["omniglot"]["optimisation"]["epochs"] *= 2
    assert default_durations(config.parse(raised))["train@omniglot-vae-1"] == 2 * seconds["train@omniglot-vae-1"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"run": "papers"},
            r"run: unknown entry of runs 'papers' \(did you mean 'paper'\?\)$",
        ),
        ({"run": 3}, r"run: expected a mapping; found 3"),
        ({"run": "Paper!"}, r"run: expected a name of lower-case letters"),
        ({"run": {"datasets": ["synthetic"], "setings": ["vae"], "seeds": [1]}}, "did you mean 'settings'"),
        ({"runs": {"paper": []}}, r"runs\.paper: expected a length of at least 1"),
        (
            {"runs": {"paper": [{"datasets": ["synthetic"], "settings": ["vea"], "seeds": [1]}]}},
            r"runs\.paper\.0\.settings\.0: unknown setting 'vea' \(did you mean 'vae'",
        ),
    ],
)
def test_mistakes_are_told_where_they_stand(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        config.parse({**raw(), **change})
