"""What is here, what is not, and what to do about it: quickly, and without changing anything."""

import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from configparser import ConfigParser, Error
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import distributions, requires, version
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

import duvae
from duvae import config
from duvae.config import Params, path_in_folder
from duvae.errors import UserError
from duvae.project import job_list
from duvae.project.provenance import commit

FOLDERS = ("data", "models", "posteriors", "generated", "results", "reports", "checkpoints", "pipelines")
"""Where stages write."""

TOO_FULL, FULL = 200 * 2**20, 2**30
"""Bytes on the disk: below the first nothing can be rebuilt, below the second little."""

PATIENCE = 1.0
"""Seconds that a mirror, or the driver of a GPU, may take to answer."""


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        mark: `ok`; `!`: not there or not right, but Figure 1 can be rebuilt; `x`: it cannot.
        about: What it is about.
        said: What is there.
        remedy: What to do.
    """

    mark: Literal["ok", "!", "x"]
    about: str
    said: str
    remedy: str = ""


def examine(path: Path, root: Path = Path()) -> Iterator[Finding]:
    """Looks at everything in turn.

    Args:
        path: params.yaml.
        root: The project's folder.
    """
    yield from software(root)
    yield devices()
    params, found = parameters(path)
    yield found
    yield from repository(root)
    if params:
        yield jobs(params, root)
        for dataset in dict.fromkeys(job.dataset for job in params.jobs()):
            yield prepared(params, dataset, root)
        yield mirror(params)
    yield from disk(root)
    yield lock(root)
    yield from trainings(params, root)
    yield leftovers(root)
    yield store(root)


# ---------------------------------------------------------------------------------- what runs


def software(root: Path) -> Iterator[Finding]:
    """Python, the project's own version, its packages, and the commands that the graph calls."""
    yield Finding("ok", "Python", f"{platform.python_version()}, {sys.prefix}")
    here, made = Path(duvae.__file__).resolve(), commit(root)
    dirty = ", with uncommitted changes" if made["dirty"] else ""
    said = f"{version('duvae')}, commit {made['commit'][:7]}{dirty}" if made["commit"] else version("duvae")
    if (root / "src/duvae").is_dir() and not here.is_relative_to(root.resolve()):
        yield Finding("!", "duvae", f"{said}, but {here.parent} runs", "'make environment' installs this folder's own")
    else:
        yield Finding("ok", "duvae", said)
    yield packages(root)
    lacking = [name for name in ("duvae", "dvc") if shutil.which(name) is None]
    if lacking:
        remedy = "'source .venv/bin/activate', or 'make', which does it"
        yield Finding("x", "commands", f"no {' and no '.join(lacking)} on the PATH", remedy)


def packages(root: Path) -> Finding:
    """What is installed, beside what requirements.lock says and what Figure 1 cannot do without."""
    installed = {_canonical(found.metadata["Name"]): found.version.partition("+")[0] for found in distributions()}
    needed = [
        line for line in requires("duvae") or [] if "extra ==" not in line or "pipeline" in line.split("extra")[1]
    ]
    lacking = [name for line in needed if (name := _canonical(_name(line))) not in installed]
    if lacking:
        return Finding("x", "packages", f"{_some(lacking)} not installed", "'make environment' installs them")
    torch = f"torch {version('torch')}"
    if not (root / "requirements.lock").is_file():
        return Finding("ok", "packages", f"{torch}; no requirements.lock here to compare with")
    other, total = [], 0
    for line in (root / "requirements.lock").read_text(encoding="utf-8").splitlines():
        pin, _, marker = line.partition(";")
        name, equal, wanted = pin.strip().partition("==")
        found = installed.get(_canonical(name))
        if equal and not line.startswith("#") and (found or not marker):
            total += 1
            if found != wanted:
                other.append(f"{name} {found or 'missing'} ({wanted} in the lock)")
    if other:
        return Finding("!", "packages", f"{torch}; {_some(other)}", "'make environment' installs the lock's")

    return Finding("ok", "packages", f"{torch}; {total} packages as in requirements.lock")


