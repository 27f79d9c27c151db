"""Turns the Data Docs of Great Expectations into pages that work without a network.

The library Great Expectations checks data sets. Its Data Docs are HTML pages that show the result of each check. The
pages load styles, scripts and a logo from other hosts; without a network, they show neither tables nor status. Great
Expectations has no option to leave out the links to these hosts. The function `finish` therefore removes the links,
adds the styles of this module, and writes a start page.
"""

import re
import shutil
from collections.abc import Sequence
from html import escape
from pathlib import Path

from duvae.data.expectations import ExpectationResult

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .6rem 0 1.6rem; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; } h5, h6 { font-size: 1rem; margin: 1rem 0 .2rem; }
a { color: #1a56a5; } .number { font-variant-numeric: tabular-nums; }
.text-success, .met { color: #19743c; } .text-danger, .unmet { color: #b3261e; font-weight: 600; }
.fa-check-circle::before { content: "met"; } .fa-times::before { content: "not met"; }
.fa-exclamation-triangle::before { content: "error"; }
nav img, footer, [data-toggle=collapse] { display: none; }
"""

_OUTSIDE = re.compile(
    r"<script[^>]*src=[\"']https?:[^>]*>\s*</script>|<(?:link|img)[^>]*(?:href|src)=[\"']https?:[^>]*>|<link[^>]*favicon[^>]*>|<footer>.*?</footer>",
    re.DOTALL,
)
_OWN = re.compile(
    r"<style.*?</style>|<script.*?</script>|<div class=\"card mb-3\">.*?</div>\s*</div>\s*</div>", re.DOTALL
)

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|\d{8}T\d{6}\.\d{6}Z")
"""Form of a time, as Great Expectations writes it in pages and in names of folders."""
_LAST = "last-run"
"""Text that replaces every time. Equal results must give equal pages, because DVC compares the hashes of files."""
_RANDOM = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Form of the random names that Great Expectations gives to the parts of a page. Numbers replace these names."""


def finish(site: Path, name: str, results: Sequence[ExpectationResult]) -> None:
    """Turns the pages of Great Expectations into pages without outside links, and writes a start page.

    Args:
        site: Folder with the pages that Great Expectations wrote.
        name: Name of the data set.
        results: Result of each expectation, that is, of each check of the data set.
    """
    shutil.rmtree(site / "static", ignore_errors=True)  # the folder has fonts and images that only removed links use
    for folder in [path for path in site.rglob("*Z") if path.is_dir() and _MOMENT.fullmatch(path.name)]:
        folder.rename(folder.with_name(_LAST))
    for page in sorted(site.rglob("*.html")):
        content = _MOMENT.sub(_LAST, _OUTSIDE.sub("", page.read_text(encoding="utf-8")))
        for number, random_name in enumerate(dict.fromkeys(_RANDOM.findall(content)), 1):
            content = content.replace(random_name, str(number))
        content = _OWN.sub("", content).replace("</head>", f"<style>{STYLE}</style></head>", 1)
        page.write_text(content, encoding="utf-8")
    pages = {page.parent.parent.parent.name: page.relative_to(site) for page in site.glob("validations/*/*/*/*.html")}
    (site / "index.html").write_text(_index(name, results, pages), encoding="utf-8")


def _index(name: str, results: Sequence[ExpectationResult], pages: dict[str, Path]) -> str:
    met = sum(result.success for result in results)
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Data Docs: {escape(name)}</title>",
        f"<style>{STYLE}</style></head><body><h1>Data Docs: {escape(name)}</h1>",
        f"<p>{met} of {len(results)} expectations are met.</p>",
    ]
    for split in dict.fromkeys(result.split for result in results):
        link = escape(pages[split].as_posix()) if split in pages else ""
        parts.append(f"<h2><a href='{link}'>{escape(split)}</a></h2><table>")
        parts.append("<tr><th>Status<th>Expectation<th>What is expected<th>Observed<th>Rows that break it</tr>")
        for result in (result for result in results if result.split == split):
            status = "<td class='met'>met" if result.success else "<td class='unmet'>not met"
            expectation = result.expectation
            parts.append(
                f"<tr>{status}<td>{escape(expectation.name)}<td>{escape(expectation.sentence)}"
                f"<td class='number'>{escape(result.observed_text)}<td class='number'>{escape(_rows(result))}</tr>"
            )
        parts.append("</table>")
    parts.append("</body></html>\n")

    return "\n".join(parts)


def _rows(result: ExpectationResult) -> str:
    """Names the rows that break an expectation, such as `3, 7 (2 in all)`; empty if no single row does."""
    if not result.unexpected:
        return ""
    listed = ", ".join(str(row) for row in result.rows)

    return f"{listed}{', …' if result.unexpected > len(result.rows) else ''} ({result.unexpected:,} in all)"
