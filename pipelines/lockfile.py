"""Writes many entries into dvc.lock at once: `python -m pipelines.lockfile ENTRIES`, in the project's folder.

An entry holds the hashes of one stage's inputs and outputs. ENTRIES is a JSON file with an entry for each stage.

The command writes dvc.lock once, and copies the outputs from DVC's cache into the project. `dvc repro` alone would have
the same result. But for each stage in the run cache, `dvc repro` reads and writes the whole dvc.lock. With hundreds of
stages, this takes seconds per stage.
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
from pipelines.stage_graph import Entry


def update(root: Path, entries: Mapping[str, Entry]) -> None:
    """Writes entries into dvc.lock, and checks out the outputs that the entries name.

    If the process is killed, dvc.lock is either unchanged or complete. Outputs may then be missing or differ from
    dvc.lock. The next rebuild finds that such outputs are out of date, and restores them from the cache.

    Args:
        root: The project's folder.
        entries: New entries of dvc.lock, by name of the stage. The stages are in the dvc.yaml of the project's folder,
            not in the dvc.yaml of a subfolder. The cache holds all outputs of these stages.
    """
    lock = root / "dvc.lock"
    with Repo(str(root)) as repo, repo.lock:
        with whole(lock) as temporary:
            if lock.exists():
                shutil.copyfile(lock, temporary)
            with modify_yaml(temporary) as content:
                content.setdefault("schema", "2.0")
                content.setdefault("stages", {}).update(entries)
        for stage in repo.index.stages:  # DVC reads the index only now, so the stages have the new entries
            if stage.name in entries and Path(stage.path).parent == Path(repo.root_dir):
                stage.checkout(force=True)
                copy_git_outputs(repo, stage.outs)


def copy_git_outputs(repo: Any, outs: list[Any]) -> None:
    """Copies the outputs that git keeps from DVC's cache into the project, since `dvc checkout` skips these outputs.

    Git keeps an output if dvc.yaml marks the output with `cache: false`.

    Args:
        repo: The project as DVC's Repo object, opened in the folder of the project.
        outs: Outputs of stages, as DVC's objects. The function skips outputs that git does not keep.
    """
    for out in outs:
        if not out.use_cache:
            with whole(Path(out.fs_path)) as temporary:
                shutil.copyfile(repo.cache.local.oid_to_path(out.hash_info.value), temporary)


def main() -> None:
    """Updates the dvc.lock of the current folder from a JSON file of entries."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("entries", type=Path)
    update(Path.cwd(), json.loads(parser.parse_args().entries.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
