"""Opens a page in a Chromium without a window, and reports what the page's script does."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
"""Names under which the programs of Chromium and Chrome are installed."""

MISSING = f"error: no browser was found. Install Chromium or Chrome: one of {', '.join(NAMES)}."
"""What a command prints that needs a browser and finds none."""

WAIT = 600
"""Seconds that a browser may take to open a page."""

DRAWN = '<table id="compare-table"><thead>'
"""Start of the table that only the script of the report page writes, after it has read all settings."""


class Opened(NamedTuple):
    """A page that a browser has opened.

    Attributes:
        wall: Wall seconds from the start of the browser to its end; NaN if there is no browser.
        faults: What went wrong, such as an error of the page's script; empty: the page works.
        version: Name and version of the browser.
    """

    wall: float
    faults: list[str]
    version: str


def path_of_browser() -> str | None:
    """Returns the path of the browser's program; None if none of `NAMES` is installed."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def open_page(path: Path, drawn: str = DRAWN) -> Opened:
    """Opens a page, and waits until its script has ended.

    Args:
        path: File of the page.
        drawn: Text that the page has only after its script has run.
    """
    if (browser := path_of_browser()) is None:
        return Opened(float("nan"), [f"no browser: install one of {', '.join(NAMES)}"], "")
    # Chromium refuses to run as root with its sandbox, as in a container. The page is our own.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="duvae-browser-", ignore_cleanup_errors=True) as profile:
        command = [browser, "--headless", "--disable-gpu", f"--user-data-dir={profile}", *options]
        version = subprocess.run([browser, "--version"], capture_output=True, text=True, check=False).stdout.strip()
        started = time.perf_counter()
        try:
            done = subprocess.run(
                [*command, "--enable-logging=stderr", "--dump-dom", path.resolve().as_uri()],
                capture_output=True,
                text=True,
                check=False,
                timeout=WAIT,
            )
        except subprocess.TimeoutExpired:
            return Opened(WAIT, [f"the page did not open within {WAIT} s"], version)
        wall = time.perf_counter() - started

    return Opened(wall, faults(done.returncode, done.stdout, done.stderr, drawn), version)


def faults(status: int, page: str, log: str, drawn: str) -> list[str]:
    """Finds what went wrong when a browser opened a page.

    Args:
        status: Exit status of the browser.
        page: The HTML of the page after its script has run.
        log: The log of the browser. It has the messages of the page's script.
        drawn: Text that the page has only after its script has run.
    """
    found = [f"the browser ended with {status}"] if status else []
    found += [line.partition("] ")[2] for line in log.splitlines() if ":CONSOLE" in line and "Uncaught" in line]
    if drawn not in page:
        found.append("the script of the page did not draw its table")

    return found
