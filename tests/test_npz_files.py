"""An npz file of the user is read as numpy.savez wrote it, or is refused before memory is taken."""

import io
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import tiny
from duvae import cli
from duvae.data.image_files import read_npz
from spoiling import with_unknown_compression
from test_known_early import Plain

IMAGES = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)

    return file.getvalue()


def packed(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", compression) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of two members of one name
        for name, content in members:
            archive.writestr(name, content)

    return file.getvalue()


def headed(header: str, content: bytes = b"abc") -> bytes:
    """An array's file with a header that numpy did not write."""
    text = header.encode().ljust(118) + b"\n"

    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def shaped(shape: str) -> bytes:
    return headed(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}")


def encrypted() -> bytes:
    content = bytearray(packed(("images.npy", npy(IMAGES))))
    content[6] |= 1
    content[content.find(b"PK\x01\x02") + 8] |= 1

    return bytes(content)


CASES: dict[str, tuple[bytes, str]] = {
    "two of one name": (
        packed(("images.npy", npy(IMAGES)), ("images.npy", npy(255 - IMAGES))),
        "expected one array of each name; found two named images",
    ),
    "one name, two spellings": (
        packed(("images.npy", npy(IMAGES)), ("images", npy(255 - IMAGES))),
        "expected one array of each name; found two named images",
    ),
    "more numbers than announced": (
        packed(("images.npy", npy(IMAGES) + b"more")),
        "expected as many bytes as its header announces, the shape (3, 8, 8) of uint8; found 196 bytes",
    ),
    "fewer numbers than announced": (packed(("images.npy", shaped("(4000000, 8, 128)"))), "found 3 bytes"),
    "negative lengths": (packed(("images.npy", shaped("(-1, -3, 1)"))), "expected as many bytes as its header"),
    "a length of true": (packed(("images.npy", shaped("(True, 3)"))), "expected a shape of whole numbers"),
    "deep header": (packed(("images.npy", headed("[" * 3000))), "expected arrays that numpy.savez wrote"),
    "huge header": (
        packed(("images.npy", b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + b" " * 2**27), compression=8),
        "expected arrays that numpy.savez wrote",
    ),
    "another compression": (
        with_unknown_compression(packed(("images.npy", npy(IMAGES)))),
        "it cannot be read (That compression method is not supported)",
    ),
    "password": (encrypted(), "expected an array without a password; found an encrypted one"),
    "script in front": (b"#!/bin/sh\n" + packed(("images.npy", npy(IMAGES))), "found another file"),
    "a single array": (npy(IMAGES), "found another file"),
    "many arrays": (packed(*((f"{n}.npy", npy(n)) for n in range(101))), "expected at most 100 arrays; found 101"),
    "escape sequence": (packed(("a\n\x1b[31m.npy", npy(IMAGES))), r"found 'a\n\x1b[31m'"),
    "direction of writing": (packed(("\u202eimages.npy", npy(IMAGES))), r"found '\u202eimages'"),
    "long name": (packed(("x" * 60_000 + ".npy", npy(IMAGES))), "expected an array named images"),
}


@pytest.mark.parametrize("case", CASES)
def test_strange_npz_files_are_refused(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = CASES[case]
    raw = tiny.small()
    raw["datasets"]["pictures"]["source"]["path"] = "x.npz"
    (tmp_path / "params.yaml").write_text(yaml.dump(raw, Dumper=Plain), encoding="utf-8")
    (tmp_path / "data/raw/pictures").mkdir(parents=True)
    (tmp_path / "data/raw/pictures/x.npz").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["duvae", "prepare", "--dataset", "pictures"])
    tracemalloc.start()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    error = capsys.readouterr().err

    assert ended.value.code == 2, error
    assert message in error
    assert len(error) < 500
    assert error.strip().isprintable()
    assert "pickle" not in error
    assert most < 2**26
    assert not (tmp_path / "data/grey").exists()


@pytest.mark.parametrize("force_zip64", [False, True])
@pytest.mark.parametrize(
    "images",
    [IMAGES, np.asfortranarray(IMAGES), (IMAGES / 255).astype(">f8"), (IMAGES / 255).astype(np.float16), IMAGES > 9],
    ids=["C", "Fortran", "big-endian", "half", "bits"],
)
def test_arrays_keep_their_values(tmp_path: Path, images: Any, force_zip64: bool) -> None:
    with (
        zipfile.ZipFile(tmp_path / "x.npz", "w") as archive,
        archive.open("images.npy", "w", force_zip64=force_zip64) as member,
    ):
        member.write(npy(images))

    assert np.array_equal(read_npz(tmp_path / "x.npz")["images"], images)


def test_version_2_of_the_header_is_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.lib.format.write_array(file, IMAGES, version=(2, 0))
    (tmp_path / "x.npz").write_bytes(packed(("images.npy", file.getvalue())))

    assert np.array_equal(read_npz(tmp_path / "x.npz")["images"], IMAGES)
