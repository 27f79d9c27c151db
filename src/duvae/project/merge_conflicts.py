"""Finds the marks that git leaves in a file when two branches have changed the same lines."""

import re
import subprocess
from pathlib import Path


def find(root: Path) -> list[str]:
    """Finds the files of a project that have the marks of a merge conflict. Only files that git holds are searched.

    Args:
        root: Folder of the project.

    Returns:
        Path and first line of each such file, such as `dvc.lock, line 12`. Empty if git is missing.
    """
    command = ["git", "grep", "--null", "--line-number", "--no-color", "-I", "-E", "-e", "^(<<<<<<<|>>>>>>>) "]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    places: dict[str, str] = {}
    for found in re.finditer(rb"([^\0\n]+)\0(\d+)\0", done.stdout):
        name, line = (part.decode(errors="backslashreplace") for part in found.groups())
        places.setdefault(name, f"{name}, line {line}")

    return list(places.values())
