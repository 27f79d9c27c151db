"""Fetches the files of data sets from a mirror or the internet, and verifies each file before it gets its final name.

A known file is a file that `duvae.data.sources` lists with its address. A file that is not known is a file of the user.
A mirror is a folder or a URL with copies of known files.

The library pooch downloads files by HTTP. This module does everything else itself, because pooch knows only one address
per file and keeps downloaded archives. In this project, a known file may come from a mirror or from its own address. A
file may also be a member of an archive. The module deletes the archive after it has read the file.
"""

import contextlib
import hashlib
import io
import os
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from duvae.config import path_in_folder
from duvae.data import sources
from duvae.data.mirrors import check_mirror, is_url
from duvae.errors import TemporaryError, UserError
from duvae.project.files import scratch, whole

Timeout = tuple[float, float]
"""The longest waiting times in seconds: the first for a connection, the second for the next bytes of a file."""


@dataclass(frozen=True)
class Fetched:
    """A file that has been fetched into the folder of a data set.

    Attributes:
        path: Path below a mirror, if the file is a known file; otherwise the path of the file of the user.
        sha256: SHA-256 digest of the file, in hexadecimal digits.
        origin: File or address from which the file came; `there`: the folder of the data set already had the right
            file.
    """

    path: str
    sha256: str
    origin: str


def fetch_files(
    paths: Sequence[str],
    folder: Path,
    mirror: str | None = None,
    root: Path = Path(),
    timeout: Timeout = (10.0, 60.0),
) -> list[Fetched]:
    """Fetches files into a folder. A file gets its final name only when it is complete and verified.

    A known file that is already in the folder stays there if its checksum is right or if its checksum is not known. Any
    other known file comes from the mirror. If the mirror does not have the file, it comes from its address in
    `sources.SOURCES`. Files of the user are copied.

    Args:
        paths: Paths of known files below a mirror, or paths of files of the user.
        folder: Folder of the data set; its name is the name of the data set.
        mirror: Folder or URL that has known files at the given paths; None: the value of the environment variable
            DUVAE_MIRROR, or no mirror if the variable is not set.
        root: Folder from which relative paths of the user's files start.
        timeout: The longest waiting times in seconds, for a connection and for the next bytes of a file.

    Returns:
        The files, in the order of `paths`.

    Raises:
        UserError: If files cannot be fetched (the message lists them all), or if a file has a wrong checksum.
        TemporaryError: If files cannot be fetched, and a host did not answer. Another attempt may then succeed.
    """
    targets = {path: folder / path_in_folder(path) for path in paths}
    if len(set(targets.values())) < len(targets):
        raise UserError(
            f"{folder}: two files of the data set would get the same path here: {', '.join(targets)}. Rename one."
        )
    mirror = mirror or os.environ.get("DUVAE_MIRROR") or None
    if mirror is not None:
        check_mirror(mirror)
    own_files = {path: root / path for path in targets if path not in sources.SOURCES}
    absent = [str(path) for path in own_files.values() if not path.is_file()]
    if absent:
        raise UserError(
            f"no such file: {', '.join(absent)}. A file that duvae does not know must be your own. Expected it at its"
            f" path in params.yaml, relative to {root.resolve()}. Correct the path, or put the file there."
        )
    inside = [str(path) for path in own_files.values() if path.resolve().is_relative_to(folder.resolve())]
    if inside:
        raise UserError(f"{', '.join(inside)}: lies in {folder}, which this stage writes. Move it to another folder.")
    with _progress() as progress:
        search = _Search(folder, mirror, timeout, progress)
        fetched = {path: search.one(path, target, own_files.get(path)) for path, target in targets.items()}
        left = [path for path, file in fetched.items() if file is None]
        fetched.update(search.archives({path: targets[path] for path in left}))
    missing = {path: reasons for path, reasons in search.reasons.items() if fetched[path] is None}
    if missing:
        raise (TemporaryError if search.silent else UserError)(_missing(missing, folder.name))

    return [file for file in fetched.values() if file is not None]


class _NotThereError(Exception):
    """An address does not have the file, or the host of the address cannot be reached."""


