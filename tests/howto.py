"""The blocks of docs/how-to-add-a-system.md, and a copy of the project that they are applied to."""

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
    """Lines that the page adds to a file.

    Attributes:
        where: `Above`, `Below` or `In place of`.
        anchor: A line of the file, without leading and trailing spaces.
        file: The file's path in the project.
        text: The lines.
    """

    where: str
    anchor: str
    file: str
    text: str


def blocks(section: str) -> list[Block]:
    """The blocks of one section of the page."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    pattern = r"^(Above|Below|In place of) `([^\n]+)` in `([^`\n]+)`:\n\n```\w+\n(.*?)\n```$"
    found = re.findall(pattern, text, flags=re.MULTILINE | re.DOTALL)

    return [Block(*parts) for parts in found]


def apply(folder: Path, section: str) -> int:
    """Applies the blocks of a section to the project in `folder`. Returns the number of added lines.

    Empty lines count. They include the two empty lines between a new class and the definition below it.
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
    """A copy of all files that the project needs to run and to be tested."""
    for name in ("src", "tests", "pipelines", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)

    return folder


def call(folder: Path, *command: str) -> str:
    """The output of a Python command that imports the package from the copy."""
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