def devices() -> Finding:
    """CPU threads, and GPUs as their driver names them: asking torch would take seconds."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cpu = f"{count} CPU thread{'s' if count > 1 else ''}"
    asked = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return Finding("ok", "devices", f"{cpu}; no GPU")
    gpus = f"{cpu}; {'; '.join(' '.join(row.split()) for row in done.stdout.splitlines())}"
    if version("torch").endswith("+cpu"):
        return Finding("!", "devices", gpus, "torch is a build for CPUs: install one for CUDA to use the GPU")

    return Finding("ok", "devices", gpus)


# ---------------------------------------------------------------------------------- what is to be rebuilt


def parameters(path: Path) -> tuple[Params | None, Finding]:
    """The parameters, where they can be read."""
    try:
        params = config.load(path)
    except UserError as error:
        first, *more = str(error).splitlines()
        also = f" (and {len(more)} more)" if more else ""
        return None, Finding("x", "parameters", f"{first}{also}", "correct the file; docs/parameters.md explains it")

    return params, Finding(
        "ok", "parameters", f"{path}: {len(params.datasets)} data sets, {len(params.settings)} settings"
    )


def repository(root: Path) -> Iterator[Finding]:
    """Whether this is a folder that DVC can work in."""
    lacking = [name for name in ("dvc.yaml", ".dvc") if not (root / name).exists()]
    if lacking:
        yield Finding(
            "x", "project", f"no {' and no '.join(lacking)} in {root.resolve()}", "change to the project's folder"
        )
    elif commit(root)["commit"] is None:
        remedy = "clone it, or 'git init' and a first commit"
        yield Finding("x", "project", "no git repository, without which dvc does not work", remedy)


def jobs(params: Params, root: Path) -> Finding:
    """The list that DVC's graph runs over."""
    try:
        job_list.check(params, root / job_list.JOBS)
    except UserError as error:
        why = str(error).partition(": ")[2].partition(",")[0].partition(".")[0]
        return Finding("x", "jobs", f"{job_list.JOBS} is {why}", "'duvae graph' writes it")

    return Finding("ok", "jobs", f"{job_list.JOBS} is up to date: {len(params.jobs())} trainings")


def prepared(params: Params, dataset: str, root: Path) -> Finding:
    """How far a data set has come."""
    chosen, said = params.dataset(dataset), []
    fetched = True
    if chosen.source.paths:
        wanted = [root / "data/raw" / dataset / path_in_folder(path) for path in chosen.source.paths]
        there = sum(path.exists() for path in wanted)
        fetched = there == len(wanted)
        said.append(f"{there} of {len(wanted)} files")
    ready = (root / "data/prepared" / dataset / "summary.json").is_file()
    valid = (root / "data/validated" / f"{dataset}.json").is_file()
    said += ["prepared" if ready else "not prepared", "validated" if valid else "not validated"]
    if fetched and ready and valid:
        return Finding("ok", dataset, ", ".join(said))
    remedy = (
        "'dvc repro' does it" if fetched else f"'dvc repro', or 'duvae fetch --dataset {dataset}' for the files alone"
    )

    return Finding("!", dataset, ", ".join(said), remedy)


def mirror(params: Params) -> Finding:
    """The place that data sets' files are looked for first."""
    named = os.environ.get("DUVAE_MIRROR")
    published = [params.dataset(job.dataset) for job in params.jobs()]
    paths = list(dict.fromkeys(path for of in published if of.kind != "images" for path in of.source.paths))
    if not named:
        what = "none; files come from where they were published" if paths else "none, and no data set here needs one"
        return Finding("ok", "mirror", what)
    correct = "correct the environment variable DUVAE_MIRROR"
    if named.startswith(("http://", "https://")):
        try:
            with urllib.request.urlopen(urllib.request.Request(named, method="HEAD"), timeout=PATIENCE):  # noqa: S310
                pass
        except urllib.error.HTTPError:
            pass  # it answers, though not for this address
        except (OSError, ValueError) as error:
            return Finding("!", "mirror", f"{named} does not answer ({getattr(error, 'reason', error)})", correct)
        return Finding("ok", "mirror", f"{named} answers")
    if not Path(named).is_dir():
        return Finding("!", "mirror", f"{named} is no folder", correct)
    there = sum((Path(named) / path).is_file() for path in paths)

    return Finding("ok", "mirror", f"{named}" + (f": {there} of {len(paths)} files" if paths else ""))


# ---------------------------------------------------------------------------------- what is kept


def disk(root: Path) -> Iterator[Finding]:
    """DVC's cache, and the room that is left."""
    cache = _cache(root)
    kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) if cache.is_dir() else 0
    yield Finding("ok", "cache", f"{cache}, {_bytes(kept)}" if cache.is_dir() else f"{cache}, empty")
    free = shutil.disk_usage(root).free
    said = f"{_bytes(free)} free"
    if not os.access(root, os.W_OK):
        yield Finding("x", "disk", f"{root.resolve()} cannot be written to", "allow it, or copy the project elsewhere")
    elif free < FULL:
        remedy = "make room; 'dvc gc --workspace' drops what no result here needs from the cache"
        yield Finding("x" if free < TOO_FULL else "!", "disk", said, remedy)
    else:
        yield Finding("ok", "disk", said)


def _cache(root: Path) -> Path:
    """DVC's cache: the one that its settings name, a path there being relative to their folder."""
    named = ""
    for name in ("config", "config.local"):
        known = ConfigParser(interpolation=None)
        try:
            known.read(root / ".dvc" / name, encoding="utf-8")
        except (Error, OSError, UnicodeDecodeError):
            continue  # dvc itself says what is wrong there
        named = known.get("cache", "dir", fallback=named).strip("'\"")

    return root / ".dvc" / (named or "cache")


