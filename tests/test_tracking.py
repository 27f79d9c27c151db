"""The command `track` writes results as runs of MLflow. The tests use made-up results."""

import json
import logging
import os
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import FileInfo, Run, RunData, RunInfo, RunTag, ViewType

import made_up
import test_use
from duvae.commands import track as command
from duvae.config import Params
from duvae.errors import UserError
from duvae.inference.model import load
from duvae.report import results
from duvae.tracking import runs as tracking_runs
from duvae.tracking.run_files import FILES, LOCATION, LOGGED, has_copies
from duvae.tracking.runs import DIGEST, track
from duvae.tracking.setting_runs import SETTING
from duvae.tracking.store import connect
from duvae.tracking.trial_runs import TrialRun, study_run

# MLflow and its libraries warn about future versions.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _plain_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an empty MLflow store, created once because this takes seconds."""
    root = tmp_path_factory.mktemp("project")
    connect(root)

    return root


@pytest.fixture
def root(empty: Path, tmp_path: Path) -> Path:
    made_up.project(tmp_path, params(), params().run_jobs())
    (tmp_path / "mlflow.db").write_bytes((empty / "mlflow.db").read_bytes())

    return tmp_path


def params() -> Params:
    """Parameters with the five jobs (trainings) of Figure 1. Only the jobs of AE and DU-VAE are in the run."""
    return made_up.params(settings=["ae", "du_vae"])


