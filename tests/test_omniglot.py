"""OMNIGLOT, handwritten characters of 50 alphabets, in the two published forms that the project reads.

The forms are the drawings of Lake et al. and the smaller images of Burda et al.
"""

import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import drawings
from duvae import config
from duvae.commands import fetch, validate
from duvae.commands import prepare as prepare_stage
from duvae.config import OmniglotSource, Params
from duvae.data import omniglot, sources, store, user_images
from duvae.data.images import area_average, binarized
from duvae.data.omniglot import prepared_omniglot, read_burda
from duvae.data.splits import Images
from duvae.errors import UserError
from spoiling import resign, with_unknown_compression

SOURCE = OmniglotSource(drawings="lake", train_drawers=3, test_drawers=2, valid=4, seed=1, size=28)
TABLE = [("Greek", 2), ("Latin", 3), ("Hebrew", 2)]
BACKGROUND, EVALUATION = ("omniglot/images_background", "omniglot/images_evaluation")


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the package's table of alphabets by one of three alphabets. Lake's first file holds the first two."""
    monkeypatch.setattr(omniglot, "read_alphabets", lambda: TABLE)


@pytest.fixture
def lake(tmp_path: Path, table: None) -> np.ndarray:
    """Writes both npz files of Lake's data set; returns the ink of all drawings."""
    ink = drawings.letters(7, 5)
    arrays(tmp_path, ink)

    return ink


def arrays(folder: Path, ink: np.ndarray) -> None:
    (folder / "omniglot").mkdir(exist_ok=True)
    np.savez(folder / f"{BACKGROUND}.npz", images=~ink[:5], labels=np.zeros(1))
    np.savez(folder / f"{EVALUATION}.npz", images=~ink[5:])


def archives(folder: Path, ink: np.ndarray, **more: bytes) -> None:
    (folder / "omniglot").mkdir(exist_ok=True)
    names = [(alphabet, n) for alphabet, count in TABLE for n in range(1, count + 1)]
    for path, part in ((BACKGROUND, range(5)), (EVALUATION, range(5, 7))):
        members = {
            f"{Path(path).name}/{names[c][0]}/character{names[c][1]:02d}/{c:04d}_{d + 1:02d}.png": drawings.png(
                ink[c, d]
            )
            for c in part
            for d in reversed(range(ink.shape[1]))
        }
        drawings.archive(folder / f"{path}.zip", {f"{Path(path).name}/readme.txt": b"x", **members, **more})


# ------------------------------------------------------------------------------------ Lake's files


def test_the_first_drawers_train_and_the_last_test(tmp_path: Path, lake: np.ndarray) -> None:
    prepared = prepared_omniglot(SOURCE, tmp_path)
    train, valid, test = (prepared.images(name) for name in ("train", "valid", "test"))
    of = {image.tobytes(): (c, d) for c, row in enumerate(lake) for d, image in enumerate(area_average(row, 28))}
    alphabet = [0, 0, 1, 1, 1, 2, 2]

    assert (len(train), len(valid), len(test)) == (17, 4, 14)
    for split, drawers in ((train, {0, 1, 2}), (valid, {0, 1, 2}), (test, {3, 4})):
        places = [of[image.tobytes()] for image in split.pixels]
        assert split.labels.tolist() == [c for c, _ in places]
        assert split.groups.tolist() == [alphabet[c] for c, _ in places]
        assert {d for _, d in places} <= drawers
    assert len({key for split in (train, valid, test) for key in split.contents()}) == 35
    assert prepared.summary["alphabets"] == ["Greek", "Latin", "Hebrew"]
    assert prepared.summary["characters"][2] == "Latin/character01"
    assert prepared.summary["shared"]["test"] == {
        "train": {"documents": 0, "distinct": 0},
        "valid": {"documents": 0, "distinct": 0},
    }


def test_validation_is_the_seeds(tmp_path: Path, lake: np.ndarray) -> None:
    one, again, other = (
        prepared_omniglot(SOURCE.model_copy(update={"seed": seed}), tmp_path).images("valid").contents()
        for seed in (1, 1, 2)
    )

    assert one == again
    assert one != other


def test_some_alphabets_alone(tmp_path: Path, lake: np.ndarray) -> None:
    prepared = prepared_omniglot(SOURCE.model_copy(update={"alphabets": ["Hebrew", "Greek"]}), tmp_path)
    whole = prepared_omniglot(SOURCE, tmp_path)

    assert prepared.summary["alphabets"] == ["Greek", "Hebrew"]
    assert len(prepared.summary["characters"]) == 4
    assert np.unique(prepared.images("test").labels).tolist() == [0, 1, 2, 3]
    kept = np.isin(whole.images("test").groups, [0, 2])
    np.testing.assert_array_equal(prepared.images("test").pixels, whole.images("test").pixels[kept])


