"""`duvae run` trains several models side by side: in copies of the project, with the results of one after the other."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tiny
from duvae import config
from duvae.commands import side_by_side, trainings
from duvae.commands.side_by_side import Work
from duvae.errors import UserError
from duvae.project import copies, gpus, job_list

ROOT = Path(__file__).parents[1]

NAME = "${item.dataset}-${item.setting}-${item.seed}"

STAGES = {
    "vars": ["pipelines/jobs.yaml"],
    "stages": {
        "validate": {
            "foreach": "${sets}",
            "do": {"cmd": "mkdir -p data && echo ${item} > data/${item}", "outs": ["data/${item}"]},
        },
        "train": {
            "foreach": "${jobs}",
            "do": {
                "cmd": f"sh data/train.sh {NAME}",
                "deps": ["data/${item.dataset}"],
                "params": ["threads"],
                "outs": [f"models/{NAME}"],
            },
        },
        "evaluate": {
            "foreach": "${jobs}",
            "do": {
                "cmd": f"mkdir -p results && wc -c < models/{NAME} > results/{NAME}.json",
                "deps": [f"models/{NAME}"],
                "metrics": [{f"results/{NAME}.json": {"cache": False}}],
            },
        },
    },
}
"""Stages like those of a private project. Their commands are short."""

TRAIN = """
echo $1 >> {log}
mkdir -p models checkpoints
touch checkpoints/$1
if [ -n "$TOGETHER" ]; then until [ $(cat {log} | wc -l) = 2 ]; do sleep 0.05; done; fi
cat data/synthetic > models/$1
echo $1 >> models/$1
"""
"""A training that writes its name into a log. With the variable TOGETHER, it waits for a second training."""


def two_jobs() -> config.Params:
    raw = tiny.small()
    tiny.keep(raw, ["synthetic"], ["vae", "du_vae"])
    raw.update(figure1=None, run={"datasets": ["synthetic"], "settings": ["vae", "du_vae"], "seeds": [1]})

    return config.parse(raw)


def create(folder: Path, params: config.Params, log: Path) -> Path:
    """Creates a DVC project without git, which has the stages of `STAGES`. Its trainings write into a log."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train.sh").write_text(TRAIN.format(log=log))
    (folder / "dvc.yaml").write_text(yaml.safe_dump(STAGES, sort_keys=False))
    (folder / "params.yaml").write_text("threads: 1\n")
    job_list.write(params, folder / job_list.JOBS)
    subprocess.run(["dvc", "init", "--quiet", "--no-scm"], cwd=folder, check=True, timeout=300)

    return folder


def content(folder: Path) -> dict[str, str]:
    """The files that the stages have written, and dvc.lock."""
    paths = [folder / "dvc.lock", *folder.glob("models/*"), *folder.glob("results/*")]

    return {str(path.relative_to(folder)): path.read_text() for path in paths}


def test_trainings_run_together_and_give_the_results_of_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, log = two_jobs(), tmp_path / "log"
    alone, together = (create(tmp_path / name, params, log) for name in ("alone", "together"))
    subprocess.run(["dvc", "repro", "--quiet"], cwd=alone, check=True, timeout=300)
    log.unlink()

    monkeypatch.setattr(trainings, "places", lambda *_: [(), ()])
    trainings.run(params, together, {**os.environ, "TOGETHER": "yes"})
    assert sorted(log.read_text().split()) == ["synthetic-du_vae-1", "synthetic-vae-1"]
    assert not (together / copies.FOLDER).exists()
    assert {path.name for path in (together / "checkpoints").iterdir()} == set(log.read_text().split())
    subprocess.run(["dvc", "repro", "--quiet"], cwd=together, check=True, timeout=300)
    assert len(log.read_text().split()) == 2  # `dvc repro` has found all results in the run cache
    assert content(together) == content(alone)
    assert len(content(alone)) == 5

    trainings.run(params, together, {**os.environ, "TOGETHER": "yes"})  # nothing is out of date
    assert len(log.read_text().split()) == 2


