"""Jobs without any result are named on the page; jobs with only a part of their files are an error."""

from pathlib import Path

import pytest

import made_up
from duvae.errors import UserError
from duvae.report import never_run, results


def test_jobs_without_results_are_left_out_and_named(tmp_path: Path) -> None:
    params = made_up.params(settings=["vae", "fb", "du_vae"])
    jobs = params.run_jobs()
    made_up.project(tmp_path, params, [job for job in jobs if job.setting == "fb"])
    run, missing = never_run.split_by_results(params, jobs, tmp_path)

    assert [job.setting for job in run] == ["fb"]
    assert [job.setting for job in missing] == ["vae", "du_vae"]
    assert len(results.read(params, run, tmp_path)) == 1
    (line,) = never_run.sentences(missing)
    assert line.startswith("Not run yet: on synthetic vae (seed 1) and du_vae (seed 1). Run 'dvc repro'")
    assert never_run.sentences([]) == []


def test_a_part_of_a_result_is_an_error(tmp_path: Path) -> None:
    params = made_up.params(settings=["vae", "fb"])
    made_up.project(tmp_path, params)
    (tmp_path / "results/synthetic/vae/1/metrics.json").unlink()
    run, missing = never_run.split_by_results(params, params.run_jobs(), tmp_path)

    assert missing == []
    with pytest.raises(UserError, match=r"vae/1/metrics\.json: not there"):
        results.read(params, run, tmp_path)


def test_without_any_result_all_files_are_missing(tmp_path: Path) -> None:
    params = made_up.params(settings=["vae", "fb"])
    run, missing = never_run.split_by_results(params, params.run_jobs(), tmp_path)

    assert (len(run), missing) == (2, [])