def test_the_archives_give_the_same_as_the_arrays(tmp_path: Path, lake: np.ndarray) -> None:
    archives(tmp_path, lake)
    pictures = SOURCE.model_copy(update={"drawings": "lake_png"})
    for some in ([], ["Latin"]):
        one, other = (
            prepared_omniglot(source.model_copy(update={"alphabets": some}), tmp_path) for source in (SOURCE, pictures)
        )
        for name in ("train", "valid", "test"):
            assert drawings.same(
                *([getattr(split, part) for part in Images.parts] for split in (one.images(name), other.images(name)))
            )
        assert one.summary["characters"] == other.summary["characters"]


def link(folder: Path) -> None:
    with zipfile.ZipFile(folder / f"{BACKGROUND}.zip", "a") as file:
        member = zipfile.ZipInfo("images_background/Greek/character01/0000_09.png")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(member, "/etc/passwd")


def cut(folder: Path) -> None:
    path = folder / f"{BACKGROUND}.zip"
    path.write_bytes(path.read_bytes()[:-40])


def damaged(folder: Path) -> None:
    path = folder / f"{BACKGROUND}.zip"
    content = bytearray(path.read_bytes())
    at = content.index(b"IDAT")
    content[at : at + 40] = bytes(40)
    path.write_bytes(content)


def misnamed(folder: Path) -> None:
    """Marks the first name in the directory as UTF-8, and makes it none. For it zipfile raises UnicodeDecodeError."""
    path = folder / f"{BACKGROUND}.zip"
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")
    content[entry + 9] |= 0x08
    content[entry + 46] = 0xFF
    path.write_bytes(content)


def recompressed(folder: Path) -> None:
    path = folder / f"{BACKGROUND}.zip"
    path.write_bytes(with_unknown_compression(path.read_bytes()))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda f: archives(f, drawings.letters(7, 5), **{"../x.png": b"x"}),
            r"'\.\./x\.png' is not a plain file inside",
        ),
        (lambda f: archives(f, drawings.letters(7, 5), **{"/x.png": b"x"}), r"'/x\.png' is not a plain file inside"),
        (link, r"0000_09\.png' is not a plain file inside the archive"),
        (cut, r"images_background\.zip: expected a zip archive of pictures, but it cannot be read"),
        (damaged, r"images_background\.zip"),
        (misnamed, r"images_background\.zip: expected a zip archive of pictures, but it cannot be read"),
        (recompressed, r"images_background\.zip: expected a zip .* \(That compression method is not supported\)"),
        (
            lambda f: drawings.archive(f / f"{EVALUATION}.zip", {"a.txt": b"x"}),
            r"expected pictures <folder>/<alphabet>",
        ),
        (lambda f: (f / f"{EVALUATION}.zip").unlink(), r"images_evaluation\.zip: not there\. Run 'duvae fetch'"),
        (
            lambda f: archives(f, drawings.letters(7, 5), **{"a/Greek/character01/0000_01.png": bytes(2**20 + 1)}),
            r"0000_01\.png of .*expected at most 1048576 bytes; found 1048577",
        ),
        (
            lambda f: archives(
                f, drawings.letters(7, 5), **{"a/Greek/character01/0000_09.png": drawings.png(drawings.letter(1))}
            ),
            r"numbered from 1, of Greek/character01; found numbers 1, 2, 3, 4, 5, 9",
        ),
    ],
)
def test_archives_that_cannot_be_used_are_named(tmp_path: Path, table: None, spoil: Any, said: str) -> None:
    archives(tmp_path, drawings.letters(7, 5))
    spoil(tmp_path)

    with pytest.raises(UserError, match=said):
        prepared_omniglot(SOURCE.model_copy(update={"drawings": "lake_png"}), tmp_path)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"valid": 21}, r"source\.valid: expected less than 21, the number of training images"),
        ({"train_drawers": 4}, r"expected at most 5 together, the number of drawings of Greek/character01; found 6"),
        ({"alphabets": ["Greek", "Latim"]}, r"unknown alphabet 'Latim' \(did you mean 'Latin'\?\)"),
    ],
)
@pytest.mark.parametrize("kind", ["lake", "lake_png"])
def test_what_the_drawings_do_not_give(
    tmp_path: Path, lake: np.ndarray, source: dict[str, Any], said: str, kind: str
) -> None:
    archives(tmp_path, lake)

    with pytest.raises(UserError, match=said):
        prepared_omniglot(SOURCE.model_copy(update={"drawings": kind, **source}), tmp_path)


