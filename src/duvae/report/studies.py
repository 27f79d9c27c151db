"""The page of a study."""

from pathlib import Path


def page(folder: Path) -> str:
    """The page."""
    return f"{folder}"
