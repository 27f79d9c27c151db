"""`duvae doctor` on projects with one fault: it names the fault and a remedy."""

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import tiny
from duvae import cli, config
from duvae.project import doctor, gpus, installed, job_list, local_store, merge_conflicts, provenance
from duvae.project.doctor import Finding
from duvae.training.checkpoints import Checkpoint, Snapshot
from duvae.training.state import State
from made_up_gpus import LISTED, LOST, no_driver, nvidia_smi, row
from serving import Server, serve
from test_cli import HEAVY

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Here:
    """A project that a test may change."""

    root: Path
    patch: pytest.MonkeyPatch

    def find(self, topic: str) -> Finding:
        """The only finding of a topic."""
        findings = doctor.examine(self.root / "params.yaml", self.root)
        (finding,) = [finding for finding in findings if finding.topic == topic]

        return finding

    def write(self, path: str, content: str = "") -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")

        return target


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete project with a synthetic data set and one with files."""
    root = tmp_path_factory.mktemp("sound")
    tiny.write(root / "params.yaml", datasets=["synthetic", "short_yelp"], settings=["vae"])
    params = config.load(root / "params.yaml")
    job_list.write(params, root / job_list.JOBS)
    (root / ".dvc").mkdir()
    for name in ("dvc.yaml", ".dvc/config", "requirements.lock"):
        shutil.copy(ROOT / name, root / name)
    files = [f"raw/short_yelp/{path}" for path in params.datasets["short_yelp"].source.paths]
    for dataset in ("synthetic", "short_yelp"):
        files += [f"prepared/{dataset}/summary.json", f"validated/{dataset}.json"]
    for name in files:
        (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / name).write_text("{}")
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        for table in ("runs (lifecycle_stage text)", "experiments (name text)", "alembic_version (version_num text)"):
            database.execute(f"create table {table}")
        database.execute("insert into alembic_version values (?)", [local_store.newest_schema()])
        database.executemany("insert into runs values (?)", [("active",), ("active",), ("deleted",)])
        database.commit()
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for arguments in (["init", "--quiet"], ["add", "params.yaml"], [*who, "commit", "--quiet", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)

    return root


@pytest.fixture
def here(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    root = tmp_path / "project"
    shutil.copytree(sound, root)
    monkeypatch.chdir(root)
    for name in ("DUVAE_MIRROR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    return Here(root, monkeypatch)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as server:
        yield server


def call(here: Here) -> int:
    here.patch.setattr(sys, "argv", ["duvae", "doctor"])
    with pytest.raises(SystemExit) as leaving:
        cli.main()

    return int(leaving.value.code or 0)


# ------------------------------------------------------------------- the whole


def test_a_sound_project_is_sound(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in here.root.rglob("*") if path.is_file()}

    assert call(here) == 0

    output = capsys.readouterr().out
    marks = [line.split()[0] for line in output.split("\n\n")[0].splitlines()]
    assert len(marks) < 24, "more than a screen"
    assert set(marks) == {"ok"}, output
    assert output.endswith("Everything that 'dvc repro figure1' needs is here.\n")
    assert "mlflow.db, 2 runs" in output
    assert {path: path.read_bytes() for path in here.root.rglob("*") if path.is_file()} == before


def test_a_warning_is_no_failure(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(here.root / "data")

    assert call(here) == 0
    assert "  !  synthetic             not prepared, not validated. Run 'dvc repro'" in capsys.readouterr().out


def test_an_obstacle_is_a_failure(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    (here.root / job_list.JOBS).unlink()

    assert call(here) == 1
    output = capsys.readouterr().out
    assert "  x  jobs                  pipelines/jobs.yaml is not there. Run 'duvae graph', which writes it" in output
    assert output.endswith("'dvc repro figure1' needs them.\n")


def test_it_is_light(here: Here) -> None:
    code = (
        "import json, sys\nfrom duvae.cli import main\nsys.argv = ['duvae', 'doctor']\n"
        "try:\n    main()\nexcept SystemExit:\n    print('\\n' + json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert not {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])} & HEAVY


# ------------------------------------------------------------------- one thing after another

Usage = namedtuple("Usage", "total used free")
REFUSED = "http://127.0.0.1:9"


def gone(path: str) -> Callable[[Here], object]:
    def spoil(here: Here) -> None:
        target = here.root / path
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()

    return spoil


def named(name: str, value: str) -> Callable[[Here], object]:
    return lambda here: here.patch.setenv(name, value)


def held(pid: int) -> Callable[[Here], object]:
    info = {"pid": pid, "cmd": "dvc repro figure1"}

    return lambda here: here.write(".dvc/tmp/rwlock", json.dumps({"write": {"a": info}, "read": {"b": [info]}}))


def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    return process.pid


def refused(_: Path) -> Path:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), ".dvc")


def nvidia(here: Here) -> None:
    nvidia_smi(here.patch, here.root / "bin", row(0))
    here.patch.setattr(gpus, "torch_without_cuda", lambda: "2.13.0+cpu")


SPOILT = {
    "broken parameters": (
        lambda here: here.write("params.yaml", "run: 1"),
        *("parameters", "x", "expected a mapping; found 1 (and ", "correct the file"),
    ),
    "no parameters": (gone("params.yaml"), "parameters", "x", "not there", "correct the file"),
    "a stale list of jobs": (
        lambda here: tiny.write(here.root / "params.yaml", seeds=[1, 2]),
        *("jobs", "x", "out of date", "'duvae graph'"),
    ),
    "another folder": (gone("dvc.yaml"), "project", "x", "no dvc.yaml", "change to the project's folder"),
    "no DVC": (gone(".dvc"), "project", "x", "no .dvc", "change to the project's folder"),
    "no program git": (
        lambda here: here.patch.setattr(shutil, "which", lambda name: None if name == "git" else name),
        *("project", "x", "no git on the PATH", "install git"),
    ),
    "a merge conflict": (
        lambda here: here.write("params.yaml", "a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> other\n"),
        *("merge", "x", "git left a merge conflict in params.yaml, line 2", "resolve it"),
    ),
    "a lock that is no text": (
        lambda here: (here.root / "requirements.lock").write_bytes(b"numpy==1\xff\n"),
        *("packages", "x", "a file cannot be read ('utf-8' codec", "its content"),
    ),
    "a cache that this user may not open": (
        lambda here: here.patch.setattr(doctor, "cache_folder", refused),
        *("cache", "x", "a file cannot be read ([Errno 13] Permission denied: '.dvc')", "permissions"),
    ),
    "a store that this user may not read": (
        lambda here: (here.write("mlflow.db", "no database"), here.patch.setattr(os, "access", lambda *_: False)),
        *("MLflow", "!", "cannot be read (no permission)", "correct its permissions"),
    ),
    "no git": (gone(".git"), "project", "x", "no git repository", "git init"),
    "no dvc on the path": (
        lambda here: here.patch.setattr(shutil, "which", lambda name: None if name == "dvc" else name),
        *("commands", "x", "no dvc on the PATH", "source .venv/bin/activate"),
    ),
    "another project's duvae": (
        lambda here: (here.root / "src/duvae").mkdir(parents=True),
        *("duvae", "!", "but the package that runs is", "make environment"),
    ),
    "a package is missing": (
        lambda here: here.patch.setattr(
            installed, "requires", lambda _: ["numpy<3", "not-there<3; extra == 'pipeline'", "nor-that; extra == 'dev'"]
        ),
        *("packages", "x", "not-there not installed", "make environment"),
    ),
    "another version": (
        lambda here: here.write("requirements.lock", "# pins\nnumpy==0.1\nnot-there==1 ; python_version < '3'\n"),
        *("packages", "!", "numpy 2", "make environment"),
    ),
    "a version of neither line": (
        lambda here: here.write("requirements.lock", "numpy==0.1 ; python_version < '3'\nnumpy==0.2 ; sys_platform\n"),
        *("packages", "!", "(0.1 or 0.2 in the lock)", "make environment"),
    ),
    "one of the lock's is missing": (
        lambda here: here.write("requirements.lock", "not-there==1\n"),
        *("packages", "!", "not-there missing (1 in the lock)", "make environment"),
    ),
    "a GPU that torch cannot use": (nvidia, "devices", "!", "NVIDIA H100 80GB HBM3, 81559 MiB", "for CUDA"),
    "a lost GPU": (
        lambda here: nvidia_smi(here.patch, here.root / "bin", row(1), LOST, code=15),
        *("devices", "!", "81559 MiB; nvidia-smi says: Unable to determine", "reset the GPU"),
    ),
    "a driver that hangs": (
        lambda here: (
            nvidia_smi(here.patch, here.root / "bin", end="exec sleep 100"),
            here.patch.setattr(doctor, "DRIVER_PATIENCE", 0.2),
        ),
        *("devices", "!", "no GPU; nvidia-smi gave no answer within 0.2 seconds", "--devices cpu"),
    ),
    "files that were not fetched": (
        lambda here: (here.root / "data/raw/short_yelp/short_yelp/vocab.txt").unlink(),
        *("short_yelp", "!", "8 of 9 files, prepared, validated", "'duvae fetch --dataset short_yelp'"),
    ),
    "data that were not validated": (
        gone("data/validated/synthetic.json"),
        *("synthetic", "!", "prepared, not validated", "'dvc repro'"),
    ),
    "a mirror that is not there": (
        named("DUVAE_MIRROR", "nowhere"),
        *("mirror", "!", "nowhere is no folder", "DUVAE_MIRROR"),
    ),
    "a mirror that refuses": (
        named("DUVAE_MIRROR", REFUSED),
        *("mirror", "!", f"{REFUSED} does not answer", "DUVAE_MIRROR"),
    ),
    "a full disk": (
        lambda here: here.patch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 2**40 - 2**27, 2**27)),
        *("disk", "x", "134.2 MB free", "make room"),
    ),
    "a disk that is nearly full": (
        lambda here: here.patch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 2**40 - 2**29, 2**29)),
        *("disk", "!", "536.9 MB free", "make room"),
    ),
    "a folder that cannot be written to": (
        lambda here: here.patch.setattr(os, "access", lambda *_: False),
        *("disk", "x", "cannot be written to", "permissions"),
    ),
    "a lock that is held": (held(os.getpid()), "lock", "!", f"held by process {os.getpid()}: dvc repro", "wait"),
    "a broken lock": (lambda here: here.write(".dvc/tmp/rwlock", '{"wri'), "lock", "x", "is broken", "rm "),
    "a broken state": (
        lambda here: here.write("checkpoints/synthetic-vae-1.abc.safetensors", "half"),
        *("trainings", "!", "cannot be read", "rm "),
    ),
    "leftovers": (
        lambda here: (here.write("models/a/.x.part", "1234"), here.write("data/prepared/.own.b.part/new/c.npy", "12")),
        *("leftovers", "!", "2 unfinished, 6 bytes", "no stage runs, then run 'find data models pipelines -name"),
    ),
    "no store": (gone("mlflow.db"), "MLflow", "!", "no mlflow.db yet", "'duvae track'"),
    "a broken store": (
        lambda here: here.write("mlflow.db", "no database"),
        *("MLflow", "!", "cannot be read", "'duvae track', which fills it again"),
    ),
    "a half-made store": (
        lambda here: (here.root / "mlflow.db").write_bytes(b""),
        *("MLflow", "!", "is half-made: a command was killed", "run 'duvae track'"),
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_problem_has_a_finding_and_a_remedy(what: str, here: Here) -> None:
    spoil, topic, status, message, remedy = SPOILT[what]
    spoil(here)
    finding = here.find(topic)

    assert finding.status == status
    assert message in finding.message
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("change", "topic", "message"),
    [
        (gone("requirements.lock"), "packages", "no requirements.lock here"),
        (lambda here: no_driver(here.patch, here.root / "data"), "devices", "no GPU"),
        (lambda here: nvidia_smi(here.patch, here.root / "bin", row(0, "Enabled"), listed=LISTED), "devices", "in MIG"),
        (held(ended()), "lock", "held by processes that have ended; dvc frees it"),
        (lambda here: here.write(".dvc/tmp/rwlock", "{}"), "lock", "free"),
        (named("MLFLOW_TRACKING_URI", REFUSED), "MLflow", f"{REFUSED} from MLFLOW_TRACKING_URI; not opened"),
        (lambda here: here.write("cache/files/md5/ab/c", "x" * 2000), "cache", ".dvc/cache, empty"),
        (
            lambda here: (
                here.write(".dvc/config.local", "[cache]\n    dir = ../cache\n"),
                here.write("cache/files/md5/ab/c", "x" * 2048),
            ),
            *("cache", "cache, 2.0 kB"),
        ),
    ],
)
def test_a_sound_state_has_a_finding(change: Callable[[Here], object], topic: str, message: str, here: Here) -> None:
    change(here)
    finding = here.find(topic)

    assert finding.status == "ok"
    assert finding.remedy == ""
    assert message in finding.message


def test_mirrors_that_can_be_opened(here: Here, server: Server) -> None:
    assert "from their publishers" in here.find("mirror").message
    here.write("mirror/short_yelp/vocab.txt")
    here.patch.setenv("DUVAE_MIRROR", "mirror")
    assert here.find("mirror") == Finding("ok", "mirror", "mirror: 1 of 9 files")
    here.patch.setenv("DUVAE_MIRROR", server.url)  # the server answers, with 404
    assert here.find("mirror") == Finding("ok", "mirror", f"{server.url} answers")


def test_interrupted_trainings(here: Here) -> None:
    now = time.time()

    def saved(minutes: int) -> str:
        return f"saved {datetime.fromtimestamp(now - 60 * minutes - 1):%Y-%m-%d %H:%M}"  # noqa: DTZ006

    def keep(name: str, epoch: int, minutes: int) -> None:
        path = here.root / "checkpoints" / f"{name}.safetensors"
        values = {"state": asdict(State(1.0, epoch=epoch)), "loop": {}}
        Checkpoint(path, 0.0).save(Snapshot({"a": torch.zeros(3)}, values))
        then = now - 60 * minutes - 1
        os.utime(path, (then, then))

    keep("synthetic-du_vae-1.0123456789abcdef", 1, 5)
    keep("synthetic-vae-2.0123456789abcdef", 3, 0)
    keep("synthetic-du_vae-1.fedcba9876543210", 0, 600)
    findings = [f for f in doctor.examine(here.root / "params.yaml", here.root) if f.topic == "trainings"]

    assert [(f.status, f.message.partition(", ")[0]) for f in findings] == [
        ("ok", "synthetic-vae-2: in epoch 3 of 3"),
        ("!", "synthetic-du_vae-1: in epoch 2 of 3"),
        ("!", "synthetic-du_vae-1: in epoch 1 of 3"),
    ]
    assert "it is running" in findings[0].message
    assert findings[1].message.endswith(saved(5))
    assert (
        "'duvae train --dataset synthetic --setting du_vae --seed 1' or 'dvc repro' to resume it" in findings[1].remedy
    )
    assert findings[2].message.endswith(f"{saved(600)}, with other parameters or another version of the code")
    assert findings[2].remedy.startswith("run 'rm ")


def test_a_repository_of_another_user_is_not_called_missing(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """git can be told to take the owner for another user, as in a container or on a shared disk."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    (finding,) = [each for each in doctor.examine(here.root / "params.yaml", here.root) if each.topic == "project"]

    assert "belongs to another user" in finding.message
    assert f"git config --global --add safe.directory {here.root.resolve()}" in finding.remedy

    monkeypatch.chdir(here.root)
    provenance.Stopwatch("train", "vae").write(here.root / "train.run.json")
    assert "the record has no commit" in capsys.readouterr().err


def test_each_file_with_a_merge_conflict_is_named_once(tmp_path: Path) -> None:
    """Names with a colon or other letters are whole. The marks of a text that shows a conflict are indented."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    conflict = "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> other\n"
    for name, text in (("\u00fc:1.txt", f"a\n{conflict}"), ("b.txt", conflict), ("c.md", "    <<<<<<< HEAD\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    subprocess.run(["git", "add", "--all"], cwd=tmp_path, check=True)
    (tmp_path / "not held by git.txt").write_text(conflict, encoding="utf-8")

    assert sorted(merge_conflicts.find(tmp_path)) == ["b.txt, line 1", "\u00fc:1.txt, line 2"]


def test_a_package_may_have_a_version_for_each_python(tmp_path: Path) -> None:
    lines = f"numpy==0.1 ; python_version < '3'\nnumpy=={version('numpy')} ; python_version >= '3'\n"
    (tmp_path / "requirements.lock").write_text(lines, encoding="utf-8")

    assert doctor.packages(tmp_path).endswith("; 1 packages as in requirements.lock")