class _Search:
    """Looks for each file in one place after another: the data set's folder, the mirror, the file's own address.

    Attributes:
        reasons: For each file, by the path of the file: the reasons why the places searched so far did not give it.
        silent: Hosts that did not answer or broke off, each with the reason. These hosts get no further request.
    """

    def __init__(self, folder: Path, mirror: str | None, timeout: Timeout, progress: Progress) -> None:
        self.folder, self.mirror, self.timeout, self.progress = folder, mirror, timeout, progress
        self.reasons: dict[str, list[str]] = {}
        self.silent: dict[str, str] = {}

    def one(self, path: str, target: Path, own: Path | None) -> Fetched | None:
        """Gets one file.

        Args:
            path: Path of the file, as in the argument `paths` of `fetch_files`.
            target: Final path of the file. A known file that is already there is kept, unless its checksum is wrong.
            own: File of the user to copy; None: the file is a known file.

        Returns:
            The fetched file; None if neither the mirror nor the file's own address has it. If the file is a member of
            an archive, the method `archives` can still get it.
        """
        source = sources.SOURCES.get(path, sources.Source(None, None))
        reasons = self.reasons.setdefault(path, [])
        if own is not None:
            return _copy(path, own, target, None)
        if target.is_file() and target.stat().st_size:
            if source.checksum is None or _digest(target, source.checksum) == source.checksum:
                return Fetched(path, _sha256(target), "there")
            reasons.append(f"{target} is another file ({_mismatch(source.checksum, _digest(target, source.checksum))})")
        if self.mirror is not None and not is_url(self.mirror):
            candidate = Path(self.mirror) / path
            if candidate.is_file():
                return _copy(path, candidate, target, source.checksum)
            reasons.append(f"not in the mirror {self.mirror}")
        urls = [f"{self.mirror.rstrip('/')}/{path}"] if self.mirror is not None and is_url(self.mirror) else []
        if source.url is None:
            reasons.append("no address on the internet is known")
        elif source.member is None:
            urls.append(source.url)
        for url in urls:
            try:
                self.download(url, target, source.checksum)
                return Fetched(path, _sha256(target), url)
            except _NotThereError as error:
                reasons.append(str(error))

        return None

    def archives(self, targets: Mapping[str, Path]) -> dict[str, Fetched | None]:
        """Gets files that are members of archives. Each archive is downloaded once, and deleted afterwards.

        Args:
            targets: Final path of each file. The key of a file is its path below a mirror.

        Returns:
            The fetched files, by the keys of `targets`; None for a file that was not found.
        """
        fetched: dict[str, Fetched | None] = {}
        urls = {url: None for path in targets if (url := sources.SOURCES[path].url) and sources.SOURCES[path].member}
        for url in urls:
            members = {path: target for path, target in targets.items() if sources.SOURCES[path].url == url}
            with scratch(self.folder) as temporary:
                archive = temporary / "archive.tar.gz"
                try:
                    self.download(url, archive, None)
                except _NotThereError as error:
                    for path in members:
                        self.reasons[path].append(str(error))
                    continue
                fetched.update(extract(archive, members, url))
            for path in members:
                if fetched.get(path) is None:
                    self.reasons[path].append(f"the archive {url} has no {sources.SOURCES[path].member}")

        return {path: fetched.get(path) for path in targets}

    def download(self, url: str, target: Path, checksum: str | None) -> None:
        """Downloads one file by HTTP, and verifies the file before it gets its final name.

        `checksum` is the expected `algorithm:digest`. If it is None, any file that is neither empty nor HTML is
        accepted.
        """
        import pooch
        import requests

        host = _host(url)
        if host in self.silent:
            raise _NotThereError(self.silent[host])
        bar = _Bar(self.progress, target.name if target.suffix != ".gz" else f"archive from {host}")
        with whole(target) as temporary:
            try:
                loader = pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16, timeout=self.timeout)
                loader(url, str(temporary), None)
            except requests.exceptions.HTTPError as error:
                raise _NotThereError(f"{url}: {error}".partition(" for url")[0]) from error
            except requests.exceptions.RequestException as error:
                self.silent[host] = (
                    f"{host} did not answer in time"
                    if isinstance(error, requests.exceptions.Timeout)
                    else f"{host} broke off in the middle of the file"
                    if isinstance(error, requests.exceptions.ChunkedEncodingError)
                    else f"no connection to {host}"
                )
                if self.mirror is not None and is_url(self.mirror) and _host(self.mirror) == host:
                    raise TemporaryError(
                        f"mirror {self.mirror}: {self.silent[host]} (asked for {url}). No part of the file was kept."
                        " Correct --mirror or DUVAE_MIRROR, or try again."
                    ) from error
                raise _NotThereError(self.silent[host]) from error
            _not_a_page(temporary, url)
            _verify(temporary, target, url, checksum)


