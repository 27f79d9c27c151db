"""Pictures of the user: every file of a folder is used, is named in an error, or is counted in a warning."""

import io
import os
import shutil
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import drawings
import tiny
from command_line import call
from duvae.config import ImageSource
from duvae.data import image_files
from duvae.data.image_files import read_picture
from duvae.data.split_names import SPELLINGS, looks_like_split, named_splits, split_of
from duvae.data.splits import Array
from duvae.data.store import Prepared
from duvae.data.user_files import files_in
from duvae.data.user_images import prepared_images
from duvae.errors import UserError

SOURCE = ImageSource(path="leaves", ink="dark", valid=0.2, test=0.2, seed=1, size=5)


def prepared_from(folder: Path) -> Prepared:
    return prepared_images(SOURCE.model_copy(update={"path": folder.name}), folder.parent)


def fill(folder: Path, names: list[str], each: int = 4) -> None:
    """Writes `each` different pictures into each of the folders `names` below `folder`."""
    for number, name in enumerate(names):
        pictures = {f"{n}.png": drawings.letter(100 * number + n, 24) for n in range(each)}
        drawings.folder(folder / name, pictures)


# ------------------------------------------------------------------------------------ names of splits


@pytest.mark.parametrize(
    "names",
    [
        ["train", "val", "test"],
        ["Train", "Validation", "TEST"],
        ["training", "dev", "testing"],
    ],
)
def test_usual_spellings_of_the_splits_are_accepted(tmp_path: Path, names: list[str]) -> None:
    fill(tmp_path / "leaves", [f"{name}/{kind}" for name in names for kind in ("cat", "dog")])
    prepared = prepared_from(tmp_path / "leaves")

    assert {name: len(split) for name, split in prepared.splits.items()} == {"train": 8, "valid": 8, "test": 8}
    assert prepared.summary["characters"] == ["cat", "dog"]


@pytest.mark.parametrize(
    "names",
    [
        ["train", "valid", "test", "extra"],
        ["train", "test"],
        ["train", "tests", "valid"],
        ["train", "valid", "val", "test"],
        ["trainset", "testset"],
        ["photos_train", "photos_test"],
        ["trainA", "trainB", "testA", "testB"],
        ["cat", "dog", "Test"],
        ["train", "valid", "eval"],
        ["cat/train", "cat/test", "dog/train", "dog/test"],
        ["data/train", "data/valid", "data/test"],
        ["train", "valid", "test", "."],
        ["cat", "t\u0435st"],
        ["cat", "\uff54\uff45\uff53\uff54"],
        ["cat", "t\u00e9st"],
        ["trn", "tst"],
        ["photos", "photos_test"],
        ["Photos", "test-photos"],
        ["mnist_traindata", "mnist_testdata"],
    ],
)
def test_names_that_look_like_splits_never_become_classes(tmp_path: Path, names: list[str]) -> None:
    fill(tmp_path / "leaves", [f"{name}/{kind}" for name in names for kind in ("cat", "dog")])
    if "." in names:
        shutil.rmtree(tmp_path / "leaves/cat")
        shutil.rmtree(tmp_path / "leaves/dog")
        fill(tmp_path / "leaves", ["."])

    with pytest.raises(UserError, match=r"expected (exactly )?the folders train, valid and test"):
        prepared_from(tmp_path / "leaves")


def test_two_words_inside_names_that_stand_for_splits_are_refused() -> None:
    with pytest.raises(UserError, match=r"here: expected exactly the folders .* found photos_test, photos_train"):
        named_splits(["photos_train", "photos_test"], "here", "folders")


@pytest.mark.parametrize(
    "names", [["bus", "bullet_train", "car"], ["latest", "oldest"], ["contest"], ["devil", "a"], ["test_tube", "cup"]]
)
def test_other_names_are_classes(tmp_path: Path, names: list[str]) -> None:
    fill(tmp_path / "leaves", names, 12)

    assert prepared_from(tmp_path / "leaves").summary["characters"] == sorted(names)


@given(st.lists(st.sampled_from([*sum(SPELLINGS.values(), ()), "cat", "Tests", "eval", "x"]), min_size=1, max_size=5))
def test_splits_are_complete_or_refused(names: list[str]) -> None:
    """Either no name looks like a split, or each split has exactly one name and no name is left."""
    try:
        splits = named_splits(names, "here", "folders")
    except UserError:
        assert any(looks_like_split(name) for name in names)
        return

    if splits is None:
        assert not any(looks_like_split(name) for name in names)
    else:
        assert {split: split_of(name) for split, name in splits.items()} == {
            name: name for name in ("train", "valid", "test")
        }
        assert sorted(splits.values()) == sorted(set(names))


