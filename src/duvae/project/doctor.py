"""Runs the checks of the command `duvae doctor`.

The checks find whatever the user still needs in order to rebuild the results, and say how to provide it. The checks are
quick and change nothing. They import neither torch nor DVC, because each import would take seconds. So the program
`nvidia-smi` lists the GPUs, and this module reads DVC's files itself.
"""

import json
import os
import platform
import re
import shutil
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.filesize import decimal
from safetensors import SafetensorError, safe_open

import duvae
from duvae import config
from duvae.config import Params, path_in_folder
from duvae.errors import UserError, without_passwords
from duvae.project import gpus, installed, job_list, local_store, merge_conflicts
from duvae.project.earlier_outputs import cache_folder
from duvae.project.provenance import commit, owned_by_another, trust

OUTPUT_FOLDERS = ("data", "models", "posteriors", "generated", "results", "reports", "checkpoints", "pipelines")
"""Folders of the project into which the stages of dvc.yaml write."""

DISK_FULL, DISK_LOW = 200_000_000, 1_000_000_000
"""Limits of the free space on the disk, in bytes.

With less than `DISK_FULL`, nothing can be rebuilt. With less than `DISK_LOW`, only few results can be rebuilt.
"""

PATIENCE = 1.0
"""Seconds to wait for an answer from a mirror or a database."""

DRIVER_PATIENCE = 10.0
"""Seconds to wait for an answer from the driver of the GPUs, which may have to wake them up."""


@dataclass(frozen=True)
class Finding:
    """One line of the report that `duvae doctor` prints.

    Attributes:
        status: Result of the check. `ok`: no problem; `!`: a problem, but Figure 1 of the paper can be rebuilt; `x`:
            Figure 1 cannot be rebuilt.
        topic: Subject of the check, such as `disk`.
        message: Description of the state that the check found.
        remedy: Advice on how to solve the problem; empty for `ok`.
    """

    status: Literal["ok", "!", "x"]
    topic: str
    message: str
    remedy: str = ""


class Problem(Exception):
    """Raised by a check that fails; its two arguments are the message and the remedy of the `Finding`."""


class Obstacle(Problem):
    """A problem because of which Figure 1 cannot be rebuilt."""


def examine(path: Path, root: Path = Path()) -> Iterator[Finding]:
    """Runs all checks, one after the other.

    Args:
        path: The file of parameters, params.yaml.
        root: Folder of the project, which has params.yaml and dvc.yaml.

    Yields:
        The findings, one for each line of the report.
    """
    yield Finding("ok", "Python", f"{platform.python_version()}, {sys.prefix}")
    yield from _check("duvae", source, root)
    yield from _check("packages", packages, root)
    yield from _check("commands", commands)
    yield from _check("devices", devices)
    params: Params | None = None
    try:
        params = config.load(path)
        counts = f"{len(params.datasets)} data sets, {len(params.settings)} settings"
        yield Finding("ok", "parameters", f"{path}: {counts}")
    except UserError as error:
        first, *more = str(error).removesuffix(" Correct the file.").splitlines()
        message = first + (f" (and {len(more)} more)" if more else "")
        yield Finding("x", "parameters", message, "correct the file; docs/parameters.md explains it")
    yield from _check("project", repository, root)
    yield from _check("merge", conflicts, root)
    if params:
        yield from _check("jobs", jobs, params, root)
        for dataset in dict.fromkeys(job.dataset for job in params.jobs()):
            yield from _check(dataset, prepared, params, dataset, root)
        yield from _check("mirror", mirror, params)
    yield from _check("cache", cache, root)
    yield from _check("disk", disk, root)
    yield from _check("lock", lock, root)
    yield from trainings(params, root)
    yield from _check("leftovers", leftovers, root)
    yield from _check("MLflow", store, root)


def _check(topic: str, check: Callable[..., str], *arguments: Any) -> Iterator[Finding]:
    """Runs one check, and turns its result into a finding.

    Args:
        topic: Subject of the check.
        check: Function that returns a description of the state, or raises a `Problem`. An empty description gives no
            finding.
        arguments: Arguments of the function.

    Yields:
        The finding, if there is one.
    """
    try:
        if message := check(*arguments):
            yield Finding("ok", topic, without_passwords(message))
    except Problem as problem:
        yield Finding("x" if isinstance(problem, Obstacle) else "!", topic, *map(without_passwords, problem.args))
    except (OSError, UnicodeDecodeError) as error:
        yield Finding("x", topic, f"a file cannot be read ({error})", "correct its permissions or its content")


