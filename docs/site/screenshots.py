"""`make screenshots`: makes the pictures of MLflow's pages in docs/images from the results of this folder.

It writes the results to MLflow, starts `make ui` on a free port, and opens the links that this command prints in a
Chromium without a window. Look at the pictures before you commit them.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from benchmarks.browser import MISSING, path_of_browser
from playwright.sync_api import sync_playwright

from pipelines import mlflow_ui

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs/images"

WIDTH = 1500
"""Width of a picture in pixels."""

SETTLE = 20_000
"""Milliseconds after the last request, in which MLflow's pages draw their tables and charts."""

SEEN = ("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "_mlflow_model_registry_promo_modal_dismissed_v1")
"""What MLflow's pages note in the browser when a user has closed its assistant, and its dialog about models."""

TIMEOUT = 180_000
"""Milliseconds that a page may take to load."""

PICTURES = {
    ("synthetic", "runs"): ("mlflow-runs.png", 640),
    ("synthetic", "charts"): ("mlflow-charts.png", 900),
    (mlflow_ui.REGISTERED, "all"): ("mlflow-models.png", 300),
}
"""File of each picture, and its height in pixels, by the group and the name of a link that `make ui` prints."""


def main() -> int:
    """Makes the pictures, and returns the exit status."""
    if (program := path_of_browser()) is None:
        print(MISSING, file=sys.stderr)
        return 2
    subprocess.run(["duvae", "track"], cwd=ROOT, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    addresses = mlflow_ui.addresses(ROOT, port)
    if missing := [f"{group}, {name}" for group, name in PICTURES if name not in addresses.get(group, {})]:
        print(f"error: MLflow has no {'; '.join(missing)}. Run 'make' first.", file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "pipelines.mlflow_ui", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            if not any(line.startswith("All runs:") for line in server.stdout):
                return server.wait() or 2
            for (group, name), (file, height) in PICTURES.items():
                take(program, addresses[group][name], IMAGES / file, height)
                print(f"wrote docs/images/{file}")
        finally:
            server.send_signal(signal.SIGINT)

    return 0


def take(program: str, address: str, file: Path, height: int) -> None:
    """Opens a page, waits until it is drawn, and writes a picture of it.

    Args:
        program: Path of the browser's program.
        address: Address of the page, as `make ui` prints it.
        file: Path of the PNG file, which is replaced if it exists.
        height: Height of the picture in pixels.
    """
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--disable-gpu", *options])
        page = browser.new_page(viewport={"width": WIDTH, "height": height})
        page.set_default_timeout(TIMEOUT)
        page.add_init_script("".join(f"localStorage.setItem('{key}', 'true');" for key in SEEN))
        page.goto(address, wait_until="networkidle")
        page.wait_for_timeout(SETTLE)
        page.screenshot(path=file)
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
