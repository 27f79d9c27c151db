"""Every file that a later stage reads is damaged, one after the other; the command that reads it names the file."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import tiny
from command_line import call
from duvae import config
from duvae.commands import evaluate, fetch, prepare, probe, samples, train
from duvae.data import store
from duvae.errors import UserError
from duvae.project import job_list
from duvae.project.files import write_json
from duvae.project.provenance import Stopwatch
from duvae.report import figures
from duvae.search import storage

JOB = "--dataset own --setting vae --seed 1"
PREPARED, MODEL, RESULTS = "data/prepared/own", "models/own/vae/1", "results/own/vae/1"
STUDY = "results/studies/own_grid"
OF_THE_STUDY = "--dataset own --setting searched --seed 1"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one model of a few sentences, all results of it, and the results of a study."""
    root = tmp_path_factory.mktemp("sound")
    tiny.own(root)
    raw = tiny.small()
    raw.update(run={"datasets": ["own"], "settings": ["vae"], "seeds": [1]}, runs={}, figure1=None)
    values = {"gamma": [0.5], "p": [0.5]}
    grid = {"dataset": "own", "setting": "du_vae", "seeds": [1], "sampler": "grid", "values": values}
    raw["studies"] = {"own_grid": grid}
    yelp = {**raw["settings"]["du_vae"]["columns"], "yelp": {"study": "own_grid"}}
    raw["settings"]["searched"] = {**raw["settings"]["du_vae"], "columns": yelp}
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    params = config.load(root / "params.yaml")
    job_list.write(params, root / job_list.JOBS)
    fetch.run(params, "own", None, root)
    prepare.run(params, "own", root)
    (root / "data/validated").mkdir()  # `duvae validate` takes seconds, and only its digest of the data is needed
    write_json(root / "data/validated/own.json", {store.DATA: store.digest(root / PREPARED)})
    for stage in (train, evaluate, probe, samples):
        stage.run(params, "own", "vae", 1, root)
    folder = root / STUDY
    folder.mkdir(parents=True)
    best = {"system": "du_vae", "hyperparameters": {"gamma": 0.5, "p": 0.5}}
    (folder / "best_params.yaml").write_text(yaml.safe_dump(best), encoding="utf-8")
    Stopwatch("search", "du_vae").write(folder / "search.run.json", [folder / "best_params.yaml"])

    return root


@pytest.fixture
def here(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project for one test; drawing figures would take seconds, so they are constants."""
    root = tmp_path / "project"
    shutil.copytree(sound, root)
    monkeypatch.chdir(root)
    monkeypatch.setattr(figures, "png", lambda *_, **__: b"\x89PNG")
    monkeypatch.setattr(figures, "svg", lambda *_, **__: "<svg></svg>")
    return root


def flipped(content: bytes) -> bytes:
    """The content with one changed bit in the middle. It changes a digit to a digit, and a letter to a letter."""
    middle = next(
        n for n in range(len(content) // 2, len(content)) if content[n : n + 1].isalnum() or n > len(content) - 3
    )

    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "flipped": flipped,
    "halved": lambda content: content[: len(content) // 2],
}

SPLITS = [f"{split}.{part}.npy" for split in ("train", "valid", "test") for part in ("tokens", "offsets", "labels")]
RECORDS = [f"{stage}.run.json" for stage in ("train", "evaluate", "probe")]
READ = {
    "prepare --dataset own": ["data/raw/own/train.txt", "data/raw/own/duvae-fetched.json", "train.txt"],
    "validate --dataset own": [f"{PREPARED}/test.labels.npy"],
    f"train {JOB}": [f"{PREPARED}/train.tokens.npy"],
    f"evaluate {JOB}": [
        *(f"{PREPARED}/{name}" for name in ("summary.json", "vocabulary.txt", *SPLITS)),
        *(f"{MODEL}/{name}" for name in ("weights.safetensors", "model.json")),
    ],
    **{
        f"{command} {JOB}": [f"{PREPARED}/test.tokens.npy", f"{MODEL}/weights.safetensors"]
        for command in ("probe", "samples", "generate", "interpolate", "reconstruct", "encode --split test")
    },
    "report": [
        *(f"{RESULTS}/{name}" for name in ("metrics.json", "history.csv", "probe.json", "per_example.json", *RECORDS)),
        *(f"results/own/vae/samples/{name}" for name in ("1.json", "1.run.json")),
    ],
    "examples --dataset own": ["generated/own/vae/1.npz", f"{RESULTS}/metrics.json"],
    f"train {OF_THE_STUDY}": [f"{STUDY}/best_params.yaml", f"{STUDY}/search.run.json"],
}
"""The files that each command reads, apart from params.yaml."""


@pytest.mark.parametrize("command", sorted(READ.keys() - {"validate --dataset own"}))
def test_without_damage_each_command_succeeds(
    command: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command, monkeypatch) == 0, capsys.readouterr().err


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("command", "file"), [(command, file) for command, files in READ.items() for file in files])
def test_the_damaged_file_is_named(
    command: str,
    file: str,
    damage: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = (here / file).read_bytes()
    (here / file).write_bytes(DAMAGES[damage](content))

    code = call(command, monkeypatch)

    message = capsys.readouterr().err
    assert code == 2, message
    assert "Traceback" not in message
    assert file in message or Path(file).name in message
    assert "again" in message or "makes it" in message


def test_a_training_needs_the_data_that_were_validated(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Data that were prepared anew with another result count as not validated."""
    with (here / "train.txt").open("ab") as file:
        file.write(b"1\tword0 good\n")
    assert call("fetch --dataset own", monkeypatch) == 0
    assert call("prepare --dataset own", monkeypatch) == 0

    assert call(f"train {JOB}", monkeypatch) == 2
    assert "data/validated/own.json: is about other data" in capsys.readouterr().err
    (here / "data/validated/own.json").write_text("")
    assert call(f"train {JOB}", monkeypatch) == 2
    assert "data/validated/own.json: expected JSON" in capsys.readouterr().err
    assert call("validate --dataset own", monkeypatch) == 0
    assert call(f"train {JOB}", monkeypatch) == 0


JOURNALS = {
    "an operation that Optuna does not know": b'{"op_code": 99, "worker_id": "a"}\n',
    "a list": b"[1]\n",
    "an operation without its fields": b'{"op_code": 0, "worker_id": "a"}\n',
    "bytes that are no text": bytes(range(128, 200)) + b"\n" + b"{}\n",
}


@pytest.mark.parametrize("name", JOURNALS)
def test_a_journal_of_other_content_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / storage.JOURNAL).write_bytes(JOURNALS[name])

    with pytest.raises(UserError, match=r"studies/journal\.log: expected the journal of studies"):
        storage.open_storage(None, tmp_path)
    assert (tmp_path / storage.JOURNAL).read_bytes() == JOURNALS[name]


@pytest.mark.parametrize("content", [b"", b'{"op_code": 0, "wor'])
def test_a_journal_whose_first_line_was_not_finished_is_empty(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / storage.JOURNAL).write_bytes(content)

    assert storage.open_storage(None, tmp_path).get_all_studies() == []


def test_a_file_in_place_of_the_folder_of_studies(tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("")

    with pytest.raises(UserError, match="studies: expected a folder for studies"):
        storage.open_storage(None, tmp_path)
    with pytest.raises(UserError, match="studies: expected a folder for studies"):
        storage.Worker(tmp_path)
