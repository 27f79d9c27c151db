"""DVC's graph: which stages there are, in which order, and which have to run.

A stage is *known* once its entry of dvc.lock is known, and with it the hashes of its outputs: it is up to date in the
project, or found in the run cache, or a job has made it. What is known upstream gives the inputs of a stage without
having its files here; so a stage is looked up in the run cache before anything is set up for it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
"""A stage in dvc.lock: `cmd`, `deps`, `params`, `outs`."""


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: As DVC addresses it.
        upstream: The stages that make its dependencies.
        made: Its dependencies that other stages make, each with the output that it is or lies in.
        gathers: Whether it depends on a folder that other stages write into: such a stage needs all of them in one
            place, and runs where all is recorded.
    """

    name: str
    upstream: tuple[str, ...]
    made: tuple[tuple[str, str], ...]
    gathers: bool

    @property
    def kind(self) -> str:
        """What it does: `train` of `train@synthetic-vae-1`."""
        return self.name.partition("@")[0]


class Graph:
    """The graph of the project in a folder.

    Args:
        root: The project's folder.
        targets: Stages that are wanted, with all that they need; none: all.

    Raises:
        UserError: Where DVC cannot read the project, or has no such target.
    """

    def __init__(self, root: Path, targets: Sequence[str] = ()) -> None:
        try:
            self.repo = Repo(str(root))
            self.repo.index.check_graph()
            self.found = {self._name(stage): stage for stage in self.repo.index.stages if stage.cmd}
            wanted = [name for target in targets for name in self._wanted(target)]
        except (DvcException, LockError) as error:
            raise UserError(f"{root}: DVC cannot read the project ({_said(error)}).") from error
        self.makers = {out.fs_path: (name, out.def_path) for name, stage in self.found.items() for out in stage.outs}
        self.inside: dict[str, list[str]] = {}
        """The stages that write into each folder."""
        for out, (by, _) in self.makers.items():
            for folder in Path(out).parents:
                self.inside.setdefault(str(folder), []).append(by)
        written = {
            dependency.fs_path
            for stage in self.found.values()
            for dependency in stage.deps
            if isinstance(dependency, ParamsDependency) and dependency.fs_path in self.makers
        }
        self.generated = {self.makers[path][0]: self.makers[path][1] for path in written}
        """Stages that write parameters of other stages, each with its file. A rebuild writes these files first."""
        every = {name: self._stage(name) for name in self.found}
        self.stages = _ordered(every, wanted or every)
        self.read: dict[str, Any] = {}
        self.known: dict[str, Entry] = {}
        self.fresh: set[str] = set()
        """Stages that the project itself has, up to date."""
        self.behind: set[str] = set()
        """Stages that write parameters whose present file is not yet in dvc.lock."""

    def close(self) -> None:
        self.repo.close()

    def _name(self, stage: Any) -> str:
        """As DVC addresses it in the project's folder; its own address is relative to where the process is."""
        path = Path(stage.path).relative_to(self.repo.root_dir).as_posix()

        return str(stage.name) if path == "dvc.yaml" else f"{path}:{stage.name}"

    def _wanted(self, target: str) -> list[str]:
        """The stages that a target names: a stage, all of one kind, or what makes an output."""
        if target in self.found:
            return [target]
        alike = [name for name in self.found if name.startswith(f"{target}@")]

        return alike or [self._name(stage) for stage in self.repo.stage.collect(target)]

    def _stage(self, name: str) -> Stage:
        upstream, made, gathers = [], [], False
        for dependency in self.found[name].deps:
            if isinstance(dependency, ParamsDependency):
                if dependency.fs_path in self.makers:
                    upstream.append(self.makers[dependency.fs_path][0])
                continue
            path = Path(dependency.fs_path)
            maker = next((self.makers[str(p)] for p in (path, *path.parents) if str(p) in self.makers), None)
            if maker:
                upstream.append(maker[0])
                made.append((dependency.def_path, maker[1]))
                continue
            inside = [by for by in self.inside.get(str(path), []) if by != name]
            gathers = gathers or bool(inside)
            upstream += inside

        return Stage(name, tuple(dict.fromkeys(upstream)), tuple(made), gathers)

    # ------------------------------------------------------------------ what has to run

    def look_up(self, name: str) -> bool:
        """Whether a stage, all of whose upstream is known, is known too: in the project, or in the run cache.

        Raises:
            UserError: Where DVC is at work in the project.
        """
        stage, found = self.stages[name], self.found[name]
        try:
            with self.repo.lock, self._parameters_read_once():
                if name in self.generated:
                    if not found.always_changed and found.changed():
                        self.behind.add(name)
                    self.known[name] = {}
                    self.fresh.add(name)
                    return True
                if self.fresh.issuperset(stage.upstream) and not found.changed():
                    self.known[name] = to_single_stage_lockfile(found)
                    self.fresh.add(name)
                    return True
                entry = self._cached(stage, found)
        except LockError as error:
            raise UserError(
                f"DVC is at work in {self.repo.root_dir} ({_said(error)}). Let it end, then start again."
            ) from error
        except DvcException:
            return False
        if entry is not None:
            self.known[name] = entry

        return entry is not None

    @contextmanager
    def _parameters_read_once(self) -> Iterator[None]:
        """DVC parses params.yaml for each stage anew: a minute for a thousand of them."""

        def load(path: str, fs: Any, **options: Any) -> Any:
            if path not in self.read:
                self.read[path] = load_path(path, fs, **options)
            return self.read[path]

        param.load_path = load
        try:
            yield
        finally:
            param.load_path = load_path

    def _cached(self, stage: Stage, found: Any) -> Entry | None:
        """The entry that the run cache has for the stage's present inputs, once all its outputs are in the cache.

        DVC's own look-up wants the inputs' files to be here; what is known of them is enough.
        """
        if stage.gathers:
            return None
        for dependency in found.deps:
            if isinstance(dependency, ParamsDependency) or not self._given(stage, dependency):
                dependency.save()
        if found.is_callback or found.always_changed or any(out.persist or not out.is_in_repo for out in found.outs):
            return None  # DVC keeps nothing of such a stage
        cache = self.repo.stage_cache
        key = _get_cache_hash(to_single_stage_lockfile(found), key=True)
        folder = Path(cache._get_cache_dir(key))
        kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []
        entry: dict[str, Any] | None = cache._load_cache(key, kept[-1].name) if kept else None

        return entry if entry and all(self.holds(out["md5"]) for out in entry["outs"]) else None

    def _given(self, stage: Stage, dependency: Any) -> bool:
        """Gives a dependency the hash that is known of the output that it is."""
        out = dict(stage.made).get(dependency.def_path)
        if out is None:
            return False
        if out != dependency.def_path:
            raise DvcException(f"{dependency.def_path} lies inside {out}")
        maker, _ = self.makers[dependency.fs_path]
        (kept,) = [entry for entry in self.known[maker]["outs"] if entry["path"] == out]
        dependency.hash_info = HashInfo("md5", kept["md5"])
        dependency.meta = Meta(size=kept.get("size"), nfiles=kept.get("nfiles"), isdir=kept["md5"].endswith(".dir"))

        return True

    def inputs(self, name: str) -> dict[str, Entry]:
        """The entries of dvc.lock that a workspace needs to check out what the stage depends on."""
        upstream = self.stages[name].upstream

        return {each: self.known[each] for each in upstream if each not in self.generated}

    @property
    def written(self) -> list[str]:
        """The paths of all outputs, other than files of parameters."""
        return [path for name in self.found if name not in self.generated for path in self.outs(name)]

    def outs(self, name: str) -> list[str]:
        """The paths of a stage's outputs."""
        return [out.def_path for out in self.found[name].outs]

    # ------------------------------------------------------------------ the cache

    @property
    def cache(self) -> Path:
        """The folder of the cache."""
        return Path(self.repo.cache.legacy.path)

    def object(self, md5: str) -> Path:
        """Where the cache keeps what has this hash."""
        return Path(self.repo.cache.local.oid_to_path(md5))

    def holds(self, md5: str) -> bool:
        """Whether the cache has a file, or a folder with all that is in it."""
        path = self.object(md5)
        if not md5.endswith(".dir") or not path.is_file():
            return path.is_file()

        return all(self.object(inside["md5"]).is_file() for inside in json.loads(path.read_text(encoding="utf-8")))

    def fetch(self, remote: str) -> None:
        """Gets what other machines have made into the cache here, and into the run cache.

        Args:
            remote: Its name; empty: DVC's default one.

        Raises:
            UserError: Where that fails.
        """
        made = [entry for name, entry in self.known.items() if name not in self.fresh]
        objects = {HashInfo("md5", out["md5"]) for entry in made for out in entry["outs"]}
        try:
            self.repo.stage_cache.pull(remote or None)
            self.repo.cloud.pull(objects, remote=remote or None)
        except (DvcException, OSError) as error:
            raise UserError(
                f"the remote '{remote or 'default'}': {_said(error)}. What was made is kept there."
            ) from error

    def recorded(self, path: str) -> Any:
        """What a JSON output holds, as it stands in the project or else in the cache under what dvc.lock says."""
        here = Path(self.repo.root_dir) / path
        try:
            if not here.is_file():
                maker = self.makers[str(here)][0]
                (md5,) = [out.hash_info.value for out in self.found[maker].outs if out.def_path == path]
                here = self.object(md5)
            return json.loads(here.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def _ordered(stages: Mapping[str, Stage], wanted: Iterable[str]) -> dict[str, Stage]:
    """The wanted stages and all that they need, each after its upstream."""
    ordered: dict[str, Stage] = {}
    stack = [(name, False) for name in reversed(list(wanted))]
    while stack:
        name, visited = stack.pop()
        if name in ordered:
            continue
        if visited:
            ordered[name] = stages[name]
        else:
            stack += [(name, True), *((upstream, False) for upstream in reversed(stages[name].upstream))]

    return ordered


def _said(error: Exception) -> str:
    return " ".join(str(error).split())
