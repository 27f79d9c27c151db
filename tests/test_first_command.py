"""`make` says what it will do, shows the numbers of each finished model, and ends with results, claims and links."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import made_up
from duvae import config
from duvae.errors import UserError
from duvae.metrics import verdict
from pipelines import devices, durations, early, figure1, flow, mlflow_ui, numbers, rebuild
from pipelines.display import LiveTable
from pipelines.launcher import TaskResult
from pipelines.scheduler import Progress
from pipelines.servers import is_healthy
from test_rebuild_flow import free_port

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[config.Params, Path]:
    """Made-up results of the five systems of Figure 1, with two more systems whose results are missing."""
    folder = tmp_path_factory.mktemp("project")
    params = made_up.params(settings=["ae", "vae", "agg_vae", "bn_vae", "du_vae"])
    made_up.project(folder, params)
    more = made_up.params(settings=["ae", "vae", "agg_vae", "bn_vae", "du_vae", "fb", "mae"])

    return more, folder


def metrics(folder: Path, setting: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"results/synthetic/{setting}/1/metrics.json").read_text())

    return found


# ---------------------------------------------------------------------------------- before the first task


def test_it_says_what_it_trains() -> None:
    params = config.load(ROOT / "params.yaml")
    epochs = params.dataset("synthetic").optimisation.epochs
    assert early.intention(params) == (
        f"Figure 1: AE, VAE, Agg-VAE, BN-VAE and DU-VAE on synthetic, at most {epochs} epochs each"
    )


def test_it_says_this_before_it_imports_what_takes_seconds() -> None:
    code = (
        "import sys\n"
        "from pipelines import figure1\n"
        "slow = {'dvc', 'pandas', 'prefect', 'torch', 'mlflow', 'matplotlib'}\n"
        "figure1.forecast = lambda *_: sys.exit(f'imported: {sorted(slow & set(sys.modules))}')\n"
        "figure1.command(1, 'cpu')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    params = config.load(ROOT / "params.yaml")
    lines = [early.intention(params), early.first_forecast(params, 1, "cpu"), "imported: []"]
    assert done.stderr.splitlines() == lines


@pytest.mark.parametrize("slots", [1, 2])
def test_the_first_forecast_is_the_longest_model_or_all_of_them(
    slots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpus", lambda: [0, 1])
    params = config.load(ROOT / "params.yaml")
    seconds = durations.default_durations(params)
    each = [seconds[f"train@{job.name}"] + seconds[f"evaluate@{job.name}"] for job in params.figure1_jobs()]
    time = durations.duration(sum(each) if slots == 1 else max(*each, sum(each) / 2))
    text = early.first_forecast(params, slots, "cpu", tmp_path)
    assert text.startswith("5 models to train and to measure")
    assert f": about {time}, less if some results exist" in text
    assert ("one after the other" in text) == (slots == 1)


def test_the_first_forecast_knows_the_earlier_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is that of the forecast that counts the tasks, which has the same records."""
    monkeypatch.setattr(devices, "cpus", lambda: [0])
    params = config.load(ROOT / "params.yaml")
    first, *others = params.figure1_jobs()
    for job in others:
        for kind in ("train", "evaluate"):
            path = tmp_path / "results" / job.folder / f"{kind}.run.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"record": [{"device": "cpu", "cpu_seconds": 1800.0, "threads": 1}]}))
    defaults = durations.default_durations(params)
    seconds = 4 * 3600 + defaults[f"train@{first.name}"] + defaults[f"evaluate@{first.name}"]
    assert f"about {durations.duration(seconds)}, less" in early.first_forecast(params, 1, "cpu", tmp_path)

    (tmp_path / "results" / others[0].folder / "train.run.json").write_text("{")  # broken: its default counts
    seconds += defaults[f"train@{others[0].name}"] - 1800
    assert f"about {durations.duration(seconds)}, less" in early.first_forecast(params, 1, "cpu", tmp_path)
    record = {"device": "cuda", "wall_seconds": 9e9}
    (tmp_path / "results" / others[0].folder / "train.run.json").write_text(json.dumps({"record": [record]}))
    assert f"about {durations.duration(seconds)}, less" in early.first_forecast(params, 1, "cpu", tmp_path)