@pytest.mark.parametrize(
    ("images_", "said"),
    [
        (np.zeros((5, 5, 105, 105)), r"images_background\.npz, array images: expected bits"),
        (np.zeros((5, 5, 105), bool), r"found bool of the shape \(5, 5, 105\)"),
        (np.zeros((4, 5, 105, 105), bool), r"expected 7 characters together; found 6"),
    ],
)
def test_arrays_that_cannot_be_used_are_named(tmp_path: Path, lake: np.ndarray, images_: np.ndarray, said: str) -> None:
    np.savez(tmp_path / f"{BACKGROUND}.npz", images=images_)

    with pytest.raises(UserError, match=said):
        prepared_omniglot(SOURCE, tmp_path)


# ------------------------------------------------------------------------------------ Burda's file


def burda(folder: Path, train: int = 30, test: int = 12) -> dict[str, np.ndarray]:
    """Writes a file in the form of Burda's, with three alphabets; each alphabet numbers its characters from 1.

    Returns:
        The pixels, alphabets and character numbers of each split.
    """
    (folder / "omniglot").mkdir(exist_ok=True)
    given: dict[str, Any] = {}
    for name, count, seed in (("train", train, 1), ("test", test, 2)):
        pixels = np.random.default_rng(seed).random((count, 28, 28)) * np.tri(28)  # a triangle: a turned image differs
        groups = np.arange(count) % 3
        given[name] = pixels, groups, np.arange(count) // 3 % (2 + groups) + 1
    drawings.mat(folder / "omniglot" / "chardata.mat", given["train"], given["test"])

    return given


def test_burdas_columns_are_images_upright(tmp_path: Path) -> None:
    given = burda(tmp_path)
    train, test = read_burda(tmp_path / "omniglot" / "chardata.mat")

    for found, (pixels, groups, numbers) in ((train, given["train"]), (test, given["test"])):
        np.testing.assert_array_equal(found.grey, pixels.astype(np.float32))
        assert found.groups.tolist() == groups.tolist()
        assert [found.characters[label] for label in found.labels] == [
            f"alphabet{g + 1:02d}/character{n:02d}" for g, n in zip(groups, numbers, strict=True)
        ]
    assert len(train.alphabets) == 50
    assert train.characters == test.characters


@pytest.mark.parametrize("alphabets", [[], ["alphabet02", "alphabet03"]])
@pytest.mark.parametrize("size", [28, 14])
def test_burdas_split(tmp_path: Path, alphabets: list[str], size: int) -> None:
    given = burda(tmp_path)
    source = SOURCE.model_copy(update={"drawings": "burda", "alphabets": alphabets, "size": size, "valid": 5})
    prepared = prepared_omniglot(source, tmp_path)
    train, valid, test = (prepared.images(name) for name in ("train", "valid", "test"))
    kept = np.isin(given["test"][1], [1, 2]) if alphabets else np.ones(12, bool)

    assert (len(train) + len(valid), len(valid), len(test)) == ((20, 5, 8) if alphabets else (30, 5, 12))
    np.testing.assert_array_equal(test.pixels, area_average(given["test"][0].astype(np.float32)[kept], size))
    names = [prepared.summary["characters"][label] for label in test.labels]
    assert names == [
        f"alphabet{g + 1:02d}/character{n:02d}"
        for g, n in zip(given["test"][1][kept], given["test"][2][kept], strict=True)
    ]
    assert [name.split("/")[0] for name in names] == [prepared.summary["alphabets"][group] for group in test.groups]


def rewritten(change: Any) -> Any:
    def spoil(path: Path) -> None:
        from scipy.io import loadmat, savemat

        variables = {name: value for name, value in loadmat(path).items() if name[0] != "_"}
        change(variables)
        savemat(path, variables)

    return spoil


