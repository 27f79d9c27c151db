"""A sound project, and functions that spoil one thing in a copy of it."""

import errno
import functools
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file, save_file

from duvae.data import fetching, sources, store
from duvae.data.sources import Source
from duvae.data.splits import UNKNOWN
from duvae.project.files import as_json, file_digest
from duvae.report import figures
from serving import Server

KNOWN = "known/train.txt"
"""The file of a data set that has a checksum."""


@dataclass(frozen=True)
class Here:
    """A copy of the sound project, and the tools with which a test may change it.

    Attributes:
        root: Folder of the copy.
        patch: Replaces answers of the operating system until the test ends.
        server: Web server that stands in for a mirror.
    """

    root: Path
    patch: pytest.MonkeyPatch
    server: Server


Spoil = Callable[[Here], object]


@dataclass(frozen=True)
class Kind:
    """One kind of bad input.

    Attributes:
        command: Command that meets the bad input, without the word `duvae`.
        spoil: Function that puts the bad input into the sound project.
        where: File, line or key that the message names. `{url}` stands for the mirror's address.
        wrong: Part of the message that says what is wrong.
        expected: Part of the message that says what was expected, or what the user should do.
        writes: Paths at which complete files may appear or disappear in spite of the error.
        code: Exit status: 2 for a mistake, HOST_UNAVAILABLE if a host did not answer.
    """

    command: str
    spoil: Spoil
    where: str
    wrong: str
    expected: str
    writes: tuple[str, ...] = ()
    code: int = 2


# ------------------------------------------------------------------- how things are spoilt


def leave(_: Here) -> None:
    """Changes nothing, because the mistake is in the command itself."""


def param(key: str, value: Any) -> Spoil:
    """Changes the value of a key of params.yaml."""

    def spoil(here: Here) -> None:
        path = here.root / "params.yaml"
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        *above, last = key.split(".")
        functools.reduce(lambda inside, name: inside[name], above, raw)[last] = value
        path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")

    return spoil


def write(path: str, content: str | bytes) -> Spoil:
    """Replaces or creates a file."""

    def spoil(here: Here) -> None:
        gone(path)(here)
        (here.root / path).parent.mkdir(parents=True, exist_ok=True)
        (here.root / path).write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def gone(path: str) -> Spoil:
    """Removes a file or a folder."""

    def spoil(here: Here) -> None:
        target = here.root / path
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    return spoil


def cut(path: str, share: float = 0.5) -> Spoil:
    """Cuts off the end of a file."""

    def spoil(here: Here) -> None:
        content = (here.root / path).read_bytes()
        (here.root / path).write_bytes(content[: int(share * len(content))])

    return spoil


def flipped(path: str, place: int) -> Spoil:
    """Changes one bit of a file: the lowest bit of the byte at the index `place`."""

    def spoil(here: Here) -> None:
        content = bytearray((here.root / path).read_bytes())
        content[place] ^= 1
        (here.root / path).write_bytes(content)

    return spoil


def folder(path: str) -> Spoil:
    """Replaces a file by a folder."""

    def spoil(here: Here) -> None:
        gone(path)(here)
        (here.root / path).mkdir(parents=True)

    return spoil


def copy(source: str, target: str) -> Spoil:
    """Replaces a file or folder by another one."""

    def spoil(here: Here) -> None:
        gone(target)(here)
        (shutil.copytree if (here.root / source).is_dir() else shutil.copy)(here.root / source, here.root / target)

    return spoil


def line(path: str, number: int, text: str) -> Spoil:
    """Replaces one line of a file."""

    def spoil(here: Here) -> None:
        lines = (here.root / path).read_text(encoding="utf-8").split("\n")
        lines[number - 1] = text
        (here.root / path).write_text("\n".join(lines), encoding="utf-8")

    return spoil


