"""Samples from the prior, interpolations, and the commands that write them."""

import io
from pathlib import Path
from types import ModuleType

import matplotlib.image
import numpy as np
import pytest
import torch

import family
from duvae.commands import encode, generate, interpolate, model_io, reconstruct
from duvae.commands import samples as samples_stage
from duvae.config import ImageNetworks, TextNetworks
from duvae.data import store
from duvae.data.splits import END, PAD, PIXELS, SPECIALS, START, Documents, Images
from duvae.data.store import Prepared
from duvae.errors import UserError
from duvae.inference import decoding, generation, model_files
from duvae.inference.model_files import Description
from duvae.inference.options import Decoding
from duvae.networks.lstm import LSTMDecoder
from duvae.posteriors import InverseAutoregressiveFlow
from duvae.report import pictures
from duvae.vae import VAE

SIZES = {"size": 6, "channels": [4, 4], "features": 8, "kernels": [3, 3, 3], "width": 4, "feature_maps": 2}


def images(system: str = "vae", **sizes: int) -> VAE:
    described = family.describe(system)
    networks = ImageNetworks(**{**SIZES, **sizes}, latent=3).model_dump()
    torch.manual_seed(1)

    return Description(described.system, described.hyperparameters, described.parts, networks, 2).build()[0]


def texts() -> VAE:
    return family.lively(family.build("vae")[0])


# ------------------------------------------------------------------------- samples and interpolations


@pytest.mark.parametrize("kind", [images, texts])
def test_samples_are_a_function_of_the_seed_and_leave_the_model(kind) -> None:
    model = kind().train()
    before, random = family.state(model), torch.get_rng_state()
    one, again, other = (generation.prior(model, 5, 3, seed) for seed in (1, 1, 2))

    assert torch.equal(one, again)
    assert one.shape != other.shape or not torch.equal(one, other)
    assert len(one) == 5
    assert model.training
    assert family.same(before, family.state(model))
    assert torch.equal(random, torch.get_rng_state())


def test_a_line_from_one_z_to_another_in_even_steps() -> None:
    one, other = torch.randn(2, 3), torch.randn(2, 3)
    found = generation.between(one, other, 5)

    assert torch.equal(found[:, 0], one)
    torch.testing.assert_close(found[:, -1], other)
    torch.testing.assert_close(found.diff(dim=1), ((other - one) / 4)[:, None].expand(-1, 4, -1))


def test_the_ends_of_an_interpolation_are_the_reconstructions() -> None:
    model = images()
    x = (torch.rand(4, 1, 6, 6) < 0.3).float()
    ends = generation.means(model, list(x.split(1)))
    torch.testing.assert_close(ends, model.eval().posterior(x).mean)
    found = generation.interpolations(model, ends.view(2, 2, 3), 4, seed=1, likely=True)
    decoded = model.decoder.sample(ends, likely=True).view(2, 2, 1, 6, 6)

    assert found.shape == (8, 1, 6, 6)
    assert torch.equal(found.view(2, 4, 1, 6, 6)[:, [0, -1]], decoded)


def test_mean_images_are_the_mean_over_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """All 2^9 images of 3 x 3 pixels are enumerated. Their mean, weighted by p(x|z), is the exact answer."""
    model = family.lively(images(size=3))
    z = 4 * torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    every = torch.arange(2**9)[:, None].bitwise_and(2 ** torch.arange(9)).ne(0).float().view(-1, 1, 3, 3)
    with torch.no_grad():
        weights = torch.stack([model.eval().decoder.log_prob(every, one.expand(len(every), -1)).exp() for one in z])
    torch.testing.assert_close(weights.sum(1), torch.ones(3), atol=1e-4, rtol=0)
    exact = torch.einsum("zx,xchw->zchw", weights, every)
    monkeypatch.setattr(generation, "MOST_IMAGES", 3_000)
    draws = 2_500
    model.train()
    before, random = family.state(model), torch.get_rng_state()
    found = generation.mean_images(model, z, draws, torch.Generator().manual_seed(2))
    # The standard error of a pixel is at most sqrt(m (1 - m) / draws); 27 pixels are within 5 of them.
    errors = (exact * (1 - exact) / draws).sqrt()

    assert found.shape == (3, 1, 3, 3)
    assert ((found - exact).abs() < 5 * errors + 1e-6).all()
    assert exact.std() > 0.05  # the pixels differ
    torch.testing.assert_close(found[:, 0, 0, 0], exact[:, 0, 0, 0])  # the first pixel has no earlier ones
    assert model.training
    assert family.same(before, family.state(model))
    assert torch.equal(random, torch.get_rng_state())


