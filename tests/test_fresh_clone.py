"""Every page needs only what git keeps: a clone without DVC's cache writes the same pages."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import made_up
from duvae import config
from test_report import Tables

ROOT = made_up.ROOT
DATASETS = ["synthetic", "omniglot_small", "short_yelp_resampled"]
SETTINGS = ["ae", "vae", "agg_vae", "bn_vae", "du_vae"]
STUDY = "synthetic_grid"
EXAMPLES = ["examples", "--dataset", "short_yelp_resampled"]
COMMANDS = [["figure1"], ["report"], ["figure2", "--study", STUDY]]
PAGES = ["reports/index.html", "reports/figure1.html", "reports/figure1.png", f"reports/studies/{STUDY}.html"]

WATCHED = """\
import json, os, sys
opened = set()
here = os.getcwd()
def watch(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, bytes)):
        path = os.path.relpath(os.path.abspath(os.fsdecode(arguments[0])), here)
        if not path.startswith(".."):
            opened.add(path)
sys.addaudithook(watch)
from duvae.cli import app
from duvae.project import leftovers
leftovers.remove_unfinished = lambda *_: None  # it lists the folders of all outputs, and no page depends on that
app(sys.argv[2:], standalone_mode=False)
with open(sys.argv[1], "w") as file:
    json.dump(sorted(opened), file)
"""


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)

    return done.stdout


def duvae(folder: Path, *arguments: str) -> tuple[set[str], str]:
    """Calls a command in a folder; returns the paths in it that the command opened, and its standard error."""
    log = folder.parent / f"{folder.name}.opened.json"
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(log), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    return set(json.loads(log.read_text())), done.stderr


def cached() -> list[str]:
    """The folders and files that dvc.yaml keeps only in the cache, each cut before its first variable."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    outs = [out for stage in stages for out in stage.get("do", stage).get("outs", [])]

    return sorted({out.partition("${")[0] for out in outs if isinstance(out, str)})


def within(opened: set[str], folders: list[str]) -> set[str]:
    return {path for path in opened if any(f"{path}/".startswith(f"{folder.rstrip('/')}/") for folder in folders)}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up project in which all stages have run. It is committed according to its .gitignore."""
    root = tmp_path_factory.mktemp("fresh") / "project"
    root.mkdir()
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    blocks = [(DATASETS[:1], SETTINGS), (DATASETS[1:], ["vae", "du_vae"])]
    raw["runs"] = {"few": [{"datasets": names, "settings": of, "seeds": [1], "studies": []} for names, of in blocks]}
    raw["run"] = "few"
    raw["figure1"]["seed"] = 1
    (root / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    shutil.copy(ROOT / ".gitignore", root / ".gitignore")
    shutil.copytree(ROOT / "results/studies" / STUDY, root / "results/studies" / STUDY)
    made_up.project(root, config.load(root / "params.yaml"))
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Results")
    for command in [*COMMANDS, EXAMPLES]:
        duvae(root, *command)

    return root


@pytest.fixture
def clone(project: Path, tmp_path: Path) -> Path:
    git(tmp_path, "clone", "--quiet", str(project), "clone")

    return tmp_path / "clone"


def test_git_keeps_none_of_what_only_the_cache_has(project: Path) -> None:
    assert {"data/prepared/", "models/", "generated/", "reports/examples/"} < set(cached())
    assert within(set(git(project, "ls-files").splitlines()), cached()) == set()
    assert within(set(git(project, "ls-files").splitlines()), ["results"])


def dead_links(page: Path) -> list[str]:
    """The links of a page to a file or a part that a clone does not have.

    A link to a page with private data is dead, too, unless its paragraph says that git does not keep the page and which
    command writes it.
    """
    dead = []
    source = page.read_bytes().decode(errors="replace")
    for found in re.finditer(r'<a [^>]*href="([^"]+)"', source):
        path, _, part = html.unescape(found[1]).partition("#")
        target = page.parent / path if path else page
        paragraph = source[found.start() :].partition("</p>")[0]
        told = "which git does not keep" in paragraph and re.search("<code>(duvae|dvc) ", paragraph)
        if ":" in path or (path.startswith(NOT_KEPT) and told):
            continue
        if not target.is_file() or (part and f'id="{part}"' not in target.read_text(encoding="utf-8")):
            dead.append(found[1])

    return dead


NOT_KEPT = ("examples/", "data_docs/")
"""Folders of `reports/` that git does not keep, because their pages quote examples of the data sets."""


def test_a_link_that_git_does_not_keep_needs_the_command_beside_it(tmp_path: Path) -> None:
    page, told = tmp_path / "page.html", "pages which git does not keep: <code>dvc repro</code> writes them"
    page.write_text(
        f'<p><a href="data_docs/a.html">a</a>, {told}.</p> <p><a href="examples/b.html">b</a></p> <p>{told}</p>'
        f'<p><a href="data_docs/c.html">c</a>, pages which git does not keep</p> <p><a href="d.html">d</a>, {told}.</p>'
        '<p id="e"><a href="#e">e</a> <a href="#f">f</a> <a href="page.html#e">g</a> <a href="https://h">h</a></p>'
    )

    assert dead_links(page) == ["examples/b.html", "data_docs/c.html", "d.html", "#f"]


PAGES = sorted((ROOT / "reports").glob("*.html")) + sorted((ROOT / "reports/studies").glob("*.html"))
"""The pages that git keeps. Great Expectations and `duvae samples` make others in `reports/`."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_committed_pages_have_no_dead_links(page: Path) -> None:
    assert dead_links(page) == []


