"""Metrics that belong to the weights of an earlier training are named in a message, and not shown as results."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import made_up
import test_use
import tiny
from duvae import cli
from duvae.commands import figure1, report
from duvae.config import Params
from duvae.errors import UserError
from duvae.inference import model_files
from duvae.report import results, weights
from test_report import Tables

# MLflow and its libraries warn about future versions.
pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::sqlalchemy", "ignore:::alembic")

JOB = ("--dataset", "synthetic", "--setting", "du_vae", "--seed", "1")
RESULTS = Path("results/synthetic/du_vae/1")


def duvae(*arguments: str) -> None:
    """Calls a command of `duvae` in the working folder."""
    cli.app([*arguments], standalone_mode=False)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project in which one model was trained, measured and reported through the command line."""
    root = tmp_path_factory.mktemp("measured")
    tiny.write(root / "params.yaml", datasets=["synthetic"], settings=["du_vae"], studies=[])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        for command in ("prepare", "validate", "truth"):
            duvae(command, "--dataset", "synthetic")
        for command in ("train", "evaluate", "probe", "samples"):
            duvae(command, *JOB)
        duvae("report")

    return root


@pytest.fixture
def project(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = Path(shutil.copytree(measured, tmp_path / "project"))
    monkeypatch.chdir(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")

    return root


def retrain() -> None:
    """Trains again with another gamma, so that the other stages' results belong to the earlier weights."""
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    raw["settings"]["du_vae"]["columns"]["synthetic"]["gamma"] = 0.7
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    duvae("train", *JOB)


def nll() -> str:
    return f"{json.loads((RESULTS / 'metrics.json').read_text())['nll']:.2f}"


def test_all_parts_of_a_result_carry_the_digest_of_its_weights(project: Path) -> None:
    found = model_files.saved_digest(project / "models/synthetic/du_vae/1")
    assert found is not None
    assert re.fullmatch("[0-9a-f]{16}", found)
    for name in ("metrics.json", "probe.json"):
        assert json.loads((RESULTS / name).read_text())["weights"] == found
    for path in (
        *(RESULTS / f"{stage}.run.json" for stage in ("train", "evaluate", "probe")),
        RESULTS / "../samples/1.run.json",
    ):
        assert json.loads(path.read_text())["record"][0]["weights"] == found
    for path in (RESULTS / "per_example.json", RESULTS / "../samples/1.json"):
        assert json.loads(path.read_text())["about"][0]["weights"] == found
    html = (project / "reports/index.html").read_text()
    assert nll() in Tables(html).row("likelihood-synthetic", "DU-VAE")["NLL"]
    assert "Left out" not in html


def test_a_report_does_not_show_metrics_of_other_weights(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    retrain()
    before = (project / "reports/index.html").read_bytes()
    with pytest.raises(UserError) as caught:  # no result is left to show
        duvae("report")
    assert f"{RESULTS}/metrics.json: left out, since it belongs to other weights" in str(caught.value)
    assert f"Run 'duvae evaluate {' '.join(JOB)}' to make it again" in str(caught.value)
    assert f"Run 'duvae probe {' '.join(JOB)}' to make it again" in str(caught.value)
    assert (project / "reports/index.html").read_bytes() == before

    old = nll()
    duvae("evaluate", *JOB)
    assert nll() != old
    capsys.readouterr()
    duvae("report")
    html = (project / "reports/index.html").read_text()
    tables = Tables(html)
    assert nll() in tables.row("likelihood-synthetic", "DU-VAE")["NLL"]
    assert "probes-synthetic" not in tables.found
    assert f"{RESULTS}/probe.json: left out" in html
    assert f"warning: {RESULTS}/probe.json: left out" in capsys.readouterr().err
    assert "samples and interpolations (of all models)" in html  # the samples are of the earlier weights

    duvae("probe", *JOB)
    duvae("samples", *JOB)
    duvae("report")
    html = (project / "reports/index.html").read_text()
    assert "eft out" not in html
    assert "probes-synthetic" in Tables(html).found


def test_track_does_not_show_metrics_of_other_weights(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from duvae.tracking.store import connect

    duvae("track")
    client = connect(project)

    def shown() -> list[tuple[str, float]]:
        known = client.get_experiment_by_name("synthetic")
        return [
            (run.data.params["gamma"], run.data.metrics["test/nll"])
            for run in client.search_runs([known.experiment_id], "tags.`duvae.key` LIKE '%'")
        ]

    before = shown()
    retrain()
    capsys.readouterr()
    duvae("track")
    said = capsys.readouterr().out
    assert f"{RESULTS}/metrics.json: left out, since it belongs to other weights" in said
    assert "added" not in said
    assert "replaced" not in said
    assert shown() == before  # MLflow keeps the whole result of the earlier training
    assert before[0][0] == "1.0"

    for command in ("evaluate", "probe"):
        duvae(command, *JOB)
    duvae("track")
    assert "1 replaced" in capsys.readouterr().out
    ((gamma, value),) = shown()
    assert gamma == "0.7"
    assert f"{value:.2f}" == nll()


def test_track_looks_at_the_model_itself(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`track` compares the digest in the metrics with the weights in the folder.

    Here the weights were copied from another project, without their results.
    """
    test_use.project(project / "other")
    shutil.copy(project / "other/models/synthetic/vae/1/weights.safetensors", "models/synthetic/du_vae/1")
    capsys.readouterr()
    duvae("track")
    said = capsys.readouterr().out
    assert f"{RESULTS}/metrics.json: left out, since it belongs to other weights" in said
    assert "added" not in said


# ---------------------------------------------------------------------------------- which results are left out


@pytest.fixture
def params() -> Params:
    return made_up.params()


def spoil(root: Path, params: Params, setting: str, name: str = "metrics.json", value: str | None = "0" * 16) -> None:
    path = root / "results" / params.job("synthetic", setting, 1).folder / name
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "weights": value}))


def test_only_the_model_in_question_is_left_out(tmp_path: Path, params: Params) -> None:
    made_up.project(tmp_path, params)
    spoil(tmp_path, params, "bn_vae")
    report.run(params, tmp_path)
    html = (tmp_path / "reports/index.html").read_text()
    names = [row[0] for row in Tables(html).found["likelihood-synthetic"]]
    assert any(name.startswith("VAE") for name in names)
    assert not any(name.startswith("BN-VAE") for name in names)
    assert "results/synthetic/bn_vae/1/metrics.json: left out" in html
    assert 'id="figure1"' not in html


@pytest.mark.parametrize("value", ["0" * 16, None])
def test_figure1_refuses_metrics_of_other_weights(tmp_path: Path, params: Params, value: str | None) -> None:
    made_up.project(tmp_path, params)
    spoil(tmp_path, params, "bn_vae", value=value)
    with pytest.raises(
        UserError, match=r"bn_vae/1/metrics.json: .*'duvae evaluate --dataset synthetic --setting bn_vae"
    ):
        figure1.run(params, tmp_path)
    assert not (tmp_path / "reports").exists()


def test_figure1_refuses_examples_of_other_weights(tmp_path: Path, params: Params) -> None:
    made_up.project(tmp_path, params)
    path = tmp_path / "results/synthetic/bn_vae/1/per_example.json"
    shutil.copy(tmp_path / "results/synthetic/vae/1/per_example.json", path)
    with pytest.raises(UserError, match=r"per_example\.json of synthetic-bn_vae-1: it belongs to other weights"):
        figure1.run(params, tmp_path)


def test_results_from_before_digests_are_shown(tmp_path: Path, params: Params) -> None:
    made_up.project(tmp_path, params)
    (result, *_) = results.read(params, params.figure1_jobs(), tmp_path)
    old = {name: value for name, value in result.metrics.items() if name != "weights"}
    probe = {name: value for name, value in (result.probe or {}).items() if name != "weights"}
    of_old = type(result)(result.job, old, result.history, probe, {})
    assert weights.stale(of_old) == {}
    assert weights.stale(result) == {}
    trained_anew = type(result)(result.job, old, result.history, probe, result.provenance)
    assert [Path(file).name for file in weights.stale(trained_anew)] == ["metrics.json", "probe.json"]


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update({name: value + 0 for name, value in state.items()}),
        lambda state: next(iter(state.values())).view(-1)[0].add_(1e-6),
        lambda state: next(iter(state.values())).view(-1)[0].neg_(),
    ],
)
def test_a_digest_is_of_every_bit(tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    model, description = model_files.load(test_use.project(tmp_path))
    before = model_files.digest(model)
    assert before == model_files.saved_digest(tmp_path / "models/synthetic/vae/1")
    state = {name: value.clone() for name, value in model.state_dict().items()}
    change(state)
    model.load_state_dict(state)
    same = all(
        torch.equal(value, family_value)
        for value, family_value in zip(
            state.values(), model_files.load(tmp_path / "models/synthetic/vae/1")[0].state_dict().values(), strict=True
        )
    )
    assert (model_files.digest(model) == before) == same
    model_files.save(tmp_path / "again", model, description)
    assert model_files.saved_digest(tmp_path / "again") == model_files.digest(model)


def test_no_digest_without_readable_weights(tmp_path: Path) -> None:
    assert model_files.saved_digest(tmp_path) is None
    (tmp_path / "weights.safetensors").write_bytes(b"broken")
    assert model_files.saved_digest(tmp_path) is None


# ---------------------------------------------------------------------------------- parameters that have changed since


def test_results_of_earlier_parameters_are_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """params.yaml was changed, but no model was trained. The results belong to the earlier parameters."""
    from duvae.tracking.store import connect

    duvae("report")
    duvae("evaluate", *JOB)
    printed = capsys.readouterr()
    assert "warning" not in printed.out + printed.err
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    raw["settings"]["du_vae"]["columns"]["synthetic"]["gamma"] = 0.7
    before = raw["datasets"]["synthetic"]["optimisation"]["learning_rate"]
    raw["datasets"]["synthetic"]["optimisation"]["learning_rate"] = 0.123
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")

    trained = "models/synthetic/du_vae/1: was trained with hyperparameters.gamma 1.0 (params.yaml: 0.7),"
    rate = f"optimisation.learning_rate {before} (params.yaml: 0.123)"
    for command in (("evaluate", *JOB), ("probe", *JOB), ("samples", *JOB), ("report",)):
        duvae(*command)
        warning = capsys.readouterr().err
        assert trained in warning
        assert rate in warning
        assert f"Run 'duvae train {' '.join(JOB)}'" in warning

    for _ in range(2):  # also of a run that is in the store already
        duvae("track")
        out = capsys.readouterr().out
        assert trained in out
        assert rate in out
    client = connect(project)
    number = client.get_experiment_by_name("synthetic").experiment_id
    (run,) = client.search_runs([number], "tags.`duvae.key` LIKE '%'")
    assert run.data.params["gamma"] == "1.0"
    assert run.data.params["optimisation.learning_rate"] == str(before)

    raw["evaluation"]["importance_samples"] = 33
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    duvae("report")
    assert "was measured with importance_samples 20 (params.yaml: 33)" in capsys.readouterr().err