def without_type(path: Path) -> None:
    """Removes the type of the first array. For such a file scipy raises UnboundLocalError."""
    rewritten(lambda variables: None)(path)
    content = bytearray(path.read_bytes())
    content[144] = 0
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), r"not there\. Run 'duvae fetch'"),
        (without_type, "expected a MATLAB file"),
        (lambda path: path.write_bytes(b""), "expected a MATLAB file"),
        (lambda path: path.write_bytes(b"x" * 4000), "expected a MATLAB file"),
        (
            lambda path: path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124, b"\0") + b"\0\2IM" + bytes(500)),
            r"expected a MATLAB file \(version 7 or before\)",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "expected a MATLAB file"),
        (rewritten(lambda v: v.pop("testdata")), "expected the variable testdata, of numbers"),
        (rewritten(lambda v: v.update(target=np.array(["a"]))), "expected the variable target, of numbers"),
        (
            rewritten(lambda v: v.update(data=v["data"].T)),
            r"variable data: expected 784 rows.*found the shape \(30, 784\)",
        ),
        (rewritten(lambda v: v.update(testdata=v["testdata"] * 255)), "variable testdata: expected pixels from 0 to 1"),
        (rewritten(lambda v: v.update(data=np.where(v["data"] > 0.5, np.nan, 0))), "variable data: expected pixels"),
        (
            rewritten(lambda v: v["target"].__setitem__((0, 3), 2)),
            "variable target: expected one 1 in each of 30 columns",
        ),
        (rewritten(lambda v: v["target"].__setitem__((slice(None), 3), 0)), "columns with 0 to 1"),
        (rewritten(lambda v: v.update(targetchar=v["targetchar"] + 0.5)), "targetchar: expected 30 whole numbers"),
        (rewritten(lambda v: v.update(targetchar=v["targetchar"][:, 1:])), "targetchar: expected 30 whole numbers"),
    ],
)
def test_a_mat_that_cannot_be_used_is_named(tmp_path: Path, spoil: Any, said: str) -> None:
    burda(tmp_path)
    path = tmp_path / "omniglot" / "chardata.mat"
    spoil(path)

    with pytest.raises(UserError, match=said) as error:
        read_burda(path)
    assert str(path) in str(error.value)


# ------------------------------------------------------------------------------------ the real drawings


def test_every_file_of_the_sources_is_known() -> None:
    for name in ("lake", "lake_png", "burda"):
        assert set(SOURCE.model_copy(update={"drawings": name}).paths) <= sources.SOURCES.keys()


def test_the_alphabets_are_fifty_of_1623_characters() -> None:
    table = omniglot.read_alphabets()

    assert len({name for name, _ in table}) == 50
    assert sum(count for _, count in table) == 1623


@pytest.mark.mirror
def test_the_real_drawings(tmp_path: Path, mirror: Path) -> None:
    """Of each of the 1,623 characters, 15 drawings are for training or validation and 5 are for testing.

    These are 24,345 and 8,115 images.
    """
    params = config.load(Path(__file__).parents[1] / "params.yaml")
    fetch.run(params, "omniglot", str(mirror), tmp_path)
    prepared = prepare_stage.run(params, "omniglot", tmp_path)
    store.write(tmp_path / "data/prepared/omniglot", binarized(prepared, 1))
    said = validate.run(params, "omniglot", tmp_path)

    assert said["documents"] == {"test": 8115, "train": 22345, "valid": 2000}
    assert all(outcome["success"] for outcome in said["expectations"])
    observed = {(one["split"], one["name"]): one["observed"] for one in said["expectations"]}
    assert observed["characters", "training_drawings"] == [15, 15]
    assert observed["characters", "test_drawings"] == [5, 5]
    assert observed["characters", "all_characters"] == 1623
    assert observed["characters", "all_alphabets"] == 50
    assert prepared.summary["shared"]["test"]["train"] == {"documents": 1, "distinct": 1}
    assert (mirror / "omniglot/alphabets.tsv").read_bytes() == (
        Path(omniglot.__file__).parent / "alphabets.tsv"
    ).read_bytes()
    # A pixel of an image covers 15 x 15 small squares. The side of a square is a quarter of a drawing's pixel.
    # Each square is black or white, so each grey value is a multiple of 1/225.
    grey = prepared.images("valid").pixels * 225.0
    np.testing.assert_allclose(grey, np.round(grey), atol=1e-4)


# ------------------------------------------------------------------------------------ expectations of `validate`


@pytest.fixture
def made(tmp_path: Path, lake: np.ndarray, tiny: Params) -> tuple[Params, Path]:
    """Prepares and binarizes the drawings of `lake`.

    Returns:
        Small parameters for these drawings, and the root folder of the prepared data.
    """
    old = tiny.dataset("omniglot")
    source = SOURCE.model_copy(update={"alphabets": [name for name, _ in TABLE], "train_drawers": 3})
    expect = old.expect.model_copy(update={"max_ink": 0.5})
    dataset = old.model_copy(update={"source": source, "expect": expect})
    params = tiny.model_copy(update={"datasets": {**tiny.datasets, "omniglot": dataset}})
    store.write(tmp_path / "data/prepared/omniglot", binarized(prepared_omniglot(source, tmp_path), 1))

    return params, tmp_path