def test_every_page_is_written_in_a_clone_without_a_cache(project: Path, clone: Path) -> None:
    assert not any((clone / folder).exists() for folder in ("data", "models", "generated", ".dvc"))
    for command in COMMANDS:
        opened, _ = duvae(clone, *command)
        assert opened
        assert within(opened, cached()) == set(), command

    for page in PAGES:
        assert (clone / page).read_bytes() == (project / page).read_bytes(), page
        assert dead_links(clone / page) == [], page
    text = (clone / "reports/index.html").read_text(encoding="utf-8")
    assert "Left out" not in text
    assert 'id="figure1"' in text
    assert 'id="latent-synthetic-du_vae"' in text
    assert Tables(text).row("making-omniglot_small", "DU-VAE")["Commit"] == made_up.COMMIT[:7]


def test_the_same_watch_sees_the_pages_that_do_need_the_cache(project: Path) -> None:
    opened, _ = duvae(project, *EXAMPLES)
    assert "generated/short_yelp_resampled/vae/1.npz" in within(opened, cached())


def test_what_old_results_lack_is_left_out_and_told(clone: Path) -> None:
    """Old results, as the previous version left them in git, have no records, arrays or digests."""
    for path in (clone / "results").rglob("*.json"):
        if path.name.endswith(".run.json") or path.name == "per_example.json" or path.parent.name == "samples":
            path.unlink()
        elif path.name in ("metrics.json", "probe.json"):
            content = json.loads(path.read_text())
            del content["weights"]
            path.write_text(json.dumps(content))
    duvae(clone, "report")
    html = (clone / "reports/index.html").read_text(encoding="utf-8")

    assert html.count("Left out, because their files are missing or belong to other weights: ") == len(DATASETS)
    assert (
        "the sizes of the splits, the gap to the floor, the comparison of the NLL in pairs and the latent space"
        " (of all models)" in html
    )
    assert "the likelihoods of single sentences under the generator" in html
    assert "samples and interpolations (of all models)" in html
    assert 'id="figure1"' not in html
    assert "There is no record of the training of " in html
    row = Tables(html).row("likelihood-synthetic", "DU-VAE")
    assert "Above floor" not in row
    assert row["NLL"] != "–"
    assert 'id="latent-synthetic' not in html
