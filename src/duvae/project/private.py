"""Private projects: own data in a DVC project of their own, below a folder that git ignores.

A private project has a dvc.yaml, a dvc.lock, a jobs.yaml, a cache and results of its own, all below `private/`. So
neither names nor hashes nor results of private data reach what git keeps. Its graph is the project's own without
Figure 1, and its fingerprints are those of the package that runs.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from duvae import config
from duvae.errors import UserError
from duvae.project import fingerprint, job_list
from duvae.project.files import write_text

FOLDER = Path("private")
"""The folder of all private projects; git ignores it."""

HEADER = "# Written from the project's own dvc.yaml by duvae.project.private; do not edit.\n"


def stages(text: str) -> str:
    """The graph of a private project.

    Args:
        text: The project's own dvc.yaml.

    Returns:
        The same stages without Figure 1. Fingerprints are taken on every run, since the source lies outside.
    """
    found = yaml.safe_load(text)
    del found["stages"]["figure1"], found["plots"]
    taken = found["stages"]["fingerprint"]
    del taken["deps"]
    taken["always_changed"] = True

    return HEADER + yaml.safe_dump(found, sort_keys=False, width=120)


def write(root: Path, name: str, params: Mapping[str, Any]) -> Path:
    """Makes a private project, or brings its graph up to date; returns its folder.

    Args:
        root: The folder of the project whose graph is taken.
        name: The name of the private project, in lower-case letters, digits and _.
        params: Its params.yaml; Figure 1 is left out.

    Raises:
        UserError: Where the name or the parameters are wrong, or DVC cannot make a project there.
    """
    if not name.isascii() or not name.replace("_", "").isalnum() or name != name.lower():
        raise UserError(f"'{name}': expected a name of lower-case letters, digits and _ for a private project.")
    folder = root / FOLDER / name
    given = {**params, "figure1": None}
    known = config.parse(dict(given), str(folder / "params.yaml"))
    write_text(folder / "params.yaml", yaml.safe_dump(given, sort_keys=False, allow_unicode=True))
    write_text(folder / "dvc.yaml", stages((root / "dvc.yaml").read_text(encoding="utf-8")))
    job_list.write(known, folder / job_list.JOBS)
    fingerprint.write(folder)
    if not (folder / ".dvc").is_dir():
        command = ["dvc", "init", "--quiet", "--no-scm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{folder}: DVC cannot make a project there ({' '.join(done.stderr.split())}).")

    return folder