def source(root: Path) -> str:
    """Finds the version of the project, and checks that the running package `duvae` is the one in the folder `root`."""
    package, head = Path(duvae.__file__).resolve(), commit(root)
    dirty = ", with uncommitted changes" if head["dirty"] else ""
    message = version("duvae") + (f", commit {head['commit'][:7]}{dirty}" if head["commit"] else "")
    if (root / "src/duvae").is_dir() and not package.is_relative_to(root.resolve()):
        raise Problem(
            f"{message}, but the package that runs is {package.parent}",
            "run 'make environment' to install the package of this folder",
        )
    return message


def packages(root: Path) -> str:
    """Checks that all packages that duvae requires are installed, in the versions of the file requirements.lock."""
    if missing := installed.missing():
        raise Obstacle(f"{_list(missing)} not installed", "run 'make environment' to install them")
    torch, path = f"torch {version('torch')}", root / "requirements.lock"
    if not path.is_file():
        return f"{torch}; no requirements.lock here to compare with"
    count, others = installed.compare(path)
    if others:
        raise Problem(f"{torch}; {_list(others)}", "run 'make environment' to install the versions of the lock")
    return f"{torch}; {count} packages as in requirements.lock"


def commands() -> str:
    """Checks that the shell finds `duvae` and `dvc`, the commands that a rebuild calls."""
    if missing := [name for name in ("duvae", "dvc") if shutil.which(name) is None]:
        remedy = "run 'source .venv/bin/activate'; 'make' does this by itself"
        raise Obstacle(f"no {' and no '.join(missing)} on the PATH", remedy)
    return ""


def devices() -> str:
    """Counts the CPU threads, and lists the GPUs. If there are GPUs, checks that all of them and torch can be used."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = gpus.inventory(DRIVER_PATIENCE)
    names = [f"{gpu.model}, {gpu.memory} MiB" + (" in MIG mode" if gpu.mig else "") for gpu in found.gpus]
    message = "; ".join([f"{count} CPU thread{'s' if count > 1 else ''}", *(names or ["no GPU"]), *found.problems])
    if found.problems:
        raise Problem(message, "reset the GPU, reload its driver or restart the machine; the CPU works: --devices cpu")
    if names and (torch := gpus.torch_without_cuda()):
        raise Problem(message, f"the installed torch {torch} is built without CUDA: install a build for CUDA")
    return message


def repository(root: Path) -> str:
    """Checks that the folder is a DVC project in a git repository with a commit."""
    if missing := [name for name in ("dvc.yaml", ".dvc") if not (root / name).exists()]:
        message = f"no {' and no '.join(missing)} in {root.resolve()}"
        raise Obstacle(message, "change to the project's folder")
    if shutil.which("git") is None:
        raise Obstacle("no git on the PATH, which DVC needs", "install git")
    if owned_by_another(root):
        message = "the repository belongs to another user, so git refuses to read it"
        raise Obstacle(message, f"run '{trust(root)}'")
    if commit(root)["commit"] is None:
        remedy = "clone the project, or run 'git init' and make a first commit"
        raise Obstacle("no git repository with a commit, which DVC needs", remedy)
    return ""


def conflicts(root: Path) -> str:
    """Checks that no file that git holds has the marks of a merge conflict, with which it is broken or wrong."""
    if places := merge_conflicts.find(root):
        raise Obstacle(f"git left a merge conflict in {_list(places)}", "resolve it in an editor")
    return ""


def jobs(params: Params, root: Path) -> str:
    """Checks that pipelines/jobs.yaml, the list of all trainings, agrees with the parameters."""
    try:
        job_list.check(params, root / job_list.JOBS)
    except UserError as error:
        why = re.split(r"[,.]", str(error).partition(": ")[2], maxsplit=1)[0]
        raise Obstacle(f"{job_list.JOBS} is {why}", "run 'duvae graph', which writes it") from error
    return f"{job_list.JOBS} is up to date: {len(params.jobs())} trainings"


def prepared(params: Params, dataset: str, root: Path) -> str:
    """Checks that the stages `fetch`, `prepare` and `validate` have written their files for a data set."""
    files = [root / "data/raw" / dataset / path_in_folder(path) for path in params.dataset(dataset).source.paths]
    present = sum(path.exists() for path in files)
    ready = (root / "data/prepared" / dataset / "summary.json").is_file()
    valid = (root / "data/validated" / f"{dataset}.json").is_file()
    states = [f"{present} of {len(files)} files"] if files else []
    message = ", ".join([*states, "prepared" if ready else "not prepared", "validated" if valid else "not validated"])
    if present == len(files) and ready and valid:
        return message
    fetch = f"; 'duvae fetch --dataset {dataset}' gets only its files" if present < len(files) else ""
    raise Problem(message, f"run 'dvc repro'{fetch}")


def mirror(params: Params) -> str:
    """Finds the mirror where `duvae fetch` looks first for files of data sets, and checks that the mirror answers."""
    url = os.environ.get("DUVAE_MIRROR")
    datasets = [params.dataset(job.dataset) for job in params.jobs()]
    paths = {path for dataset in datasets if dataset.kind != "images" for path in dataset.source.paths}
    if not url:
        return f"none; {'files come from their publishers' if paths else 'no data set here needs one'}"
    remedy = "correct the environment variable DUVAE_MIRROR"
    if url.startswith(("http://", "https://")):
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE).close()  # noqa: S310
        except urllib.error.HTTPError:
            pass  # the host answers, which is enough, although it refuses this address
        except (OSError, ValueError) as error:
            raise Problem(f"{url} does not answer ({getattr(error, 'reason', error)})", remedy) from error
        return f"{url} answers"
    if not Path(url).is_dir():
        raise Problem(f"{url} is no folder", remedy)
    return url + (f": {sum((Path(url) / path).is_file() for path in paths)} of {len(paths)} files" if paths else "")


def cache(root: Path) -> str:
    """Finds the path and the size of DVC's cache, in which DVC keeps results."""
    folder = cache_folder(root)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{folder}, {decimal(size) if folder.is_dir() else 'empty'}"


