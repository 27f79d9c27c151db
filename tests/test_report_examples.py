"""Results on images, and examples that models generate (pictures and texts), on pages from made-up results."""

import base64
import io
import json
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import made_up
from duvae import config
from duvae.commands import examples as pages
from duvae.commands import report
from duvae.config import Params
from duvae.data import store
from duvae.errors import UserError
from duvae.inference import sample_files as samples_of
from duvae.report import examples, pictures, results
from spoiling import with_damaged_content, with_unknown_compression
from test_report import Tables

SETTINGS = ["ae", "vae", "du_vae", "iaf_bn"]


def project(folder: Path, datasets: list[str], seeds: tuple[int, ...] = (1,)) -> Params:
    params = made_up.params(datasets=datasets, settings=SETTINGS, seeds=list(seeds))
    made_up.project(folder, params, params.run_jobs())
    report.run(params, folder)
    for dataset in datasets:
        if params.dataset(dataset).kind in config.APART:
            pages.run(params, dataset, folder)

    return params


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    project(folder, ["omniglot_small", "synthetic", "short_yelp_resampled"], (1, 2))

    return folder


@pytest.fixture(scope="module")
def html(root: Path) -> str:
    return (root / "reports/index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawn(html: str) -> Tables:
    return Tables(html)


def section(html: str, dataset: str) -> str:
    return html.partition(f'<section id="{dataset}">')[2].partition("</section>")[0]


def grids(part: str) -> list[np.ndarray]:
    """The pictures in a part of a page, as arrays of ink: 0 is white and 1 is black."""
    found = re.findall(r'<img alt="[^"]*" src="data:image/png;base64,([^"]+)"', part)

    return [1 - matplotlib.image.imread(io.BytesIO(base64.b64decode(png)))[..., 0] for png in found]


# ---------------------------------------------------------------------------------- numbers on images


def test_images_are_spoken_of_as_images(html: str) -> None:
    of = section(html, "omniglot_small")
    words = re.sub(r"<svg.*?</svg>|<[^>]+>", " ", of, flags=re.DOTALL)

    assert "sentence" not in words
    assert "On 300 test images (NLL on a random 100 of them, the rest on all), per image." in words
    assert "NLL with 500 importance samples on a random 100 of the test images." in words
    assert "Images of 28 by 28 bits; a decoder of 3 masked layers of width 24. 3 of the 50 alphabets." in words
    assert "per image" not in section(html, "synthetic")
    assert "On 300 test sentences, per sentence." in section(html, "synthetic")


def test_images_have_no_perplexity(drawn: Tables) -> None:
    for table in ("likelihood", "models"):
        assert "PPL" not in drawn.found[f"{table}-omniglot_small"][0]
        assert "PPL" in drawn.found[f"{table}-synthetic"][0]


def test_the_explanations_are_of_all_data_sets_together(html: str) -> None:
    explained = re.findall(r"<dt>([^<]+)", html.partition('id="columns"')[2])

    assert len(explained) == len(set(explained))
    assert {"NLL", "PPL", "Above floor", "CE of zᵀ"} < {name.strip() for name in explained}


def test_probes_of_images_are_means_over_alphabets(root: Path, html: str, drawn: Tables) -> None:
    of = section(html, "omniglot_small")
    assert "each of 2 alphabets on its own and their mean, by number of images a character" in of
    assert drawn.found["probes-omniglot_small"][0] == ["System", "Seeds", "5", "10", "15"]
    probes = [
        json.loads((root / f"results/omniglot_small/du_vae/{seed}/probe.json").read_text())["by_labels"]["10"]
        for seed in (1, 2)
    ]
    accuracy = np.mean([probe["accuracy"] for probe in probes])
    assert drawn.row("probes-omniglot_small", "DU-VAE")["10"].startswith(f"{accuracy:.1f} ±")
    row = drawn.row("alphabets-10-omniglot_small", "Latin")
    assert row["DU-VAE"] == f"{np.mean([probe['by_alphabet']['Latin'] for probe in probes]):.1f}"
    assert {f"alphabets-{count}-omniglot_small" for count in (5, 10, 15)} < set(drawn.found)
    assert not any(name.startswith("alphabets") and "omniglot" not in name for name in drawn.found)
    data = json.loads(re.findall(r'id="compare-data">(.*?)</script>', html)[0])
    labels = {of["id"]: {measure["label"] for measure in of["measures"]} for of in data["sets"]}
    assert "Accuracy, 15 images a character" in labels["omniglot_small"]
    assert "Accuracy, 100 labels" in labels["synthetic"]
    assert "PPL" not in labels["omniglot_small"]


def test_tables_1_and_3_stand_beside_ours(html: str, drawn: Tables) -> None:
    of = section(html, "omniglot_small")
    assert "Not the paper's experiment." in of.replace("&#39;", "'")
    assert "Three of the fifty alphabets" in of
    called = {row[0]: row for row in drawn.found["table1-omniglot_small"][2:]}
    assert called["DU-VAE γ 0.5, p 0.9"][3] == "89.00"
    assert "DU-VAE γ 0.5, p 0.8" not in called, "we have no results of it"
    assert "Ours on 300 test images (NLL on a random 100 of them, the rest on all)" in of
    table = drawn.found["table3-omniglot_small"]
    assert [text for text in table[0] if text] == ["5", "10", "15"]
    assert {row[0]: row for row in table[2:]}["VAE"][3::2] == ["29.48", "37.79", "42.24"]
    assert "by number of images a character" in of.partition("Table 3")[2]


def test_the_entries_of_omniglot_have_its_tables_and_say_what_departs() -> None:
    known = config.load(made_up.ROOT / "params.yaml")
    for name in ("omniglot", "omniglot_small"):
        of = known.dataset(name).paper
        assert of is not None
        assert of.tables == ["table1", "table3"]
        assert of.departs


# ---------------------------------------------------------------------------------- pictures


def test_pictures_are_what_was_drawn(root: Path, html: str) -> None:
    found = grids(section(html, "omniglot_small").partition('id="samples-')[2])
    test = store.read(root / "data/prepared/omniglot_small").images("test").pixels
    assert len(found) == 1 + 2 + 3 * 4  # 1 of real images, 2 of AE (interpolations), 4 of each other system
    same = pictures.grid(test[[4, 5, 6]].astype(float), 2, examples.PIXEL)
    np.testing.assert_allclose(found[0], same, atol=0.01)
    with np.load(root / "generated/omniglot_small/vae/1.npz") as file:
        samples, betweens = ([file[f"{kind}_{way}"] for way in ("drawn", "mean")] for kind in ("samples", "between"))
    for picture, drawn in zip(found[3:5], samples, strict=True):
        np.testing.assert_allclose(picture, pictures.grid(drawn.astype(float), 2, examples.PIXEL), atol=0.01)
    side, gap = 8 * examples.PIXEL, 4 * examples.PIXEL
    for picture, between in zip(found[5:7], betweens, strict=True):
        parts = picture[:, :side], picture[:, side + gap : -side - gap], picture[:, -side:]
        wanted = (test[[0, 2]], 1), (between.reshape(6, made_up.SIDE, made_up.SIDE), 3), (test[[1, 3]], 1)
        for part, (of, columns) in zip(parts, wanted, strict=True):
            np.testing.assert_allclose(part, pictures.grid(of.astype(float), columns, examples.PIXEL), atol=0.01)


def test_an_autoencoder_has_no_prior(html: str) -> None:
    assert section(html, "omniglot_small").count("no prior to sample from") == 1
    assert section(html, "synthetic").count("no prior to sample from") == 1


# ---------------------------------------------------------------------------------- texts


def test_made_up_sentences_are_on_the_page_and_real_ones_on_another(root: Path, html: str) -> None:
    with np.load(root / "generated/synthetic/vae/1.npz") as file:
        sample = " ".join(made_up.WORDS[n] for n in file["samples_drawn"][0][1:-1])
    assert f"<li>{sample}</li>" in section(html, "synthetic")
    with np.load(root / "generated/short_yelp_resampled/vae/1.npz") as file:
        sample = " ".join(made_up.WORDS[n] for n in file["between_likeliest"][1, 2][1:-1])
    prepared = store.read(root / "data/prepared/short_yelp_resampled")
    test = [" ".join(prepared.words(prepared.documents("test")[n])) for n in (0, 3, 4)]
    beside = (root / "reports/examples/short_yelp_resampled.html").read_text(encoding="utf-8")
    for line in (sample, *test):
        assert f">{line}</" in beside
    assert not re.search(r"<li>(plain|words|made|up|for|tests) ", section(html, "short_yelp_resampled"))
    assert [path.name for path in (root / "reports/examples").iterdir()] == ["short_yelp_resampled.html"]


@pytest.mark.parametrize("kind", ["text", "images"])
def test_what_is_somebodys_is_left_out_of_git(kind: str) -> None:
    """Data sets of these kinds may hold private texts or pictures.

    Their examples therefore go into folders that .gitignore lists.
    """
    ignored = (made_up.ROOT / ".gitignore").read_text().splitlines()

    assert kind in config.APART
    assert {"/reports/examples/", "/reports/generated/", "/generated/", "/reports/data_docs/"} < set(ignored)


# ---------------------------------------------------------------------------------- missing or wrong files


def archive() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, columns=np.arange(100))

    return file.getvalue()


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"not an archive",
        b"PK\x03\x04 cut short",
        with_damaged_content(archive()),
        with_unknown_compression(archive()),
    ],
    ids=["empty", "no archive", "cut short", "damaged", "unknown compression"],
)
def test_broken_samples_are_named_with_their_command(tmp_path: Path, broken: bytes) -> None:
    params = project(tmp_path, ["omniglot_small", "short_yelp_resampled"])
    for path, dataset, stage in (
        (tmp_path / "results/omniglot_small/vae/samples/1.json", "omniglot_small", report),
        (tmp_path / "generated/short_yelp_resampled/vae/1.npz", "short_yelp_resampled", pages),
    ):
        path.write_bytes(broken)
        with pytest.raises(UserError) as caught:
            stage.run(params, *([dataset] if stage is pages else []), tmp_path)
        assert str(path) in str(caught.value)
        assert f"'duvae samples --dataset {dataset} --setting vae --seed 1'" in str(caught.value)