# ------------------------------------------------------------------------------------ no file is left out


def test_links_to_folders_and_files_are_followed(tmp_path: Path) -> None:
    fill(tmp_path / "leaves", ["a"], 8)
    fill(tmp_path / "elsewhere", ["."], 8)
    (tmp_path / "leaves/b").symlink_to("../elsewhere")
    (tmp_path / "leaves/a/more.png").symlink_to("../../elsewhere/0.png")
    prepared = prepared_from(tmp_path / "leaves")

    assert sum(len(split) for split in prepared.splits.values()) == 17
    assert prepared.summary["characters"] == ["a", "b"]


def loop(folder: Path) -> None:
    (folder / "a/up").symlink_to("..")


def broken(folder: Path) -> None:
    (folder / "a/9.png").symlink_to("nowhere.png")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "a/9.png")


def device(folder: Path) -> None:
    (folder / "a/9.png").symlink_to("/dev/zero")


def latin(folder: Path) -> None:
    shutil.copy(folder / "a/0.png", os.fsencode(folder) + b"/a/caf\xe9.png")


def line_feed(folder: Path) -> None:
    shutil.copy(folder / "a/0.png", folder / "a/9\n\x1b[31m.png")


def direction(folder: Path) -> None:
    (folder / "c\u202eb").mkdir()
    shutil.copy(folder / "a/0.png", folder / "c\u202eb/9.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (line_feed, r"leaves/a: expected names without control characters; found '9\\n\\x1b\[31m\.png'\. Rename it"),
        (direction, r"leaves: expected names without control characters; found 'c\\u202eb'\. Rename it"),
        (loop, r"leaves/a/up: a link that leads back to .*leaves, a folder above it"),
        (broken, r"leaves/a/9\.png: a link to nowhere\.png, which does not exist"),
        (device, r"leaves/a/9\.png: expected a file or a folder; found neither"),
        (pipe, r"leaves/a/9\.png: expected a file or a folder; found neither"),
        (latin, r"leaves/a/caf\\xe9\.png: expected a name in UTF-8"),
    ],
)
def test_what_cannot_be_followed_is_named(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    fill(tmp_path / "leaves", ["a", "b"], 6)
    spoil(tmp_path / "leaves")

    with pytest.raises(UserError, match=message) as error:
        files_in(tmp_path / "leaves")
    str(error.value).encode("utf-8")


@pytest.mark.parametrize("name", ["caf\u00e9.png", "9.41\u202fAM.png", "\u732b \U0001f469\u200d\U0001f33e.png"])
def test_usual_names_in_other_languages_are_read(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "leaves", ["a"], 1)
    (tmp_path / "leaves/a/0.png").rename(tmp_path / "leaves/a" / name)

    assert [file.name for file in files_in(tmp_path / "leaves")] == [name]


def test_files_of_the_same_name_have_a_digest_each(tmp_path: Path) -> None:
    fill(tmp_path / "leaves", ["a", "b"], 10)
    files = prepared_from(tmp_path / "leaves").summary["files"]

    names = [f"{kind}/{n}.png" for kind in "ab" for n in range(10)]
    assert files == {name: sha256((tmp_path / "leaves" / name).read_bytes()).hexdigest() for name in names}


# ------------------------------------------------------------------------------------ content of pictures


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)

    return file.getvalue()


TURNS = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(np.fliplr(x), -1),
    8: np.rot90,
}
"""How a viewer turns the stored pixels, by the value of the EXIF tag `Orientation`."""


@pytest.mark.parametrize("orientation", TURNS)
def test_pictures_are_turned_as_their_exif_data_say(orientation: int) -> None:
    drawn = ~drawings.letter(1, 12)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(drawn).convert("L"), "PNG", exif=exif)

    np.testing.assert_array_equal(read_picture(content, "it").lightness, TURNS[orientation](drawn))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_frames_that_are_not_read_are_counted(tmp_path: Path, kind: str) -> None:
    fill(tmp_path / "leaves", ["."], 10)
    first, *more = (Image.fromarray(~drawings.letter(n, 24)).convert("L") for n in (50, 51, 52))
    content = saved(first, kind, save_all=True, append_images=more)
    (tmp_path / f"leaves/animated.{kind.lower()}").write_bytes(content)
    prepared = prepared_from(tmp_path / "leaves")

    assert read_picture(content, "it").frames == 3
    np.testing.assert_allclose(read_picture(content, "it").lightness, ~drawings.letter(50, 24), atol=0.1)
    (warning,) = prepared.summary["warnings"]
    assert "2 frames of 1 picture left out" in warning
    assert f"animated.{kind.lower()}, 2 left out" in warning


