"""`make pages`: opens the pages of the project in Chromium, without a window, and checks what a reader would meet.

It opens each page of `reports/` and, if `make docs` has been run, some pages of `build/site`: at 1,300 and 400 pixels,
light and dark, with all folded parts open. It also lays each page out for paper. A fault is

- a serious or critical finding of axe-core, the rules of accessibility that browsers' own tools use,
- a page that is wider than its window, so that the whole page scrolls sideways,
- an error of a script of the page,
- a request to another machine.

First it opens a page that has all these faults. So a check that finds nothing cannot pass.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from benchmarks.browser import MISSING, path_of_browser
from playwright.sync_api import Browser, Error, Page, Route, sync_playwright

from serving import serve_folder

ROOT = Path(__file__).parents[1]
WIDTHS = (1300, 400)
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
PAPER = 1031
"""Width of A4 paper across, without its margins of 12 mm, in CSS pixels."""

SERIOUS = ("serious", "critical")
"""Impacts of axe-core's findings that are faults. The findings of lower impact are printed."""

TIMEOUT = 180_000
"""Milliseconds that a browser may take for one page, on a busy machine."""

SITE = ROOT / "build/site"
SITE_PAGES = ("index", "tutorial", "metrics-library", "theory", "reference/commands", "reference/systems")

THEME = ("aria-dialog-name", "scrollable-region-focusable")
"""Findings that the theme of the site causes. Most browsers let the keyboard scroll what is too wide."""

OPEN = "document.querySelectorAll('details').forEach(part => { part.open = true; })"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

FAULTY = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page with faults</title></head>
<body><main><h1>A page with faults</h1><details><summary>More</summary>
<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="></details>
<p style="width: 3000px">A line that is wider than each window.</p>
<p><img src="https://example.org/a.png" alt="A"></p></main>
<script>undefined.value</script></body></html>"""

EXPECTED = ("image-alt", "wider than", "Cannot read", "example.org")
"""Parts of the faults of the page FAULTY."""


def main(names: Sequence[str]) -> int:
    """Checks pages, prints one line for each, and returns the exit status.

    Args:
        names: Files of the pages; empty: the pages of `reports/` and `build/site`.
    """
    if (program := path_of_browser()) is None:
        print(MISSING, file=sys.stderr)
        return 2
    files = [Path(name) for name in names] or list(_own_pages())
    for file in files:
        if not file.is_file():
            print(f"error: {file}: expected a file with a page; there is none.", file=sys.stderr)
            return 2
    # Chromium refuses to run as root with its sandbox, as in a container. The pages are our own.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    failed = 0
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder, serve_folder(SITE) as site:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--disable-gpu", "--disable-background-networking", *options]
        )
        faulty = Path(folder, "faulty.html")
        faulty.write_text(FAULTY)
        found = " ".join(check(browser, faulty.as_uri()))
        if missed := [part for part in EXPECTED if part not in found]:
            print(f"error: the check itself does not work: it does not see {', '.join(missed)}", file=sys.stderr)
            return 1
        for file in files:
            of_site = file.resolve().is_relative_to(SITE)
            address = f"{site}/{file.resolve().relative_to(SITE).as_posix()}" if of_site else file.resolve().as_uri()
            faults = check(browser, address, THEME if of_site else ())
            failed += bool(faults)
            name = os.path.relpath(file, ROOT) if file.resolve().is_relative_to(ROOT) else str(file)
            print("\n".join([f"{name}: {'faults:' if faults else 'no fault'}", *(f"  {fault}" for fault in faults)]))
        browser.close()

    return 1 if failed else 0


def check(browser: Browser, address: str, ignored: Sequence[str] = ()) -> list[str]:
    """Opens a page in all widths and colours, and returns its faults, without repetitions.

    Args:
        browser: The browser that opens the page.
        address: Address of the page.
        ignored: Names of rules of axe-core that are not checked.
    """
    faults: dict[str, None] = {}
    for width in WIDTHS:
        for scheme in SCHEMES:
            with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
                context.set_default_timeout(TIMEOUT)
                page = context.new_page()
                messages = _messages(page)
                page.goto(address, wait_until="load")
                page.evaluate(OPEN)
                findings = Axe().run(page).response
                if not findings["passes"]:
                    messages.append("axe-core has checked nothing")
                violations = [finding for finding in findings["violations"] if finding["id"] not in ignored]
                found = [*messages, *serious(violations), *wide(page.evaluate(OVERFLOW), width)]
                if (width, scheme) == (WIDTHS[0], SCHEMES[0]):
                    page.emulate_media(media="print")
                    page.set_viewport_size({"width": PAPER, "height": 1123})
                    found += wide(page.evaluate(OVERFLOW), PAPER, "on paper, ")
                faults.update(dict.fromkeys(found))

    return list(faults)


def serious(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The findings of axe-core that are faults, each with its number of places and the first place.

    Args:
        findings: The "violations" of axe-core's results.
    """
    return [
        f"{finding['id']} ({finding['impact']}): {finding['help']}; {len(finding['nodes'])} x, first: "
        f"{' '.join(finding['nodes'][0]['html'].split())[:200]}"
        for finding in findings
        if finding["impact"] in SERIOUS
    ]


def wide(overflow: int, width: int, where: str = "") -> list[str]:
    """The fault of a page that is wider than its window, if it is.

    Args:
        overflow: Pixels by which the content is wider than the window.
        width: Width of the window in pixels.
        where: Start of the message.
    """
    return [f"{where}the page is {overflow} pixels wider than its window of {width}"] if overflow > 0 else []


def _messages(page: Page) -> list[str]:
    """A list to which the page's errors and its requests to other machines are added as they happen."""
    messages: list[str] = []

    def on_error(error: Error) -> None:
        messages.append(f"error of a script: {error.message}")

    def refuse(route: Route) -> None:
        messages.append(f"a request to another machine: {route.request.url}")
        route.abort()

    page.on("pageerror", on_error)
    page.route(lambda address: not address.startswith(("file:", "data:", "blob:", "http://127.0.0.1:")), refuse)

    return messages


def _own_pages() -> Iterator[Path]:
    """The pages that the project has made: the report, the studies, and some pages of the documentation's site."""
    for folder in ("", "studies", "examples"):  # Great Expectations makes the pages of `reports/data_docs`
        yield from sorted((ROOT / "reports" / folder).glob("*.html"))
    yield from filter(Path.is_file, (SITE / f"{name}.html" for name in SITE_PAGES))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
