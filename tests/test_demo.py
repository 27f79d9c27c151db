"""`duvae demo` trains two models in one new folder, shows their results, and continues after an interruption."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from duvae import config
from duvae.cli.information import DEMO_PARAMS
from duvae.cli.options import checked_folder
from duvae.commands import demo, side_by_side
from duvae.commands.demo import folder, model, processes, results
from duvae.errors import UserError
from duvae.metrics import verdict

ROOT = Path(__file__).parents[1]
SYSTEMS = {"vae": "VAE", "du_vae": "DU-VAE"}


def write_tiny(path: Path, epochs: int = 1) -> Path:
    """Writes the package's parameters of the demonstration at a reduced size."""
    raw = yaml.safe_load(DEMO_PARAMS.read_text(encoding="utf-8"))
    raw["evaluation"]["importance_samples"] = 5
    dataset = raw["datasets"]["demo"]
    dataset["source"].update(train=64, valid=32, test=32, words=30, embedding=8, hidden=8)
    dataset["networks"].update(embedding=8, hidden=8)
    dataset["optimisation"].update(epochs=epochs, warmup=1)
    dataset["optimisation"]["decay"].update(patience=1, not_before=1)
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")

    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "duvae", "demo", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def call(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with a demonstration of reduced size that an interruption has stopped once, and its second call."""
    place = tmp_path_factory.mktemp("place")
    write_tiny(place / "tiny.yaml")
    with subprocess.Popen(
        command("--params", "tiny.yaml"), cwd=place, env=environment(), stderr=subprocess.PIPE, text=True
    ) as first:
        assert first.stderr is not None
        lines = []
        for line in first.stderr:
            lines.append(line)
            if "epoch 1 of 1" in line:
                first.send_signal(signal.SIGINT)
                break
        lines += first.stderr.readlines()
        assert first.wait(300) == 130, "".join(lines)
    assert "interrupted: demo: the trainings have saved their states; run the same command again" in lines[-1]
    (place / "files").write_text(" ".join(sorted(path.name for path in (place / "demo").iterdir())))

    return place, call(place, "--params", "tiny.yaml")


def metrics(place: Path, setting: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((place / f"demo/results/demo/{setting}/1/metrics.json").read_text())

    return values


def test_an_interrupted_demonstration_continues(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    place, second = done
    assert second.returncode == 0, second.stderr
    assert folder.PAGE not in (place / "files").read_text()
    assert "demo: continues an earlier demonstration: VAE and DU-VAE on 64 synthetic sentences" in second.stderr
    assert "words in the vocabulary" not in second.stdout, "the data are prepared once"
    assert not list(place.rglob("*.part"))
    assert {path.name for path in (place / "demo").iterdir()} <= set(folder.WRITTEN)
    assert {path.name for path in place.iterdir()} == {"demo", "tiny.yaml", "files"}, "everything is in one folder"


def test_the_table_shows_metrics_json(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    place, second = done
    page = (place / "demo" / folder.PAGE).read_text(encoding="utf-8")
    assert re.search(r'<div class="sheet" [^>]*role="img" aria-label="[^"]+"><svg class="whole"', page)
    for setting, name in SYSTEMS.items():
        values = metrics(place, setting)
        (line,) = (line for line in second.stdout.splitlines() if re.match(rf"{name}[‡ ]", line))
        for text in (
            f"{values['nll']:.2f} [{values['nll_stderr']:.2f}]",
            f"{values['kl']:.2f}",
            f"{values['mi']:.2f}".replace("-", "−").replace("−0.00", "0.00"),
            f"{values['use']:.2f} [{values['use_stderr']:.2f}]".replace("-", "−").replace("−0.00", "0.00"),
            str(verdict.of_setting([values])),
        ):
            assert text in line
        assert f"<td>{values['kl']:.2f}</td>" in page


def test_the_sentences_are_those_of_the_models(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    place, second = done
    for setting, name in SYSTEMS.items():
        samples = json.loads((place / f"demo/results/demo/{setting}/samples/1.json").read_text())
        lines = samples["about"][0]["lines"]["samples_likeliest"]
        shown = second.stdout.partition(f"\n{name}\n")[2].splitlines()[:5]
        cut = [textwrap.shorten(line, 70, placeholder=" ...") for line in lines]
        assert shown == [f"  {number}. {line}" for number, line in enumerate(cut, 1)]
        assert len(lines) == 5


def test_the_picture_is_a_png_of_the_width_of_the_report(
    done: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    from PIL import Image

    from duvae.commands.demo.results import DPI
    from duvae.report.figures import WIDTH

    with Image.open(done[0] / "demo" / folder.PICTURE) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width == int(WIDTH * DPI)
        pixels = np.asarray(picture.convert("RGB").resize((64, 64))).reshape(-1, 3)
        assert len(np.unique(pixels, axis=0)) > 10, "something is drawn"


def test_the_page_says_how_far_its_results_reach(
    done: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """The signs of the table are explained. Only the package's own text is one that was chosen."""
    page = " ".join((done[0] / "demo" / folder.PAGE).read_text(encoding="utf-8").split())
    output = " ".join(done[1].stdout.split())
    for text in ("‡: a training ended", results.ONE_SEED):
        assert text in page
        assert text in output
    assert results.CHOSEN not in page
    assert not results.is_default(done[0] / "demo" / folder.PARAMS)
    copied = tmp_path / "params.yaml"
    copied.write_bytes(DEMO_PARAMS.read_bytes())
    assert results.is_default(copied)


def test_it_says_what_to_do_next(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    text = done[1].stdout.partition("What to do next:")[2]
    assert "duvae demo --again" in text
    assert "\n  make " in text
    assert "docs/metrics.md" in text


def test_other_parameters_need_again_and_other_files_stay(
    done: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    place = done[0]
    other = write_tiny(tmp_path / "other.yaml", epochs=3)
    params = config.load(other)
    with (
        pytest.raises(UserError, match=r"found one of others. Run 'duvae demo --output .*demo --again'"),
        folder.opened(params, other, place / "demo", again=False),
    ):
        pass
    assert (place / "demo" / folder.PAGE).exists()
    (place / "demo" / "notes.txt").write_text("mine")
    with folder.opened(params, other, place / "demo", again=True) as state:
        assert state == "made anew"
        assert {path.name for path in (place / "demo").iterdir()} == {
            *("notes.txt", folder.MARK, folder.LOCK, folder.PARAMS, ".gitignore")
        }
        with (
            pytest.raises(UserError, match="another demonstration runs in this folder"),
            folder.opened(params, other, place / "demo", again=False),
        ):
            pass


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_of_the_user_is_refused(tmp_path: Path, again: bool) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    source = write_tiny(tmp_path.with_suffix(".yaml"))
    with (
        pytest.raises(UserError, match=r"one that 'duvae demo' has written; found 'thesis.txt'"),
        folder.opened(config.load(source), source, tmp_path, again),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["", "/", "..", "-", "a\nb", "x" * 300, "file", "file/x", "/dev/null"])
def test_a_bad_output_path_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--output"):
        checked_folder(Path(name))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_model_stops_the_other_one_and_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "duvae.sh"
    script.write_text(
        '#!/bin/sh\ncase "$*" in *demo-du_vae-1) echo "error: no luck"; exit 2;; esac\n'
        f"echo $$ > {tmp_path}/pid\nexec sleep 600\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(script))
    monkeypatch.setattr(processes, "at_once", lambda jobs: jobs)
    with pytest.raises(UserError, match=r"demo-du_vae-1: .* exit status 2"):
        processes.train_all(config.load(DEMO_PARAMS), tmp_path)
    assert "error: no luck" in capsys.readouterr().err
    if (tmp_path / "pid").exists() and (pid := (tmp_path / "pid").read_text().strip()):
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_the_process_of_a_model_ends_with_its_caller() -> None:
    code = "from duvae.commands.demo import model; print('ready', flush=True); model._end_with_caller(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(60) == -signal.SIGTERM


def test_stages_after_a_missing_one_run_again(tmp_path: Path) -> None:
    (job, _) = config.load(DEMO_PARAMS).run_jobs()
    results = tmp_path / "results" / job.folder
    results.mkdir(parents=True)
    assert model.waiting(job, tmp_path) == ["train", "evaluate", "samples"]
    (results / "train.run.json").write_text("{}")
    assert model.waiting(job, tmp_path) == ["evaluate", "samples"]
    (results / "evaluate.run.json").write_text("{}")
    (results / "train.run.json").unlink()
    assert model.waiting(job, tmp_path) == ["train", "evaluate", "samples"]


def test_the_lines_of_the_epochs_are_understood() -> None:
    epoch = side_by_side.EPOCH.fullmatch("demo-du_vae-1: epoch 3 of 30  loss 24.10  KL 1.20")
    assert epoch is not None
    assert (epoch["name"], epoch["epoch"], epoch["note"]) == ("demo-du_vae-1", "3", "loss 24.10  KL 1.20")


def test_only_one_synthetic_data_set_with_two_dimensions_fits(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "tiny.yaml")
    source.write_text(source.read_text().replace("latent: 2", "latent: 3"))
    with pytest.raises(UserError, match="latent: 2"):
        demo.run(config.load(source), source, tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


def test_the_package_has_the_settings_of_the_project() -> None:
    ours, project = config.load(DEMO_PARAMS), config.load(ROOT / "params.yaml")
    for setting in SYSTEMS:
        assert ours.setting(setting).system == project.setting(setting).system
        assert ours.setting(setting).parts == project.setting(setting).parts
        assert ours.column(setting, "demo") == project.column(setting, "synthetic")


def test_make_demo_makes_the_environment_first_and_git_ignores_the_folder() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\ndemo: $(ENVIRONMENT)  ## " in makefile
    assert "\n\t@duvae demo $(ARGS)\n" in makefile
    assert "/demo/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
