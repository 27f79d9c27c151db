"""Logged and registered models in MLflow, the runs of settings, and the server of a model. The results are made up."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

import made_up
import test_use
from duvae.config import Params
from duvae.inference.model import load
from duvae.report import comparison, results
from duvae.tracking import logged_models, registered_models, setting_runs, store, views
from duvae.tracking.run_files import FILES, LOCATION, LOGGED
from duvae.tracking.runs import KEY, track
from duvae.tracking.store import connect

# MLflow and its libraries warn about future versions.
pytestmark = pytest.mark.filterwarnings("ignore")

SERVER_SECONDS = 180
"""Seconds to wait for the server of a model."""


@pytest.fixture(scope="module", autouse=True)
def _plain_store() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        yield


@pytest.fixture(scope="module")
def params() -> Params:
    return made_up.params(settings=["ae", "vae", "du_vae"], seeds=[1, 2])


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an empty MLflow store, created once because this takes seconds."""
    root = tmp_path_factory.mktemp("project")
    connect(root)

    return root


@pytest.fixture(scope="module")
def root(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with six runs. Tests that change a result leave all records in agreement with it."""
    root = tmp_path_factory.mktemp("tracked")
    made_up.project(root, params, params.run_jobs())
    track(params, root)

    return root


def of_experiment(client: MlflowClient, view: int = ViewType.ACTIVE_ONLY) -> tuple[dict[str, Run], dict[str, Run]]:
    """The runs of jobs by their keys, and the runs of settings by their names."""
    known = client.get_experiment_by_name("synthetic")
    assert known is not None
    runs = client.search_runs([known.experiment_id], run_view_type=view)

    return (
        {run.data.tags[KEY]: run for run in runs if KEY in run.data.tags},
        {run.data.tags[setting_runs.SETTING]: run for run in runs if setting_runs.SETTING in run.data.tags},
    )


def change(root: Path, key: str, **values: float) -> None:
    path = root / "results" / key / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# ---------------------------------------------------------------------------------- logged models


def test_each_training_has_a_logged_model(root: Path) -> None:
    client = connect(root)
    runs, _ = of_experiment(client)
    assert len(runs) == 6
    for key, run in runs.items():
        (output,) = run.outputs.model_outputs
        model = client.get_logged_model(output.model_id)
        assert run.data.tags[LOGGED] == model.model_id
        assert model.status == "READY"
        assert model.source_run_id == run.info.run_id
        assert model.name == "-".join(key.split("/")[1:])
        assert model.tags["setting"] == key.split("/")[1]
    du_vae = client.get_logged_model(runs["synthetic/du_vae/1"].data.tags[LOGGED])
    assert du_vae.params == {"gamma": "1.0", "p": "0.5"}
    expected = json.loads((root / "results/synthetic/du_vae/1/metrics.json").read_text())
    found = {metric.key: metric for metric in du_vae.metrics}
    assert found["test/nll"].value == expected["nll"]
    dataset = runs["synthetic/du_vae/1"].inputs.dataset_inputs[0].dataset
    assert (found["test/nll"].dataset_name, found["test/nll"].dataset_digest) == ("synthetic", dataset.digest)


def test_a_logged_model_says_what_it_takes_and_needs_and_holds_no_pickle(root: Path) -> None:
    run = of_experiment(connect(root))[0]["synthetic/vae/1"]
    folder = Path(run.data.tags[LOCATION])
    described = yaml.safe_load((folder / "MLmodel").read_text())
    assert described["model_id"] == run.data.tags[LOGGED]
    assert json.loads(described["signature"]["inputs"]) == [{"type": "string", "required": True}]
    vocabulary = (folder / FILES / "vocabulary.txt").read_text().split("\n")
    example = json.loads((folder / "input_example.json").read_text())
    assert [word in vocabulary for word in example[0].split()] == [True] * 3
    needed = (folder / "requirements.txt").read_text().splitlines()
    assert {line.partition("==")[0] for line in needed} == set(logged_models.PACKAGES)
    assert all("==" in line for line in needed)
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]


def test_images_have_their_signature(empty: Path, tmp_path: Path) -> None:
    chosen = made_up.params(datasets=["omniglot_small"], settings=["vae"])
    made_up.project(tmp_path, chosen, chosen.run_jobs())
    (tmp_path / "mlflow.db").write_bytes((empty / "mlflow.db").read_bytes())
    track(chosen, tmp_path, chosen.run_jobs())
    (model,) = (tmp_path / "mlruns").rglob("MLmodel")
    (inputs,) = json.loads(yaml.safe_load(model.read_text())["signature"]["inputs"])
    size = chosen.dataset("omniglot_small").networks.size  # type: ignore[union-attr]
    assert inputs["tensor-spec"] == {"dtype": "float32", "shape": [-1, size, size]}


def test_a_replaced_run_takes_its_model_and_version_with_it(root: Path, params: Params) -> None:
    client = connect(root)
    before = of_experiment(client)[0]
    numbers = {each.run_id: each.version for each in client.search_model_versions("name = 'synthetic'")}
    change(root, "synthetic/vae/2", kl=0.125)
    assert track(params, root).replaced == ["synthetic-vae-2"]
    after = of_experiment(client)[0]

    gone, new = before["synthetic/vae/2"], after["synthetic/vae/2"]
    assert gone.info.run_id != new.info.run_id
    assert not list(Path(gone.data.tags[LOCATION]).rglob("*"))
    live = client.search_logged_models([gone.info.experiment_id])
    assert {model.source_run_id for model in live} == {run.info.run_id for run in after.values()}
    now = {each.run_id: each.version for each in client.search_model_versions("name = 'synthetic'")}
    assert set(now) == {run.info.run_id for run in after.values()}
    assert now[new.info.run_id] not in numbers.values()
    assert all(now[run] == numbers[run] for run in numbers if run in now)


# ---------------------------------------------------------------------------------- registered models


def compared(gap: float) -> comparison.Comparison:
    """A comparison in which DU-VAE has a lower NLL than VAE by `gap` nats, with two seeds."""
    random = np.random.default_rng(1)
    base = random.normal(30, 5, 300)

    return comparison.Comparison(
        {
            setting: {seed: base - lower + random.normal(0, 0.1, 300) for seed in (1, 2)}
            for setting, lower in (("vae", 0.0), ("du_vae", gap))
        }
    )


def test_best_is_what_the_comparison_in_pairs_leaves(
    root: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = results.read(params, params.run_jobs(), root)
    monkeypatch.setattr(comparison, "compare", lambda *_: compared(1.0))
    chosen = registered_models.best(found, root)
    assert chosen.result is not None
    assert chosen.result.job.setting == "du_vae"
    nll = {one.job.seed: one.metrics["nll"] for one in found if one.job.setting == "du_vae"}
    assert chosen.result.job.seed == min(nll, key=lambda seed: nll[seed])
    assert "DU-VAE has the lowest NLL, in paired comparisons with the 1 other" in chosen.reason
    assert chosen.reason.endswith(f"`best` is DU-VAE with seed {chosen.result.job.seed}, its seed with the lowest NLL.")

    monkeypatch.setattr(comparison, "compare", lambda *_: compared(0.0))
    chosen = registered_models.best(found, root)
    assert chosen.result is None
    assert "none can be distinguished from the one with the lowest NLL" in chosen.reason
    assert chosen.reason.endswith("So no version has the alias `best`.")
    monkeypatch.undo()
    alone = registered_models.best([one for one in found if one.job.setting == "vae"], root)
    assert alone == (None, "Fewer than two settings have an NLL. So no version has the alias `best`.")


def test_aliases_are_those_of_the_settings_and_of_the_best_model(
    root: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alias that a user has set stays."""
    client = connect(root)
    client.set_registered_model_alias("synthetic", "mine", "2")
    for gap, names in ((1.0, {"best"}), (0.0, set())):
        monkeypatch.setattr(comparison, "compare", lambda *_, gap=gap: compared(gap))
        change(root, "synthetic/vae/2", kl=gap)
        assert track(params, root).replaced == ["synthetic-vae-2"]
        chosen = registered_models.best(results.read(params, params.run_jobs(), root), root)
        model = client.get_registered_model("synthetic")
        assert set(model.aliases) == {"ae", "vae", "du_vae", "mine"} | names
        assert chosen.reason in model.description
        runs, _ = of_experiment(client)
        for setting in ("ae", "vae", "du_vae"):
            version = client.get_model_version_by_alias("synthetic", setting)
            assert version.run_id == runs[f"synthetic/{setting}/1"].info.run_id
        if chosen.result is not None:
            version = client.get_model_version_by_alias("synthetic", "best")
            assert version.run_id == runs[chosen.result.job.folder.as_posix()].info.run_id
            client.delete_registered_model_alias("synthetic", "best")
            assert len(track(params, root).unchanged) == 6
            assert "best" in client.get_registered_model("synthetic").aliases
    client.delete_registered_model_alias("synthetic", "mine")
    linked = client.get_logged_model(runs["synthetic/vae/1"].data.tags[LOGGED]).tags["mlflow.modelVersions"]
    assert json.loads(linked) == [{"name": "synthetic", "version": str(model.aliases["vae"])}]


def test_a_data_set_with_one_setting_has_no_best(empty: Path, tmp_path: Path) -> None:
    chosen = made_up.params(settings=["vae"])
    made_up.project(tmp_path, chosen, chosen.run_jobs())
    (tmp_path / "mlflow.db").write_bytes((empty / "mlflow.db").read_bytes())
    track(chosen, tmp_path)
    client = connect(tmp_path)
    assert client.get_registered_model("synthetic").aliases == {"vae": 1}

    (tmp_path / "models/synthetic/vae/1/weights.safetensors").unlink()  # the new run has no model
    assert track(chosen, tmp_path).replaced == ["synthetic-vae-1"]
    assert client.search_model_versions("name = 'synthetic'") == []
    assert len(track(chosen, tmp_path).unchanged) == 1


@pytest.mark.parametrize("lost", ["model", "alias", "version", "parent"])
def test_what_someone_deleted_comes_back(root: Path, params: Params, lost: str) -> None:
    client = connect(root)
    before = client.get_registered_model("synthetic").aliases
    if lost == "model":
        client.delete_registered_model("synthetic")
    elif lost == "alias":
        client.delete_registered_model_alias("synthetic", "vae")
    elif lost == "version":
        client.delete_model_version("synthetic", str(before["ae"]))
    else:
        client.delete_run(of_experiment(client)[1]["vae"].info.run_id)
    assert len(track(params, root).unchanged) == 6

    assert set(client.get_registered_model("synthetic").aliases) == set(before)
    assert len(client.search_model_versions("name = 'synthetic'")) == 6
    runs, parents = of_experiment(client)
    assert set(parents) == {"ae", "vae", "du_vae"}
    below = {run.data.tags["setting"]: run.data.tags[setting_runs.PARENT] for run in runs.values()}
    assert below == {setting: parent.info.run_id for setting, parent in parents.items()}


def test_a_server_of_a_model_answers(empty: Path, tmp_path: Path) -> None:
    """`mlflow models serve` on the loopback address gives the codes that the model itself computes."""
    chosen = made_up.params(settings=["vae"])
    made_up.project(tmp_path, chosen, chosen.run_jobs())
    (tmp_path / "mlflow.db").write_bytes((empty / "mlflow.db").read_bytes())
    expected = load(test_use.project(tmp_path)).encode(test_use.SENTENCES).frame()
    made_up.adopt(tmp_path, chosen.job("synthetic", "vae", 1))
    track(chosen, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = str(Path(sys.executable).with_name("mlflow"))
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, "models", "serve", "--model-uri", "models:/synthetic@vae", *options],
            env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + SERVER_SECONDS
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                    break
                except OSError:
                    assert server.poll() is None, (tmp_path / "log").read_text()
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                    time.sleep(0.2)
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations",
                json.dumps({"inputs": test_use.SENTENCES}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (the server started above)
                rows = json.load(answer)["predictions"]
        finally:
            os.killpg(server.pid, 15)
            server.wait(60)
    assert list(rows[0]) == list(expected.columns)
    np.testing.assert_allclose([list(row.values()) for row in rows], expected.to_numpy(), rtol=1e-5)


# ---------------------------------------------------------------------------------- runs of settings


def test_the_run_of_a_setting_has_the_mean_and_the_spread_over_seeds(root: Path) -> None:
    runs, parents = of_experiment(connect(root))
    assert set(parents) == {"ae", "vae", "du_vae"}
    parent = parents["du_vae"]
    children = [runs[f"synthetic/du_vae/{seed}"] for seed in (1, 2)]
    assert {child.data.tags[setting_runs.PARENT] for child in children} == {parent.info.run_id}
    one, other = (child.data.metrics["test/nll"] for child in children)
    assert one != other
    assert parent.data.metrics["test/nll"] == pytest.approx((one + other) / 2)
    assert parent.data.metrics["spread/nll"] == pytest.approx(abs(one - other) / 2**0.5)
    seconds = [child.data.metrics["work/seconds"] for child in children]
    assert parent.data.metrics["work/seconds"] == pytest.approx(sum(seconds) / 2)
    assert "spread/seconds" not in parent.data.metrics
    assert parent.data.params["gamma"] == "1.0"
    assert "seed" not in parent.data.params
    assert parent.data.tags["seeds"] == "1, 2"
    assert "means over the seeds" in parent.data.tags["mlflow.note.content"]
    assert not [name for name in parents["ae"].data.metrics if name.endswith("/nll")]


def test_one_seed_has_no_spread(empty: Path, tmp_path: Path) -> None:
    chosen = made_up.params(settings=["vae"])
    made_up.project(tmp_path, chosen, chosen.run_jobs())
    (tmp_path / "mlflow.db").write_bytes((empty / "mlflow.db").read_bytes())
    track(chosen, tmp_path)
    runs, parents = of_experiment(connect(tmp_path))
    metrics = runs["synthetic/vae/1"].data.metrics
    assert {name.partition("/")[0] for name in metrics} >= {"test", "work", "train", "valid"}
    means = {name: value for name, value in metrics.items() if name.startswith(("test/", "work/"))}
    assert parents["vae"].data.metrics == means


def test_a_changed_seed_changes_the_run_of_its_setting_alone(root: Path, params: Params) -> None:
    client = connect(root)
    before = of_experiment(client)[1]
    change(root, "synthetic/vae/1", nll=20.0)
    track(params, root)
    runs, after = of_experiment(client)
    changed = [setting for setting in before if before[setting].info.run_id != after[setting].info.run_id]
    assert changed == ["vae"]
    values = [runs[f"synthetic/vae/{seed}"].data.metrics["test/nll"] for seed in (1, 2)]
    assert after["vae"].data.metrics["test/nll"] == pytest.approx(sum(values) / 2)
    assert len(after) == 3


# ---------------------------------------------------------------------------------- experiments


def test_experiments_say_what_to_look_at_and_show_the_columns_that_matter(root: Path) -> None:
    client = connect(root)
    for studies, metrics in ((False, views.MODELS), (True, views.TRIALS)):
        number = store.experiment(client, "synthetic", root, studies)
        tags = client.get_experiment(number).tags
        assert f"`{metrics[0]}`" in tags["mlflow.note.content"]
        shown = json.loads(tags[views.TAG])["selectedColumns"]
        assert shown == [f"metrics.`{name}`" for name in metrics]
        client.set_experiment_tag(number, views.TAG, "{}")  # as an earlier version may have written it
        assert store.experiment(client, "synthetic", root, studies) == number
        assert json.loads(client.get_experiment(number).tags[views.TAG])["selectedColumns"] == shown
        assert views.addresses(number)["runs"].endswith(f"viewStateShareKey={views.TAG.rpartition('.')[2]}")
    runs, parents = of_experiment(client)
    recorded = {name for run in (*runs.values(), *parents.values()) for name in run.data.metrics}
    assert set(views.MODELS) <= recorded
    assert client.get_experiment(number).name == "synthetic-studies"
