"""The user's own files as DVC sees them: one digest for each data set, in a generated file of parameters.

DVC's `fetch` cannot list files that only params.yaml names as dependencies. It depends on their digest instead, so
that own files which did not change make nothing stale.
"""

import hashlib
from pathlib import Path

import yaml

from duvae.config import AnyDataset, Params, SyntheticDataset
from duvae.data import sources
from duvae.errors import UserError
from duvae.project.files import write_text

FILE = Path("data/own.yaml")
"""The digests. Git does not keep the file: whose data they are is nobody's business."""

PUBLISHED = "published"
"""In place of a digest, for a data set whose files are all known to `duvae.data.sources`."""

HEADER = "# A digest of the user's own files for each data set that is fetched. Written by 'duvae own-files'.\n"


def own_paths(dataset: AnyDataset) -> list[str]:
    """The paths in params.yaml of a data set's files that are the user's own."""
    if isinstance(dataset, SyntheticDataset):
        return []

    return [path for path in dataset.source.paths if path not in sources.SOURCES]


def digest(paths: list[str], root: Path = Path()) -> str:
    """A hash of names and contents; a file that is missing counts as missing, and `fetch` says so.

    Args:
        paths: Files and folders; hidden files in folders are left out.
        root: The folder that relative paths start from.

    Raises:
        UserError: Where a file cannot be read.
    """
    whole = hashlib.sha256()
    for path in paths:
        place = root / path
        inside = sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
        for file in inside:
            name = file.relative_to(root / path).as_posix()
            if any(part.startswith(".") for part in Path(name).parts):
                continue
            whole.update(f"{path}\0{name}\0".encode("utf-8", "surrogateescape"))
            try:
                with file.open("rb") as opened:
                    whole.update(hashlib.file_digest(opened, "sha256").digest())
            except FileNotFoundError:
                whole.update(b"missing")
            except OSError as error:
                raise UserError(
                    f"{file}: cannot be read ({error.strerror or error}). Expected a file of your own, which"
                    " params.yaml names. Correct its permissions or the path."
                ) from error

    return whole.hexdigest()[:16]


def write(params: Params, datasets: list[str], root: Path = Path()) -> bool:
    """Writes the digests where they have changed; returns whether they had.

    Args:
        params: All of params.yaml.
        datasets: The data sets that are fetched.
        root: The project's folder.
    """
    found = {name: own_paths(params.dataset(name)) for name in datasets}
    digests = {name: digest(paths, root) if paths else PUBLISHED for name, paths in found.items()}
    text = HEADER + yaml.safe_dump(digests, sort_keys=False)
    path = root / FILE
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)

    return True
