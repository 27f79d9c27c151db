"""Links from the pages to files outside docs/. The same links work on a git host, which shows the files themselves.

- A page or a picture in reports/ becomes a part of the site.
- Any other file: the link leads to the repository, whose address is `repo_url` in mkdocs.yml. Without an address, the
  page shows the path of the file.
"""

import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)

PUBLISHED = {".html", ".png"}
"""Suffixes of the files in reports/ that become a part of the site."""

IGNORED = {"data_docs", "examples", "generated"}
"""Folders in reports/ that quote texts of others. Git ignores them, and the site never has them."""

# MkDocs counts the warnings of loggers below its own; with `strict` they end the build.
log = logging.getLogger("mkdocs.hooks.links")


def outside(source: str, target: str) -> str | None:
    """Path of a link's target in the repository, such as `README.md`; None for a target in docs/ or on another host.

    Args:
        source: Path of the page below docs/.
        target: Target of the link, without an anchor.
    """
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), target))

    return None if re.match(r"[a-z]+:", target) or path.startswith("docs/") else path


def is_published(path: str) -> bool:
    """Whether a file of the repository becomes a part of the site."""
    parts = Path(path).parts

    return parts[0] == "reports" and Path(path).suffix in PUBLISHED and not IGNORED & set(parts)


def prose(markdown: str) -> Iterator[tuple[str, bool]]:
    """Splits a page into parts, each with the information whether the part is a block of code."""
    start = 0
    for block in FENCE.finditer(markdown):
        yield markdown[start : block.start()], False
        yield block[0], True
        start = block.end()
    yield markdown[start:], False


def rewritten(markdown: str, source: str, repository: str) -> str:
    """Rewrites the links of a page that lead to files outside docs/.

    Args:
        markdown: Text of the page.
        source: Path of the page below docs/.
        repository: Address of the repository; empty: it has none.

    Returns:
        The text with other links.
    """

    def link(match: re.Match[str]) -> str:
        image, text, target, anchor = match["image"], match["text"], match["target"], match["anchor"] or ""
        path = outside(source, target)
        if path is None:
            return match[0]
        if not (ROOT / path).exists():
            log.warning("%s: the link '%s' leads to no file of the repository.", source, target)
        if is_published(path):
            return f"{image}[{text}]({posixpath.relpath(path, posixpath.dirname(source) or '.')}{anchor})"
        if repository:
            return f"{image}[{text}]({repository.rstrip('/')}/blob/HEAD/{path}{anchor})"

        return f"`{path}`" if path.endswith(text.strip("`")) else f"{text} (`{path}`)"

    return "".join(part if code else LINK.sub(link, part) for part, code in prose(markdown))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files of reports/ that a page links to."""
    for page in list(files.documentation_pages()):
        for part, code in prose(page.content_string):
            for match in () if code else LINK.finditer(part):
                path = outside(page.src_uri, match["target"])
                if path and is_published(path) and (ROOT / path).exists() and path not in files.src_uris:
                    files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))

    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites the links of a page."""
    return rewritten(markdown, page.file.src_uri, config.repo_url or "")
