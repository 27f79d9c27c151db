"""Writes digests (hashes) of the user's own files to `data/own.yaml`, which DVC reads as a file of parameters.

The stage `fetch` in dvc.yaml cannot depend on files that only params.yaml names. Instead, the stage depends on the
digest of these files. So DVC runs the stage again only if one of the files has changed.
"""

import hashlib
from pathlib import Path

import yaml

from duvae.config import AnyDataset, Params, SyntheticDataset
from duvae.data import sources
from duvae.data.user_files import files_in
from duvae.errors import UserError
from duvae.project.files import write_text

FILE = Path("data/own.yaml")
"""The file with one digest per data set. Git does not keep the file, since it may name private data sets."""

PUBLISHED = "published"
"""The word in place of a digest, for a data set with published files only. `duvae.data.sources` knows these files."""

HEADER = "# A digest of the user's own files for each data set with files. Written by 'duvae own-files'; do not edit.\n"


def own_paths(dataset: AnyDataset) -> list[str]:
    """Lists the user's own files of a data set: those files that `duvae.data.sources` does not know.

    Args:
        dataset: The data set's parameters.

    Returns:
        Paths as params.yaml names them; empty for a synthetic data set, which has no files.
    """
    if isinstance(dataset, SyntheticDataset):
        return []

    return [path for path in dataset.source.paths if path not in sources.SOURCES]


def digest(paths: list[str], root: Path = Path()) -> str:
    """Hashes the names and contents of files.

    Args:
        paths: Files and folders. Hidden files in folders are left out. For a missing file the word "missing" is hashed
            in place of the content; `duvae fetch` reports missing files.
        root: The folder from which relative paths start.

    Returns:
        16 hexadecimal digits.

    Raises:
        UserError: If a file or a folder cannot be read.
    """
    sha256 = hashlib.sha256()
    for path in paths:
        base = root / path
        for file in files_in(base) if base.is_dir() else [base]:
            name = file.relative_to(base).as_posix()
            sha256.update(f"{path}\0{name}\0".encode("utf-8", "surrogateescape"))
            try:
                if file.exists() and not file.is_file():  # reading a pipe or a device would never end
                    raise UserError(f"{file}: expected a file; found a pipe, a socket or a device. Correct the path.")
                with file.open("rb") as opened:
                    sha256.update(hashlib.file_digest(opened, "sha256").digest())
            except FileNotFoundError:
                sha256.update(b"missing")
            except OSError as error:
                raise UserError(
                    f"{file}: cannot be read ({error.strerror or error}). Expected a file of your own that params.yaml"
                    " names. Correct its permissions or the path."
                ) from error

    return sha256.hexdigest()[:16]


def write(params: Params, datasets: list[str], root: Path = Path()) -> bool:
    """Writes the digests to `FILE`, if they have changed.

    Args:
        params: The project's parameters.
        datasets: Names of the data sets that are read from files, published or the user's own.
        root: The project's folder.

    Returns:
        Whether the file was out of date and has been written.
    """
    paths = {name: own_paths(params.dataset(name)) for name in datasets}
    digests = {name: digest(own, root) if own else PUBLISHED for name, own in paths.items()}
    text = HEADER + yaml.safe_dump(digests, sort_keys=False)
    path = root / FILE
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)

    return True
