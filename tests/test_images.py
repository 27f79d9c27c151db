import io
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import drawings
from duvae.commands import binarize as binarize_stage
from duvae.commands import fetch, validate
from duvae.commands import prepare as prepare_stage
from duvae.config import DatasetProbe, ImageDataset, ImageSource, Params
from duvae.data import image_files, store
from duvae.data.images import area_average, binarized, hold_out
from duvae.data.splits import PIXELS, Images, count_shared
from duvae.data.store import Prepared
from duvae.data.user_images import prepared_images
from duvae.errors import UserError
from spoiling import resign

SOURCE = ImageSource(path="leaves", ink="dark", valid=0.2, test=0.2, seed=1, size=5)


# ------------------------------------------------------------------------------------ averaging


def plain_average(image: np.ndarray, size: int) -> np.ndarray:
    """Cuts each old pixel into size x size small ones. Each new pixel is the mean of n x n small ones."""
    side = len(image)
    fine = np.kron(image, np.ones((size, size)))

    return fine.reshape(size, side, size, side).mean((1, 3))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_averages_are_over_areas(side: int, size: int, seed: int) -> None:
    x = np.random.default_rng(seed).random((3, side, side))
    found = area_average(x, size)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [plain_average(image, size) for image in x], atol=1e-6)
    np.testing.assert_allclose(found.mean((1, 2)), x.mean((1, 2)), atol=1e-6)


def test_lakes_size_gives_whole_shares_of_ink() -> None:
    """105 / 28 = 15 / 4: a new pixel covers 15 x 15 squares, each with a quarter of an old pixel's side.

    Each value is therefore a multiple of 1/225.
    """
    ink = drawings.letters(3, 2).reshape(-1, 105, 105)
    found = area_average(ink, 28) * 225.0

    np.testing.assert_allclose(found, np.round(found), atol=1e-4)
    assert area_average(np.ones((1, 105, 105), bool), 28).min() == 1
    assert area_average(np.zeros((1, 105, 105), bool), 28).max() == 0


# ------------------------------------------------------------------------------------ bits


def grey_set(count: int = 3000, size: int = 4) -> Prepared:
    splits = {name: drawings.grey(count, size, seed=n) for n, name in enumerate(("train", "valid", "test"))}

    return Prepared(list(PIXELS), splits, {"kind": "images"})


def test_bits_of_validation_and_test_are_the_seeds_and_training_stays_grey() -> None:
    given_ = grey_set()
    one, again, other = (binarized(given_, seed) for seed in (1, 1, 2))

    assert one.images("train") is given_.images("train")
    assert one.images("train").is_grey
    for name in ("valid", "test"):
        bits = one.images(name)
        assert bits.pixels.dtype == np.uint8
        assert not bits.is_grey
        assert set(np.unique(bits.pixels)) == {0, 1}
        assert np.array_equal(bits.pixels, again.images(name).pixels)
        assert not np.array_equal(bits.pixels, other.images(name).pixels)
        # Each of the 48,000 bits has its own probability. The mean must agree within five standard errors.
        grey = given_.images(name).pixels
        assert abs((bits.pixels - grey).mean()) < 5 * np.sqrt((grey * (1 - grey)).mean() / grey.size)
        assert np.corrcoef(bits.pixels.ravel(), grey.ravel())[0, 1] > 0.5
        assert bits.contents() == given_.images(name).contents()
    assert not np.array_equal(
        one.images("valid").pixels - given_.images("valid").pixels > 0,
        one.images("test").pixels - given_.images("test").pixels > 0,
    )
    assert one.summary["binarized"]["seed"] == 1


def test_what_is_all_ink_or_all_paper_stays_so() -> None:
    split = Images.of(np.stack([np.zeros((3, 3)), np.ones((3, 3))]), np.zeros(2), np.zeros(2))
    bits = binarized(Prepared(list(PIXELS), {"test": split}, {}), 1)

    assert bits.images("test").pixels.tolist() == split.pixels.tolist()
    assert bits.summary["binarized"]["ink"]["test"] == {"grey": 0.5, "bits": 0.5, "without_ink": 1}


