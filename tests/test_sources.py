import errno
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from duvae.commands import fetch as stage
from duvae.config import load, path_in_folder
from duvae.data import fetched, sources
from duvae.data.fetching import fetch_files
from duvae.data.sources import Source
from duvae.errors import UserError
from serving import Server, serve

ROOT = Path(__file__).parents[1]
GOOD = b"0\tthe food is good .\n"


def checksum(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as told:
        yield told


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUVAE_MIRROR", raising=False)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Source]:
    """Replaces the package's registry of known source files by an empty one; returns the empty registry."""
    registry: dict[str, Source] = {}
    monkeypatch.setattr(sources, "SOURCES", registry)
    return registry


def archive(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as file:
        for name, member in members.items():
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(member)
                file.addfile(info, io.BytesIO(member))
    return content.getvalue()


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_registry_names_every_file_that_the_text_data_sets_want() -> None:
    params = load(ROOT / "params.yaml")
    for dataset in params.datasets.values():
        if dataset.kind == "text":
            assert set(dataset.source.paths) <= set(sources.SOURCES)
    for path, source in sources.SOURCES.items():
        algorithm, _, digest = (source.checksum or f"sha256:{'0' * 64}").partition(":")
        assert len(digest) == 2 * hashlib.new(algorithm, usedforsecurity=False).digest_size, path
        assert source.url is None or source.url.startswith("https://"), path


def test_from_a_folder(tmp_path: Path, known: dict[str, Source]) -> None:
    known["a/x.txt"] = Source(checksum(GOOD), None)
    known["a/y.txt"] = Source(None, None)
    mirror, folder = tmp_path / "mirror", tmp_path / "data" / "raw" / "a"
    for name in ("x.txt", "y.txt"):
        (mirror / "a").mkdir(parents=True, exist_ok=True)
        (mirror / "a" / name).write_bytes(GOOD)

    got = fetch_files(["a/x.txt", "a/y.txt"], folder, str(mirror))

    assert [(file.path, file.sha256) for file in got] == [
        ("a/x.txt", hashlib.sha256(GOOD).hexdigest()),
        ("a/y.txt", hashlib.sha256(GOOD).hexdigest()),
    ]
    assert files(folder) == {"a/x.txt", "a/y.txt"}
    assert [file.origin for file in fetch_files(["a/x.txt", "a/y.txt"], folder, str(tmp_path))] == ["there", "there"]


def test_mirror_from_the_environment(
    tmp_path: Path, known: dict[str, Source], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    known["a/x.txt"] = Source(checksum(GOOD), None)
    server.give("data/a/x.txt", GOOD)
    monkeypatch.setenv("DUVAE_MIRROR", f"{server.url}/data/")

    assert fetch_files(["a/x.txt"], tmp_path)[0].origin == f"{server.url}/data/a/x.txt"
    assert (tmp_path / "a/x.txt").read_bytes() == GOOD
    fetch_files(["a/x.txt"], tmp_path)
    assert server.asked == ["/data/a/x.txt"]


def test_what_the_mirror_lacks_comes_from_its_own_address(
    tmp_path: Path, known: dict[str, Source], server: Server
) -> None:
    known["a/x.txt"] = Source(checksum(GOOD), f"{server.url}/elsewhere/x")
    server.give("elsewhere/x", GOOD)

    fetch_files(["a/x.txt"], tmp_path / "one", f"{server.url}/mirror")
    (tmp_path / "mirror").mkdir()
    fetch_files(["a/x.txt"], tmp_path / "two", str(tmp_path / "mirror"))

    assert server.asked == ["/mirror/a/x.txt", "/elsewhere/x", "/elsewhere/x"]


@pytest.mark.parametrize("where", ["folder", "url"])
def test_wrong_bytes_are_refused_and_not_kept(
    where: str, tmp_path: Path, known: dict[str, Source], server: Server
) -> None:
    known["a/x.txt"] = Source(checksum(GOOD), None)
    (tmp_path / "mirror/a").mkdir(parents=True)
    (tmp_path / "mirror/a/x.txt").write_bytes(b"other")
    server.give("a/x.txt", b"other")
    mirror = str(tmp_path / "mirror") if where == "folder" else server.url

    with pytest.raises(UserError) as error:
        fetch_files(["a/x.txt"], tmp_path / "raw", mirror)

    said = str(error.value)
    assert "x.txt" in said
    assert mirror in said
    assert hashlib.sha256(GOOD).hexdigest() in said
    assert hashlib.sha256(b"other").hexdigest() in said
    assert ("The copy was deleted" in said, "was not changed" in said) == (True, True)
    assert files(tmp_path / "raw") == set()
    assert (tmp_path / "mirror/a/x.txt").read_bytes() == b"other"


def test_a_wrong_file_that_is_there_is_replaced(tmp_path: Path, known: dict[str, Source], server: Server) -> None:
    known["x.txt"] = Source(checksum(GOOD), f"{server.url}/x.txt")
    (tmp_path / "x.txt").write_bytes(b"half of i")
    with pytest.raises(UserError, match=r"x.txt is another file \(sha256 expected .*404"):
        fetch_files(["x.txt"], tmp_path)
    assert (tmp_path / "x.txt").read_bytes() == b"half of i"

    server.give("x.txt", GOOD)
    fetch_files(["x.txt"], tmp_path)
    assert (tmp_path / "x.txt").read_bytes() == GOOD


def test_a_page_instead_of_data(tmp_path: Path, known: dict[str, Source], server: Server) -> None:
    known["x.txt"] = Source(None, f"{server.url}/x.txt")
    server.give("x.txt", b"\n<!DOCTYPE html><title>Quota exceeded</title>")

    with pytest.raises(UserError, match="HTML page"):
        fetch_files(["x.txt"], tmp_path)
    assert files(tmp_path) == set()


def test_an_empty_file(tmp_path: Path, known: dict[str, Source], server: Server) -> None:
    known["x.txt"] = Source(None, f"{server.url}/x.txt")
    server.give("x.txt", b"")

    with pytest.raises(UserError, match="is empty"):
        fetch_files(["x.txt"], tmp_path)


def test_a_host_that_does_not_answer_is_asked_once(tmp_path: Path, known: dict[str, Source], server: Server) -> None:
    for name in ("x", "y"):
        known[f"{name}.txt"] = Source(None, f"{server.url}/{name}.txt")
        server.give(f"{name}.txt", GOOD, delay=0.6)

    with pytest.raises(UserError) as error:
        fetch_files(["x.txt", "y.txt"], tmp_path, timeout=(0.2, 0.2))

    assert str(error.value).count("did not answer in time") == 2
    assert len(server.asked) == 1
    assert files(tmp_path) == set()


def test_a_mirror_that_does_not_answer(tmp_path: Path, known: dict[str, Source], server: Server) -> None:
    known["x.txt"] = Source(None, None)
    server.give("x.txt", GOOD, delay=0.6)

    with pytest.raises(UserError, match=f"mirror {server.url}: .*did not answer in time"):
        fetch_files(["x.txt"], tmp_path, server.url, timeout=(0.2, 0.2))


def test_a_connection_that_breaks_off(tmp_path: Path, known: dict[str, Source], server: Server) -> None:
    known["x.txt"] = Source(None, "http://127.0.0.1:9/x.txt")

    with pytest.raises(UserError, match=r"no connection to 127\.0\.0\.1:9"):
        fetch_files(["x.txt"], tmp_path)


def test_a_file_that_breaks_off_in_the_middle(tmp_path: Path, known: dict[str, Source], server: Server) -> None:
    known["x.txt"] = Source(None, f"{server.url}/x.txt")
    server.give("x.txt", GOOD, missing=100)

    with pytest.raises(UserError, match="broke off in the middle"):
        fetch_files(["x.txt"], tmp_path)
    assert files(tmp_path) == set()


def test_a_mirror_that_is_no_folder(tmp_path: Path, known: dict[str, Source]) -> None:
    known["x.txt"] = Source(None, None)

    with pytest.raises(UserError, match=r"no such folder.*DUVAE_MIRROR"):
        fetch_files(["x.txt"], tmp_path, str(tmp_path / "nowhere"))


def test_all_missing_files_are_told_at_once(tmp_path: Path, known: dict[str, Source], server: Server) -> None:
    known["a/there.txt"] = Source(None, f"{server.url}/there.txt")
    known["a/x.txt"] = Source(None, f"{server.url}/x.txt")
    known["a/y.txt"] = Source(None, f"{server.url}/all.tar.gz", "a_data/y.txt")
    known["a/z.txt"] = Source(None, None)
    server.give("there.txt", GOOD)
    server.give("x.txt", b"busy", status=503)

    with pytest.raises(UserError) as error:
        fetch_files(["a/there.txt", "a/x.txt", "a/y.txt", "a/z.txt"], tmp_path / "raw" / "short")

    said = str(error.value)
    assert said.startswith("3 files of data set 'short'")
    assert all(part in said for part in ("a/x.txt", "503", "a/y.txt", "404", "a/z.txt", "no address"))
    assert "there.txt" not in said
    assert "DUVAE_MIRROR=<mirror> duvae fetch --dataset short" in said
    assert "<mirror>/a/x.txt" in said


def test_members_of_an_archive(tmp_path: Path, known: dict[str, Source], server: Server) -> None:
    url = f"{server.url}/all.tar.gz"
    known["a/x.txt"] = Source(checksum(GOOD), url, "a_data/x.txt")
    known["a/y.txt"] = Source(None, url, "a_data/y.txt")
    members = {"./a_data/x.txt": GOOD, "b_data/x.txt": b"not this", "a_data/y.txt": b"1\tfine\n", "../evil": b"no"}
    server.give("all.tar.gz", archive(dict(members)))

    got = fetch_files(["a/x.txt", "a/y.txt"], tmp_path / "raw" / "a")

    assert files(tmp_path) == {"raw/a/a/x.txt", "raw/a/a/y.txt"}
    assert (tmp_path / "raw/a/a/x.txt").read_bytes() == GOOD
    assert "a_data/x.txt of" in got[0].origin
    assert server.asked == ["/all.tar.gz"]


def _link() -> tarfile.TarInfo:
    info = tarfile.TarInfo("a_data/x.txt")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (archive({"../a_data/x.txt": GOOD}), "not a plain file inside the archive"),
        (archive({"/a_data/x.txt": GOOD}), "not a plain file inside the archive"),
        (archive({"a_data/x.txt": _link()}), "not a plain file inside the archive"),
        (archive({"a_data/x.txt": b"other"}), "is not the known one"),
        (archive({"a_data/z.txt": GOOD}), "has no a_data/x.txt"),
        (archive({"a_data/x.txt": GOOD * 500})[:60], "expected a tar.gz archive"),
        (b"no archive", "expected a tar.gz archive"),
        (b"<html>Sign in</html>", "HTML page"),
    ],
    ids=["climbs", "absolute", "link", "other", "lacking", "cut_short", "no_archive", "page"],
)
def test_a_bad_archive(content: bytes, said: str, tmp_path: Path, known: dict[str, Source], server: Server) -> None:
    known["a/x.txt"] = Source(checksum(GOOD), f"{server.url}/all.tar.gz", "a_data/x.txt")
    server.give("all.tar.gz", content)

    with pytest.raises(UserError, match=said):
        fetch_files(["a/x.txt"], tmp_path / "raw" / "a")
    assert files(tmp_path) == set()


def test_own_files_are_copied_from_where_they_lie(tmp_path: Path, known: dict[str, Source]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/train.txt").write_bytes(GOOD)
    folder = tmp_path / "data" / "raw" / "own"

    fetch_files(["mine/train.txt", str(tmp_path / "mine/train.txt")], folder, root=tmp_path)
    assert (folder / "mine/train.txt").read_bytes() == GOOD
    (tmp_path / "mine/train.txt").write_bytes(b"1\tchanged\n")
    fetch_files(["mine/train.txt"], folder, root=tmp_path)
    assert (folder / "mine/train.txt").read_bytes() == b"1\tchanged\n"

    with pytest.raises(UserError, match=r"no such file: .*mine/valid.txt, .*gone.txt.*your own"):
        fetch_files(["mine/train.txt", "mine/valid.txt", "gone.txt"], folder, root=tmp_path)
    with pytest.raises(UserError, match="Move it to another folder"):
        fetch_files(["data/raw/own/mine/train.txt"], folder, root=tmp_path)
    with pytest.raises(UserError, match="the same path"):
        fetch_files(["x.txt", "../x.txt"], folder, root=tmp_path)


def test_a_read_error_names_the_source_and_not_the_file_that_is_written(
    tmp_path: Path, known: dict[str, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.txt").write_bytes(GOOD)
    opened = Path.open

    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def open_source(path: Path, *arguments: Any, **options: Any) -> Any:
        return Broken() if path == tmp_path / "train.txt" else opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_source)
    with pytest.raises(UserError, match=r"train\.txt: cannot be read \(Input/output error\)") as error:
        fetch_files(["train.txt"], tmp_path / "raw/own", root=tmp_path)

    assert str(error.value).startswith(f"{tmp_path}/train.txt: ")
    assert files(tmp_path) == {"train.txt"}


def test_an_empty_file_of_the_user_is_not_called_deleted(tmp_path: Path, known: dict[str, Source]) -> None:
    (tmp_path / "train.txt").touch()

    with pytest.raises(UserError, match=r"train\.txt: expected a file with content; found an empty one") as error:
        fetch_files(["train.txt"], tmp_path / "raw/own", root=tmp_path)
    assert "deleted" not in str(error.value).lower()
    assert files(tmp_path) == {"train.txt"}


def test_places_stay_inside() -> None:
    assert [str(path_in_folder(path)) for path in ("a/b", "/a/b", "../../a/b", "./a/../b")] == [
        "a/b",
        "a/b",
        "a/b",
        "a/b",
    ]


def test_the_stage_leaves_exactly_the_files_of_the_data_set(
    tmp_path: Path, known: dict[str, Source], capsys: pytest.CaptureFixture[str]
) -> None:
    params = load(ROOT / "params.yaml")
    mirror = tmp_path / "mirror"
    for path in params.datasets["short_yelp"].source.paths:
        known[path] = Source(None, None)
        (mirror / path).parent.mkdir(exist_ok=True, parents=True)
        (mirror / path).write_bytes(GOOD)
    folder = tmp_path / "data/raw/short_yelp"
    (folder / "old").mkdir(parents=True)
    (folder / "old/left.txt").write_text("of another time")

    stage.run(params, "short_yelp", str(mirror), tmp_path)

    assert files(folder) == {*known, fetched.FILE}
    assert not (folder / "old").exists()
    said = capsys.readouterr().out
    assert said.count(hashlib.sha256(GOOD).hexdigest()) == len(known)
    assert said.count("no known checksum to compare with") == len(known)
    assert stage.run(params, "synthetic", root=tmp_path) == []


@pytest.mark.mirror
def test_the_real_files_have_their_checksums(tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got = stage.run(load(ROOT / "params.yaml"), "short_yelp_resampled", str(mirror), tmp_path)

    assert len(got) == 12
    assert {f"sha256:{file.sha256}" for file in got} == {sources.SOURCES[file.path].checksum for file in got}
    monkeypatch.setattr(sources, "SOURCES", {"short_yelp/short_yelp.train.txt": Source(None, None)})
    with pytest.raises(UserError, match=r"1 file .*\n  short_yelp/short_yelp.train.txt: not in the mirror"):
        fetch_files(["short_yelp/short_yelp.train.txt"], tmp_path / "short_yelp", str(mirror))
