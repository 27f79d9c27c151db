"""`duvae new` looks at texts and images of the user; `duvae run` trains on them, and git sees nothing of it."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import drawings
import tiny
from command_line import call
from duvae import config
from duvae.commands import estimate, new, results
from duvae.commands import run as own_run
from duvae.data import corpus, own_text
from duvae.errors import UserError
from duvae.project import own_data, private

ROOT = Path(__file__).parents[1]
ADJECTIVES = [
    first + second for first in ("ba", "ce", "di", "fo", "gu") for second in ("ran", "sel", "tin", "von", "wup", "zak")
]
REVIEWS = [(f"The {word} was good.", "good") for word in ADJECTIVES] + [(f"No {word}!", "bad") for word in ADJECTIVES]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with small parameters; the test runs in its folder, and no time is estimated."""
    raw = tiny.small()
    tiny.keep(raw, ["synthetic"], ["vae", "du_vae"])
    raw.update(figure1=None, run={"datasets": ["synthetic"], "settings": ["vae"], "seeds": [1]})
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    monkeypatch.setattr(estimate, "seconds_per_epoch", lambda *_: 1.5)
    monkeypatch.chdir(folder)

    return folder


def write(form: str, rows: list[tuple[str, str]] = REVIEWS) -> Path:
    """Writes documents with labels to a file of a form, which is the ending of its name."""
    path = Path(f"reviews.{form}")
    if form == "txt":
        lines = [f"{label}\t{text}" for text, label in rows]
    elif form in {"jsonl", "ndjson"}:
        lines = [json.dumps({"id": 1, "label": label, "review": text}) for text, label in rows]
    else:
        sign = {"csv": ",", "tsv": "\t"}[form]
        lines = [sign.join(("id", "label", "review")), *(sign.join(("1", label, f'"{text}"')) for text, label in rows)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    return path


def declared(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((own_data.DATASETS / f"{name}.yaml").read_text(encoding="utf-8"))

    return content


@pytest.mark.parametrize("form", ["txt", "csv", "tsv", "jsonl", "ndjson"])
def test_every_form_gives_the_same_documents(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    assert call(f"new {write(form)}", monkeypatch) == 0
    output = capsys.readouterr().out
    assert "60 documents of 2 to 4 words (half of them at most 3), with 2 labels (bad: 30, good: 30)" in output
    assert "about 1.5 s per epoch" in output
    (file,) = declared("reviews")["source"]["train"]
    read = corpus.read_documents(project / file["path"])
    assert read.documents == [text for text, _ in REVIEWS]
    assert read.labels == [int(label == "good") for _, label in REVIEWS]
    assert "# Labels: 0 bad, 1 good." in Path("datasets/reviews.yaml").read_text(encoding="utf-8").splitlines()


def test_a_text_file_that_needs_no_change_is_read_in_its_place(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("txt", [(text, str(int(label == "good"))) for text, label in REVIEWS])
    assert call(f"new {path} --name mine", monkeypatch) == 0
    assert declared("mine")["source"]["train"] == [{"path": "reviews.txt"}]
    assert not (project / "private").exists()


def test_labels_with_gaps_are_numbered_without_gaps(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("txt", [(text, "10" if label == "good" else "9") for text, label in REVIEWS])
    assert call(f"new {path}", monkeypatch) == 0
    (file,) = declared("reviews")["source"]["train"]
    assert set(corpus.read_documents(project / file["path"]).labels) == {0, 1}
    assert "# Labels: 0 9, 1 10." in Path("datasets/reviews.yaml").read_text(encoding="utf-8")


def test_tokenised_texts_have_fewer_unknown_words(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("csv")
    assert call(f"new {path} --name plain", monkeypatch) == 0
    assert call(f"new {path} --name split --tokenise --lower-case", monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    (promise,) = [line.split()[-1] for line in lines if "with --tokenise --lower-case, it would be" in line]
    assert f"split: about {promise.rstrip('.')} of the words" in "\n".join(lines)
    text = Path("private/split/documents.txt").read_text(encoding="utf-8")
    assert text.splitlines()[0] == "1\tthe baran was good ."


def test_the_columns_can_be_chosen(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"{index % 3},{text},short {index}" for index, (text, _) in enumerate(REVIEWS)]
    Path("table.csv").write_text("group,long,title\n" + "\n".join(rows), encoding="utf-8")
    texts = own_text.read_texts(Path("table.csv"))
    assert (texts.columns, texts.labels) == (("long",), None)
    texts = own_text.read_texts(Path("table.csv"), "title", "group")
    assert (texts.columns, texts.classes) == (("title", "group"), ["0", "1", "2"])
    assert texts.documents[:2] == ["short 0", "short 1"]
    with pytest.raises(UserError, match=r"table\.csv: --text: unknown column 'tile' \(did you mean 'title'\?\)"):
        own_text.read_texts(Path("table.csv"), "tile")
    with pytest.raises(UserError, match="expected different columns"):
        own_text.read_texts(Path("table.csv"), "title", "title")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "good\tyes\nno tab\n", r"a\.txt, line 2: expected label<TAB>document"),
        ("a.txt", "a document\n0\twith label\n", r"a\.txt, line 2: expected a document without a tab"),
        ("a.txt", "", r"a\.txt: expected at least one line"),
        ("a.txt", "the same\n" * 40, r"a\.txt: expected at least 10 different documents; found 1"),
        ("a.csv", "text\n" + "a,b,c\n" * 3, r"a\.csv: expected a table with a row of names"),
        ("a.csv", "text,label\n", r"a\.csv: expected at least one row"),
        (
            "a.csv",
            "text,label\nhello,a\nyou,b\nthere,\n",
            r"a\.csv, row 3 after the names: expected a label in 'label'",
        ),
        ("a.csv", "text\n" + '" "\n' * 3, r"a\.csv: expected at least one text with a word"),
        ("a.jsonl", '{"text": "hello"}\n[1]\n', r"a\.jsonl, line 2: expected a JSON object"),
        ("a.jsonl", '{"text": "hello"}\n{"text\n', r"a\.jsonl, line 2: expected a JSON object"),
        ("a.npz", "no arrays", r"a\.npz: "),
        ("a.csv", "\ud800", r"a\.csv, line 1: expected UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_leaves_nothing(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
    message: str,
) -> None:
    Path(name).write_bytes(content.encode("utf-8", "surrogatepass"))
    if name == "a.csv" and "a,b,c" in content:
        Path(name).write_text("text\n" + '"a\n', encoding="utf-8")  # a quote that never ends
    assert call(f"new {name}", monkeypatch) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert re.search(message, errors), errors
    assert sorted(path.name for path in project.iterdir()) == sorted([name, "params.yaml"])


def test_an_existing_declaration_stays(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("datasets").mkdir()
    Path("datasets/reviews.yaml").write_text("kind: text\n", encoding="utf-8")
    assert call(f"new {write('csv')}", monkeypatch) == 2
    assert "datasets/reviews.yaml: exists already. Choose another name with --name" in capsys.readouterr().err
    assert Path("datasets/reviews.yaml").read_text(encoding="utf-8") == "kind: text\n"
    for line, message in (
        ("new reviews.csv --name synthetic", "expected a name that params.yaml does not have"),
        ("new reviews.csv --name mine --set nothing=1", "--set nothing: unknown key 'nothing'"),
    ):
        assert call(line, monkeypatch) == 2
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in project.iterdir()) == ["datasets", "params.yaml", "reviews.csv"]
    assert [path.name for path in Path("datasets").iterdir()] == ["reviews.yaml"]


@pytest.mark.parametrize("ink", ["dark", "light"])
def test_images_are_declared_with_the_rarer_shade_as_ink(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ink: str
) -> None:
    drawn = np.stack([drawings.letter(number, 30) for number in range(40)])
    np.savez("letters.npz", images=drawn if ink == "light" else ~drawn)  # True is light
    assert call("new letters.npz", monkeypatch) == 0
    assert declared("letters")["source"] == {"path": "letters.npz", "ink": ink}
    assert f"{ink} ink on" in capsys.readouterr().out
    _, params = own_data.compose(own_data.Selection("letters", ["vae"]))
    assert params.dataset("letters").kind == "images"


def test_options_that_do_not_fit_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("txt")
    for line, message in (
        ("new reviews.txt --ink dark", "expected images for --ink"),
        ("new reviews.txt --text review", "expected a table or JSON lines"),
        ("new . --lower-case", "expected texts for --text"),
        ("new nothing.txt", "nothing.txt: not there"),
        ("new reviews.txt --name A", "--name A: expected a name"),
        ("run reviews --settings vae,,du_vae", "--settings 'vae,,du_vae': expected different names"),
        ("run reviews --seeds 1,x", "--seeds '1,x': expected whole numbers"),
        ("run reviews", "unknown data set 'reviews'"),
    ):
        assert call(line, monkeypatch) == 2
        assert message in capsys.readouterr().err


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=60), st.integers(1, 9), st.integers(1, 3))
def test_the_share_of_unknown_words_is_a_share_and_falls_with_the_vocabulary(
    words: list[str], most: int, at_least: int
) -> None:
    share = own_text.unknown_share(words, most, at_least)
    assert 0 <= own_text.unknown_share(words, most + 1, at_least) <= share <= 1
    assert own_text.unknown_share(words, most, at_least + 1) >= share
    assert own_text.unknown_share(["a"] * 10, 1, 1) == 0
    assert own_text.unknown_share([str(number) for number in range(10)], 100, 1) == 1


def test_the_estimate_counts_the_steps_of_an_epoch(tmp_path: Path) -> None:
    lines = "".join(f"{word} good\n" for word in tiny.WORDS * 20)
    read = corpus.read_documents(Path("a.txt"), raw=lines.encode())
    vocabulary = ["<pad>", "<s>", "</s>", "<unk>", "good", *tiny.WORDS]
    from duvae.data.vocabulary import word_ids

    params = tiny.params()
    train = word_ids(read, vocabulary, 5)
    for setting in ("vae", "du_vae", "agg_vae"):
        assert 0 < estimate.seconds_per_epoch(params, "synthetic", setting, train, len(vocabulary)) < 600


def test_own_data_pass_from_the_file_to_the_results_and_git_sees_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "project"
    root.mkdir()
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=root, check=True, timeout=60)
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    raw = tiny.small()
    tiny.keep(raw, ["synthetic"], ["vae", "du_vae"])
    raw.update(figure1=None, run={"datasets": ["synthetic"], "settings": ["vae"], "seeds": [1]})
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    subprocess.run(["git", "add", "--all"], cwd=root, check=True, timeout=60)
    monkeypatch.chdir(root)
    text = tmp_path / "secret_reviews.csv"
    write("csv").rename(text)

    assert call(f"new {text}", monkeypatch) == 0
    small = ["nll_examples=4", "optimisation.epochs=1", "optimisation.warmup=1", "networks.hidden=8"]
    changes = " ".join(f"--set {change}" for change in [*small, "networks.embedding=8", "expect.max_shared_rate=1.0"])
    assert call(f"run secret_reviews --settings vae {changes}", monkeypatch) == 0
    output = capfd.readouterr().out
    metrics = json.loads((root / "private/secret_reviews/results/secret_reviews/vae/1/metrics.json").read_text())
    assert f"{metrics['nll']:.2f}" in output
    assert "Page: private/secret_reviews/reports/index.html" in output
    page = (root / "private/secret_reviews/reports/index.html").read_text(encoding="utf-8")
    assert "secret_reviews" in page
    assert "The paper's choice" not in page
    assert "Claims of the paper" not in page
    assert call("encode --dataset secret_reviews --setting vae --seed 1 --sentence good.", monkeypatch) == 0
    assert (
        "private/secret_reviews/reports/generated/secret_reviews-vae-1-codes.parquet: 1 row" in capfd.readouterr().out
    )
    assert call("results --dataset secret_reviews", monkeypatch) == 0
    status = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"], cwd=root, capture_output=True, text=True, check=True
    )
    assert "secret" not in status.stdout
    tracked = [path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(root / "private")]
    assert [path for path in tracked if b"secret" in path.read_bytes()] == [root / "datasets/secret_reviews.yaml"]


def test_a_private_project_of_the_user_is_not_replaced(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("private/reviews/params.yaml")
    path.parent.mkdir(parents=True)
    path.write_text("run: mine\n", encoding="utf-8")
    declare_small()
    assert call("run reviews", monkeypatch) == 2
    assert "private/reviews/params.yaml: expected a file that 'duvae run' has written" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "run: mine\n"
    assert [each.name for each in path.parent.iterdir()] == ["params.yaml"]


def declare_small() -> None:
    Path("datasets").mkdir(exist_ok=True)
    text = "kind: text\nsource: {train: [{path: reviews.txt}]}\n"
    Path("datasets/reviews.yaml").write_text(text, encoding="utf-8")


def test_commands_read_the_values_of_set_in_a_private_project(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    declare_small()
    content, _ = own_data.compose(own_data.Selection("reviews", ["vae"]))
    path = Path("private/reviews/params.yaml")
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert call("generate --dataset reviews --setting vae --seed 1 --set networks.latent=0", monkeypatch) == 2
    assert "--set networks.latent=0: expected a number of at least 1; found 0" in capsys.readouterr().err
    assert call("generate --dataset reviews --setting vae --seed 1 --set networks.latent=3", monkeypatch) == 2
    assert "private/reviews/data/prepared/reviews: expected a prepared data set" in capsys.readouterr().err


def test_the_commands_that_are_printed_use_the_models_that_were_trained(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A data set of params.yaml has models of the main project, too, which a command without `cd` would use."""
    environments = []

    def dvc(*_: object, env: dict[str, str], **__: object) -> subprocess.CompletedProcess[str]:
        environments.append(env)
        return subprocess.CompletedProcess([], 0)

    declare_small()
    monkeypatch.setenv("DUVAE_MIRROR", "../data")
    monkeypatch.setattr(results, "run", lambda *_, **__: None)
    monkeypatch.setattr(private, "write", lambda root, name, *_: root / "private" / name)
    monkeypatch.setattr(own_run.subprocess, "run", dvc)
    for name, before in (("reviews", ""), ("synthetic", "cd private/synthetic && ")):
        assert call(f"run {name} --settings vae", monkeypatch) == 0
        command = f"{before}duvae generate --dataset {name} --setting vae --seed 1"
        assert f"Samples: {command}" in capsys.readouterr().out.splitlines()
    assert {env["DUVAE_MIRROR"] for env in environments} == {str(project / "../data")}


def test_a_data_set_without_results_says_what_to_run(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(f"new {write('csv')}", monkeypatch) == 0
    assert call("generate --dataset reviews --setting vae --seed 1", monkeypatch) == 2
    assert "data set 'reviews': it has no results yet. Run 'duvae run reviews'" in capsys.readouterr().err


def test_the_sizes_of_networks_grow_with_the_data() -> None:
    for sizes in (new.TEXT_SIZES, new.IMAGE_SIZES):
        bounds = [most for most, *_ in sizes]
        assert bounds == sorted(bounds)
        assert bounds[-1] == float("inf")
    paper = config.load(ROOT / "params.yaml").dataset("omniglot").networks.model_dump()
    assert {**paper, **new.IMAGE_SIZES[-1][1]} == paper