@given(st.integers(3, 40), st.integers(0, 100))
def test_what_is_held_out_is_apart(count: int, seed: int) -> None:
    one, two, rest = hold_out(count, [1, 2], seed)

    assert (len(one), len(two)) == (1, 2)
    assert sorted([*one.tolist(), *two.tolist(), *rest.tolist()]) == list(range(count))
    assert rest.tolist() == sorted(rest.tolist())
    assert drawings.same(hold_out(count, [1, 2], seed), [one, two, rest])


# ------------------------------------------------------------------------------------ folders


def ink(count: int, side: int = 10) -> np.ndarray:
    return np.stack([drawings.letter(n, side) for n in range(count)])


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    drawn = ink(20)
    drawings.folder(tmp_path / "leaves", {f"{n:02d}.png": image for n, image in enumerate(drawn)})
    (tmp_path / "leaves" / ".DS_Store").write_text("x")
    prepared = prepared_images(SOURCE, tmp_path)
    sizes = {name: len(prepared.images(name)) for name in prepared.splits}
    found = np.concatenate([prepared.images(name).pixels for name in ("train", "valid", "test")])

    assert sizes == {"train": 12, "valid": 4, "test": 4}
    assert sorted(found.tolist()) == sorted(area_average(drawn, 5).tolist())
    assert all((prepared.images(name).labels == -1).all() for name in sizes)
    assert len(prepared.summary["files"]) == 20
    assert prepared.summary["splits"]["train"]["documents"] == 12


def test_light_on_dark_is_turned_round(tmp_path: Path) -> None:
    drawn = ink(10)
    drawings.folder(tmp_path / "leaves", {f"{n}.png": ~image for n, image in enumerate(drawn)})
    light = prepared_images(SOURCE.model_copy(update={"ink": "light"}), tmp_path)
    dark = prepared_images(SOURCE, tmp_path)

    for name in ("train", "valid", "test"):
        np.testing.assert_allclose(light.images(name).pixels, 1 - dark.images(name).pixels, atol=1e-6)
    assert light.images("train").pixels.mean() < 0.5