def test_mean_images_are_of_images() -> None:
    with pytest.raises(TypeError, match="expected a decoder of images; found FastLSTMDecoder"):
        generation.mean_images(texts(), torch.zeros(1, family.LATENT), 2)


@pytest.mark.parametrize("system", ["ae", "vae", "bn_vae", "iaf_bn", "du_iaf"])
def test_the_mean_of_an_example_is_a_code_that_the_decoder_reads(system: str) -> None:
    """The code is the posterior mean. For a flow, it is the z^T to which the chain maps mu^0, not mu^0 itself."""
    model = family.lively(images(system))
    x = (torch.rand(3, 1, 6, 6) < 0.3).float()
    found = generation.means(model, list(x.split(1)))
    with torch.no_grad():
        posterior = model.eval().posterior(x)
        expected = posterior.mean
        if isinstance(posterior, InverseAutoregressiveFlow):
            expected = posterior.chain(posterior.mean, posterior.context)[0]
            assert not torch.allclose(expected, posterior.mean, atol=0.01)

    torch.testing.assert_close(found, expected)


def test_pairs_are_of_different_examples() -> None:
    found = generation.pairs(50, 3, seed=1)

    assert (found[:, 0] != found[:, 1]).all()
    assert set(found.flatten()) == {0, 1, 2}
    assert (found == generation.pairs(50, 3, seed=1)).all()


# ---------------------------------------------------------------------------------- texts


def test_sentences_begin_and_end_and_are_padded() -> None:
    model = texts()
    found = generation.prior(model, 200, family.LATENT, seed=1)
    assert (found[:, 0] == START).all()
    for sentence in found.tolist():
        if END in sentence:
            assert set(sentence[sentence.index(END) + 1 :]) <= {PAD}
    assert (found == END).any()


def test_words_have_the_frequencies_of_the_probabilities() -> None:
    """Tests the first word, given one z."""
    decoder = texts().decoder
    assert isinstance(decoder, LSTMDecoder)
    z = torch.randn(1, family.LATENT)
    count = 40_000
    drawn = decoder.sample(z.expand(count, -1), torch.Generator().manual_seed(1), longest=2)[:, 1]
    every = torch.arange(family.WORDS)
    with torch.no_grad():
        expected = decoder.eval().log_prob(torch.stack([torch.full_like(every, START), every], 1), z.expand(12, -1))

    assert (torch.bincount(drawn, minlength=family.WORDS) / count - expected.exp()).abs().max() < 0.0125


def test_the_likeliest_words_are_those_of_the_likelihood() -> None:
    decoder = texts().decoder.eval()
    z = torch.randn(4, family.LATENT)
    found = decoder.sample(z, likely=True, longest=6)
    assert torch.equal(found, decoder.sample(z, likely=True, longest=6))
    for row, code in zip(found, z, strict=True):
        length = row.tolist().index(END) + 1 if END in row else len(row)
        for t in range(1, length):
            every = torch.cat([row[:t].expand(family.WORDS, -1), torch.arange(family.WORDS)[:, None]], 1)
            with torch.no_grad():
                likelihood = decoder.log_prob(every, code.expand(family.WORDS, -1))
            assert int(likelihood.argmax()) == int(row[t])


# ---------------------------------------------------------------------------------- pictures


def test_a_grid_has_all_images_on_one_scale() -> None:
    ink = np.zeros((3, 2, 2))
    ink[1] = 1
    ink[2] = 0.5
    found = pictures.grid(ink, columns=2, scale=1)

    assert found.shape == (7, 7)
    assert (found[1:3, 4:6] == 1).all()
    assert (found[4:6, 1:3] == 0.5).all()
    assert (found[0] == 0.25).all()
    assert pictures.grid(ink, 2).shape == (21, 21)
    seen = matplotlib.image.imread(io.BytesIO(pictures.png(found)))[..., 0]
    assert (seen[1:3, 4:6] == 0).all()
    assert (seen[1:3, 1:3] == 1).all()
    half = matplotlib.image.imread(io.BytesIO(pictures.png(np.full((2, 2), 0.5))))[..., 0]
    assert (seen[4:6, 1:3] == half).all()


