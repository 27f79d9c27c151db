"""Chooses the folder in which Prefect keeps its database: one inside the project, so that checkouts do not mix."""

import os
from pathlib import Path

FOLDER = Path(".dvc/tmp/prefect")
"""The folder of Prefect's files, below the project's folder. Git ignores it."""

PROFILES = Path("~/.prefect/profiles.toml")
"""The file in which 'prefect config set' and 'prefect cloud login' keep the user's settings."""


def use(root: Path) -> None:
    """Sets the environment variables for Prefect in this process and its children. Call it before Prefect is imported.

    A folder that the user has chosen by PREFECT_HOME stays. The user's own settings of Prefect are still read.

    Args:
        root: The project's folder. If it has no folder `.dvc`, it is no project, and nothing changes.
    """
    if os.environ.get("PREFECT_HOME") or not (root / ".dvc").is_dir():
        return
    os.environ["PREFECT_HOME"] = str(root.absolute() / FOLDER)
    if (profiles := PROFILES.expanduser()).is_file():  # Prefect would otherwise look for the file in the new folder
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(profiles))