def test_folders_are_classes_and_their_folders_groups(tmp_path: Path) -> None:
    drawn = ink(24)
    names = ["greek/alpha", "greek/beta", "latin/a"]
    drawings.folder(
        tmp_path / "leaves",
        {
            f"{('train', 'valid', 'test')[n % 3]}/{names[n // 3 % 3]}/{n:02d}.png": image
            for n, image in enumerate(drawn)
        },
    )
    prepared = prepared_images(SOURCE, tmp_path)

    assert prepared.summary["characters"] == names
    assert prepared.summary["alphabets"] == ["greek", "latin"]
    for number, name in enumerate(("train", "valid", "test")):
        split = prepared.images(name)
        here = sorted(range(number, 24, 3), key=lambda n: (names[n // 3 % 3], n))
        assert split.labels.tolist() == [n // 3 % 3 for n in here]
        assert split.groups.tolist() == [(n // 3 % 3) // 2 for n in here]
        np.testing.assert_array_equal(split.pixels, area_average(drawn[here], 5))


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_pictures_of_every_mode(tmp_path: Path, mode: str) -> None:
    """The picture is upright and not mirrored. Transparent parts count as paper."""
    drawn = drawings.letter(1, 10)
    path = tmp_path / "picture.png"
    black = Image.fromarray(~drawn)
    if mode in {"RGBA", "LA"}:
        solid = Image.new("L", black.size, 0)
        solid.putalpha(Image.fromarray(drawn).convert("L"))
        solid.convert(mode).save(path)
    elif mode == "I;16":
        Image.fromarray(np.where(drawn, 0, 65535).astype(np.uint16)).save(path)
    else:
        black.convert(mode).save(path)

    np.testing.assert_array_equal(image_files.read_picture(path.read_bytes(), "it").lightness, ~drawn)


def spoilt(folder: Path) -> None:
    (folder / "03.png").write_bytes((folder / "03.png").read_bytes()[:60])


def wide(folder: Path) -> None:
    Image.new("L", (12, 10)).save(folder / "03.png")


def deep(folder: Path) -> None:
    Image.new("I", (10, 10)).save(folder / "03.tiff")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoilt, r"03\.png: expected a picture, but it cannot be read"),
        (lambda folder: (folder / "03.png").write_bytes(b"nothing"), r"03\.png: expected a picture .*, but its format"),
        (lambda folder: (folder / "03.txt").write_text("x"), r"03\.txt: expected a picture \(\.bmp"),
        (wide, r"03\.png: expected square images of at least 5 pixels a side .*found 10 x 12"),
        (lambda folder: Image.new("L", (4, 4)).save(folder / "03.png"), r"03\.png: .*found 4 x 4"),
        (deep, r"03\.tiff: expected a picture of 8 or 16 bits; found 32"),
        (
            lambda folder: drawings.folder(folder, {"class/1.png": ink(1)[0]}),
            r"00\.png: expected the picture in the folder of",
        ),
        (lambda folder: [file.unlink() for file in folder.iterdir()], r"leaves: expected pictures in this folder"),
        (lambda folder: [file.unlink() for file in list(folder.iterdir())[2:]], r"leaves: expected enough images"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, spoil: Any, said: str) -> None:
    drawings.folder(tmp_path / "leaves", {f"{n:02d}.png": image for n, image in enumerate(ink(12))})
    spoil(tmp_path / "leaves")

    with pytest.raises(UserError, match=said):
        prepared_images(SOURCE, tmp_path)


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    Image.new("L", (10, 10)).save(tmp_path / "large.png")

    with warnings.catch_warnings(), pytest.raises(UserError, match=r"large\.png: expected a picture of a usual size"):
        image_files.read_picture((tmp_path / "large.png").read_bytes(), str(tmp_path / "large.png"))


# ------------------------------------------------------------------------------------ arrays


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64, np.bool_])
def test_an_npz_of_images(tmp_path: Path, kind: Any) -> None:
    light = ~ink(20)
    scale = 255 if kind is np.uint8 else 1
    labels = np.arange(20) % 3 * 5
    np.savez(tmp_path / "leaves.npz", images=(light * scale).astype(kind), labels=labels)
    prepared = prepared_images(SOURCE.model_copy(update={"path": "leaves.npz"}), tmp_path)
    order = np.concatenate([hold_out(20, [4, 4], 1)[n] for n in (2, 0, 1)])
    splits = [prepared.images(name) for name in ("train", "valid", "test")]

    np.testing.assert_array_equal(np.concatenate([s.pixels for s in splits]), area_average(~light, 5)[order])
    assert np.concatenate([split.labels for split in splits]).tolist() == (labels // 5)[order].tolist()
    assert prepared.summary["characters"] == ["0", "5", "10"]


def test_an_npz_of_splits(tmp_path: Path) -> None:
    parts = {name: ink(n + 3).astype(np.float64) for n, name in enumerate(("train", "valid", "test"))}
    np.savez(tmp_path / "leaves.npz", **parts)
    prepared = prepared_images(SOURCE.model_copy(update={"path": "leaves.npz", "ink": "light"}), tmp_path)

    for name, drawn in parts.items():
        np.testing.assert_array_equal(prepared.images(name).pixels, area_average(drawn, 5))


ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "above 1": (
        {"images": np.full((20, 6, 6), 1.5)},
        r"array images: expected pixels.* found 1\.5 \(float64\) in image 0",
    ),
    "no number": (
        {"images": np.where(np.arange(720).reshape(20, 6, 6) == 44, np.nan, 0.0)},
        r"found nan \(float64\) in image 1, row 1, column 2",
    ),
    "other whole numbers": ({"images": np.zeros((20, 6, 6), np.int32)}, r"found 0 \(int32\)"),
    "no images": (
        {"pictures": np.zeros((20, 6, 6))},
        r"expected an array named images, or arrays named train, valid and test; found pictures",
    ),
    "rows of pixels": ({"images": np.zeros((20, 36))}, r"found \(20, 36\)"),
    "not square": ({"images": np.zeros((20, 6, 7))}, r"found 6 x 7"),
    "none": ({"images": np.zeros((0, 6, 6))}, r"found \(0, 6, 6\)"),
    "too few labels": (
        {"images": np.zeros((20, 6, 6)), "labels": np.zeros(3, int)},
        r"array labels: expected 20 whole",
    ),
    "labels of words": ({"images": np.zeros((20, 6, 6)), "labels": np.array(["a"] * 20)}, r"array labels: expected 20"),
    "negative labels": ({"images": np.zeros((20, 6, 6)), "labels": np.full(20, -1)}, r"array labels: expected 20"),
    "objects": ({"images": np.array([{}] * 20, object)}, r"array images: expected plain numbers; found Python objects"),
    "bits as uint8": (
        {"images": np.arange(720, dtype=np.uint8).reshape(20, 6, 6) % 2},
        r"array images: expected pixels that use the range .* the largest is 1 of 255",
    ),
    "divided by 255 twice": (
        {"images": np.arange(720).reshape(20, 6, 6) / 719 / 255},
        r"array images: expected pixels that use the range .* the largest is 1 of 255",
    ),
    "all equal": ({"images": np.full((20, 6, 6), 0.7)}, r"all pixels of all images are equal"),
    "no dimensions": ({"images": np.float32(1)}, r"array images: expected the shape .* found \(\)"),
    "val": (
        {name: np.zeros((20, 6, 6)) for name in ("train", "val", "holdout")},
        r"expected exactly the arrays train, valid and test, .* found holdout, train, val",
    ),
    "images and test": (
        {name: np.zeros((20, 6, 6)) for name in ("images", "test")},
        r"expected exactly the arrays train, valid and test, .* found images, test",
    ),
    "a fourth array": (
        {name: np.zeros((20, 6, 6)) for name in ("train", "valid", "test", "extra")},
        r"expected exactly the arrays train, valid and test, .* found extra, test, train, valid",
    ),
    "labels under another name": (
        {"images": np.zeros((20, 6, 6)), "y": np.zeros(20, int)},
        r"expected only arrays of images and of labels .*; found y too",
    ),
    "labels of one split": (
        {"train_labels": np.zeros(20, int), **{name: np.zeros((20, 6, 6)) for name in ("train", "valid", "test")}},
        r"expected labels for all splits, or for none; valid, test has none",
    ),
    "huge labels": (
        {"images": np.zeros((20, 6, 6)), "labels": np.full(20, 2**63, np.uint64)},
        r"array labels: expected 20 whole numbers from 0 to 999999.*from 9223372036854775808",
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_npz_that_cannot_be_used_is_named(tmp_path: Path, name: str) -> None:
    arrays, said = ARRAYS[name]
    np.savez(tmp_path / "leaves.npz", **arrays)

    with pytest.raises(UserError, match=said) as error:
        prepared_images(SOURCE.model_copy(update={"path": "leaves.npz"}), tmp_path)
    assert str(tmp_path / "leaves.npz") in str(error.value)


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((2, 6, 6)))

    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04nothing", array()])
def test_a_file_that_is_no_npz_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "leaves.npz").write_bytes(content)

    with pytest.raises(UserError, match=r"leaves\.npz: expected an npz of plain arrays"):
        prepared_images(SOURCE.model_copy(update={"path": "leaves.npz"}), tmp_path)


# ------------------------------------------------------------------------------------ the stages


def leaves(tiny: Params) -> Params:
    """The project's parameters with a data set `leaves`, whose source is SOURCE of this file."""
    old = tiny.dataset("omniglot")
    kept = ("column", "nll_examples", "optimisation", "binarize")
    dataset = ImageDataset(
        **{name: getattr(old, name) for name in kept},
        kind="images",
        source=SOURCE,
        networks=old.networks.model_copy(update={"size": 5}),
        expect=old.expect.model_copy(update={"max_ink": 1.0, "max_shared_rate": 1.0}),
        probe=DatasetProbe(),
    )

    return tiny.model_copy(update={"datasets": {**tiny.datasets, "leaves": dataset}})


def test_from_a_folder_of_ones_own_to_bits(tmp_path: Path, tiny: Params) -> None:
    params = leaves(tiny)
    drawings.folder(tmp_path / "leaves", {f"{n:02d}.png": image for n, image in enumerate(ink(20))})
    (tmp_path / "leaves" / ".hidden").mkdir()
    (tmp_path / "leaves" / ".hidden" / "notes.txt").write_text("x")
    got = fetch.run(params, "leaves", None, tmp_path)
    for stage in (prepare_stage, binarize_stage, validate):
        stage.run(params, "leaves", tmp_path)
    bits = {path.name: path.read_bytes() for path in (tmp_path / "data/prepared/leaves").iterdir()}
    binarize_stage.run(params, "leaves", tmp_path)

    assert len(got) == 20
    assert {path.name: path.read_bytes() for path in (tmp_path / "data/prepared/leaves").iterdir()} == bits
    assert store.read(tmp_path / "data/grey/leaves").images("test").is_grey
    assert not store.read(tmp_path / "data/prepared/leaves").images("test").is_grey
    # A picture that the user deletes must disappear from the copy too.
    (tmp_path / "leaves/03.png").unlink()
    fetch.run(params, "leaves", None, tmp_path)
    assert not (tmp_path / "data/raw/leaves/leaves/03.png").exists()
    (tmp_path / "data/prepared/leaves/test.pixels.npy").write_bytes(b"")
    with pytest.raises(UserError, match="Run 'duvae binarize --dataset leaves' again"):
        store.read(tmp_path / "data/prepared/leaves")


@pytest.mark.parametrize("empty", [True, False])
def test_a_folder_with_nothing_in_it_is_not_fetched(tmp_path: Path, tiny: Params, empty: bool) -> None:
    if empty:
        (tmp_path / "leaves").mkdir()
    with pytest.raises(
        UserError, match=r"leaves: expected files in this folder" if empty else "no such file: .*leaves"
    ):
        fetch.run(leaves(tiny), "leaves", None, tmp_path)


def test_texts_are_not_binarized(tmp_path: Path, tiny: Params) -> None:
    with pytest.raises(UserError, match=r"datasets\.synthetic is of kind synthetic; only images are binarized"):
        binarize_stage.run(tiny, "synthetic", tmp_path)


# ------------------------------------------------------------------------------------ on disk


def test_images_come_back(tmp_path: Path) -> None:
    prepared = binarized(grey_set(5), 1)
    store.write(tmp_path / "d", prepared)
    read = store.read(tmp_path / "d")

    assert read.summary == json.loads(json.dumps(dict(prepared.summary)))
    for name in ("train", "valid", "test"):
        one, other = prepared.images(name), read.images(name)
        assert isinstance(other.pixels, np.memmap)
        assert drawings.same(*([getattr(split, part) for part in Images.parts] for split in (one, other)))
        assert other.is_grey == (name == "train")
    with pytest.raises(UserError, match=r"expected documents in split 'train', as params\.yaml says; found images"):
        read.documents("train")


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("pixels", lambda x: x + 1, "expected pixels from 0 to 1 in split 'valid'"),
        ("pixels", lambda x: x.astype(np.int64), "expected images of bits or grey values in split 'valid'"),
        ("pixels", lambda x: x[:, 0], "expected images of bits or grey values in split 'valid'"),
        ("labels", lambda x: x[:-1], "the arrays of split 'valid' do not fit"),
        ("groups", lambda x: x * 0.5, "the arrays of split 'valid' do not fit"),
        ("keys", lambda x: x[None], "the arrays of split 'valid' do not fit"),
    ],
)
def test_images_that_are_broken_are_named(tmp_path: Path, part: str, change: Any, said: str) -> None:
    store.write(tmp_path / "d", binarized(grey_set(5), 1))
    path = tmp_path / "d" / f"valid.{part}.npy"
    np.save(path, change(np.load(path)))
    resign(tmp_path / "d")

    with pytest.raises(UserError, match=said):
        store.read(tmp_path / "d")


def test_part_of_a_split() -> None:
    split = drawings.grey(9)
    part = split.only(np.array([7, 2]))

    assert np.array_equal(part.batch(np.array([0, 1])), split.batch(np.array([7, 2])))
    assert split.batch(np.array([7, 2])).shape == (2, 1, 6, 6)
    assert part.labels.tolist() == split.labels[[7, 2]].tolist()
    assert part.contents() == [split.contents()[7], split.contents()[2]]
    assert part.lengths.tolist() == part.predicted.tolist() == [36, 36]


def test_the_same_image_has_the_same_key() -> None:
    split = drawings.grey(5)
    twice = Images.of(split.pixels[[0, 3, 0]], split.labels[[1, 1, 1]], split.groups[[0, 0, 0]])

    assert len(set(split.contents())) == 5
    assert twice.contents() == [split.contents()[n] for n in (0, 3, 0)]
    assert count_shared(twice, split) == {"documents": 3, "distinct": 2}
    assert replace(split, pixels=split.pixels > 0.5).contents() == split.contents()
