"""Libraries that log errors with a traceback are silent, and no error of theirs is lost."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from duvae import config
from duvae.data import store
from duvae.data.validation import run_expectations
from duvae.errors import UserError
from duvae.tracking.store import connect, store_errors
from prepared_project import create


def test_mlflow_logs_no_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    client = connect(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("drop table runs")
        database.commit()
    with pytest.raises(UserError, match="cannot be used as MLflow's store"), store_errors(client.tracking_uri):
        client.search_runs(["0"])

    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_page_that_great_expectations_leaves_out_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from great_expectations.render.view import DefaultJinjaPageView

    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    create(tmp_path)
    params = config.load(tmp_path / "params.yaml")
    prepared = store.read(tmp_path / "data/prepared/synthetic")
    monkeypatch.setattr(DefaultJinjaPageView, "render", full)
    with pytest.raises(UserError) as raised:
        run_expectations(prepared, params.datasets["synthetic"], tmp_path / "docs", "synthetic")

    assert str(raised.value).startswith(f"{tmp_path / 'docs'}: a page cannot be written (OSError: ")
    assert "No space left on device" in str(raised.value)
    assert not (tmp_path / "docs").exists()
    assert "Traceback" not in capfd.readouterr().err
    assert logging.getLogger("great_expectations.render").propagate


def test_a_dollar_in_the_path_is_no_variable_for_great_expectations(tmp_path: Path) -> None:
    create(tmp_path)
    params = config.load(tmp_path / "params.yaml")
    prepared = store.read(tmp_path / "data/prepared/synthetic")
    docs = tmp_path / "co$t ${HOME}" / "docs"
    run_expectations(prepared, params.datasets["synthetic"], docs, "synthetic")

    assert len(list(docs.glob("validations/*/*/*/*.html"))) > 1
    assert [path.name for path in docs.parent.iterdir()] == ["docs"]