def lock(root: Path) -> Finding:
    """Who holds DVC's lock on the files."""
    path = root / ".dvc/tmp/rwlock"
    if not path.exists():
        return Finding("ok", "lock", "free")
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        infos = [*held.get("write", {}).values(), *(info for infos in held.get("read", {}).values() for info in infos)]
        holders = {int(info["pid"]): str(info["cmd"]) for info in infos}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        remedy = f"once no dvc runs: 'rm {path}'"
        return Finding("x", "lock", f"{path} is broken: dvc was killed while it wrote it", remedy)
    alive = [pid for pid in holders if _runs(pid)]
    if alive:
        return Finding("!", "lock", f"held by process {alive[0]}: {holders[alive[0]]}", "wait until it has ended")

    return Finding("ok", "lock", "held by processes that are gone; dvc frees it" if holders else "free")


def trainings(params: Params | None, root: Path) -> Iterator[Finding]:
    """Trainings that were interrupted, and what goes on with them."""
    kept = sorted((root / "checkpoints").glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
    if not kept:
        yield Finding("ok", "trainings", "none was interrupted")
    known: set[tuple[str, ...]] = set()
    for path in kept:
        named, state = re.fullmatch(r"(\w+)-(\w+)-(\d+)\.\w+\.safetensors", path.name), _state(path)
        if named is None or state is None:
            yield Finding("!", "trainings", f"{path} cannot be read", f"its training starts anew; 'rm {path}'")
            continue
        dataset, setting, seed = named.groups()
        epoch, of = state["epoch"] + 1, ""
        if params and dataset in params.datasets and setting in params.settings:
            epochs = params.optimisation(setting, dataset).epochs
            epoch, of = min(epoch, epochs), f" of {epochs}"
        ago = time.time() - path.stat().st_mtime
        said = f"{dataset}-{setting}-{seed}: in epoch {epoch}{of}, {_ago(ago)}"
        if named.groups() in known:
            yield Finding("!", "trainings", f"{said}, of other parameters or another version", f"'rm {path}'")
        elif params and ago < 2 * params.checkpoint_seconds:
            yield Finding("ok", "trainings", f"{said}: it goes on at the moment, or has just been stopped")
        else:
            command = f"duvae train --dataset {dataset} --setting {setting} --seed {seed}"
            remedy = f"'{command}' or 'dvc repro' goes on from there, if nothing that it depends on has changed"
            yield Finding("!", "trainings", said, remedy)
        known.add(named.groups())


def _state(path: Path) -> dict[str, Any] | None:
    """The state of a training, from the header of its file; None for a file that cannot be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            state = json.loads(file.metadata()["values"])["state"]
        return state if isinstance(state["epoch"], int) else None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def leftovers(root: Path) -> Finding:
    """What killed stages left unfinished."""
    found = [path for name in FOLDERS for path in (root / name).rglob(".*.part")]
    found = [path for path in found if not any(above in found for above in path.parents)]
    if not found:
        return Finding("ok", "leftovers", "none")
    files = [file for path in found for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    said = (
        f"{len(found)} unfinished, {_bytes(sum(file.stat().st_size for file in files))}: {_some(list(map(str, found)))}"
    )
    folders = " ".join(name for name in FOLDERS if (root / name).is_dir())
    remedy = f"once nothing runs: 'find {folders} -name \".*.part\" -prune -exec rm -r {{}} +'"

    return Finding("!", "leftovers", said, remedy)


def store(root: Path) -> Finding:
    """MLflow's runs."""
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if named:
        return Finding("ok", "MLflow", f"{named}, as MLFLOW_TRACKING_URI says; not opened")
    path = root / "mlflow.db"
    if not path.exists():
        return Finding("!", "MLflow", "no mlflow.db yet", "'duvae track' fills it")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=PATIENCE)) as database:
            ((count,),) = database.execute("select count(*) from runs where lifecycle_stage = 'active'")
    except sqlite3.Error as error:
        return Finding(
            "!", "MLflow", f"{path} cannot be read ({error})", f"'rm {path}', then 'duvae track' fills it again"
        )

    return Finding("ok", "MLflow", f"{path}, {count} runs; 'mlflow ui' shows them")


# ---------------------------------------------------------------------------------- in words


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def _some(names: Sequence[str], most: int = 3) -> str:
    """The first few, and how many more there are."""
    more = [f"{len(names) - most} more"] if len(names) > most else []

    return ", ".join([*names[:most], *more])


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024

    return f"{count:.1f} GiB"


def _ago(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds / length)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"

    return "just now"


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True  # somebody else's
    except (OSError, OverflowError):
        return False

    return process > 0