def extract(archive: Path, targets: Mapping[str, Path], origin: str) -> dict[str, Fetched | None]:
    """Extracts some members of a tar.gz archive.

    Args:
        archive: The archive.
        targets: Final path of each known file to extract. The key of a file is its path below a mirror.
        origin: Address of the archive, for error messages and for `Fetched.origin`.

    Returns:
        The files that were found in the archive, by the keys of `targets`.

    Raises:
        UserError: If `archive` is not a tar.gz archive, or if a member to extract is not a plain file or has a wrong
            checksum.
    """
    members = {str(sources.SOURCES[path].member): path for path in targets}
    fetched: dict[str, Fetched | None] = {}
    try:
        with tarfile.open(archive, "r:gz") as file:
            for member in file:
                parts = PurePosixPath(member.name).parts
                path = members.get("/".join(parts[-2:]))
                if path is None or path in fetched:
                    continue
                if ".." in parts or PurePosixPath(member.name).is_absolute() or not member.isreg():
                    raise UserError(
                        f"{origin}: its member {member.name!r} is not a plain file inside the archive: its path is"
                        " absolute or has '..', or it is a link. It was not read. Put the file into a mirror"
                        " (DUVAE_MIRROR)."
                    )
                with file.extractfile(member) or io.BytesIO() as stream:
                    where = f"{member.name} of {origin}"
                    fetched[path] = _stored(path, stream, targets[path], where, sources.SOURCES[path].checksum)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(
            f"{origin}: expected a tar.gz archive, but it cannot be read ({error}). The download was deleted. Try"
            " again, or put the files into a mirror (DUVAE_MIRROR)."
        ) from error

    return fetched


def _copy(path: str, candidate: Path, target: Path, checksum: str | None) -> Fetched:
    try:
        if not candidate.stat().st_size:
            raise UserError(f"{candidate}: expected a file with content; found an empty one. Fill or remove it.")
        with candidate.open("rb") as stream:
            return _stored(path, stream, target, str(candidate), checksum)
    except OSError as error:
        raise UserError(f"{candidate}: cannot be read ({error.strerror}). Make the file readable.") from error


def _stored(path: str, stream: Any, target: Path, origin: str, checksum: str | None) -> Fetched:
    with whole(target) as temporary:
        with temporary.open("wb") as file:
            while part := _read(stream, origin):
                file.write(part)
        _verify(temporary, target, origin, checksum)

    return Fetched(path, _sha256(target), origin)


def _read(stream: Any, origin: str) -> bytes:
    """The next bytes of a source. An error names the source, not the file that is written."""
    try:
        return bytes(stream.read(1 << 20))
    except OSError as error:
        raise UserError(
            f"{origin}: cannot be read ({error.strerror or error}). Check the disk or the network folder of this file,"
            " then run the same command again."
        ) from error


def _verify(temporary: Path, target: Path, origin: str, checksum: str | None) -> None:
    if not temporary.stat().st_size:
        raise UserError(
            f"{target.name}: the file from {origin} is empty. The copy was deleted. Try again, or put the file into a"
            " mirror (DUVAE_MIRROR)."
        )
    if checksum is not None and (found := _digest(temporary, checksum)) != checksum:
        raise UserError(
            f"{target.name}: the file from {origin} is not the known one ({_mismatch(checksum, found)})."
            f" The copy was deleted; {target} was not changed. Get the known file, or use another mirror."
        )


def _host(url: str) -> str:
    """The host of a URL with its port, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _not_a_page(temporary: Path, url: str) -> None:
    with temporary.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise UserError(
            f"{url}: expected a data file; found an HTML page (an error page, a login or a download limit). The"
            " page was deleted. Open the address in a browser, or put the file into a mirror (DUVAE_MIRROR)."
        )


def _digest(path: Path, checksum: str) -> str:
    """Computes the checksum of a file as `algorithm:digest`. The algorithm is that of `checksum`."""
    algorithm = checksum.partition(":")[0]
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def _sha256(path: Path) -> str:
    return _digest(path, "sha256:").partition(":")[2]


def _mismatch(expected: str, found: str) -> str:
    algorithm, _, digest = expected.partition(":")

    return f"{algorithm} expected {digest}, found {found.partition(':')[2]}"


def _missing(reasons: Mapping[str, Sequence[str]], dataset: str) -> str:
    listed = "\n".join(f"  {path}: {'; '.join(why)}" for path, why in reasons.items())
    first = next(iter(reasons))

    return (
        f"{len(reasons)} file{'s' if len(reasons) > 1 else ''} of data set '{dataset}' could not be fetched:\n"
        f"{listed}\n"
        f"Without network, put the files into a mirror: a folder or a URL with files such as <mirror>/{first}.\n"
        "Name the mirror with --mirror or the environment variable DUVAE_MIRROR:"
        f" DUVAE_MIRROR=<mirror> duvae fetch --dataset {dataset}"
    )


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        yield progress


class _Bar:
    """Progress bar with the methods that pooch calls.

    It replaces pooch's own progress bar, which needs the library tqdm and would also write into log files.
    """

    total = 0

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.task = progress, progress.add_task(name, total=None)

    def update(self, size: int) -> None:
        self.progress.update(self.task, advance=size, total=self.total or None)

    def reset(self) -> None:
        self.progress.reset(self.task)

    def close(self) -> None:
        self.progress.remove_task(self.task)
