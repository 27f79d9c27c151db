"""The files of the data sets: where each is found, its checksum, and how it is fetched.

A file is named by its path below a mirror, such as `short_yelp/vocab.txt`. A path that is not in
`SOURCES` is a file of the user's own, taken from where it lies.
"""

import contextlib
import hashlib
import io
import os
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from duvae.errors import UserError
from duvae.files import whole

Timeout = tuple[float, float]
"""Seconds until a connection must stand, and until the next bytes must come."""


@dataclass(frozen=True)
class Source:
    """Where one file is found.

    Attributes:
        checksum: `algorithm:digest`; None where it is not known, so that any file is accepted.
        url: The file's address, or its archive's; None where only a mirror has it.
        member: The end of its path inside the tar.gz archive at `url`; None: `url` is the file itself.
    """

    checksum: str | None
    url: str | None
    member: str | None = None


@dataclass(frozen=True)
class Fetched:
    """A file that is there now: its path, its SHA-256 and where it came from ('there': it was there already)."""

    path: str
    sha256: str
    origin: str


def _drive(identity: str) -> str:
    return f"https://drive.usercontent.google.com/download?id={identity}&export=download&confirm=t"


# Archives of He et al. 2019 and of the paper's authors.
_YAHOO = _drive("13azGlTuGdzWLCmgDmQPmvb_jcexVWX7i")
_YELP = _drive("1FT49oLNV8syhmGXEgiK6XTjEfMNqqEJJ")
_SHORT_YELP = _drive("18h8UYr801qr-USCYRzZySi_DSbUkHW71")
_SENTIMENT = "https://raw.githubusercontent.com/shentianxiao/language-style-transfer/master/data/yelp/"
_LAKE = "https://raw.githubusercontent.com/brendenlake/omniglot/master/"
_LAKE_ARRAYS = "https://raw.githubusercontent.com/bitsandscraps/omniglot/master/"
_BURDA = "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/"


def _members(folder: str, url: str, checksums: Mapping[str, str | None]) -> dict[str, Source]:
    return {
        f"{folder}/{name}": Source(digest and f"sha256:{digest}", url, f"{folder}_data/{name}")
        for name, digest in checksums.items()
    }


def _files(folder: str, url: str | None, checksums: Mapping[str, str | None]) -> dict[str, Source]:
    return {f"{folder}/{name}": Source(known, url and url + name) for name, known in checksums.items()}