def test_without_what_is_not_in_git_the_numbers_are_shown(tmp_path: Path) -> None:
    params = project(tmp_path, ["short_yelp_resampled"])
    before = (tmp_path / "reports/index.html").read_bytes()
    for setting in ("vae", "du_vae"):
        (tmp_path / f"generated/short_yelp_resampled/{setting}/1.npz").unlink()
    report.run(params, tmp_path)
    page = tmp_path / "reports/examples/short_yelp_resampled.html"
    page.unlink()
    with pytest.raises(UserError) as caught:
        pages.run(params, "short_yelp_resampled", tmp_path)

    assert (tmp_path / "reports/index.html").read_bytes() == before
    assert not page.exists()
    assert "short_yelp_resampled/vae/1.npz: not there" in str(caught.value)
    assert "'duvae samples --dataset short_yelp_resampled --setting vae --seed 1' makes it" in str(caught.value)


def test_somebodys_sentences_are_not_in_what_git_keeps(root: Path) -> None:
    content = json.loads((root / "results/short_yelp_resampled/vae/samples/1.json").read_text())
    assert content == {"about": [{"weights": content["about"][0]["weights"], "apart": True}], "npz": content["npz"]}
    for path in (root / "results/short_yelp_resampled").rglob("*"):
        assert path.is_dir() or not re.search(r"\b(plain|words|tests)\b", path.read_text())
    kept = samples_of.read(root / "results/synthetic/vae/samples/1.json", "")
    assert kept is not None
    assert re.fullmatch(r"(plain|words|made|up|for|tests)( (plain|words|made|up|for|tests))*", kept.test[0])


