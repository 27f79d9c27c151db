"""The stage `fetch`: downloads or copies the files of a data set into data/raw/<data set>."""

from pathlib import Path

from duvae.config import Params, SyntheticDataset, TextDataset, path_in_folder
from duvae.data import fetched as digests
from duvae.data import sources
from duvae.data.fetching import Fetched, fetch_files
from duvae.data.user_files import files_in
from duvae.errors import UserError, without_passwords
from duvae.project.files import remove


def expanded(paths: list[str], root: Path) -> list[str]:
    """Replaces the path of each folder of the user by the paths of the files in this folder.

    Args:
        paths: Paths of files and folders, as in params.yaml.
        root: Folder of the project.

    Returns:
        Paths of files. Hidden files are left out, and links to files and folders are followed.

    Raises:
        UserError: If a folder has no files, or if something in the folder cannot be read.
    """
    files: list[str] = []
    for path in paths:
        folder = root / path
        if path in sources.SOURCES or not folder.is_dir():
            files.append(path)
            continue
        inside = [file.relative_to(folder) for file in files_in(folder)]
        if not inside:
            raise UserError(f"{folder}: expected files in this folder, which params.yaml names; found none. Add some.")
        files += [str(Path(path) / file) for file in inside]

    return files


def run(params: Params, dataset: str, mirror: str | None = None, root: Path = Path()) -> list[Fetched]:
    """Fetches the files of a data set into `data/raw/<data set>`, and removes all other files from this folder.

    Args:
        params: All parameters of params.yaml.
        dataset: Name of the data set.
        mirror: Folder or URL from which to take the files that it has. None: the value of the environment variable
            DUVAE_MIRROR.
        root: Folder of the project.

    Returns:
        The fetched files; an empty list for a synthetic data set.

    Raises:
        UserError: If a file cannot be fetched, or if its checksum is wrong.
    """
    chosen = params.dataset(dataset)
    if isinstance(chosen, SyntheticDataset):
        print(f"{dataset}: nothing to fetch; 'duvae prepare' generates the data")
        return []
    if isinstance(chosen, TextDataset):
        for own in chosen.source.paths:
            if own not in sources.SOURCES and (root / own).is_dir():
                raise UserError(
                    f"{own}: expected a file with one document per line; found a folder. Name each of its files in"
                    f" params.yaml (datasets.{dataset}.source)."
                )
    folder = root / "data" / "raw" / dataset
    fetched = fetch_files(expanded(chosen.source.paths, root), folder, mirror, root)
    named = {folder / path_in_folder(file.path) for file in fetched} | {digests.write(folder, fetched)}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                remove(path)
        elif path not in named:
            remove(path)
    for file in fetched:
        known = sources.SOURCES.get(file.path)
        unknown = " (no known checksum to compare with)" if known is not None and known.checksum is None else ""
        print(f"{file.path}: sha256 {file.sha256}, {without_passwords(file.origin)}{unknown}")

    return fetched