def test_grids_stand_side_by_side() -> None:
    found = pictures.side_by_side([np.ones((3, 2)), np.full((3, 4), 0.5)], 1)

    assert found.tolist() == [[1.0, 1.0, 0.0, 0.5, 0.5, 0.5, 0.5]] * 3


# ------------------------------------------------------------------------------- the commands


def project(folder: Path, system: str = "vae", examples: int = 20) -> None:
    """Writes a prepared data set and an untrained model of it."""
    texts_of = family.documents(examples, words=12)
    vocabulary = [*SPECIALS, *(f"w{n}" for n in range(8))]
    store.write(folder / "data/prepared/synthetic", Prepared(vocabulary, {"test": texts_of}, {}))
    entry = family.PARAMS.setting(system)
    sizes = TextNetworks(embedding=6, hidden=8, latent=3, dropout_in=0.0, dropout_out=0.0)
    description = Description(system, {}, entry.parts.model_dump(), sizes.model_dump(), 12)
    torch.manual_seed(1)
    model_files.save(folder / f"models/synthetic/{system}/1", description.build()[0], description)


def drawings_project(folder: Path) -> None:
    """Writes a prepared data set of images and an untrained model of it."""
    bits = (np.random.default_rng(1).random((7, 6, 6)) < 0.3).astype(np.uint8)
    test = Images(bits, np.zeros(7, np.int64), np.zeros(7, np.int64), np.arange(7))
    store.write(folder / "data/prepared/omniglot_small", Prepared(list(PIXELS), {"test": test}, {}))
    networks = ImageNetworks(**SIZES, latent=3).model_dump()
    description = Description("vae", {}, family.PARAMS.setting("vae").parts.model_dump(), networks, 2)
    model_files.save(folder / "models/omniglot_small/vae/1", images(), description)


@pytest.mark.parametrize(("command", "kind"), [(generate, "samples"), (interpolate, "interpolations")])
def test_the_commands_write_sentences(
    tmp_path: Path, command: ModuleType, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project(tmp_path)
    arguments = ("synthetic", "vae", 1, None, 3, 4, 1, Decoding())
    command.run(family.PARAMS, *arguments, root=tmp_path)
    path = tmp_path / f"reports/generated/synthetic-vae-1-{kind}.txt"
    text = path.read_text(encoding="utf-8")

    originals = 2 if command is interpolate else 0
    assert len(text.splitlines()) == 3 * (4 + originals + 1)  # an empty line after each group
    printed = capsys.readouterr().out
    assert printed.startswith(f"{text}{path}: 3 x 4 {kind} of synthetic-vae-1")
    assert printed.count("\n") == text.count("\n") + 1
    command.run(family.PARAMS, *arguments, root=tmp_path)
    assert path.read_text(encoding="utf-8") == text


def test_an_interpolation_of_test_sentences_stands_between_its_originals(tmp_path: Path) -> None:
    project(tmp_path)
    output = tmp_path / "between.txt"
    interpolate.run(family.PARAMS, "synthetic", "vae", 1, output, 2, 3, 5, Decoding(beams=2), root=tmp_path)
    lines = [line.split("\t") for line in output.read_text(encoding="utf-8").splitlines()]
    prepared = store.read(tmp_path / "data/prepared/synthetic")
    test = prepared.documents("test")
    indices = generation.pairs(2, len(test), 5)
    originals = [" ".join(prepared.words(test[index])) for index in indices.flatten().tolist()]
    model, _ = model_files.load(tmp_path / "models/synthetic/vae/1")
    z = generation.means(model, [torch.from_numpy(test.batch(np.array([n]))) for n in indices[:, 0]])
    first = model_io.sentences(decoding.decode(model, z, Decoding(beams=2), None, 7), prepared)

    assert [line[0] for line in lines] == ["from", "0", "0.5", "1", "to", ""] * 2
    assert [lines[n][1] for n in (0, 4, 6, 10)] == originals
    assert [lines[n][1] for n in (1, 7)] == first


def test_an_interpolation_of_images_stands_between_its_originals(tmp_path: Path) -> None:
    drawings_project(tmp_path)
    output = tmp_path / "between.png"
    interpolate.run(family.PARAMS, "omniglot_small", "vae", 1, output, 2, 3, 5, Decoding(likely=True), root=tmp_path)
    test = store.read(tmp_path / "data/prepared/omniglot_small").images("test")
    indices = generation.pairs(2, 7, 5)
    model, _ = model_files.load(tmp_path / "models/omniglot_small/vae/1")
    z = generation.means(model, [torch.from_numpy(test.batch(np.array([n]))) for n in indices.flatten()]).view(2, 2, 3)
    became = generation.interpolations(model, z, 3, 5, likely=True)[:, 0].view(2, 3, 6, 6).numpy()
    rows = np.concatenate([test.pixels[indices[:, :1]], became, test.pixels[indices[:, 1:]]], 1).reshape(10, 6, 6)

    expected = matplotlib.image.imread(io.BytesIO(pictures.png(pictures.grid(rows, 5))))
    assert np.array_equal(matplotlib.image.imread(output), expected)


def test_a_long_text_is_printed_in_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"line {n}" for n in range(model_io.PRINTED + 20)]
    path = model_io.write_lines(lines, tmp_path / "long")

    assert path.read_text(encoding="utf-8").splitlines() == lines
    printed = capsys.readouterr().out.splitlines()
    assert printed == [*lines[: model_io.PRINTED], f"(20 more lines: {path})"]
    model_io.write_lines(["a\x1b[2J\tb", "é…"], tmp_path / "odd.txt")
    assert capsys.readouterr().out == "a\\x1b[2J\tb\né…\n"
    assert (tmp_path / "odd.txt").read_text(encoding="utf-8") == "a\x1b[2J\tb\né…\n"


