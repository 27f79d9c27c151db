"""Creates private projects: separate DVC projects for the user's own data, below a folder that git ignores.

A private project has its own dvc.yaml, dvc.lock, jobs.yaml, cache and results, all below `private/`. So git never keeps
the names, hashes or results of private data. A private project has the stages of the main project, except `figure1`.
The fingerprints (hashes of the code) in a private project describe the code of the package `duvae` that is running.
"""

import subprocess
import sys
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
    """Derives the dvc.yaml of a private project from that of the main project.

    Args:
        text: Content of the main project's dvc.yaml.

    Returns:
        The content of the private project's dvc.yaml. It has the same stages, except `figure1`. The stage `fingerprint`
        runs every time, because DVC cannot see changes of the source code outside the private project.
    """
    content = yaml.safe_load(text)
    del content["stages"]["figure1"], content["plots"]
    stage = content["stages"]["fingerprint"]
    del stage["deps"]
    stage["always_changed"] = True

    return HEADER + yaml.safe_dump(content, sort_keys=False, width=120)


def write(root: Path, name: str, params: Mapping[str, Any], header: str = "") -> Path:
    """Creates a private project, or updates the stages of an existing one.

    Args:
        root: The main project's folder.
        name: The private project's name, of lower-case letters, digits and `_`.
        params: Content of the private project's params.yaml; this function sets the key `figure1` to null.
        header: Comment lines at the beginning of the params.yaml, each with `#` and a line feed.

    Returns:
        The private project's folder.

    Raises:
        UserError: If the name or the parameters are wrong, or if DVC cannot create a project in the folder.
    """
    if not name.isascii() or not name.replace("_", "").isalnum() or name != name.lower():
        raise UserError(f"'{name}': expected a name of lower-case letters, digits and _ for a private project.")
    folder = root / FOLDER / name
    content = {**params, "figure1": None}
    parsed = config.parse(dict(content), str(folder / "params.yaml"))
    write_text(folder / "params.yaml", header + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    write_text(folder / "dvc.yaml", stages((root / "dvc.yaml").read_text(encoding="utf-8")))
    job_list.write(parsed, folder / job_list.JOBS)
    fingerprint.write(folder)
    if not (folder / ".dvc").is_dir():
        command = [sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{folder}: DVC cannot create a project there ({' '.join(done.stderr.split())}).")

    return folder