def test_only_the_formats_that_are_meant_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would run the program `gs` for a PostScript file, whatever the name of the file."""
    ran = tmp_path / "ran"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"

    with pytest.raises(UserError, match=r"a\.png: expected a picture \(BMP, GIF"):
        read_picture(postscript, "a.png")
    assert not ran.exists()
    assert not {"EPS", "WMF", "PSD", "FITS", "HDF5"} & set(image_files.FORMATS)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_pictures_of_16_bits_are_read(kind: str) -> None:
    lightness = np.arange(144, dtype=np.uint16).reshape(12, 12) * 450
    content = saved(Image.fromarray(lightness), kind)

    np.testing.assert_allclose(read_picture(content, "it").lightness, lightness / 65535)


def test_bits_saved_as_whole_numbers_are_refused(tmp_path: Path) -> None:
    """Pixels of 0 and 1 in a picture of 8 bits are nearly black, and their drawn bits would be noise."""
    (tmp_path / "leaves").mkdir()
    for n in range(10):
        Image.fromarray((~drawings.letter(n, 10)).astype(np.uint8)).save(tmp_path / f"leaves/{n}.png")

    with pytest.raises(UserError, match=r"leaves: expected pixels that use the range .* the largest is 1 of 255"):
        prepared_from(tmp_path / "leaves")


def test_a_part_of_the_range_gives_a_warning(tmp_path: Path) -> None:
    images = np.stack([~drawings.letter(n, 10) for n in range(10)]).astype(np.uint8) * 16
    np.savez(tmp_path / "leaves.npz", images=images)
    (warning,) = prepared_from(tmp_path / "leaves.npz").summary["warnings"]

    assert "array images: no pixel is lighter than 16 of 255" in warning


# ------------------------------------------------------------------------------------ sizes


def announced(path: Path, shape: tuple[int, ...], content: bytes = b"") -> None:
    """Writes an npz file with one array, whose header announces a shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + content)


@pytest.mark.parametrize("shape", [(10**6, 1000, 1000), (8 * 10**6, 32, 32), (2**62, 4, 1), (-1, 5, 5)])
def test_arrays_that_are_too_large_are_refused_before_memory_is_taken(tmp_path: Path, shape: tuple[int, ...]) -> None:
    announced(tmp_path / "leaves.npz", shape, b"\0" * 10**6)

    with pytest.raises(UserError, match=r"leaves\.npz.*(expected arrays of at most 4 GiB|expected as many bytes|none)"):
        prepared_from(tmp_path / "leaves.npz")


def test_an_npz_that_does_not_fit_into_the_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 71 would make a rebuild try again, though the memory does not grow."""
    np.savez(tmp_path / "leaves.npz", images=np.zeros((20, 5, 5)))

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "load", full)
    with pytest.raises(UserError, match=r"leaves\.npz: does not fit into the memory"):
        prepared_from(tmp_path / "leaves.npz")


def other_member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"no array")


def text_member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"\x93NUMPY nothing")


def short(path: Path) -> None:
    announced(path, (20, 10, 10), b"\0" * 100)


@pytest.mark.parametrize("spoil", [other_member, text_member, short])
def test_members_that_are_no_arrays_are_named(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(tmp_path / "leaves.npz")

    with pytest.raises(UserError, match=r"leaves\.npz.*expected (arrays that numpy\.savez wrote|as many bytes)"):
        prepared_from(tmp_path / "leaves.npz")


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
def test_images_are_converted_in_blocks(tmp_path: Path, count: int) -> None:
    images: Array = np.random.default_rng(1).random((count + 9, 10, 10))
    np.savez(tmp_path / "leaves.npz", images=images)
    prepared = prepared_from(tmp_path / "leaves.npz")
    found = np.concatenate([split.pixels for split in map(prepared.images, prepared.splits)])

    np.testing.assert_allclose(np.sort(found.mean((1, 2))), np.sort(1 - images.mean((1, 2))), rtol=1e-5)


def test_prepare_prints_the_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tiny.small(), sort_keys=False), encoding="utf-8")
    tiny.pictures(tmp_path)
    first, second = (Image.fromarray(~drawings.letter(n, 30)).convert("L") for n in (50, 51))
    (tmp_path / "pictures/a/x/animated.gif").write_bytes(saved(first, "GIF", save_all=True, append_images=[second]))
    monkeypatch.chdir(tmp_path)
    for command in ("fetch", "prepare"):
        assert call(f"{command} --dataset pictures", monkeypatch) == 0

    assert "warning: pictures: data/raw/pictures/pictures: 1 frame of 1 picture left out" in capsys.readouterr().out