SOURCES: Mapping[str, Source] = {
    **_members(
        "short_yelp",
        _SHORT_YELP,
        {
            "short_yelp.train.txt": None,
            "short_yelp.valid.txt": "34240114bd7b8b8b016c2ea033aaf7efefbc4e5be5aa7c53f95e03260c631521",
            "short_yelp.test.txt": "56dc9c763128e315b167870ba6714c0f528b335855b7cc469ab3018457daddeb",
            "short_yelp.train.100.txt": "eb17b8855e8307badf3f4a50b467268ae21c3ec471a9d2f7a152eceff5e7a91c",
            "short_yelp.train.500.txt": "a11eb4bdea7bc5e58d1d316744c61d42da5a7467e4babef51c2cc5d839565a05",
            "short_yelp.train.1000.txt": "ceba2d95fd4ea802d2b0f873d34aff5289a453e7c3ecd63669c7186d2a077fb6",
            "short_yelp.train.2000.txt": "f91ae9deaffee1943c6308f9b723dab00bb87fa10c39a5fe7ec9fb9a1197716f",
            "short_yelp.train.10000.txt": "db61555383043e4032443c9a04bffe2129c8e181f596e437c9c9b56292578c06",
            "vocab.txt": "552cad81f06191dd85b10f820e8ff142846b5d594e591cf709edba7a88c7bcac",
        },
    ),
    **_members(
        "yahoo",
        _YAHOO,
        {
            "yahoo.train.txt": None,
            "yahoo.valid.txt": "6129c0622bd0a12b092814e7b660f70c20481788f42860d980431c0a614006ef",
            "yahoo.test.txt": "54dd2d2de3843cc701faebf793ab72253ff2286b00879d25790ad087a74917a1",
            "vocab.txt": "8f4cf601bc7e5c3acf8b7e712e3c8e39fe330147e12682291c462b5b2ac0a73a",
        },
    ),
    **_members(
        "yelp", _YELP, {"yelp.train.txt": None, "yelp.valid.txt": None, "yelp.test.txt": None, "vocab.txt": None}
    ),
    **_files(
        "yelp_sentiment",
        _SENTIMENT,
        {
            "sentiment.dev.0": "sha256:405ef6d4bfbc8bb92c3c55b496f315069cb5edb49ed34a07b1206341b83c344b",
            "sentiment.dev.1": "sha256:3509f6573411bbda2d5c071ed72ad276c12356c15c06205b8fdf74b217970c61",
            "sentiment.test.0": "sha256:b7466e8859e9948892a859af7938a82c801c99b69f884014082fd072a155bbf2",
            "sentiment.test.1": "sha256:a66e0ec3f0e1230ad4d2c822750a381cf6d99a99fa9b5ae79546f21ff79ed5c3",
        },
    ),
    **_files(
        "omniglot",
        _LAKE_ARRAYS,
        {
            "images_background.npz": "sha256:8bf84167413cd00beacdce3fe582f780ab538d8dbef043a6d688f2527bbce199",
            "images_evaluation.npz": "sha256:0b84c7ffd94c4841c0040e529c86a82eaaccb986d8eadad5673f7991b7475276",
        },
    ),
    **_files("omniglot", _BURDA, {"chardata.mat": "md5:21ecaf34373511aa7691cf2e0802aa3d"}),
    **_files(
        "omniglot",
        _LAKE + "python/",
        {"images_background.zip": "md5:68d2efa1b9178cc56df9314c21c6e718", "images_evaluation.zip": None},
    ),
    **_files(
        "omniglot",
        None,
        {"alphabets.tsv": "sha256:3ef5336403598dc176a347361f6ce8a6dfb2e98ac986690d9e0632f672f086ec"},
    ),
    "omniglot/LICENSE.brendenlake": Source(
        "sha256:2efb425d9850e7bce985f151dc2ee1f4485e926a3582e08fd879cd28eb0388f5", _LAKE + "LICENSE"
    ),
}


def place(path: str) -> PurePosixPath:
    """Where a file lies below a data set's folder: at its own path, without a root and without `..`."""
    return PurePosixPath(*(part for part in PurePosixPath(path).parts if part not in ("/", "..", ".")))