def test_a_sentence_without_an_end_is_marked() -> None:
    prepared = Prepared([*SPECIALS, "a", "b"], {}, {})
    ids = [[START, 4, 5, END], [START, 4, 4, PAD], [START, END, PAD, PAD]]
    found = model_io.sentences(torch.tensor(ids), prepared)

    assert found == ["a b", "a a […]", ""]
    assert model_io.note_of_cuts(found, 2) == "; 1 of 3 without an end after 2 words, marked […]"
    assert model_io.note_of_cuts(["a b"], 2) == ""


def test_images_become_a_picture(tmp_path: Path) -> None:
    found = np.zeros((6, 5, 5))
    path = model_io.write_grid(found, tmp_path / "grid", 3)

    assert path.name == "grid.png"
    assert matplotlib.image.imread(path).shape[:2] == (3 * 13, 3 * 19)
    with pytest.raises(UserError, match="expected a name that ends in"):
        model_io.write_grid(found, tmp_path / "grid.gif", 3)


def test_images_stand_beside_their_reconstructions(tmp_path: Path) -> None:
    drawings_project(tmp_path)
    arguments = ([], None, 3, 1, Decoding(), tmp_path)
    reconstruct.run(family.PARAMS, "omniglot_small", "vae", 1, None, *arguments)
    seen = matplotlib.image.imread(tmp_path / "reports/generated/omniglot_small-vae-1-reconstructions.png")
    test = store.read(tmp_path / "data/prepared/omniglot_small").images("test")
    chosen = test.only(np.sort(np.random.default_rng(1).choice(7, 3, replace=False)))
    model, _ = model_files.load(tmp_path / "models/omniglot_small/vae/1")
    z = generation.means(model, [torch.from_numpy(chosen.batch(np.array([n]))) for n in range(3)])
    became = generation.decode(model, z, torch.Generator().manual_seed(1), False, 1.0)[:, 0].numpy()

    both = np.stack([chosen.pixels, became], 1).reshape(6, 6, 6)
    wanted = matplotlib.image.imread(io.BytesIO(pictures.png(pictures.grid(both, 2))))
    assert np.array_equal(seen, wanted)
    with pytest.raises(UserError, match="expected a name that ends in"):
        reconstruct.run(family.PARAMS, "omniglot_small", "vae", 1, tmp_path / "grid.jpg", *arguments)


