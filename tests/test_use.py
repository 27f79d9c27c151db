"""The use of a trained model, from Python and by commands. test_tracking.py tests its use through MLflow's pyfunc."""

import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import family
from duvae.commands import encode, interpolate, model_io, reconstruct
from duvae.config import ImageNetworks, TextNetworks
from duvae.data import store, user_images
from duvae.data.splits import END, PAD, SPECIALS, START, Documents
from duvae.data.store import Prepared
from duvae.errors import UserError
from duvae.inference import decoding, generation, model_files
from duvae.inference.model import TrainedModel, UnknownWords, load
from duvae.inference.model_files import Description
from duvae.inference.options import Decoding
from duvae.tracking import pyfunc

WORDS = [*SPECIALS, *(f"w{n}" for n in range(8))]
SENTENCES = ["w1 w2 w3", "w4", "w1  w7 w2 w3 ", "w5"]
JOB = ("synthetic", "vae", 1)
SIZES = {"size": 6, "channels": [4, 4], "features": 8, "kernels": [3, 3, 3], "width": 4, "feature_maps": 2}


def trained(system: str = "vae") -> TrainedModel:
    model, _ = family.build(system)

    return TrainedModel(family.lively(model).eval(), family.describe(system), WORDS)


def drawing(system: str = "vae") -> TrainedModel:
    described = family.describe(system)
    networks = ImageNetworks(**SIZES, latent=3).model_dump()
    torch.manual_seed(1)
    description = Description(described.system, described.hyperparameters, described.parts, networks, 2)

    return TrainedModel(description.build()[0].eval(), description, [])


def project(folder: Path) -> Path:
    """Writes a prepared data set and an untrained model of it; returns the model's folder."""
    store.write(folder / "data/prepared/synthetic", Prepared(WORDS, {"test": family.documents(20)}, {}))
    entry = family.PARAMS.setting("vae")
    sizes = TextNetworks(embedding=6, hidden=8, latent=3, dropout_in=0.0, dropout_out=0.0)
    description = Description("vae", {}, entry.parts.model_dump(), sizes.model_dump(), len(WORDS))
    torch.manual_seed(1)
    model_files.save(folder / "models/synthetic/vae/1", family.lively(description.build()[0]), description)

    return folder / "models/synthetic/vae/1"


# ---------------------------------------------------------------------------------- from Python


@pytest.mark.parametrize("system", family.NAMES)
def test_codes_are_the_posteriors_whatever_stands_beside_a_sentence(system: str) -> None:
    model = trained(system)
    codes = model.encode(SENTENCES)
    frame = codes.frame()

    for n, sentence in enumerate(SENTENCES):
        ids = [START, *(WORDS.index(word) for word in sentence.split()), END]
        with torch.no_grad():
            posterior = model.model.posterior(torch.tensor([ids]))
        torch.testing.assert_close(torch.from_numpy(codes.mean[n]), posterior.mean[0])
        torch.testing.assert_close(torch.from_numpy(codes.features[n]), posterior.features()[0])
        if posterior.variance is None:
            assert codes.sigma is None
        else:
            torch.testing.assert_close(torch.from_numpy(codes.sigma[n]).square(), posterior.variance[0])
    assert len(frame) == 4
    assert list(frame["unknown"]) == [0] * 4
    assert [name for name in frame if name.startswith("mu_")] == ["mu_0", "mu_1", "mu_2"]
    assert ("sigma_0" in frame) == (codes.sigma is not None)
    assert f"feature_{codes.features.shape[1] - 1}" in frame