def disk(root: Path) -> str:
    """Measures the free space on the disk, and checks that the folder can be written to."""
    free = shutil.disk_usage(root).free
    if not os.access(root, os.W_OK):
        remedy = "change its permissions, or copy the project elsewhere"
        raise Obstacle(f"{root.resolve()} cannot be written to", remedy)
    if free < DISK_LOW:
        remedy = "make room; 'dvc gc --workspace' removes the files of the cache that no present result needs"
        raise (Obstacle if free < DISK_FULL else Problem)(f"{decimal(free)} free", remedy)
    return f"{decimal(free)} free"


def lock(root: Path) -> str:
    """Finds the processes that hold the lock by which DVC protects files. The check fails if one of them still runs."""
    path = root / ".dvc/tmp/rwlock"
    if not path.exists():
        return "free"
    try:
        locks = json.loads(path.read_text(encoding="utf-8"))
        holders = [*locks.get("write", {}).values(), *chain.from_iterable(locks.get("read", {}).values())]
        names = {int(holder["pid"]): str(holder["cmd"]) for holder in holders}
        running = [pid for pid in names if psutil.pid_exists(pid)]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        remedy = f"make sure that no dvc runs, then run 'rm {path}'"
        raise Obstacle(f"{path} is broken: dvc was killed while it wrote the file", remedy) from error
    if running:
        raise Problem(f"held by process {running[0]}: {names[running[0]]}", "wait until the process has ended")
    return "held by processes that have ended; dvc frees it" if names else "free"


def trainings(params: Params | None, root: Path) -> Iterator[Finding]:
    """Finds the saved states of interrupted trainings, and the commands that resume these trainings.

    Args:
        params: The project's parameters; None: params.yaml cannot be read.
        root: Folder of the project, which has params.yaml and dvc.yaml.

    Yields:
        One finding per saved state, the newest state first.
    """
    states = sorted((root / "checkpoints").glob("*.safetensors"), key=lambda path: -path.stat().st_mtime)
    seen: set[tuple[str, ...]] = set()
    for path in states:
        yield from _check("trainings", training, params, path, seen)
    if not states:
        yield Finding("ok", "trainings", "none was interrupted")


