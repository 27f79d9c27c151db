"""Records: files that say how a result was made. Git keeps them, and the pages of results show them."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import made_up
from duvae.commands import report
from duvae.config import Params
from duvae.errors import UserError
from duvae.project import array_files, provenance
from duvae.project.fingerprint import of_this_process
from duvae.project.provenance import Stopwatch, unwrapped
from duvae.report import origin, results
from duvae.report.results import Result


def test_a_record_describes_how_a_result_was_made(tmp_path: Path) -> None:
    Stopwatch("train", "vae").write(tmp_path / "train.run.json", weights="ab")
    record = unwrapped(json.loads((tmp_path / "train.run.json").read_text()))

    assert {"commit", "dirty", "started", "wall_seconds", "cpu_seconds", "peak_memory_mib"} < set(record)
    assert record["stage"] == "train"
    assert record["fingerprint"] == of_this_process("train", "vae")
    assert record["weights"] == "ab"
    assert record["versions"]["numpy"] == np.__version__
    assert {"python", "duvae", "scipy", "scikit-learn"} < set(record["versions"])
    assert record["machine"]["processor"]
    assert record["machine"]["cores"] >= 1
    assert set(record["machine"]) == {"processor", "cores", "system"}  # no key identifies the machine


def test_records_of_earlier_versions_are_read() -> None:
    assert unwrapped({"record": [{"stage": "train"}]}) == {"stage": "train"}
    assert unwrapped({"stage": "train"}) == {"stage": "train"}
    assert unwrapped(None) is None


def test_dvc_shows_nothing_of_records_and_arrays_and_finds_their_stage_again(tmp_path: Path) -> None:
    """`dvc metrics show` shows the metrics alone, although records and arrays are outputs of the same stage.

    DVC does not cache these outputs (`cache: false`), and still it restores the stage from its run cache.
    """
    (tmp_path / "make.py").write_text(
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from duvae.project import array_files\n"
        "from duvae.project.files import write_json\n"
        "from duvae.project.provenance import Stopwatch\n"
        "print('made')\n"
        "write_json(Path('metrics.json'), {'nll': 1.5})\n"
        "array_files.write(Path('per_example.json'), {'weights': 'ab'}, {'nll': np.ones(3, np.float32)})\n"
        "Stopwatch('evaluate', 'vae').write(Path('evaluate.run.json'))\n"
    )
    names = ("metrics", "per_example", "evaluate.run")
    metrics = "".join(f"      - {name}.json:\n          cache: false\n" for name in names)
    (tmp_path / "dvc.yaml").write_text(
        f"stages:\n  evaluate:\n    cmd: {sys.executable} make.py\n    deps: [make.py]\n    metrics:\n{metrics}"
    )

    def dvc(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout

    dvc("init", "--no-scm", "--quiet")
    assert "made" in dvc("repro")
    shown = json.loads(dvc("metrics", "show", "--json"))[""]["data"]
    assert shown == {f"{name}.json": {"data": {"nll": 1.5} if name == "metrics" else {}} for name in names}
    record = (tmp_path / "evaluate.run.json").read_text()
    for name in names:
        (tmp_path / f"{name}.json").unlink()
    (tmp_path / "dvc.lock").unlink()
    assert "is cached - skipping run" in dvc("repro")
    assert (tmp_path / "evaluate.run.json").read_text() == record


# ---------------------------------------------------------------------------------- arrays in git


def test_arrays_come_back_and_have_the_same_bytes_twice(tmp_path: Path) -> None:
    arrays = {"nll": np.random.default_rng(0).normal(40, 3, 2000).astype(np.float32), "label": np.arange(5)}
    for name in ("one", "two"):
        array_files.write(tmp_path / name, {"weights": "ab"}, arrays)
    about, found = array_files.read(tmp_path / "one", "")

    assert about == {"weights": "ab"}
    assert found["nll"].dtype == np.float32
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").stat().st_size < 1.5 * arrays["nll"].nbytes


@pytest.mark.parametrize("content", [{}, {"about": [{}], "npz": ["%"]}, {"about": [], "npz": []}, []])
def test_broken_arrays_are_an_error(tmp_path: Path, content: object) -> None:
    (tmp_path / "broken").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"expected arrays, but .*run 'duvae evaluate' again"):
        array_files.read(tmp_path / "broken", "duvae evaluate")


# ---------------------------------------------------------------------------------- records on pages


@pytest.fixture(scope="module")
def params() -> Params:
    return made_up.params(settings=["vae", "du_vae"], seeds=[1, 2])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Path:
    return made_up.project(tmp_path_factory.mktemp("project"), params, params.run_jobs())


@pytest.fixture
def models(root: Path, params: Params) -> list[Result]:
    return results.read(params, params.run_jobs(), root)


def recorded(result: Result, stage: str, **fields: object) -> Result:
    return replace(result, provenance={**result.provenance, stage: {**result.provenance[stage], **fields}})


def test_one_version_and_one_code_are_no_mixture(models: list[Result]) -> None:
    assert origin.mixture_warning(models) is None
    assert origin.mixture_warning([replace(model, provenance={}) for model in models]) is None


def test_a_mixture_of_versions_is_told(models: list[Result]) -> None:
    versions = {**models[0].provenance["evaluate"]["versions"], "torch": "2.12.0+cpu"}
    said = origin.mixture_warning([recorded(models[0], "evaluate", versions=versions), *models[1:]])
    assert (
        said == "Its results come from different versions (torch 2.12.0+cpu and 2.13.0+cpu),"
        " which may cause differences too."
    )


def test_a_mixture_of_code_is_told_within_a_system_alone(models: list[Result]) -> None:
    assert [model.system for model in models] == ["vae", "vae", "du_vae", "du_vae"]
    of_all = [recorded(model, "train", fingerprint=model.system) for model in models]
    assert origin.mixture_warning(of_all) is None
    said = origin.mixture_warning([recorded(models[0], "train", fingerprint="another"), *models[1:]])
    assert said == "Its results come from different code (training of VAE), which may cause differences too."
    unknown = [recorded(models[0], "train", fingerprint=None), *models[1:]]
    assert origin.mixture_warning(unknown) is None


def test_pages_show_versions_machine_and_mixture(root: Path, params: Params, tmp_path: Path) -> None:
    project = Path(shutil.copytree(root, tmp_path / "project"))
    report.run(params, project)
    html = (project / "reports/index.html").read_text()
    assert "Made with python 3.11.2, torch 2.13.0+cpu, duvae 0.1.0, numpy 2.4.6." in html
    assert "CPU seconds were measured on A processor (2 cores, Linux x86_64)." in html
    assert "Mixed." not in html
    path = project / "results/synthetic/vae/1/train.run.json"
    (record,) = json.loads(path.read_text())["record"]
    path.write_text(json.dumps({"record": [{**record, "versions": {**record["versions"], "numpy": "2.3.0"}}]}))
    report.run(params, project)
    html = (project / "reports/index.html").read_text()
    assert "<strong>Mixed.</strong> Its results come from different versions (numpy 2.3.0 and 2.4.6)" in html


def test_the_processor_has_a_name() -> None:
    assert provenance.processor()


def test_a_record_holds_digests_of_the_outputs_and_of_itself(tmp_path: Path) -> None:
    path, history = tmp_path / "train.run.json", tmp_path / "history.csv"
    history.write_text("epoch\n1\n2\n")
    Stopwatch("train", "vae").write(path, [history], device="cpu")
    record = provenance.read_record(path, "duvae train")

    path.write_text(json.dumps({"record": [{**record, "device": "cuda"}]}))
    with pytest.raises(UserError, match=r"train\.run\.json: has changed since 'duvae train' wrote it"):
        provenance.read_record(path, "duvae train")
    path.write_text(json.dumps({"record": [record]}))
    history.write_text("epoch\n1\n")
    with pytest.raises(UserError, match=r"history\.csv: has changed since 'duvae train' wrote it"):
        provenance.read_record(path, "duvae train")


def test_a_record_of_an_earlier_version_has_no_digests(tmp_path: Path) -> None:
    path = tmp_path / "train.run.json"
    path.write_text('{"device": "cpu"}')

    assert provenance.read_record(path, "duvae train") == {"device": "cpu"}
    assert provenance.read_record(tmp_path / "other.run.json", "duvae train", missing_ok=True) == {}
