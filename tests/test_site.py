"""The documentation site: its pages, its links, its equations, the page of the commands, and the citation file."""

import html
import importlib
import logging
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import markdown
import pytest
import typer
import yaml
from markdown_it import MarkdownIt
from mkdocs.utils.yaml import yaml_load

from duvae.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONFIG = yaml_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
GENERATED = {"reference/commands.md", "reference/changelog.md"}


@pytest.fixture
def hook(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of docs/site."""
    monkeypatch.syspath_prepend(str(DOCS / "site"))

    return importlib.import_module(request.param)


def pages_of(nav: Any) -> list[str]:
    """The pages of a part of the navigation."""
    if isinstance(nav, str):
        return [nav]

    return [page for each in (nav.values() if isinstance(nav, dict) else nav) for page in pages_of(each)]


def test_every_page_is_in_the_navigation_once() -> None:
    pages = Counter(pages_of(CONFIG["nav"]))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}

    assert written | GENERATED <= set(pages)
    assert set(pages.values()) == {1}
    assert [next(iter(part)) for part in CONFIG["nav"][1:]] == [
        "Tutorial",
        "How-to guides",
        "Reference",
        "Explanation",
    ]


def test_the_site_is_complete_and_needs_no_other_host(tmp_path: Path) -> None:
    """A strict build ends with an error at a page, link or anchor that does not exist."""
    command = [sys.executable, "-m", "mkdocs", "--quiet", "build", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr

    texts = {path.relative_to(tmp_path).as_posix(): path.read_text("utf-8") for path in tmp_path.rglob("*.html")}
    pages = {name: text for name, text in texts.items() if not name.startswith("reports/")}
    assert len(pages) > 25
    assert "reports/index.html" in texts
    for name, text in pages.items():
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]* src=\"?([^\" >]+)", text)
        loaded += re.findall(r"<link\b[^>]* href=\"?([^\" >]+)", text)
        assert loaded, name
        assert not [address for address in loaded if re.match(r"(?:\w+:)?//", address)], name
        assert "$$" not in text, name
        assert ":::" not in text, name
    assert "<math" in pages["metrics.html"]
    assert 'id="duvae.regularizers.MeanBatchNorm"' in pages["reference/regularizers.html"]
    assert "Float[Tensor," in html.unescape(re.sub("<[^>]*>", "", pages["reference/regularizers.html"]))
    assert sorted(path.name for path in tmp_path.rglob("*.py")) == ["plain_vae.py", "pythae_vae.py"]


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.relative_to(DOCS).as_posix())
def test_a_page_has_the_same_lists_and_tables_on_a_git_host(path: Path) -> None:
    """Git hosts read Markdown by other rules than MkDocs, above all in lists with blocks inside."""
    text = re.sub(r"^\$\$.*?^\$\$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    on_host = MarkdownIt("commonmark").enable("table").render(text)
    on_site = markdown.markdown(text, extensions=["attr_list", "def_list", "tables", "pymdownx.superfences"])
    tags = ("ul", "ol", "li", "pre", "table", "tr", "th", "td", "h1", "h2", "h3", "h4", "blockquote")

    assert {tag: len(re.findall(rf"<{tag}[ >]", on_site)) for tag in tags} == {
        tag: len(re.findall(rf"<{tag}[ >]", on_host)) for tag in tags
    }


HOST = "https://host.example/group/duvae/"
FILES = f"{HOST}blob/HEAD/"
PICTURE = "![p](../reports/figure1.png)"


@pytest.mark.parametrize("hook", ["links"], indirect=True)
@pytest.mark.parametrize(
    ("source", "link", "without", "with_address"),
    [
        ("a.md", "[b](b.md#c)", "[b](b.md#c)", "[b](b.md#c)"),
        ("a.md", "[b](https://else.example/x)", "[b](https://else.example/x)", "[b](https://else.example/x)"),
        ("a.md", "[b](#c)", "[b](#c)", "[b](#c)"),
        ("a.md", "[code](../src/duvae/vae.py)", "code (`src/duvae/vae.py`)", f"[code]({FILES}src/duvae/vae.py)"),
        ("a.md", "[State](../README.md#state)", "State (`README.md`)", f"[State]({FILES}README.md#state)"),
        ("a.md", "[LICENSE](../LICENSE)", "`LICENSE`", f"[LICENSE]({FILES}LICENSE)"),
        ("a.md", "[two\nlines](../LICENSE)", "two\nlines (`LICENSE`)", f"[two\nlines]({FILES}LICENSE)"),
        ("reference/a.md", "[b](../b.md)", "[b](../b.md)", "[b](../b.md)"),
        ("reference/a.md", "[b](../../LICENSE)", "b (`LICENSE`)", f"[b]({FILES}LICENSE)"),
        ("a.md", "[p](../reports/index.html#x)", "[p](reports/index.html#x)", "[p](reports/index.html#x)"),
        ("reference/a.md", "![p](../../reports/figure1.png)", PICTURE, PICTURE),
        ("a.md", "```md\n[b](../LICENSE)\n```", "```md\n[b](../LICENSE)\n```", "```md\n[b](../LICENSE)\n```"),
    ],
)  # fmt: skip
def test_links_that_leave_the_folder(hook: ModuleType, source: str, link: str, without: str, with_address: str) -> None:
    assert hook.rewritten(f"x\n\n{link}\n\ny", source, "") == f"x\n\n{without}\n\ny"
    assert hook.rewritten(f"x\n\n{link}\n\ny", source, HOST) == f"x\n\n{with_address}\n\ny"
    assert hook.rewritten(f"x\n\n{link}\n\ny", source, HOST.rstrip("/")) == f"x\n\n{with_address}\n\ny"


@pytest.mark.parametrize("hook", ["links"], indirect=True)
def test_a_link_to_a_file_that_does_not_exist_is_a_warning(hook: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mkdocs"):
        hook.rewritten("[b](../missing.py)", "a.md", "")

    assert "a.md: the link '../missing.py'" in caplog.text


@pytest.mark.parametrize("hook", ["links"], indirect=True)
@pytest.mark.parametrize(
    ("path", "published"),
    [
        ("reports/index.html", True),
        ("reports/studies/synthetic_tpe.html", True),
        ("reports/examples/short_yelp.html", False),
        ("reports/generated/codes.csv", False),
        ("reports/data_docs/yahoo/index.html", False),
        ("private/x/reports/index.html", False),
        ("params.yaml", False),
    ],
)
def test_texts_of_others_are_never_published(hook: ModuleType, path: str, published: bool) -> None:
    assert hook.is_published(path) is published


@pytest.mark.parametrize("hook", ["pages"], indirect=True)
def test_the_page_of_the_commands_has_every_command_and_every_option(hook: ModuleType) -> None:
    page = html.unescape(hook.commands_page())
    sections = dict(re.findall(r"^### duvae ([\w-]+)\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE))
    group: Any = typer.main.get_command(app)

    assert sections.keys() == {name for name, command in group.commands.items() if not command.hidden}
    for name, section in sections.items():
        for parameter in group.commands[name].params:
            for option in parameter.opts if parameter.param_type_name == "option" else []:
                assert getattr(parameter, "hidden", False) or f"<code>{option}" in section, (name, option)
    assert "[decoding](../decoding.md)" in sections["generate"]
    assert "duvae generate --dataset short_yelp --setting du_vae --seed 1 --rows 20" in sections["generate"]


@pytest.mark.parametrize("hook", ["equations"], indirect=True)
def test_equations_become_mathml(hook: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    text = r"a <span class=\"arithmatex\">\(z_k \sim p\)</span>".replace('\\"', '"')
    block = '<div class="arithmatex">\\[\n\\sum_{k=1}^K \\log p(x &lt; 1)\n\\]</div>'
    inline, display = hook.converted(text, "a.md"), hook.converted(block, "a.md")

    assert inline.startswith('a <math xmlns="http://www.w3.org/1998/Math/MathML" display="inline">')
    assert "<msub><mi>z</mi><mi>k</mi></msub><mo>&#x0223C;</mo>" in inline
    assert 'display="block"' in display
    assert "<munderover>" in display  # the limits stand below and above the sign
    assert "<mi>log</mi><mspace" in display
    assert "&lt;" in display or "&#x0003C;" in display
    assert not caplog.records
    hook.converted('<span class="arithmatex">\\(\\nosuchcommand x\\)</span>', "a.md")
    assert "a.md: the equation '\\nosuchcommand x'" in caplog.text


def test_the_citation_file_is_valid_and_has_the_version_of_the_package() -> None:
    path = ROOT / "CITATION.cff"
    command = ["check-jsonschema", "--builtin-schema", "vendor.citation-file-format", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout

    citation = yaml.safe_load(path.read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert f"\n## {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_data_set_has_an_owner_and_a_licence() -> None:
    section = (DOCS / "data.md").read_text(encoding="utf-8").partition("\n## Owners and licences\n")[2]
    section = section.partition("\n## ")[0]
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    parts = section.split("\n### ")[1:]

    for part in parts[:5]:
        assert re.findall(r"^- \*\*(Owner|Licence|In the repository)", part, re.MULTILINE) == [
            "Owner",
            "Licence",
            "In the repository",
        ]
    for name in params["datasets"]:
        known = [
            part
            for part in parts[:5]
            for each in set(re.findall(r"`(\w+)`", part))
            if f"{name}_".startswith(f"{each}_")
        ]
        assert len(set(known)) == 1, name