def test_pictures_that_are_not_there_cannot_be_encoded(tmp_path: Path) -> None:
    drawings_project(tmp_path)
    with pytest.raises(UserError, match=r"--input .*nowhere: not there\. Expected a folder of pictures or an \.npz"):
        encode.run(family.PARAMS, "omniglot_small", "vae", 1, None, [], tmp_path / "nowhere", None, 1, root=tmp_path)


def test_a_lone_test_example_has_nothing_to_lie_between() -> None:
    alone = Prepared(["paper", "ink"], {"test": Documents.of([[START, 4, END]], [0])}, {})
    with pytest.raises(UserError, match="two test examples or more"):
        interpolate.pairs_of_examples(alone, 2, 1)


# -------------------------------------------------------------------------------- for the report


def made_by_the_stage(folder: Path, dataset: str, setting: str) -> dict[str, np.ndarray]:
    """Runs the stage twice, checks that the files are equal, and returns their arrays."""
    samples_stage.run(family.PARAMS, dataset, setting, 1, folder)
    path = folder / f"generated/{dataset}/{setting}/1.npz"
    before = path.read_bytes()
    samples_stage.run(family.PARAMS, dataset, setting, 1, folder)
    assert path.read_bytes() == before
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_what_the_report_shows_of_images(tmp_path: Path) -> None:
    drawings_project(tmp_path)
    found, wanted = made_by_the_stage(tmp_path, "omniglot_small", "vae"), family.PARAMS.generation
    model, _ = model_files.load(tmp_path / "models/omniglot_small/vae/1")
    test = store.read(tmp_path / "data/prepared/omniglot_small").images("test")
    ends = generation.means(model, [torch.from_numpy(test.batch(np.array([n]))) for n in found["pairs"].flatten()])
    count = wanted.rows * wanted.columns

    assert found["samples_drawn"].dtype == np.uint8
    samples = generation.prior(model, count, 3, wanted.seed)
    assert np.array_equal(found["samples_drawn"], samples[:, 0].numpy())
    between = generation.interpolations(model, ends.view(-1, 2, 3), wanted.steps, wanted.seed)
    assert np.array_equal(found["between_drawn"].reshape(-1, 6, 6), between[:, 0].numpy())
    points = generation.between(*ends.view(-1, 2, 3).unbind(1), wanted.steps).flatten(0, 1)
    codes = {
        "samples_mean": generation.prior_codes(count, 3, wanted.seed, torch.device("cpu")),
        "between_mean": (points, torch.Generator().manual_seed(wanted.seed)),
    }
    for name, (z, generator) in codes.items():
        means = generation.mean_images(model, z, wanted.draws, generator)[:, 0].numpy()
        np.testing.assert_allclose(found[name].reshape(-1, 6, 6), means, atol=0.5 / samples_stage.LEVELS + 1e-6)
        assert (found[name].astype(float) * samples_stage.LEVELS % 1 == 0).all()
    for way in ("drawn", "mean"):
        assert found[f"between_{way}"].shape == (wanted.pairs, wanted.steps, 6, 6)
    assert not [name for name in found if name.endswith("likeliest")]
    assert sorted(found["examples"]) == list(range(7))  # all examples of the data set
    assert (found["pairs"] == generation.pairs(wanted.pairs, 7, wanted.seed)).all()
    assert found["columns"] == wanted.columns


@pytest.mark.parametrize("system", ["vae", "ae"])
def test_what_the_report_shows_of_texts(tmp_path: Path, system: str) -> None:
    project(tmp_path, system)
    found, wanted = made_by_the_stage(tmp_path, "synthetic", system), family.PARAMS.generation

    assert ("samples_drawn" in found) == ("samples_likeliest" in found) == (system == "vae")  # AE has no prior
    assert all(len(found[name]) == wanted.rows for name in found if name.startswith("samples"))
    assert found["between_likeliest"].shape[:2] == (wanted.pairs, wanted.steps)
    assert (found["between_likeliest"][..., 0] == START).all()


def test_a_lone_test_example_is_not_made_by_the_stage(tmp_path: Path) -> None:
    project(tmp_path, examples=1)
    with pytest.raises(UserError, match="data/prepared/synthetic: expected two test examples or more"):
        samples_stage.run(family.PARAMS, "synthetic", "vae", 1, tmp_path)