def all_runs(root: Path, dataset: str = "synthetic", view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    client = connect(root)
    known = client.get_experiment_by_name(dataset)

    return [] if known is None else list(client.search_runs([known.experiment_id], run_view_type=view))


def runs(root: Path, dataset: str = "synthetic", view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """The runs without those of settings."""
    return [run for run in all_runs(root, dataset, view) if SETTING not in run.data.tags]


def run_of(root: Path, setting: str, dataset: str = "synthetic") -> Run:
    (run,) = [run for run in runs(root, dataset) if run.data.tags["setting"] == setting]

    return run


def change(root: Path, setting: str, **figures: float) -> None:
    path = root / f"results/synthetic/{setting}/1/metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **figures}))


def test_what_a_flow_has_not_is_left_out(empty: Path, tmp_path: Path) -> None:
    chosen = made_up.params(settings=["iaf_fb"])
    made_up.project(tmp_path, chosen, chosen.run_jobs())
    (tmp_path / "mlflow.db").write_bytes((empty / "mlflow.db").read_bytes())
    assert track(chosen, tmp_path).added == ["synthetic-iaf_fb-1"]
    run = run_of(tmp_path, "iaf_fb")

    assert {"test/nll", "test/kl", "test/mpd", "test/ce", "valid/kl"} <= set(run.data.metrics)
    assert not {"test/mi", "test/au", "valid/mi", "valid/au"} & set(run.data.metrics)
    assert {run.data.params[name] for name in ("free_bits", "blocks", "width")} == {"0.25", "2", "60"}


def test_a_run_holds_what_the_stages_found(root: Path) -> None:
    (root / "reports").mkdir()
    (root / "reports/figure1.png").write_bytes(b"\x89PNG")
    tracked = track(params(), root)
    assert tracked.added == ["synthetic-ae-1", "synthetic-du_vae-1"]
    run, client = run_of(root, "du_vae"), connect(root)
    metrics = json.loads((root / "results/synthetic/du_vae/1/metrics.json").read_text())
    assert run.info.run_name == "du_vae · seed 1"
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/nll"] == metrics["nll"]
    assert run.data.metrics["test/au"] == 2
    assert run.data.metrics["test/use"] == metrics["use"]
    assert run.data.metrics["test/use_stderr"] == metrics["use_stderr"]
    assert run.data.metrics["test/nll_unseen"] == metrics["nll_unseen"]
    assert run.data.metrics["test/exact_nll"] == metrics["exact"]["nll"]
    assert run.data.metrics["test/exact_bias_stderr"] == metrics["exact"]["bias_stderr"]
    assert "test/probe_10000" in run.data.metrics
    assert {run.data.params[name] for name in ("gamma", "p")} == {"1.0", "0.5"}
    assert run.data.params["networks.latent"] == "2"
    assert run.data.params["optimisation.decay.factor"] == "0.5"
    tags = run.data.tags
    assert [tags[name] for name in ("system", "dataset", "seed", "stage")] == [
        *("du_vae", "synthetic", "1"),
        "train@synthetic-du_vae-1",
    ]
    assert tags["mlflow.source.git.commit"] == made_up.COMMIT
    assert run.inputs.dataset_inputs[0].dataset.name == "synthetic"
    assert len(run.inputs.dataset_inputs[0].dataset.digest) == 32

    history = pd.read_csv(root / "results/synthetic/du_vae/1/history.csv")
    for column, metric in (("valid_mi", "valid/mi"), ("kl_weight", "train/kl_weight")):
        logged = sorted(client.get_metric_history(run.info.run_id, metric), key=lambda point: point.step)
        assert [point.step for point in logged] == list(history["epoch"])
        assert np.allclose([point.value for point in logged], history[column], rtol=0, atol=0)

    artifacts = [
        item.path for folder in ("figures", "results") for item in client.list_artifacts(run.info.run_id, folder)
    ]
    assert {"figures/curves.png", "figures/latent.png", "figures/figure1.png"} <= set(artifacts)
    assert {"results/history.csv", "results/metrics.json"} <= set(artifacts)
    assert {"weights.safetensors", "model.json"} <= set(model_files(run))
    files = [path for path in (root / "mlruns").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]


def test_unchanged_runs_are_found_by_one_search(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call of `track` searches once for all runs, and reads no result."""
    tracked = track(params(), root)
    assert len(tracked.added) == 2
    calls: list[str] = []
    search, read = MlflowClient.search_runs, results.read

    def counted_search(*arguments: Any, **options: Any) -> Any:
        calls.append("search")
        return search(*arguments, **options)

    def counted_read(*arguments: Any) -> Any:
        calls.append("read")
        return read(*arguments)

    monkeypatch.setattr(MlflowClient, "search_runs", counted_search)
    monkeypatch.setattr(results, "read", counted_read)

    assert track(params(), root).unchanged == tracked.added
    assert calls == ["search"]
    change(root, "ae", reconstruction=39.5)
    calls.clear()
    assert track(params(), root).replaced == ["synthetic-ae-1"]
    assert calls.count("search") == 2
    assert "read" in calls


def test_a_file_of_a_run_that_cannot_be_read_is_named(root: Path) -> None:
    """The message does not blame MLflow's store."""
    weights = root / "models/synthetic/du_vae/1/weights.safetensors"
    weights.unlink()
    weights.mkdir()
    with pytest.raises(UserError, match=r"du_vae/1/weights.safetensors: cannot be read") as raised:
        track(params(), root)
    assert "store" not in str(raised.value)


def test_a_run_can_be_served(root: Path) -> None:
    """The model of a data set loads as MLflow's pyfunc, without the project's data and without a pickle."""
    import mlflow

    chosen = made_up.params(settings=["vae"])
    made_up.project(root, chosen, chosen.run_jobs())
    expected = load(test_use.project(root)).encode(test_use.SENTENCES).frame()
    made_up.adopt(root, chosen.job("synthetic", "vae", 1))
    assert "synthetic-vae-1" in track(chosen, root).added
    run = run_of(root, "vae")
    assert model_files(run) == ["metrics.json", "model.json", "vocabulary.txt", "weights.safetensors"]
    (root / "data").rename(root / "gone")
    mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
    try:
        addresses = (f"runs:/{run.info.run_id}/vae-1", f"models:/{run.data.tags[LOGGED]}", "models:/synthetic@vae")
        inputs = (test_use.SENTENCES, pd.DataFrame({"text": test_use.SENTENCES}))
        for served, given in product(map(mlflow.pyfunc.load_model, addresses), inputs):
            pd.testing.assert_frame_equal(served.predict(given), expected)
    finally:
        mlflow.set_tracking_uri(None)


def test_an_autoencoder_has_only_what_it_has(root: Path) -> None:
    track(params(), root)
    metrics = run_of(root, "ae").data.metrics
    assert "test/nll" not in metrics
    assert "valid/kl" not in metrics
    assert "test/reconstruction" in metrics


def test_again_does_nothing_twice(root: Path) -> None:
    track(params(), root)
    before = {run.info.run_id for run in runs(root)}
    tracked = track(params(), root)
    assert len(tracked.unchanged) == 2
    assert not tracked.added
    assert not tracked.replaced
    assert {run.info.run_id for run in runs(root, view=ViewType.ALL)} == before


def test_a_changed_result_replaces_its_run_alone(root: Path) -> None:
    track(params(), root)
    before = {run.data.tags["setting"]: run.info.run_id for run in runs(root)}
    change(root, "du_vae", nll=12.5)
    assert track(params(), root).replaced == ["synthetic-du_vae-1"]
    after = {run.data.tags["setting"]: run.info.run_id for run in runs(root)}
    assert len(runs(root)) == 2
    assert [setting for setting in before if before[setting] != after[setting]] == ["du_vae"]
    assert run_of(root, "du_vae").data.metrics["test/nll"] == 12.5
    assert list((root / "mlruns").rglob(f"{after['du_vae']}/artifacts/*/*"))
    assert len(list((root / "mlruns").rglob("weights.safetensors"))) == 2
    assert not list((root / "mlruns").rglob(f"{before['du_vae']}/artifacts/*/*"))


def test_what_stands_twice_or_was_cut_short_is_cleaned_up(root: Path) -> None:
    track(params(), root)
    client, complete = connect(root), run_of(root, "ae")
    twin = client.create_run(complete.info.experiment_id, tags={**complete.data.tags}).info.run_id
    cut = run_of(root, "du_vae")
    client.delete_tag(cut.info.run_id, DIGEST)
    tracked = track(params(), root)
    assert run_of(root, "ae").info.run_id == complete.info.run_id != twin
    assert tracked.replaced == ["synthetic-du_vae-1"]
    assert len(runs(root)) == 2


def model_files(run: Run) -> list[str]:
    """The names of the own files of a run's logged model."""
    folder = Path(run.data.tags.get(LOCATION, "nowhere").removeprefix("file://")) / FILES

    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_runs_whose_files_were_deleted_are_written_again(root: Path) -> None:
    """MLflow's store still lists the runs, but their models cannot be loaded."""
    track(params(), root)
    kept, before = run_of(root, "ae"), model_files(run_of(root, "du_vae"))
    shutil.rmtree(run_of(root, "du_vae").data.tags[LOCATION].removeprefix("file://"))

    tracked = track(params(), root)

    assert (tracked.replaced, tracked.unchanged) == (["synthetic-du_vae-1"], ["synthetic-ae-1"])
    assert model_files(run_of(root, "du_vae")) == before
    assert run_of(root, "ae").info.run_id == kept.info.run_id

    os.truncate(f"{run_of(root, 'ae').info.artifact_uri.removeprefix('file://')}/results/history.csv", 10)
    assert track(params(), root).replaced == ["synthetic-ae-1"]

    shutil.rmtree(root / "mlruns")
    assert track(params(), root).replaced == ["synthetic-ae-1", "synthetic-du_vae-1"]
    assert track(params(), root).unchanged == ["synthetic-ae-1", "synthetic-du_vae-1"]


def test_files_of_runs_on_a_server_are_looked_up_by_the_server(tmp_path: Path) -> None:
    """A file of another size is no copy."""
    model, weights, metrics, longer = (tmp_path / name for name in ("model.json", "w.safetensors", "m.json", "long"))
    for path in (model, weights, metrics):
        path.write_text("{")
    longer.mkdir()
    (longer / "model.json").write_text("{}")

    class Server:
        def list_artifacts(self, run_id: str, folder: str) -> list[FileInfo]:
            return [FileInfo(f"{folder}/m.json", False, 1)] if (run_id, folder) == ("a", "results") else []

        def list_logged_model_artifacts(self, model_id: str, folder: str) -> list[FileInfo]:
            return [FileInfo(f"{folder}/model.json", False, 1)] if (model_id, folder) == ("m", FILES) else []

    client: Any = Server()
    info = RunInfo("a", "1", "me", "FINISHED", 0, 1, "active", artifact_uri="mlflow-artifacts:/1/a/artifacts")
    tags = [RunTag(LOGGED, "m"), RunTag(LOCATION, "mlflow-artifacts:/1/models/m/artifacts")]
    run = Run(info, RunData(tags=tags))

    assert has_copies(client, run, {model: "model", metrics: "results", tmp_path / "params.yaml": None})
    assert not has_copies(client, run, {model: "model", weights: "model"})
    assert not has_copies(client, run, {weights: "results"})
    assert not has_copies(client, run, {longer / "model.json": "model"})
    assert not has_copies(client, Run(info, RunData()), {model: "model"})
    assert has_copies(client, Run(info, RunData()), {metrics: "results"})


def test_a_restored_experiment_keeps_the_runs_that_have_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restoring an experiment also restores the runs that were removed before, and these have no files any more.

    MLflow lists runs of the same start in the random order of their ids. Here, the runs without files are first.
    """
    listed = tracking_runs._runs
    monkeypatch.setattr(tracking_runs, "_runs", lambda *arguments: sorted(listed(*arguments), key=model_files))
    track(params(), root)
    metrics = root / "results/synthetic/du_vae/1/metrics.json"
    first = metrics.read_text()
    change(root, "du_vae", kl=9.5)
    track(params(), root)
    metrics.write_text(first)
    track(params(), root)
    before = model_files(run_of(root, "du_vae"))
    client = connect(root)
    experiment = client.get_experiment_by_name("synthetic")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)

    track(params(), root)

    assert model_files(run_of(root, "du_vae")) == before


def test_a_merge_conflict_in_the_lock_is_said(root: Path) -> None:
    (root / "dvc.lock").write_text("schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n=======\n>>>>>>> other\n")

    with pytest.raises(UserError, match=r"dvc\.lock: expected the stages that DVC has recorded.*git checkout"):
        track(params(), root)


def test_missing_results_are_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "results/synthetic/ae/1/probe.json").unlink()
    (root / "models/synthetic/du_vae/1/weights.safetensors").unlink()  # they may be in DVC's remote alone
    command.run(params(), root)
    output = capsys.readouterr().out
    assert output.startswith("MLflow: 1 added, 4 without results\n")
    assert "without results: synthetic-ae-1, synthetic-vae-1" in output


def test_the_data_set_has_the_hash_that_dvc_recorded(root: Path) -> None:
    out = {"path": "data/prepared/synthetic", "md5": "0" * 32 + ".dir"}
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"synthesize@synthetic": {"outs": [out]}}}))
    track(params(), root)
    assert run_of(root, "ae").inputs.dataset_inputs[0].dataset.digest == "0" * 32


def test_a_moved_project_starts_anew(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    track(params(), root)
    moved = tmp_path_factory.mktemp("moved") / "project"
    root.rename(moved)
    assert len(track(params(), moved).added) == 2
    assert not root.exists()
    assert all(run.info.artifact_uri.startswith(str(moved)) for run in runs(moved))
    assert len(track(params(), moved).unchanged) == 2


def test_the_store_that_the_environment_names(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.db"
    (root / "mlflow.db").rename(other)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    monkeypatch.chdir(root)
    track(params(), root)
    assert not (root / "mlflow.db").exists()
    assert MlflowClient(f"sqlite:///{other}").get_experiment_by_name("synthetic") is not None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://here")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        track(params(), root)


def test_a_trial_is_one_run_below_its_study_whatever_interrupts_it(root: Path) -> None:
    parent = study_run("grid-1234", "synthetic", "what it searches", root)
    assert study_run("grid-1234", "synthetic", "what it searches", root) == parent
    first = trial(root, parent)
    first.epoch({"epoch": 1, "valid_loss": 3.5, "valid_mi": None, "best": 0})
    first.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    client = connect(root)
    assert client.get_run(str(first.run)).info.status == "KILLED"
    with trial(root, parent) as again:
        assert again.run == first.run
        assert client.get_run(str(again.run)).info.status == "RUNNING"
        again.epoch({"epoch": 2, "valid_loss": 3.25, "best": 1})
        again.end("complete", {"nll": 3.0, "mi": None})
    run = client.get_run(str(again.run))
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["state"] == "complete"
    assert run.data.params == {"gamma": "1.0"}
    assert run.data.metrics == {"valid/loss": 3.25, "kept/nll": 3.0}
    before = len(runs(root))
    track(params(), root)  # `track` leaves the runs of trials alone
    assert len(runs(root)) == before + 2


def test_a_store_that_fails_is_said_once_and_stops_no_training(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    parent = study_run("grid-1234", "synthetic", "what it searches", root)
    with caplog.at_level(logging.WARNING), trial(root, parent) as run:
        run.client.delete_run(str(run.run))
        for epoch in (1, 2):
            run.epoch({"epoch": epoch, "valid_loss": 3.5, "best": 0})
        run.end("complete", {"nll": 3.0})
    assert len([record for record in caplog.records if record.name == "duvae.tracking.trial_runs"]) == 1


def trial(root: Path, parent: str) -> TrialRun:
    return TrialRun("grid-1234", parent, 0, {"system": "du_vae"}, {"gamma": 1.0}, root)
