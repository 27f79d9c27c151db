"""Reads DVC's graph: which stages there are, in which order, and which of them have to run.

The entry of a stage in dvc.lock holds the hashes of the stage's inputs and outputs. DVC's run cache keeps the entries
of earlier runs. The graph collects the entries of all stages that are up to date, are in the run cache, or have run in
this rebuild.

The stages upstream of a stage write its inputs. So their entries give the hashes of the inputs, even if the input files
are missing. With these hashes, the graph can look up a stage in the run cache before the rebuild makes a clone in which
the stage runs.

The public functions of DVC look into the run cache only if the input files are present. Therefore the graph uses some
private functions of DVC.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dvc.dependency import ParamsDependency, param
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.stage.cache import _get_cache_hash
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils.serialize import load_path
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta

from duvae.errors import UserError

Entry = Mapping[str, Any]
"""Entry of a stage in dvc.lock, with the keys `cmd`, `deps`, `params` and `outs`."""


@dataclass(frozen=True)
class Stage:
    """One stage of the graph.

    Attributes:
        name: DVC's address of the stage, such as `train@synthetic-vae-1`.
        upstream: Names of the stages that write the stage's dependencies, which are the stage's inputs.
        inputs: Pairs of paths, one for each dependency that another stage writes. A pair holds the path of the
            dependency, and the path of the output that equals or contains the dependency.
        gathers: Whether the stage depends on a folder into which several stages write. Such a stage needs the outputs
            of all these stages in one folder, so the final `dvc repro` in the project runs it.
    """

    name: str
    upstream: tuple[str, ...]
    inputs: tuple[tuple[str, str], ...]
    gathers: bool

    @property
    def kind(self) -> str:
        """The kind of stage: `train` of `train@synthetic-vae-1`."""
        return self.name.partition("@")[0]


class StageGraph:
    """The graph of a project's stages.

    Args:
        root: The project's folder.
        targets: Stages, kinds of stages (such as `train`) or outputs to rebuild; empty: all stages.

    Attributes:
        dvc_stages: DVC's own objects of all stages of the project, by name of the stage.
        stages: The targets and all stages upstream of them, by name. Each stage comes after the stages upstream of it.
        producers: Pairs, one for each output, by the output's absolute path. A pair holds the name of the stage that
            writes the output, and the output's path in the project.
        writers_below: Names of the stages that write into a folder, by the folder's absolute path.
        parameter_files: Some stages write a file of parameters, which other stages read. The mapping holds the path of
            each such file, by name of the stage that writes it. A rebuild writes these files before it reads the graph.
        entries: Entries of dvc.lock that are known so far, by name of the stage.
        up_to_date: Names of the stages that are known to be up to date in the project.
        unrecorded: Names of the stages in `parameter_files` whose present file is not yet recorded in dvc.lock.

    Raises:
        UserError: If DVC cannot read the project or does not know a target.
    """

    def __init__(self, root: Path, targets: Sequence[str] = ()) -> None:
        try:
            self.repo = Repo(str(root))
            self.repo.index.check_graph()
            self.dvc_stages = {self._name(stage): stage for stage in self.repo.index.stages if stage.cmd}
            chosen = [name for target in targets for name in self._select(target)]
        except (DvcException, LockError) as error:
            raise UserError(f"{root}: DVC cannot read the project ({_text(error)}). Correct it.") from error
        self.producers = {
            out.fs_path: (name, out.def_path) for name, stage in self.dvc_stages.items() for out in stage.outs
        }
        self.writers_below: dict[str, list[str]] = {}
        for out, (producer, _) in self.producers.items():
            for folder in Path(out).parents:
                self.writers_below.setdefault(str(folder), []).append(producer)
        self.parameter_files = dict(
            self.producers[dependency.fs_path]
            for stage in self.dvc_stages.values()
            for dependency in stage.deps
            if isinstance(dependency, ParamsDependency) and dependency.fs_path in self.producers
        )
        stages = {name: self._stage(name) for name in self.dvc_stages}
        self.stages = _ordered(stages, chosen or stages)
        self.entries: dict[str, Entry] = {}
        self.up_to_date: set[str] = set()
        self.unrecorded: set[str] = set()
        self._parsed: dict[str, Any] = {}

    def close(self) -> None:
        """Closes DVC's repository."""
        self.repo.close()

    def _name(self, stage: Any) -> str:
        """The stage's address relative to the project's folder.

        DVC's own property gives the address relative to the current folder.
        """
        path = Path(stage.path).relative_to(self.repo.root_dir).as_posix()

        return str(stage.name) if path == "dvc.yaml" else f"{path}:{stage.name}"

    def _select(self, target: str) -> list[str]:
        """The names of the stages that a target means: one stage, all stages of a kind, or the writer of an output."""
        if target in self.dvc_stages:
            return [target]
        same_kind = [name for name in self.dvc_stages if name.startswith(f"{target}@")]
        if same_kind:
            return same_kind
        try:
            return [self._name(stage) for stage in self.repo.stage.collect(target)]
        except DvcException as error:
            kinds = dict.fromkeys(name.partition("@")[0] for name in self.dvc_stages)
            near = get_close_matches(target, self.dvc_stages if "@" in target else kinds, n=1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise UserError(
                f"{target}: no stage, kind of stage or output of a stage has this name{hint}. Expected a name such as"
                f" {', '.join([*kinds][:3])} or {next(iter(self.dvc_stages), 'report')}; --plan --verbose lists all."
            ) from error

    def _stage(self, name: str) -> Stage:
        upstream, inputs, gathers = [], [], False
        for dependency in self.dvc_stages[name].deps:
            if isinstance(dependency, ParamsDependency):
                if dependency.fs_path in self.producers:
                    upstream.append(self.producers[dependency.fs_path][0])
                continue
            path = Path(dependency.fs_path)
            producer = next((self.producers[str(p)] for p in (path, *path.parents) if str(p) in self.producers), None)
            if producer:
                upstream.append(producer[0])
                inputs.append((dependency.def_path, producer[1]))
                continue
            writers = [writer for writer in self.writers_below.get(str(path), []) if writer != name]
            gathers = gathers or bool(writers)
            upstream += writers

        return Stage(name, tuple(dict.fromkeys(upstream)), tuple(inputs), gathers)

    # ------------------------------------------------------------------ stages that have to run

    def look_up(self, name: str) -> bool:
        """Looks for a stage's entry: first in the project, then in the run cache.

        Args:
            name: Name of a stage. The entries of all stages upstream of it must be known.

        Returns:
            Whether the entry was found. If so, the function has added it to `entries`.

        Raises:
            UserError: If another DVC process has locked the project.
        """
        stage, dvc_stage = self.stages[name], self.dvc_stages[name]
        try:
            with self.repo.lock, self._parameters_parsed_once():
                if name in self.parameter_files:
                    if not dvc_stage.always_changed and dvc_stage.changed():
                        self.unrecorded.add(name)
                    self.entries[name] = {}
                    self.up_to_date.add(name)
                    return True
                if self.up_to_date.issuperset(stage.upstream) and not dvc_stage.changed():
                    self.entries[name] = to_single_stage_lockfile(dvc_stage)
                    self.up_to_date.add(name)
                    return True
                entry = self._cached_entry(stage, dvc_stage)
        except LockError as error:
            raise UserError(
                f"{self.repo.root_dir}: another DVC process is at work here ({_text(error)})."
                " Wait for its end, then start again."
            ) from error
        except DvcException:
            return False
        if entry is not None:
            self.entries[name] = entry

        return entry is not None

    @contextmanager
    def _parameters_parsed_once(self) -> Iterator[None]:
        """Lets DVC parse each file of parameters only once.

        Otherwise DVC would parse params.yaml again for each stage, which takes a minute for a thousand stages.
        """

        def load(path: str, fs: Any, **options: Any) -> Any:
            if path not in self._parsed:
                self._parsed[path] = load_path(path, fs, **options)
            return self._parsed[path]

        param.load_path = load
        try:
            yield
        finally:
            param.load_path = load_path

    def _cached_entry(self, stage: Stage, dvc_stage: Any) -> Entry | None:
        """Finds the run cache's entry for the stage's present inputs.

        DVC's own look-up needs the input files; this function needs only their hashes. It returns None if there is no
        such entry, or if the cache lacks one of the entry's outputs.
        """
        if stage.gathers:
            return None
        for dependency in dvc_stage.deps:
            if isinstance(dependency, ParamsDependency) or not self._set_hash(stage, dependency):
                dependency.save()
        if (
            dvc_stage.is_callback
            or dvc_stage.always_changed
            or any(out.persist or not out.is_in_repo for out in dvc_stage.outs)
        ):
            return None  # DVC does not keep such a stage in the run cache
        cache = self.repo.stage_cache
        key = _get_cache_hash(to_single_stage_lockfile(dvc_stage), key=True)
        folder = Path(cache._get_cache_dir(key))
        runs = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []
        entry: dict[str, Any] | None = cache._load_cache(key, runs[-1].name) if runs else None
        if entry is None or len(entry.get("outs", ())) != len(dvc_stage.outs):  # none, or what a kill has left of it
            with suppress(OSError):
                if runs:
                    runs[-1].unlink(missing_ok=True)
                folder.rmdir()  # DVC would fail at an empty folder
            return None

        return entry if all(self.in_cache(out["md5"]) for out in entry["outs"]) else None

    def _set_hash(self, stage: Stage, dependency: Any) -> bool:
        """Sets a dependency's hash from the entry of the stage that writes it; returns False if no stage writes it."""
        path = dict(stage.inputs).get(dependency.def_path)
        if path is None:
            return False
        if path != dependency.def_path:
            raise DvcException(f"{dependency.def_path} lies inside {path}")
        producer, _ = self.producers[dependency.fs_path]
        (out,) = [out for out in self.entries[producer]["outs"] if out["path"] == path]
        dependency.hash_info = HashInfo("md5", out["md5"])
        dependency.meta = Meta(size=out.get("size"), nfiles=out.get("nfiles"), isdir=out["md5"].endswith(".dir"))

        return True

    def upstream_entries(self, name: str) -> dict[str, Entry]:
        """Returns the entries of the stages upstream of a stage, by name.

        A task runs a stage in a clone of the project. The dvc.lock of the clone needs these entries, so that DVC can
        check out the stage's inputs.
        """
        upstream = self.stages[name].upstream

        return {each: self.entries[each] for each in upstream if each not in self.parameter_files}

    @property
    def output_paths(self) -> list[str]:
        """The paths of all outputs except files of parameters."""
        return [path for name in self.dvc_stages if name not in self.parameter_files for path in self.outs(name)]

    def outs(self, name: str) -> list[str]:
        """The paths of a stage's outputs."""
        return [out.def_path for out in self.dvc_stages[name].outs]

    # ------------------------------------------------------------------ the cache

    @property
    def cache(self) -> Path:
        """The folder of DVC's cache."""
        return Path(self.repo.cache.legacy.path)

    def cached_file(self, md5: str) -> Path:
        """The path in DVC's cache of the file with this hash. The hash of a folder belongs to a list of its files."""
        return Path(self.repo.cache.local.oid_to_path(md5))

    def in_cache(self, md5: str) -> bool:
        """Whether the cache holds the file with this hash, or the folder with this hash and all its files."""
        path = self.cached_file(md5)
        if not md5.endswith(".dir") or not path.is_file():
            return path.is_file()
        files = json.loads(path.read_text(encoding="utf-8"))

        return all(self.cached_file(file["md5"]).is_file() for file in files)

    def fetch(self, remote: str) -> None:
        """Downloads the results of other machines into the cache and the run cache.

        Args:
            remote: Name of the DVC remote; empty: DVC's default remote.

        Raises:
            UserError: If the download fails.
        """
        entries = [entry for name, entry in self.entries.items() if name not in self.up_to_date]
        objects = {HashInfo("md5", out["md5"]) for entry in entries for out in entry["outs"]}
        try:
            self.repo.stage_cache.pull(remote or None)
            self.repo.cloud.pull(objects, remote=remote or None)
        except (DvcException, OSError) as error:
            raise UserError(
                f"the remote '{remote or 'default'}': {_text(error)}. The results are still on the remote: correct"
                " the error, then run the same command again."
            ) from error

    def read_output(self, path: str) -> Any:
        """The content of a JSON output.

        If the file is missing in the project, the function reads the file's copy in DVC's cache.

        Args:
            path: The output's path in the project.

        Returns:
            The parsed content; None if it cannot be read.
        """
        file = Path(self.repo.root_dir) / path
        try:
            if not file.is_file():
                producer = self.producers[str(file)][0]
                (md5,) = [out.hash_info.value for out in self.dvc_stages[producer].outs if out.def_path == path]
                file = self.cached_file(md5)
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def _ordered(stages: Mapping[str, Stage], targets: Iterable[str]) -> dict[str, Stage]:
    """The targets and all stages upstream of them, by name. Each stage comes after the stages upstream of it."""
    ordered: dict[str, Stage] = {}
    stack = [(name, False) for name in reversed(list(targets))]
    while stack:
        name, visited = stack.pop()
        if name in ordered:
            continue
        if visited:
            ordered[name] = stages[name]
        else:
            stack += [(name, True), *((upstream, False) for upstream in reversed(stages[name].upstream))]

    return ordered


def _text(error: Exception) -> str:
    """The message of an error on one line."""
    return " ".join(str(error).split())
