"""After a training and after an evaluation, one line says whether the latent space has collapsed."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import made_up
from duvae import config
from duvae.cli import app
from duvae.metrics import verdict
from duvae.report import result_line

SETTINGS = ["ae", "vae", "bn_vae", "du_vae", "du_iaf"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[config.Params, Path]:
    folder, params = tmp_path_factory.mktemp("project"), made_up.params(settings=SETTINGS)
    made_up.project(folder, params)

    return params, folder


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_line_of_an_evaluation_has_the_verdict_of_the_report(
    setting: str, project: tuple[config.Params, Path]
) -> None:
    params, folder = project
    job = params.job("synthetic", setting, 1)
    metrics = json.loads((folder / "results" / job.folder / "metrics.json").read_text(encoding="utf-8"))
    line = result_line.of_evaluation(params, job, folder)
    assert f": {verdict.verdict(metrics)} (uses {metrics['use']:.2f} nats of z".replace("-", "−") in line.replace(
        "-", "−"
    )
    if metrics["au"] is not None:
        assert line.endswith(f"; {metrics['au']} of 2 dimensions active)")


def test_an_evaluation_without_measures_says_so(project: tuple[config.Params, Path], tmp_path: Path) -> None:
    params, folder = project
    job = params.job("synthetic", "du_iaf", 1)
    metrics = json.loads((folder / "results" / job.folder / "metrics.json").read_text(encoding="utf-8"))
    (tmp_path / "results" / job.folder).mkdir(parents=True)
    path = tmp_path / "results" / job.folder / "metrics.json"
    path.write_text(json.dumps({**metrics, "use": None, "kl": None, "mpd_t": None}))
    assert result_line.of_evaluation(params, job, tmp_path) == "DU-IAF: cannot tell (no measure could tell)"
    path.write_text(json.dumps({**metrics, "use": None, "kl": 0.03}))
    assert result_line.of_evaluation(params, job, tmp_path) == "DU-IAF: collapsed (KL 0.03 nats)"


@pytest.mark.parametrize(
    ("setting", "mi", "kl", "au", "line"),
    [
        ("vae", 0.004, 0.01, 0, "VAE: collapsed (MI 0.00 nats, 0 of 2 dimensions active on validation)"),
        ("du_vae", 1.81, 2.0, 2, "DU-VAE: MI 1.81 nats, 2 of 2 dimensions active on validation; 'duvae evaluate "),
        ("du_iaf", None, 0.8, None, "DU-IAF: KL 0.80 nats on validation; 'duvae evaluate "),
        ("iaf_bn", None, 0.03, None, "IAF+BN: collapsed (KL 0.03 nats on validation)"),
        ("ae", None, None, None, "AE: 'duvae evaluate --dataset synthetic --setting ae --seed 1' measures whether"),
    ],
)
def test_the_line_of_a_training_never_says_that_z_is_used(
    setting: str, mi: float | None, kl: float | None, au: float | None, line: str, tmp_path: Path
) -> None:
    params = made_up.params()
    job = params.job("synthetic", setting, 1)
    (tmp_path / "results" / job.folder).mkdir(parents=True)
    rows = [{"best": 1, "valid_mi": 5.0, "valid_kl": 5.0, "valid_au": 2}, {"best": 1}, {"best": 0, "valid_mi": 7.0}]
    rows[1] |= {"valid_mi": mi, "valid_kl": kl, "valid_au": au}  # type: ignore[arg-type]
    pd.DataFrame(rows).to_csv(tmp_path / "results" / job.folder / "history.csv", index=False)
    found = result_line.of_training(params, job, tmp_path)
    assert found.startswith(line)
    assert verdict.NOT_COLLAPSED not in found


def test_the_command_prints_the_line(project: tuple[config.Params, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from duvae.cli import dispatch

    _, folder = project
    monkeypatch.chdir(folder)
    monkeypatch.setattr(dispatch, "run", lambda *_: None)
    arguments = ["--dataset", "synthetic", "--setting", "vae", "--seed", "1"]
    params = ["--params", str(made_up.ROOT / "params.yaml")]
    done = CliRunner().invoke(app, ["evaluate", *arguments, *params])
    assert done.exit_code == 0, done.output
    assert re.search(
        r"^VAE: collapsed \(uses 0\.\d\d nats of z; 2 of 2 dimensions active\)$", done.output, re.MULTILINE
    )