def entry(path: str, key: str, value: Any = None) -> Spoil:
    """Changes the value of a key of a JSON file. Without a value, the key is removed."""

    def spoil(here: Here) -> None:
        known = json.loads((here.root / path).read_text(encoding="utf-8"))
        known.pop(key)
        (here.root / path).write_text(json.dumps(known if value is None else {**known, key: value}), encoding="utf-8")

    return spoil


def recorded(path: str, key: str, value: Any = None) -> Spoil:
    """Changes a field of a stage's record. Without a value, the field is removed."""

    def spoil(here: Here) -> None:
        (known,) = json.loads((here.root / path).read_text(encoding="utf-8"))["record"]
        known.pop(key)
        known = known if value is None else {**known, key: value}
        (here.root / path).write_text(json.dumps({"record": [known]}), encoding="utf-8")

    return spoil


def stamped(folder: str, record: str, name: str) -> Spoil:
    """Enters the digest of an output into the record of its stage, as the stage itself does."""

    def spoil(here: Here) -> None:
        path = here.root / folder / record
        (known,) = json.loads(path.read_text(encoding="utf-8"))["record"]
        known["outputs"] = {name: file_digest(here.root / folder / name)}
        path.write_text(json.dumps({"record": [known]}), encoding="utf-8")

    return spoil


def array(path: str, change: Callable[[Any], Any]) -> Spoil:
    """Changes the array in a file."""

    def spoil(here: Here) -> None:
        np.save(here.root / path, change(np.load(here.root / path)), allow_pickle=True)
        resign((here.root / path).parent)

    return spoil


def resign(folder: Path) -> None:
    """Enters the digests of changed files into the summary of a prepared data set, so that reading goes on."""
    summary = folder / store.SUMMARY
    if summary.exists():
        content = json.loads(summary.read_text(encoding="utf-8"))
        names = [path.name for path in sorted(folder.iterdir()) if path.name != store.SUMMARY]
        content[store.DIGESTS] = {name: file_digest(folder / name) for name in names}
        summary.write_text(as_json(store.signed(content)), encoding="utf-8")


def single(dataset: str) -> Spoil:
    """Leaves one test example of a prepared data set."""

    def spoil(here: Here) -> None:
        folder = here.root / "data/prepared" / dataset
        prepared = store.read(folder)
        first = {"test": prepared.split("test").only(np.arange(1))}
        store.write(folder, replace(prepared, splits={**prepared.splits, **first}))

    return spoil