def test_a_data_set_without_assumed_durations_has_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durations, "default_durations", lambda *_: {})
    assert "of unknown duration" in early.first_forecast(config.load(ROOT / "params.yaml"), 1, "cpu", tmp_path)


def test_it_counts_the_tasks_and_says_how_long_they_take(tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml", "fingerprints.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    params = config.load(ROOT / "params.yaml")
    alone, together = (figure1.forecast(params, tmp_path, slots, "cpu") for slots in (1, None))
    assert "one after the other" in alone
    for kind in ("train", "evaluate", "probe"):
        assert f"5 x {kind}" in alone, "the jobs of Figure 1 alone"
    assert re.search(r"about \d", alone)
    assert re.match(r"\d+ tasks to run", together)


# ---------------------------------------------------------------------------------- during the tasks


def test_an_evaluated_model_shows_its_numbers(project: tuple[config.Params, Path], tmp_path: Path) -> None:
    _, folder = project
    for setting in ("vae", "du_vae", "ae"):
        found = metrics(folder, setting)
        entry = {"outs": [{"path": f"results/synthetic/{setting}/1/metrics.json", "md5": setting}]}
        (tmp_path / setting).write_text(json.dumps(found))
        text = numbers.of_task(
            TaskResult(f"evaluate@synthetic-{setting}-1", entry, True, 1.0, "CPU"), tmp_path.joinpath
        )
        assert text.endswith(f": {verdict.of_setting([found])}")
        assert (f"NLL {found['nll']:.2f} [{found['nll_stderr']:.2f}]" in text) if found["nll"] else ("NLL" not in text)
        assert f"use of z {found['use']:.2f}".replace("-", "−") in text
        (tmp_path / setting).unlink()
        assert numbers.of_task(TaskResult("evaluate", entry, True, 1.0, "CPU"), tmp_path.joinpath) == ""
    other = {"outs": [{"path": "models/synthetic/vae/1", "md5": "x.dir"}]}
    assert numbers.of_task(TaskResult("train", other, True, 1.0, "CPU"), tmp_path.joinpath) == ""


def test_the_line_of_a_finished_task_has_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    table = LiveTable({}, 1, lambda result: "NLL 3.00" if result.stage == "evaluate" else "")
    progress = Progress(2)
    progress.done = {name: TaskResult(name, {}, True, 3.0, "CPU") for name in ("train", "evaluate")}
    table.update(progress)
    table.update(progress)
    assert capsys.readouterr().err.splitlines() == [
        "train: done in 3 s on CPU. 2 done",
        "evaluate: done in 3 s on CPU, NLL 3.00. 2 done",
    ]


def test_the_bar_counts_estimated_time() -> None:
    table = LiveTable({"a": 100.0, "b": 200.0, "c": 100.0}, 1)
    progress, now = Progress(3, waiting=["b", "c"]), time.monotonic()
    progress.done = {"a": TaskResult("a", {}, True, 5.0, "CPU")}
    assert table.share(progress, now) == 0.25
    progress.waiting, progress.running = ["c"], {"b": now - 100.0}
    assert table.share(progress, now) == 0.5
    progress.running = {"b": now - 1000.0}
    assert table.share(progress, now) == 0.75, "a task that takes longer than estimated is not more than done"
    assert LiveTable({}, 1).share(Progress(1, waiting=["x"]), now) is None


# ---------------------------------------------------------------------------------- after the tasks


def test_only_the_jobs_of_the_targets_are_tracked() -> None:
    params = config.load(ROOT / "params.yaml")
    jobs = params.figure1_jobs()
    progress = Progress(6, up_to_date=["figure1", f"train@{jobs[0].name}"], cached=[f"train@{jobs[1].name}"])
    progress.done = {f"train@{jobs[2].name}": TaskResult("", {}, True, 1.0, "CPU")}
    progress.skipped = [f"train@{jobs[3].name}"]
    assert {*flow.asked_for(params, progress)} == {*jobs[:4]}


def test_it_ends_with_results_claims_and_the_page(
    project: tuple[config.Params, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    params, folder = project
    figure1.conclude(params, folder)
    text = capsys.readouterr().out
    for setting, name in (("vae", "VAE"), ("du_vae", "DU-VAE"), ("bn_vae", "BN-VAE"), ("agg_vae", "Agg-VAE")):
        (line,) = (line for line in text.splitlines() if re.match(rf"{name}[‡ ]", line))
        assert f"{metrics(folder, setting)['nll']:.2f}" in line
        assert str(verdict.of_setting([metrics(folder, setting)])) in line
    assert "- cannot tell: The VAE collapses on the synthetic data." in text
    assert f"The page:  {(folder / 'reports/figure1.html').as_uri()}" in text
    assert "no results" not in text, "nothing about jobs that nobody asked for"
    assert not re.search(r"^(FB|MAE)", text, re.MULTILINE)


def test_the_command_rebuilds_figure1_alone(
    project: tuple[config.Params, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[Any] = []
    monkeypatch.setattr(figure1, "forecast", lambda *_: "5 tasks")
    monkeypatch.setattr(rebuild, "run_flow", lambda *arguments: called.append(arguments))
    monkeypatch.setattr(figure1, "conclude", lambda *_: called.append("end"))
    monkeypatch.chdir(ROOT)
    figure1.command(None, "cpu")
    assert called == [(["figure1"], None, "cpu"), "end"]
    params = config.load(ROOT / "params.yaml")
    lines = [early.intention(params), early.first_forecast(params, None, "cpu"), "5 tasks"]
    assert capsys.readouterr().err.splitlines() == lines


def test_links_open_the_runs_and_their_charts(project: tuple[config.Params, Path], tmp_path: Path) -> None:
    from duvae.tracking.store import connect

    assert mlflow_ui.links(tmp_path, 5000) == []
    client = connect(tmp_path)
    client.create_experiment("empty")
    number = client.create_experiment("synthetic")
    client.create_run(number)
    page, training = "http://127.0.0.1:5000/#", "workflowType=machine_learning"
    of_runs = [
        "synthetic:",
        f"  runs    {page}/experiments/{number}/runs?{training}&viewStateShareKey=duvae",
        f"  charts  {page}/experiments/{number}/runs?{training}&viewStateShareKey=duvae&compareRunsMode=CHART",
        f"  models  {page}/experiments/{number}/models?{training}",
    ]
    assert mlflow_ui.links(tmp_path, 5000) == of_runs
    client.create_registered_model("synthetic")
    of_models = ["registered models, with their aliases:", f"  all     {page}/models?{training}"]
    assert mlflow_ui.links(tmp_path, 5000) == [*of_runs, *of_models]


def test_the_server_of_the_runs_prints_its_address_and_ends_on_request(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "pipelines.mlflow_ui", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "There are no runs yet; 'make' makes some.\n"
        assert process.stdout.readline() == f"All runs: http://127.0.0.1:{port}. Ctrl-C ends the server.\n"
        assert is_healthy(f"http://127.0.0.1:{port}")
        taken = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert taken.returncode == 2
        assert f"port {port} is taken by another program; choose another with make ui PORT=N" in taken.stderr
        process.terminate()
        assert process.wait(60) == 143
    assert not is_healthy(f"http://127.0.0.1:{port}")


def test_without_a_seed_of_figure1_it_says_what_to_write() -> None:
    params = config.load(ROOT / "params.yaml").model_copy(update={"figure1": None})
    with pytest.raises(
        UserError, match=r"figure1: expected a seed for Figure 1; found null\. Write 'figure1: {seed: 1}'"
    ):
        early.intention(params)
