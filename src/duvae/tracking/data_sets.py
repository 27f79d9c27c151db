"""Describes data sets as objects of MLflow, with the hashes that DVC has recorded."""

import functools
import json
from pathlib import Path

import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag

from duvae.errors import UserError
from duvae.tracking import run_files


def described(name: str, root: Path) -> DatasetInput:
    """Describes the data set as an object of MLflow.

    The object has the hash of the prepared data set in dvc.lock or, without such a hash, a digest of its files.
    """
    folder = f"data/prepared/{name}"
    lock = root / "dvc.lock"
    recorded = _recorded(lock, lock.stat().st_mtime_ns) if lock.exists() else {}
    digest = recorded.get(folder, "unknown").removesuffix(".dir")
    if digest == "unknown" and (root / folder).exists():
        digest = run_files.digest(path for path in (root / folder).rglob("*") if path.is_file())[:32]
    source = json.dumps({"uri": folder})

    return DatasetInput(Dataset(name, digest, "local", source), [InputTag("mlflow.data.context", "training")])


@functools.lru_cache(maxsize=1)
def _recorded(lock: Path, _changed: int) -> dict[str, str]:
    """Reads the hash of each output in dvc.lock, by the output's path.

    `lru_cache` keeps the hashes, so that the file is not read again for each job.

    Args:
        lock: Path of the file dvc.lock.
        _changed: Time of the file's last change, in nanoseconds. The function does not use this time. It is part of the
            key of the cache, so that a changed file is read again.
    """
    try:
        stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        raise UserError(
            f"{lock}: expected the stages that DVC has recorded ({' '.join(str(error).split())}). If git left a merge"
            " conflict in it, resolve it; otherwise run 'git checkout dvc.lock'."
        ) from error

    return {out["path"]: str(out.get("md5")) for stage in stages.values() for out in stage.get("outs", [])}