def table(path: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Spoil:
    """Changes the table in a file."""

    def spoil(here: Here) -> None:
        if path.endswith(".csv"):
            change(pd.read_csv(here.root / path)).to_csv(here.root / path, index=False)
        else:
            change(pd.read_parquet(here.root / path)).to_parquet(here.root / path)

    return spoil


def both(*spoils: Spoil) -> Spoil:
    """Spoils several things, one after the other."""

    def spoil(here: Here) -> None:
        for one in spoils:
            one(here)

    return spoil


def unnamed(source: str, target: str) -> Spoil:
    """Replaces weights by others that do not say which model they belong to."""

    def spoil(here: Here) -> None:
        save_file(load_file(here.root / source), here.root / target)

    return spoil


def infinite(path: str) -> Spoil:
    """Sets one value of the weights to NaN."""

    def spoil(here: Here) -> None:
        tensors = load_file(here.root / path)
        next(iter(tensors.values())).view(-1)[0] = float("nan")
        save_file(tensors, here.root / path)

    return spoil


def refusing(here: Here) -> None:
    """Names a tracking server that does not exist. Without the limit on retries, MLflow would try for minutes."""
    here.patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    here.patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def unknown(ids: Any) -> Any:
    """Replaces every word by the unknown word."""
    return np.where(ids > UNKNOWN, UNKNOWN, ids)


class Trap:
    """Writes a file if it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("executed"), "")


# ------------------------------------------------------------------- mirrors


def mirror(content: bytes | None, **answer: Any) -> Spoil:
    """Serves the known file from this machine with the given answer. The answer is 404 if the content is None."""

    def spoil(here: Here) -> None:
        if content is not None:
            here.server.give(KNOWN, content, **answer)
        here.patch.setenv("DUVAE_MIRROR", here.server.url)

    return spoil


def impatient(here: Here) -> None:
    """Reduces the time limits of downloads to a fifth of a second."""
    here.patch.setattr("duvae.commands.fetch.fetch_files", functools.partial(fetching.fetch_files, timeout=(0.2, 0.2)))


def archive(member: tarfile.TarInfo, content: bytes = b"") -> Spoil:
    """Makes the known file a member of an archive."""

    def spoil(here: Here) -> None:
        packed = io.BytesIO()
        member.size = len(content)
        with tarfile.open(fileobj=packed, mode="w:gz") as file:
            file.addfile(member, io.BytesIO(content))
        here.server.give("all.tar.gz", packed.getvalue())
        known = Source(None, f"{here.server.url}/all.tar.gz", KNOWN)
        here.patch.setattr(sources, "SOURCES", {**sources.SOURCES, KNOWN: known})

    return spoil


def link(name: str, target: str) -> tarfile.TarInfo:
    """A member that is a link to a path outside the archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target

    return info


# ------------------------------------------------------------------- disks


def full_at_fsync(here: Here) -> None:
    """Pretends that the disk is full. The error appears only when a file is flushed to the disk."""

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    here.patch.setattr(os, "fsync", fail)


def full_at_write(here: Here) -> None:
    """Pretends that the disk is full. Any new file ends in the middle, and so does the second array."""
    mkstemp, save, arrays = tempfile.mkstemp, np.save, []

    def to_a_full_device(*args: Any, **options: Any) -> tuple[int, str]:
        handle, name = mkstemp(*args, **options)
        Path(name).unlink()
        Path(name).symlink_to("/dev/full")
        return handle, name

    def half(path: Path, values: Any) -> None:
        save(path, values)
        arrays.append(path)
        if len(arrays) == 2:
            os.truncate(path, path.stat().st_size // 2)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    here.patch.setattr(tempfile, "mkstemp", to_a_full_device)
    here.patch.setattr(np, "save", half)


def no_permission(here: Here) -> None:
    """Refuses every new file and folder below the project. Real permissions would not stop tests that run as root."""

    def refuse(call: Callable[..., Any]) -> Callable[..., Any]:
        def refused(path: Any, *args: Any, **options: Any) -> Any:
            place = Path(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else None
            if place and (here.root in place.absolute().parents) and not place.exists():
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path, *args, **options)

        return refused

    here.patch.setattr(os, "mkdir", refuse(os.mkdir))
    here.patch.setattr(os, "open", refuse(os.open))


def undrawn(here: Here) -> None:
    """Replaces figures by short constants, because each takes a second to draw."""
    here.patch.setattr(figures, "png", lambda *_, **__: b"\x89PNG")
    here.patch.setattr(figures, "svg", lambda *_, **__: "<svg></svg>")


def full_at_copy(here: Here) -> None:
    """Pretends that the disk is full when artifacts are copied."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    here.patch.setattr(shutil, "copy2", fail)


def with_unknown_compression(archive: bytes) -> bytes:
    """A zip archive whose members name a method of compression that Python does not have (97, WavPack)."""
    changed = bytearray(archive)
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = changed.find(signature)
        while at >= 0:
            changed[at + place : at + place + 2] = (97).to_bytes(2, "little")
            at = changed.find(signature, at + 1)

    return bytes(changed)


def with_damaged_content(archive: bytes) -> bytes:
    """A compressed zip archive whose first member begins with a kind of block that the format deflate does not have."""
    changed = bytearray(archive)
    changed[30 + int.from_bytes(archive[26:28], "little") + int.from_bytes(archive[28:30], "little")] = 0xFF

    return bytes(changed)
