"""The page of a study: Figure 2 for any data set."""

from pathlib import Path

from duvae import config
from duvae.files import write_text
from duvae.report import studies


def run(name: str, root: Path = Path()) -> None:
    """Writes `reports/studies/<study>.html` from what `duvae search` has found.

    Args:
        name: The study's.
        root: The project's folder.
    """
    write_text(root / "reports" / "studies" / f"{name}.html", studies.page(config.found(name, root).parent))