def training(params: Params | None, path: Path, seen: set[tuple[str, ...]]) -> str:
    """Describes the state of one interrupted training.

    Args:
        params: The project's parameters; None: params.yaml cannot be read.
        path: The file of the training's state.
        seen: Data set, setting (system and its hyperparameters) and seed of each training with a newer state. The
            function adds this training to the set.
    """
    match, epoch = re.fullmatch(r"(\w+)-(\w+)-(\d+)\.\w+\.safetensors", path.name), _epoch(path)
    if match is None or epoch is None:
        raise Problem(f"{path} cannot be read", f"run 'rm {path}'; its training then starts from the beginning")
    dataset, setting, seed = match.groups()
    progress, saved = f"in epoch {epoch}", path.stat().st_mtime
    if params and dataset in params.datasets and setting in params.settings:
        epochs = params.optimisation(setting, dataset).epochs
        progress = f"in epoch {min(epoch, epochs)} of {epochs}"
    message = f"{dataset}-{setting}-{seed}: {progress}, saved {datetime.fromtimestamp(saved):%Y-%m-%d %H:%M}"  # noqa: DTZ006
    if match.groups() in seen:
        raise Problem(f"{message}, with other parameters or another version of the code", f"run 'rm {path}'")
    seen.add(match.groups())
    if params and time.time() - saved < 2 * params.checkpoint_seconds:
        return f"{message}: it is running, or was stopped just now"
    command = f"duvae train --dataset {dataset} --setting {setting} --seed {seed}"
    raise Problem(message, f"run '{command}' or 'dvc repro' to resume it, if nothing that it depends on has changed")


def _epoch(path: Path) -> int | None:
    """Reads which epoch was running when a training's state was saved, counted from 1; None: the file is broken."""
    try:
        with safe_open(path, framework="numpy") as file:
            epoch = json.loads(file.metadata()["values"])["state"]["epoch"]
        return epoch + 1 if isinstance(epoch, int) else None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def leftovers(root: Path) -> str:
    """Finds the unfinished files and folders that stages left behind when they were killed."""
    paths = [path for name in OUTPUT_FOLDERS for path in (root / name).rglob(".*.part")]
    paths = [path for path in paths if not any(parent in paths for parent in path.parents)]
    if not paths:
        return "none"
    size = sum(file.stat().st_size for path in paths for file in (path, *path.rglob("*")) if file.is_file())
    folders = " ".join(name for name in OUTPUT_FOLDERS if (root / name).is_dir())
    remedy = f"make sure that no stage runs, then run 'find {folders} -name \".*.part\" -prune -exec rm -r {{}} +'"
    raise Problem(f"{len(paths)} unfinished, {decimal(size)}: {_list([str(path) for path in paths])}", remedy)


def store(root: Path) -> str:
    """Finds the store in which MLflow keeps its runs. If the store is a local file, counts the runs."""
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return f"{uri} from MLFLOW_TRACKING_URI; not opened"
    path = root / "mlflow.db"
    if not path.exists():
        raise Problem("no mlflow.db yet", "run 'duvae track', which fills it")
    try:
        state = local_store.state(path.resolve(), PATIENCE)
        if state == "half-made":
            raise Problem(f"{path} is half-made: a command was killed while it created it", "run 'duvae track'")
        if state == "of another version":
            remedy = f"run 'mlflow db upgrade sqlite:///{path}', or delete it: 'duvae track' fills it again"
            raise Problem(f"{path} was made by another version of MLflow", remedy)
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=PATIENCE)) as database:
            ((count,),) = database.execute("select count(*) from runs where lifecycle_stage = 'active'")
    except sqlite3.Error as error:
        if not os.access(path, os.R_OK):
            raise Problem(f"{path} cannot be read (no permission)", "correct its permissions") from error
        if "locked" in str(error):
            raise Problem(f"{path} is locked by another process", "wait until the process has ended") from error
        remedy = f"delete {path}, then run 'duvae track', which fills it again"
        raise Problem(f"{path} cannot be read ({error})", remedy) from error
    return f"{path}, {count} runs; 'mlflow ui' shows them"


def _list(names: Sequence[str], most: int = 3) -> str:
    """Joins the first `most` names to a text, and adds how many more names there are."""
    return ", ".join([*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])])