def test_sound_images_pass(made: tuple[Params, Path]) -> None:
    params, root = made
    said = validate.run(params, "omniglot", root)

    assert all(outcome["success"] for outcome in said["expectations"])
    page = (root / "reports/data_docs/omniglot/index.html").read_text(encoding="utf-8")
    for name in ("training_drawings", "shared_between_splits", "no_empty_images"):
        assert name in page


def changed(root: Path, name: str, part: str, change: Any) -> None:
    path = root / "data/prepared/omniglot" / f"{name}.{part}.npy"
    np.save(path, change(np.load(path)))
    resign(path.parent)


def first(value: Any) -> Any:
    def change(array: np.ndarray) -> np.ndarray:
        array[0] = value
        return array

    return change


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: changed(r, "train", "pixels", first(2)), ["highest_pixel_within_0_and_1 (train)", "train, image 0"]),
        (lambda r: changed(r, "train", "pixels", first(0)), ["no_empty_images (train)", "1 that breaks this rule"]),
        (lambda r: changed(r, "test", "pixels", lambda x: (x * 0.5).astype(np.float32)), ["bits (test)"]),
        (lambda r: changed(r, "test", "pixels", lambda x: x * 0), ["ink_share (splits)", "expect.min_ink"]),
        (
            lambda r: changed(r, "test", "labels", lambda x: x * 0),
            ["test_drawings (characters)", "'Greek/character01'"],
        ),
        (
            lambda r: changed(r, "train", "labels", first(99)),
            ["known_labels (train)", "training_drawings (characters)"],
        ),
        (lambda r: changed(r, "valid", "groups", first(-1)), ["known_alphabets (valid)"]),
        (
            lambda r: changed(
                r, "test", "keys", lambda x: np.resize(np.load(r / "data/prepared/omniglot/train.keys.npy"), len(x))
            ),
            ["shared_between_splits (splits)", "elsewhere 1"],
        ),
    ],
)
def test_images_that_are_not_as_expected(made: tuple[Params, Path], spoil: Any, said: list[str]) -> None:
    params, root = made
    spoil(root)

    with pytest.raises(UserError) as error:
        validate.run(params, "omniglot", root)
    assert all(part in str(error.value) for part in said), str(error.value)
    assert not (root / "data/validated/omniglot.json").exists()


def test_another_number_of_images_is_found(made: tuple[Params, Path]) -> None:
    params, root = made
    prepared = store.read(root / "data/prepared/omniglot")
    fewer = prepared.images("train").only(np.arange(1, 17))
    store.write(
        root / "data/prepared/omniglot",
        store.Prepared(prepared.vocabulary, {**prepared.splits, "train": fewer}, prepared.summary),
    )

    with pytest.raises(UserError, match=r"size \(train\): expected 17 images; found 16"):
        validate.run(params, "omniglot", root)


def test_images_of_ones_own_pass_with_and_without_labels(tmp_path: Path, tiny: Params) -> None:
    old = tiny.dataset("omniglot")
    for labels in (np.arange(40) % 2, None):
        np.savez(
            tmp_path / "own.npz",
            images=~np.stack([drawings.letter(n, 30) for n in range(40)]),
            **({} if labels is None else {"labels": labels}),
        )
        source = config.ImageSource(path="own.npz", ink="dark", valid=0.1, test=0.1, seed=1, size=28)
        probe = config.DatasetProbe(labels=[] if labels is None else [10])
        dataset = config.ImageDataset.model_validate(
            {
                **{
                    name: getattr(old, name)
                    for name in ("column", "nll_examples", "optimisation", "binarize", "networks")
                },
                "kind": "images",
                "source": source,
                "expect": old.expect.model_copy(update={"max_ink": 0.9, "max_shared_rate": 1.0}),
                "probe": probe,
            }
        )
        params = tiny.model_copy(update={"datasets": {**tiny.datasets, "own": dataset}})
        store.write(tmp_path / "data/prepared/own", binarized(user_images.prepared_images(source, tmp_path), 1))
        said = validate.run(params, "own", tmp_path)
        assert all(outcome["success"] for outcome in said["expectations"])
