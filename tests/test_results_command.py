"""`duvae results` prints the numbers of the results, in 80 columns, and says no more than the report."""

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

import made_up
from duvae import config
from duvae.commands import results as command
from duvae.errors import UserError
from duvae.metrics import verdict
from duvae.report import brief, results
from duvae.report.results import Result, over_seeds

DATASETS = ("synthetic", "short_yelp_resampled")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[config.Params, Path]:
    """A project with made-up results of all systems, two seeds each."""
    folder, params = tmp_path_factory.mktemp("project"), made_up.everything(DATASETS)
    made_up.project(folder, params)

    return params, folder


def printed(params: config.Params, folder: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    capsys.readouterr()
    command.run(params, root=folder, **options)

    return capsys.readouterr().out


def models(params: config.Params, folder: Path, dataset: str) -> list[Result]:
    jobs = [job for job in params.run_jobs() if job.dataset == dataset]

    return results.in_paper_order(results.read(params, jobs, folder))


def test_the_table_fits_into_80_columns(
    project: tuple[config.Params, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(*project, capsys)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert [name for name in text.splitlines() if name in DATASETS] == list(DATASETS)
    assert "…" not in text, "nothing is cut off"


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_numbers_are_those_of_the_files(
    project: tuple[config.Params, Path], dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    params, folder = project
    text = printed(params, folder, capsys, dataset=dataset, form="markdown")
    rows = [re.findall(r"(?<=\| )[^|]+(?= \|)", line) for line in text.splitlines() if line.startswith("|")][2:]
    of = models(params, folder, dataset)
    over, names = over_seeds(of), results.setting_names(of)
    for (setting, name), (head, *cells) in zip(names.items(), rows, strict=True):
        assert head.startswith(name)
        for key, cell in zip(brief.KEYS, cells, strict=False):
            mean, spread = over.value(setting, key), over.spread(setting, key)
            if math.isnan(mean):
                assert cell == brief.UNDEFINED
            else:
                decimals = 1 if key == "au" else 2
                assert cell.replace("−", "-") == f"{mean:,.{decimals}f} ± {spread:,.{decimals}f}"
        own = [model.metrics for model in of if model.job.setting == setting]
        assert cells[-1] == verdict.of_setting(own)


def test_one_seed_has_errors_in_brackets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = made_up.params(settings=["vae", "du_vae"])
    made_up.project(tmp_path, params)
    text = printed(params, tmp_path, capsys)
    for model in models(params, tmp_path, "synthetic"):
        for key in brief.WITH_ERROR:
            number, error = model.metrics[key], model.metrics[f"{key}_stderr"]
            assert f"{number:.2f} [{error:.2f}]".replace("-", "−") in text
    assert "One seed: others may differ." in " ".join(text.split())
    assert "±" not in text


def test_json_and_csv_have_all_numbers(project: tuple[config.Params, Path], capsys: pytest.CaptureFixture[str]) -> None:
    params, folder = project
    found = json.loads(printed(params, folder, capsys, form="json"))
    assert len(found) == len(params.run_jobs())
    table = list(csv.DictReader(io.StringIO(printed(params, folder, capsys, form="csv"))))
    assert len(table) == len(found)
    for entry, line in zip(found, table, strict=True):
        place = folder / "results" / entry["dataset"] / entry["setting"] / str(entry["seed"]) / "metrics.json"
        metrics = json.loads(place.read_text(encoding="utf-8"))
        for key in brief.KEYS:
            assert entry[key] == metrics[key]
            assert line[key] == ("" if metrics[key] is None else str(float(metrics[key])))
        assert entry["verdict"] == verdict.of_setting([metrics])
        assert entry["converged"] == (metrics["ending"] != "epochs")


def test_a_model_without_results_is_counted_and_not_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up.project(tmp_path, made_up.params(settings=["vae", "du_vae"]))
    text = printed(made_up.params(settings=["vae", "du_vae", "fb", "mae"]), tmp_path, capsys)
    assert text.endswith("2 models have no results yet. 'dvc repro' or 'make rebuild' makes them.\n")
    assert "FB" not in text
    assert "no results yet" not in printed(made_up.params(settings=["vae", "du_vae"]), tmp_path, capsys)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [("synthetik", "synthetik"), ("omniglot", "expected a data set that 'run' in params.yaml names")],
)
def test_a_data_set_without_jobs_is_refused(dataset: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        command.run(made_up.params(), dataset, root=tmp_path)


def test_a_project_without_results_says_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not there"):
        command.run(made_up.params(settings=["vae"]), root=tmp_path)
