"""The benchmark of many lines, stages, runs and settings: its sizes, its bounds and its projects."""

import json
import math
from pathlib import Path

import pytest
from benchmarks import browser, many_results, many_runs, measure, scale
from mlflow import MlflowClient

from duvae.commands import report
from duvae.report import then_and_now
from duvae.tracking.runs import track

# MLflow and its libraries warn about future versions.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _plain_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_growth_is_the_power_of_the_size(power: float) -> None:
    sizes = (10, 20, 80)

    assert scale.growth(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)


@pytest.mark.parametrize(
    ("costs", "met"),
    [
        ([1.0, 2.0, 4.0], ["aim", "must"]),
        ([1.9, 3.7, 7.5], ["must", "must"]),
        ([2.2, 4.4, 8.8], ["NO", "must"]),
        ([0.2, 0.8, 3.2], ["aim", "NO"]),
        ([0.6, 2.2, 8.8], ["NO", "NO"]),
    ],
)
def test_both_the_cost_and_the_growth_are_bounded(
    costs: list[float], met: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "rate", lambda: 100.0)
    rows = scale.rows("a command", (250, 500, 1000), costs, "s", 8, 5)

    assert [row.met for row in rows] == met
    assert rows[0].value == costs[-1]
    assert rows[1].note.startswith(f"250: {measure.number(costs[0])}, 500: ")


@pytest.mark.parametrize(
    ("status", "page", "log", "expected"),
    [
        (0, browser.DRAWN, '[1:2:INFO:CONSOLE:7] "a message", source: page.html (7)', []),
        (0, browser.DRAWN, '[1:2:INFO:CONSOLE:7] "Uncaught TypeError: no", source: p (7)', ["TypeError"]),
        (0, '<table id="compare-table"></table>', "", ["did not draw"]),
        (-11, "", "", ["ended with -11", "did not draw"]),
    ],
)
def test_faults_of_a_page_are_found(status: int, page: str, log: str, expected: list[str]) -> None:
    found = browser.faults(status, page, log, browser.DRAWN)

    assert len(found) == len(expected)
    assert all(part in fault for part, fault in zip(expected, found, strict=True))


def test_a_missing_browser_breaks_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser.shutil, "which", lambda _: None)
    opened = browser.open_page(tmp_path / "index.html")

    assert opened.faults[0].startswith("no browser: install one of chromium")


def test_the_peak_memory_is_read_before_messages() -> None:
    assert scale.peak_memory("wrote reports/index.html\nVmHWM: 2048\nwarning: run 'dvc repro'.\n") == 2
    assert math.isnan(scale.peak_memory("VmHWM: nan\n"))


def test_a_section_of_the_results_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    measure.write_section(path, "One", "a 1")
    measure.write_section(path, "Two", "b 1")
    measure.write_section(path, "One", "a 2")

    assert path.read_text(encoding="utf-8") == "# One\n\n```\na 2\n```\n\n# Two\n\n```\nb 1\n```\n"


def test_copied_results_have_a_page_and_copied_runs_are_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands accept the project of the benchmark, and see no difference between a run and its copy."""
    monkeypatch.chdir(tmp_path)
    params = many_results.write_params(tmp_path, 1, 1)
    many_results.write_results(tmp_path, params, params.run_jobs())
    known = params.run_jobs()
    assert len(track(params, tmp_path).added) == 1
    params = many_results.write_params(tmp_path, 5, 2)
    many_results.write_results(tmp_path, params, params.run_jobs())
    many_runs.copy_runs(tmp_path, params, known)
    tracked = track(params, tmp_path)

    assert (len(tracked.unchanged), tracked.added, tracked.replaced) == (10, [], [])
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name(many_results.DATASET).experiment_id])
    runs = [run for run in found if "duvae.digest" in run.data.tags]
    assert len({run.data.tags["duvae.digest"] for run in runs}) == 10
    assert len({len(run.data.metrics) for run in runs}) == 1
    assert len([run for run in found if "duvae.setting" in run.data.tags]) == 5
    assert len(client.search_model_versions(f"name = '{many_results.DATASET}'")) == 10
    report.run(params, tmp_path)
    then_and_now.warn(params, params.run_jobs(), tmp_path)
    assert not capsys.readouterr().err
    page = (tmp_path / "reports" / "index.html").read_text(encoding="utf-8")
    data = json.loads(page.partition('id="compare-data">')[2].partition("</script>")[0])
    settings = data["sets"][0]["settings"]
    assert [setting["seeds"] for setting in settings] == [2] * 5
    assert len({setting["name"] for setting in settings}) == 5


def test_text_at_a_tiny_size(tmp_path: Path) -> None:
    bench = scale.ScaleBench(scale.TINY)
    text = list(bench.text(tmp_path))

    assert [row.name for row in text] == [
        f"{command} 400 lines of text{what}"
        for command in ("preparing", "validating")
        for what in ("", ", growth", ", memory", ", memory, growth")
    ]
    assert all(row.value > 0 for row in text if "growth" not in row.name)


def test_stages_are_counted(tmp_path: Path) -> None:
    """A job has four stages: training, evaluation, probe and samples. Figure 1 has five jobs of its own."""
    (tmp_path / "dvc.yaml").write_bytes((scale.ROOT / "dvc.yaml").read_bytes())
    counts = []
    for settings in (1, 2):
        many_results.write_params(tmp_path, settings, 3)
        counts.append(scale.stage_count(tmp_path))

    assert counts[1] - counts[0] == 4 * 3