def test_only_one_command_works_in_a_project(tmp_path: Path) -> None:
    left = tmp_path / copies.FOLDER / "synthetic-vae-1"
    left.mkdir(parents=True)
    with copies.exclusive(tmp_path):
        assert not left.exists()
        with pytest.raises(UserError, match="another 'duvae run' works here"), copies.exclusive(tmp_path):
            pass


def test_trainings_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    params = two_jobs()
    assert params.threads == 1
    monkeypatch.setattr(side_by_side, "cores", lambda: [2, 3, 5])
    monkeypatch.setattr(gpus, "in_use", lambda: False)
    assert trainings.places(params, 4) == [[2], [3], [5]]
    assert trainings.places(params, 2) == [(), ()]
    assert trainings.places(params.model_copy(update={"threads": 3}), 4) == [()]
    assert trainings.places(params.model_copy(update={"threads": 8}), 4) == [()]
    monkeypatch.setattr(trainings, "MEMORY", 2**60)
    assert trainings.places(params, 4) == [()]
    monkeypatch.setattr(trainings, "MEMORY", 1)
    monkeypatch.setattr(gpus, "in_use", lambda: True)
    assert trainings.places(params, 4) == [()]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, True),
        ({"DUVAE_DEVICE": "cpu"}, False),
        ({"CUDA_VISIBLE_DEVICES": ""}, False),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, False),
        ({"CUDA_VISIBLE_DEVICES": "1"}, True),
        ({"CUDA_VISIBLE_DEVICES": "", "DUVAE_DEVICE": "GPU 0"}, True),
    ],
)
def test_a_gpu_is_in_use_unless_it_is_hidden(
    variables: dict[str, str], expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DUVAE_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gpus, "torch_without_cuda", lambda: "")
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    assert gpus.in_use() is (variables.get("DUVAE_DEVICE") == "GPU 0")
    (tmp_path / "nvidia0").touch()
    assert gpus.in_use() is expected


def test_the_failure_of_one_training_stops_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = {"a": "echo a: epoch 1 of 2  loss 3; exec sleep 300", "b": "echo error: no luck; exit 2"}
    works = [Work(name, 2, ["sh", "-c", line], os.environ, tmp_path) for name, line in lines.items()]
    with pytest.raises(UserError, match=r"^b: expected a finished training.*found the end of its process with exit"):
        side_by_side.run(works, [(), ()])
    assert "error: no luck" in capsys.readouterr().err


WAITING = """
trap "" HUP
sh -c 'trap "touch saved; exit 3" TERM; touch ready; while :; do sleep 0.05; done' &
wait
"""


@pytest.mark.parametrize("how", ["closed", "terminated"])
def test_a_command_and_its_children_end_with_the_caller(how: str, tmp_path: Path) -> None:
    """A caller that was killed leaves a closed pipe behind. The command of a stage has time to save its state."""
    guard = [sys.executable, "-m", "duvae.project.ends_with_caller", "sh", "-c", WAITING]
    with subprocess.Popen(guard, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        while not (tmp_path / "ready").exists():
            assert process.poll() is None
        assert process.stdin is not None
        if how == "closed":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 128 + signal.SIGTERM
        assert (tmp_path / "saved").exists()


STOPPED_AT_THE_START = """
import os, signal, subprocess, sys
from duvae.project import ends_with_caller

class Popen(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)

subprocess.Popen = Popen
sys.exit(ends_with_caller.run(["sleep", "300"]))
"""


def test_a_signal_right_after_the_start_of_a_command_ends_the_command() -> None:
    """Without its handler, the guard would end alone, and the command would go on."""
    with subprocess.Popen([sys.executable, "-c", STOPPED_AT_THE_START], stdin=subprocess.PIPE) as process:
        assert process.wait(60) == 128 + signal.SIGTERM