def fetch(
    paths: Sequence[str],
    folder: Path,
    mirror: str | None = None,
    root: Path = Path(),
    timeout: Timeout = (10.0, 60.0),
) -> list[Fetched]:
    """Brings files into `folder`, each whole and verified or not at all.

    A file that is there with the right checksum is left alone. The others come from the mirror, or
    else from the address in `SOURCES`; the user's own files are copied from where they lie.

    Args:
        paths: What is wanted, by path below a mirror, or the path of a file of one's own.
        folder: Where to; its name is the data set's.
        mirror: A folder or a URL under which files lie by their paths; else DUVAE_MIRROR names it.
        root: What relative paths of the user's own files are relative to.
        timeout: Seconds for connecting and for each read.

    Raises:
        UserError: With all files that could not be had, or with the first that is not what it should be.
    """
    targets = {path: folder / place(path) for path in paths}
    if len(set(targets.values())) < len(targets):
        raise UserError(f"{folder}: two of its files would have the same place: {', '.join(targets)}. Rename one.")
    mirror = mirror or os.environ.get("DUVAE_MIRROR") or None
    if mirror is not None and not _is_url(mirror) and not Path(mirror).is_dir():
        raise UserError(
            f"mirror {mirror}: expected a folder or a URL (http or https); no such folder is there."
            " Correct --mirror or the environment variable DUVAE_MIRROR."
        )
    own = {path: root / path for path in targets if path not in SOURCES}
    absent = [str(path) for path in own.values() if not path.is_file()]
    if absent:
        raise UserError(
            f"no such file: {', '.join(absent)}. It is none of the known files, so it is taken to be your own:"
            f" expected where params.yaml says, relative to {root.resolve()}."
        )
    inside = [str(path) for path in own.values() if path.resolve().is_relative_to(folder.resolve())]
    if inside:
        raise UserError(f"{', '.join(inside)}: lies in {folder}, which this stage writes. Move it to another folder.")
    with _progress() as progress:
        search = _Search(folder, mirror, timeout, progress)
        fetched = {path: search.one(path, target, own.get(path)) for path, target in targets.items()}
        left = [path for path, found in fetched.items() if found is None]
        fetched.update(search.archives({path: targets[path] for path in left}))
    missing = {path: reasons for path, reasons in search.reasons.items() if fetched[path] is None}
    if missing:
        raise UserError(_missing(missing, folder.name))

    return [found for found in fetched.values() if found is not None]


class _NotThereError(Exception):
    """A place does not have the file, or cannot be reached."""


class _Search:
    """Tries one place after another, and keeps what each said."""

    def __init__(self, folder: Path, mirror: str | None, timeout: Timeout, progress: Progress) -> None:
        self.folder, self.mirror, self.timeout, self.progress = folder, mirror, timeout, progress
        self.reasons: dict[str, list[str]] = {}
        self.silent: dict[str, str] = {}  # hosts that did not answer, not to be waited for again

    def one(self, path: str, target: Path, own: Path | None) -> Fetched | None:
        """The file from where it is, from the mirror or from its own address; None: perhaps from an archive."""
        source = SOURCES.get(path, Source(None, None))
        reasons = self.reasons.setdefault(path, [])
        if own is not None:
            return _copied(path, own, target, None)
        if target.is_file() and target.stat().st_size:
            if source.checksum is None or _digest(target, source.checksum) == source.checksum:
                return Fetched(path, _sha256(target), "there")
            reasons.append(f"{target} is not it ({_mismatch(source.checksum, _digest(target, source.checksum))})")
        if self.mirror is not None and not _is_url(self.mirror):
            candidate = Path(self.mirror) / path
            if candidate.is_file():
                return _copied(path, candidate, target, source.checksum)
            reasons.append(f"not in the mirror {self.mirror}")
        urls = [f"{self.mirror.rstrip('/')}/{path}"] if self.mirror is not None and _is_url(self.mirror) else []
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
        """The files that are members of archives, each archive loaded once and not kept."""
        fetched: dict[str, Fetched | None] = {}
        urls = {url: None for path in targets if (url := SOURCES[path].url) and SOURCES[path].member}
        for url in urls:
            wanted = {path: target for path, target in targets.items() if SOURCES[path].url == url}
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".archive.", dir=self.folder.parent) as temporary:
                archive = Path(temporary, "archive.tar.gz")
                try:
                    self.download(url, archive, None)
                except _NotThereError as error:
                    for path in wanted:
                        self.reasons[path].append(str(error))
                    continue
                fetched.update(extract(archive, wanted, url))
            for path in wanted:
                if fetched.get(path) is None:
                    self.reasons[path].append(f"the archive {url} has no {SOURCES[path].member}")

        return {path: fetched.get(path) for path in targets}

    def download(self, url: str, target: Path, checksum: str | None) -> None:
        """One file by HTTP, verified before it gets its name."""
        import pooch
        import requests

        host = urlsplit(url).netloc
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
                late = isinstance(error, requests.exceptions.Timeout)
                self.silent[host] = f"{host} did not answer in time" if late else f"no connection to {host}"
                if self.mirror is not None and _is_url(self.mirror) and urlsplit(self.mirror).netloc == host:
                    raise UserError(
                        f"mirror {self.mirror}: {self.silent[host]} (asked for {url}). Nothing was kept of it."
                        " Correct --mirror or DUVAE_MIRROR, or try again."
                    ) from error
                raise _NotThereError(self.silent[host]) from error
            _not_a_page(temporary, url)
            _verify(temporary, target, url, checksum)


