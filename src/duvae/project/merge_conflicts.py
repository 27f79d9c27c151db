"""Finds the marks that git leaves in a file when two branches have changed the same lines."""

import subprocess
from pathlib import Path


def find(root: Path) -> list[str]:
    """Finds the files of a project that have the marks of a merge conflict. Only files that git holds are searched.

    Args:
        root: Folder of the project.

    Returns:
        Path and first line of each such file, such as `dvc.lock, line 12`. Empty if git is missing.
    """
    command = ["git", "grep", "--line-number", "--no-color", "-I", "-E", "-e", "^(<<<<<<<|>>>>>>>) "]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    places: dict[str, str] = {}
    for found in done.stdout.decode(errors="backslashreplace").splitlines():
        name, _, rest = found.partition(":")
        places.setdefault(name, f"{name}, line {rest.partition(':')[0]}")

    return list(places.values())