def test_samples_beside_other_data_are_refused(tmp_path: Path) -> None:
    params = project(tmp_path, ["short_yelp_resampled"])
    path = tmp_path / "generated/short_yelp_resampled/vae/1.npz"
    with np.load(path) as file:
        held = {name: file[name] for name in file.files}
    np.savez(path, **{**held, "pairs": np.array([[0, 300], [1, 2]])})
    with pytest.raises(UserError, match="has 300 test examples where 301 or more are needed"):
        pages.run(params, "short_yelp_resampled", tmp_path)
    np.savez(path, **{name: held[name] for name in held if not name.startswith("between")})
    with pytest.raises(UserError, match=r"expected samples, but .*between"):
        pages.run(params, "short_yelp_resampled", tmp_path)


def test_samples_of_other_weights_are_refused(tmp_path: Path) -> None:
    params = project(tmp_path, ["short_yelp_resampled"])
    path = tmp_path / "generated/short_yelp_resampled/vae/1.npz"
    with np.load(path) as file:
        held = {name: file[name] for name in file.files}
    np.savez(path, **{**held, "weights": np.array("0" * 16)})
    with pytest.raises(UserError, match="samples belong to other weights") as caught:
        pages.run(params, "short_yelp_resampled", tmp_path)

    assert "'duvae samples --dataset short_yelp_resampled --setting vae --seed 1'" in str(caught.value)


def test_a_page_of_examples_is_for_the_users_own_data_in_the_run(tmp_path: Path) -> None:
    params = project(tmp_path, ["omniglot_small", "short_yelp_resampled"])
    with pytest.raises(UserError, match=r"reports/index\.html. Expected .* text or images; found the kind omniglot"):
        pages.run(params, "omniglot_small", tmp_path)
    with pytest.raises(UserError, match="expected one of the data sets that 'run' in"):
        pages.run(params, "short_yelp", tmp_path)


def test_the_first_seed_is_shown(root: Path) -> None:
    params = made_up.params(datasets=["omniglot_small"], settings=["vae"], seeds=[2, 1])
    models = results.read(params, params.run_jobs(), root)
    kept = examples.committed_samples(examples.first_seeds(models)["vae"], root)
    assert kept is not None
    with np.load(root / "generated/omniglot_small/vae/2.npz") as file:
        np.testing.assert_array_equal(kept.prior["drawn"], file["samples_drawn"])
    of = examples.content({"vae": kept}, results.setting_names(models), 2)
    expected = pictures.png(pictures.grid(kept.prior["drawn"], 2, examples.PIXEL))

    assert base64.b64encode(expected).decode() in of["settings"][0]["samples"][0]
    assert of["seeds"] == 2
