"""Enters in the project what jobs have made: `python -m pipelines.lockfile ENTRIES`, in its folder.

dvc.lock is written once, and the outputs come out of the cache. `dvc repro` alone would do the same, but reads and
writes the whole dvc.lock anew for each stage that it finds in the run cache: seconds of each, once there are hundreds.
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc.utils.serialize import modify_yaml

from duvae.project.files import whole
from pipelines.graph import Entry


def enter(root: Path, entries: Mapping[str, Entry]) -> None:
    """Writes the entries into dvc.lock and brings the outputs that they name.

    Killed at any point, it leaves dvc.lock as it was or whole with all of them; an output that is missing then, or is
    not what dvc.lock says, counts as out of date and comes out of the cache with the next start.

    Args:
        root: The project's folder.
        entries: Of stages of its dvc.yaml, by name, as dvc.lock has them; the cache holds all their outputs.
    """
    lock = root / "dvc.lock"
    with Repo(str(root)) as repo, repo.lock:
        with whole(lock) as temporary:
            if lock.exists():
                shutil.copyfile(lock, temporary)
            with modify_yaml(temporary) as data:
                data.setdefault("schema", "2.0")
                data.setdefault("stages", {}).update(entries)
        for stage in repo.index.stages:  # read only now, with what was just written
            if stage.name in entries and Path(stage.path).parent == Path(repo.root_dir):
                stage.checkout(force=True)
                copy_out(repo, stage.outs)


def copy_out(repo: Any, outs: list[Any]) -> None:
    """Copies outputs that git has in the project (`cache: false`): the run cache keeps a copy."""
    for out in outs:
        if not out.use_cache:
            with whole(Path(out.fs_path)) as temporary:
                shutil.copyfile(repo.cache.local.oid_to_path(out.hash_info.value), temporary)


def main() -> None:
    """Does what the argument says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("entries", type=Path)
    enter(Path.cwd(), json.loads(parser.parse_args().entries.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
