"""A collapsed model warns once when it is loaded: from its folder, by a command, and through MLflow."""

import json
import shutil
import warnings
from pathlib import Path

import pytest

from duvae import config
from duvae.commands import evaluate, model_io, prepare, probe, train, validate
from duvae.inference import collapse
from duvae.inference.model import load
from duvae.metrics import verdict
from tiny import small

JOB = ("synthetic", "vae", 1)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[config.Params, Path]:
    """A small trained and evaluated model."""
    folder, params = tmp_path_factory.mktemp("project"), config.parse(small())
    prepare.run(params, "synthetic", folder)
    validate.run(params, "synthetic", folder)
    train.run(params, *JOB, folder)
    evaluate.run(params, *JOB, folder)
    probe.run(params, *JOB, folder)

    return params, folder


@pytest.fixture
def changeable(project: tuple[config.Params, Path], tmp_path: Path) -> tuple[config.Params, Path]:
    """A copy of the project whose results a test may change."""
    params, folder = project

    return params, Path(shutil.copytree(folder, tmp_path / "copy"))


def evaluated(folder: Path, **changed: object) -> Path:
    """Changes the results of the evaluation, and returns the folder of the model."""
    path = folder / "results/synthetic/vae/1/metrics.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**known, **changed}), encoding="utf-8")

    return folder / "models/synthetic/vae/1"


COLLAPSED = {"mi": 0.001, "use": 0.0, "use_stderr": 0.001}
WORKING = {"mi": 2.0, "use": 3.0, "use_stderr": 0.01}


def test_a_collapsed_model_warns_and_a_working_one_does_not(
    changeable: tuple[config.Params, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    params, folder = changeable
    model = evaluated(folder, **COLLAPSED)
    with pytest.warns(collapse.Collapsed, match=r"has collapsed \(use of z 0\.00 nats, MI 0\.00 nats, KL") as caught:
        load(model)
    assert len(caught) == 1
    capsys.readouterr()
    model_io.load(params, *JOB, folder)
    assert capsys.readouterr().err.count("warning: the latent space of this model has collapsed") == 1

    evaluated(folder, **WORKING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(model)
    model_io.load(params, *JOB, folder)
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::sqlalchemy", "ignore:::alembic")
def test_the_copy_in_a_run_warns_too(project: tuple[config.Params, Path]) -> None:
    from duvae.tracking import runs
    from duvae.tracking.pyfunc import _load_pyfunc
    from duvae.tracking.run_files import FILES
    from duvae.tracking.store import connect

    params, folder = project
    job = params.job(*JOB)
    metrics = json.loads((folder / "results" / job.folder / "metrics.json").read_text(encoding="utf-8"))
    assert verdict.collapsed(metrics), "a VAE of two epochs"
    runs.track(params, folder, [job])
    client = connect(folder)
    (model,) = client.search_logged_models([each.experiment_id for each in client.search_experiments()])
    with pytest.warns(collapse.Collapsed):
        _load_pyfunc(str(Path(model.artifact_location) / FILES))  # MLflow calls it


def test_results_of_other_weights_or_without_a_verdict_say_nothing(changeable: tuple[config.Params, Path]) -> None:
    _, folder = changeable
    weights = json.loads((folder / "results/synthetic/vae/1/metrics.json").read_text(encoding="utf-8"))["weights"]
    model = evaluated(folder, **COLLAPSED, weights="0123456789abcdef")
    assert collapse.message(model) is None
    model = evaluated(folder, mi=2.0, use=None, weights=weights)
    assert verdict.verdict({"mi": 2.0}) == verdict.CANNOT_TELL
    assert collapse.message(model) is None
    path = folder / "results/synthetic/vae/1/metrics.json"
    kept = path.read_bytes()
    for broken in (b"", b"[]", b"{}", b"\xff"):
        path.write_bytes(broken)
        assert collapse.message(model) is None
    path.unlink()
    assert collapse.message(model) is None
    path.write_bytes(kept)