def test_unknown_words_are_counted_and_named() -> None:
    model = trained()
    with pytest.warns(
        UnknownWords,
        match=r"3 of 6 words are not in the vocabulary \(soup, noodle\); the model reads <unk> in their place",
    ):
        codes = model.encode(["w1 soup w2", "soup noodle", "w3"])
    assert codes.unknown.tolist() == [1, 2, 0]
    with pytest.warns(UnknownWords, match=r"7 of 7 words .*\(a, b, c, d, e and 2 others\)"):
        model.encode(["a b c d e f g"])
    # A word may be long, and its control characters could change the terminal.
    with pytest.warns(UnknownWords, match=r"2 of 2 words .*\(a{100}…, '\\x1b\[2J'\)"):
        model.encode(["a" * 100_000 + " \x1b[2J"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode(["w1"])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (["w1", " "], "sentences, line 2: expected a sentence; found none"),
        ([], "sentences: expected a sentence; found none"),
        ("w1 w2", "expected a list of sentences"),
        ([1, 2], "expected a list of sentences"),
        (["w1", "w2 </s>"], "line 2: expected words"),
    ],
)
def test_anything_but_sentences_is_an_error(x: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        trained().encode(x)  # type: ignore[arg-type]


def test_sentences_are_written_and_read_back() -> None:
    model = trained()
    z = torch.randn(5, 3)
    written = model.decode(z, likely=True)
    ids = decoding.decode(model.model, z, Decoding(likely=True))

    assert written == [" ".join(WORDS[i] for i in row if i not in (PAD, START, END)) for row in ids.tolist()]
    assert model.decode(z, seed=3) == model.decode(z, seed=3) != model.decode(z, seed=4)
    assert max(len(sentence.split()) for sentence in model.generate(50, max_words=2)) == 2
    model.max_words = 3
    assert max(len(sentence.split()) for sentence in model.generate(50)) == 3
    once = model.reconstruct(SENTENCES[:2])
    assert once == model.decode(torch.from_numpy(model.encode(SENTENCES[:2]).mean), likely=True)
    path = model.interpolate(*SENTENCES[:2], steps=4)
    assert len(path) == 4
    assert [path[0], path[-1]] == once
    searched = model.reconstruct(SENTENCES[:2], beams=3, no_unknown=True)
    assert searched == model.decode(torch.from_numpy(model.encode(SENTENCES[:2]).mean), beams=3, no_unknown=True)
    drawn = model.reconstruct(SENTENCES * 5, likely=False)
    assert drawn == model.reconstruct(SENTENCES * 5, temperature=1.0) != model.reconstruct(SENTENCES * 5)
    with pytest.raises(UserError, match="top_p, beams: expected one of them"):
        model.generate(2, beams=3, top_p=0.5)


def test_a_temperature_divides_the_logits() -> None:
    """At one z, the frequencies of the first word follow the softmax of the logits divided by the temperature.

    A temperature near 0 gives most of the sentences that decoding with `likely=True` gives.
    """
    model = trained()
    before = family.state(model.model)
    z, count = torch.randn(1, 3), 20_000
    every = torch.arange(family.WORDS)
    pairs = torch.stack([torch.full_like(every, START), every], 1)
    with torch.no_grad():
        log_p = model.model.decoder.log_prob(pairs, z.expand(family.WORDS, -1))
    for temperature in (0.5, 1.0, 2.0):
        generator = torch.Generator().manual_seed(1)
        drawn = generation.decode(model.model, z.expand(count, -1), generator, temperature=temperature, longest=2)
        shares = torch.bincount(drawn[:, 1], minlength=family.WORDS) / count
        assert (shares - (log_p / temperature).softmax(0)).abs().max() < 0.0175
    many = torch.randn(20, 3)
    cold, likeliest = model.decode(many, temperature=1e-3), model.decode(many, likely=True)
    assert sum(map(str.__eq__, cold, likeliest)) >= 15
    assert family.same(before, family.state(model.model))


def test_a_temperature_divides_the_log_odds_of_pixels() -> None:
    model = drawing()
    z = torch.randn(1, 3)
    with torch.no_grad():
        odds = float(model.model.decoder.logits(torch.zeros(1, 1, 6, 6), z)[0, 0, 0, 0])
    generator = torch.Generator().manual_seed(1)
    drawn = generation.decode(model.model, z.expand(4000, -1), generator, temperature=0.25)
    share = torch.sigmoid(torch.tensor(4 * odds))

    assert abs(float(drawn[:, 0, 0, 0].mean()) - float(share)) < 0.04


def test_images_are_encoded_and_decoded() -> None:
    model = drawing()
    bits = (np.random.default_rng(1).random((3, 6, 6)) < 0.3).astype(np.uint8)
    codes = model.encode(bits)
    with torch.no_grad():
        expected = model.model.posterior(torch.from_numpy(bits).float()[:, None]).mean

    torch.testing.assert_close(torch.from_numpy(codes.mean), expected)
    assert np.shape(model.reconstruct(bits)) == (3, 6, 6)
    assert np.shape(model.interpolate(bits[0], bits[1], steps=5)) == (5, 6, 6)
    with pytest.raises(UserError, match="beams: expected only for models of texts"):
        model.reconstruct(bits, beams=2)
    with pytest.raises(UserError, match="expected images of 6 x 6 pixels"):
        model.encode(bits[:, :5])
    with pytest.raises(UserError, match="from 0 to 1; found 0 to 3"):
        model.encode(3 * bits)


# ---------------------------------------------------------------------------------- loading


def test_a_model_of_a_project_knows_its_words(tmp_path: Path) -> None:
    folder = project(tmp_path)
    one = load(folder).encode(SENTENCES)
    moved = tmp_path / "elsewhere"
    folder.rename(moved)

    with pytest.raises(UserError, match=r"expected the model's vocabulary.*vocabulary\.txt"):
        load(moved)
    vocabulary = tmp_path / "data/prepared/synthetic/vocabulary.txt"
    assert np.array_equal(load(moved, vocabulary).encode(SENTENCES).mean, one.mean)
    (moved / "vocabulary.txt").write_bytes(vocabulary.read_bytes())
    assert np.array_equal(load(moved).encode(SENTENCES).mean, one.mean)
    (moved / "vocabulary.txt").write_text("\n".join(WORDS[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"expected the 12 words that the model knows.*found 11"):
        load(moved)
    with pytest.raises(UserError, match=r"model\.json: not there\. Expected a model's folder"):
        load(tmp_path)


def test_a_broken_model_is_an_error(tmp_path: Path) -> None:
    folder = project(tmp_path)
    (folder / "model.json").write_text(json.dumps({"system": "vae"}), encoding="utf-8")
    with pytest.raises(UserError, match="expected a model of this version"):
        load(folder)


# ---------------------------------------------------------------------------------- the commands


def run_encode(folder: Path, **changed: object) -> pd.DataFrame:
    given = {
        "output": None,
        "sentences": [],
        "source": None,
        "ink": None,
        "draw_seed": 1,
        "split": None,
        "root": folder,
        **changed,
    }
    encode.run(family.PARAMS, *JOB, **given)  # type: ignore[arg-type]
    path = given["output"] or folder / "reports/generated/synthetic-vae-1-codes.parquet"

    return pd.read_csv(path) if Path(str(path)).suffix == ".csv" else pd.read_parquet(path)  # type: ignore[arg-type]


def test_a_file_of_sentences_becomes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = load(project(tmp_path)).encode(SENTENCES)
    (tmp_path / "new.txt").write_text("".join(f"{n % 2}\t{s}\n" for n, s in enumerate(SENTENCES)), encoding="utf-8")
    frame = run_encode(tmp_path, source=tmp_path / "new.txt")

    assert list(frame["label"]) == [0, 1, 0, 1]
    assert np.array_equal(frame[["mu_0", "mu_1", "mu_2"]], codes.mean)
    assert np.array_equal(frame[["sigma_0", "sigma_1", "sigma_2"]], codes.sigma)
    assert "4 rows of 11 columns" in capsys.readouterr().out
    table = run_encode(tmp_path, sentences=SENTENCES, output=tmp_path / "codes.csv")
    assert "label" not in table
    np.testing.assert_allclose(table[["mu_0", "mu_1", "mu_2"]], codes.mean, rtol=1e-6)


def test_a_split_of_the_data_becomes_a_table(tmp_path: Path) -> None:
    folder = project(tmp_path)
    split = store.read(tmp_path / "data/prepared/synthetic").split("test")
    codes = load(folder).codes(split)
    frame = run_encode(tmp_path, split="test")

    assert list(frame["label"]) == split.labels.tolist()
    assert np.array_equal(frame[["mu_0", "mu_1", "mu_2"]], codes.mean)
    with pytest.raises(UserError, match="nowhere"):
        run_encode(tmp_path, split="nowhere")


def test_standard_input_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"w1 w2\nsoup w1\n")))
    frame = run_encode(tmp_path, source=Path("-"))

    assert list(frame["unknown"]) == [0, 1]
    assert (
        capsys.readouterr().err
        == "warning: 1 of 4 words are not in the vocabulary (soup); the model reads <unk> in their place\n"
    )
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"w1\ncaf\xe9\n")))
    with pytest.raises(UserError, match="standard input, line 2: expected UTF-8"):
        run_encode(tmp_path, source=Path("-"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "expected one of --input, --sentence, --split to encode; found none"),
        ({"sentences": ["w1"], "source": Path("x.txt")}, "found --input and --sentence"),
        ({"sentences": ["w1"], "output": Path("codes.xlsx")}, r"ends in \.parquet or \.csv"),
        ({"source": Path("nowhere.txt")}, "nowhere.txt: cannot be read"),
    ],
)
def test_wrong_input_of_encode_is_an_error(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    project(tmp_path)
    with pytest.raises(UserError, match=message):
        run_encode(tmp_path, **changed)
    assert not (tmp_path / "reports").exists()


def test_pictures_are_encoded_by_their_names(tmp_path: Path) -> None:
    model = drawing()
    (tmp_path / "a").mkdir()
    for name, shade in (("a/one.png", 0), ("two.png", 255)):
        Image.new("L", (12, 12), shade).save(tmp_path / name)
    drawings, names = user_images.read_images(tmp_path, 6, "dark")
    assert names == ["a/one.png", "two.png"]
    assert drawings.grey.mean((1, 2)).tolist() == [1, 0]
    frame = encode.codes_of_images(model, tmp_path, "dark", 1)
    expected = model.encode(np.stack([np.ones((6, 6)), np.zeros((6, 6))]))
    assert list(frame["image"]) == names
    assert np.array_equal(frame[["mu_0", "mu_1", "mu_2"]], expected.mean)
    np.savez(tmp_path / "both.npz", images=np.stack([np.zeros((12, 12)), np.ones((12, 12))]))
    again = encode.codes_of_images(model, tmp_path / "both.npz", "dark", 1)
    assert np.array_equal(again[["mu_0", "mu_1", "mu_2"]], expected.mean)
    np.savez(tmp_path / "split.npz", **dict.fromkeys(("train", "valid", "test"), np.zeros((1, 12, 12))))
    with pytest.raises(UserError, match="expected an array named images; found train, valid, test"):
        encode.codes_of_images(model, tmp_path / "split.npz", "dark", 1)


def test_interpolation_between_two_given_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load(project(tmp_path))
    output = tmp_path / "between.txt"
    options = Decoding(likely=True)
    interpolate.run(family.PARAMS, *JOB, output, 8, 5, 1, options, ("w1 w2", "w3 soup w4"), tmp_path)
    lines = output.read_text(encoding="utf-8").splitlines()

    assert "1 of 5 words are not in the vocabulary (soup)" in capsys.readouterr().err
    first, *points, last, empty = lines
    assert (first, last, empty) == ("from\tw1 w2", "to\tw3 <unk> w4", "")
    plain = [point.removesuffix(f" {model_io.CUT}").split("\t") for point in points]
    assert [t for t, _ in plain] == ["0", "0.25", "0.5", "0.75", "1"]
    assert [sentence for _, sentence in plain] == model.interpolate("w1 w2", "w3 <unk> w4", 5)
    assert max(len(sentence.split()) for _, sentence in plain) <= model.max_words == max(family.LENGTHS) - 2


def test_reconstructions_stand_below_their_originals(tmp_path: Path) -> None:
    model = load(project(tmp_path))

    def lines(*arguments: object) -> list[str]:
        output = tmp_path / "again.txt"
        reconstruct.run(family.PARAMS, *JOB, output, *arguments, tmp_path)  # type: ignore[arg-type]
        return [line.removesuffix(f" {model_io.CUT}") for line in output.read_text(encoding="utf-8").splitlines()]

    expected = [line for pair in zip(SENTENCES, model.reconstruct(SENTENCES), strict=True) for line in (*pair, "")]
    found = lines(SENTENCES, None, 8, 1, Decoding(likely=True))
    assert found == [" ".join(line.split()) for line in expected][:-1]
    (tmp_path / "new.txt").write_text("".join(f"{s}\n" for s in SENTENCES), encoding="utf-8")
    assert lines([], tmp_path / "new.txt", 8, 1, Decoding(likely=True)) == found
    of_test = lines([], None, 3, 1, Decoding(temperature=0.5))
    test = store.read(tmp_path / "data/prepared/synthetic").documents("test")
    assert isinstance(test, Documents)
    assert set(of_test[::3]) <= {" ".join(WORDS[i] for i in test[n][1:-1]) for n in range(len(test))}
    assert len(of_test) == 8


def test_images_are_served_as_an_array() -> None:
    model = drawing()
    bits = np.zeros((2, 6, 6), np.float32)

    pd.testing.assert_frame_equal(pyfunc.Encoder(model).predict(bits), model.encode(bits).frame())


def test_encode_warns_of_what_nobody_sees_in_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project(tmp_path)
    (tmp_path / "new.txt").write_text("w1 w2\nw1 \ufeffw2\n", encoding="utf-8")
    run_encode(tmp_path, source=tmp_path / "new.txt")

    assert f"warning: {tmp_path / 'new.txt'}, line 2: found the invisible character U+FEFF" in capsys.readouterr().err


def test_encode_warns_of_frames_that_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (Image.new("L", (12, 12), shade) for shade in (0, 255))
    first.save(tmp_path / "animated.gif", save_all=True, append_images=[second])
    second.save(tmp_path / "plain.png")
    encode.codes_of_images(drawing(), tmp_path, "dark", 1)

    assert "1 frame of 1 picture left out" in capsys.readouterr().err
