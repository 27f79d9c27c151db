"""Applies the code blocks of the page docs/how-to-add-a-system.md to a copy of the project, for tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/how-to-add-a-system.md"
SYSTEM, SCHEDULE = "Add the system", "Write a schedule"


class Block(NamedTuple):
    """A code block of the page: lines that the reader of the page adds to a file of the project.

    Attributes:
        where: Where the lines go: `Above`, `Below` or `In place of` the anchor.
        anchor: An existing line of the file, without leading and trailing spaces.
        file: Path of the file in the project.
        text: The lines to add.
    """

    where: str
    anchor: str
    file: str
    text: str


def blocks(section: str) -> list[Block]:
    """Reads the code blocks of one section of the page."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    pattern = r"^(Above|Below|In place of) `([^\n]+)` in `([^`\n]+)`:\n\n```\w+\n(.*?)\n```$"
    found = re.findall(pattern, text, flags=re.MULTILINE | re.DOTALL)

    return [Block(*parts) for parts in found]


def apply(folder: Path, section: str) -> int:
    """Applies the code blocks of a section to the project in `folder`. Returns the number of added lines.

    Empty lines count as added lines. If a block adds a class above an anchor, this function adds two empty lines
    between the class and the anchor, and they count too.
    """
    lines = 0
    for block in blocks(section):
        path = folder / block.file
        old = path.read_text(encoding="utf-8").split("\n")
        places = [number for number, line in enumerate(old) if line.strip() == block.anchor]
        assert len(places) == 1, f"{block.file} has the line '{block.anchor}' {len(places)} times"
        at = places[0]
        new = block.text.split("\n")
        if new[0].startswith("class ") and block.where == "Above":
            new += ["", ""]
        start, end = {"Above": (at, at), "Below": (at + 1, at + 1), "In place of": (at, at + 1)}[block.where]
        path.write_text("\n".join([*old[:start], *new, *old[end:]]), encoding="utf-8")
        lines += len(new)

    return lines


def copy(folder: Path) -> Path:
    """Copies all files that the project needs to run and to be tested into `folder`, and returns `folder`."""
    for name in ("src", "tests", "pipelines", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)

    return folder


def call(folder: Path, *command: str) -> str:
    """Runs Python with the arguments `command` in a copy of the project, and returns its standard output.

    Python imports the package and the tests from the copy.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": f"{folder / 'src'}{os.pathsep}{folder / 'tests'}",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

    return done.stdout