def extract(archive: Path, wanted: Mapping[str, Path], origin: str) -> dict[str, Fetched | None]:
    """Reads the wanted members of a tar.gz archive, nothing else of it.

    Args:
        archive: The file.
        wanted: Where each known path goes to.
        origin: Where the archive came from, for messages.

    Raises:
        UserError: Where it is no such archive, or a wanted member is no plain file or not the known one.
    """
    members = {str(SOURCES[path].member): path for path in wanted}
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
                        f"{origin}: its member {member.name!r} is no plain file inside the archive (an absolute path,"
                        " '..' or a link). Nothing was taken from it; give the file with a mirror (DUVAE_MIRROR)."
                    )
                with file.extractfile(member) or io.BytesIO() as stream:
                    where = f"{member.name} of {origin}"
                    fetched[path] = _kept(path, stream, wanted[path], where, SOURCES[path].checksum)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(
            f"{origin}: expected a tar.gz archive, but it cannot be read ({error}). Deleted; try again,"
            " or give the files with a mirror (DUVAE_MIRROR)."
        ) from error

    return fetched


def _copied(path: str, candidate: Path, target: Path, checksum: str | None) -> Fetched:
    try:
        with candidate.open("rb") as stream:
            return _kept(path, stream, target, str(candidate), checksum)
    except OSError as error:
        raise UserError(f"{candidate}: cannot be read ({error.strerror}).") from error


def _kept(path: str, stream: IO[bytes], target: Path, origin: str, checksum: str | None) -> Fetched:
    with whole(target) as temporary:
        with temporary.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        _verify(temporary, target, origin, checksum)

    return Fetched(path, _sha256(target), origin)


def _verify(temporary: Path, target: Path, origin: str, checksum: str | None) -> None:
    if not temporary.stat().st_size:
        raise UserError(f"{target.name}: the file from {origin} is empty. Deleted.")
    if checksum is not None and (found := _digest(temporary, checksum)) != checksum:
        raise UserError(
            f"{target.name}: the file from {origin} is not the known one ({_mismatch(checksum, found)})."
            f" The copy was deleted, {target} was not touched."
        )


def _not_a_page(temporary: Path, url: str) -> None:
    with temporary.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise UserError(
            f"{url}: expected a data file, but an HTML page came (an error page, a login or a download limit)."
            " Deleted. Open the address in a browser, or give the file with a mirror (DUVAE_MIRROR)."
        )


def _digest(path: Path, checksum: str) -> str:
    """The file's checksum by the algorithm of `checksum`, written alike."""
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
        f"{len(reasons)} file{'s' if len(reasons) > 1 else ''} of data set '{dataset}' could not be had:\n{listed}\n"
        f"Without network, give them in a mirror: a folder (or a URL) where they lie as <mirror>/{first}, named by\n"
        f"--mirror or the environment variable DUVAE_MIRROR: DUVAE_MIRROR=<mirror> duvae fetch --dataset {dataset}"
    )


def _is_url(mirror: str) -> bool:
    return mirror.startswith(("http://", "https://"))


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        yield progress


class _Bar:
    """What pooch calls while it loads."""

    total = 0

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.task = progress, progress.add_task(name, total=None)

    def update(self, size: int) -> None:
        self.progress.update(self.task, advance=size, total=self.total or None)

    def reset(self) -> None:
        self.progress.reset(self.task)

    def close(self) -> None:
        self.progress.remove_task(self.task)
