"""The page of a study: Figure 2 for any data set."""

from pathlib import Path

from duvae import config
from duvae.project.files import whole, write_text
from duvae.report import studies


def run(name: str, root: Path = Path()) -> None:
    """Writes `reports/studies/<study>.html` and its map as PNG beside it, from what `duvae search` has found.

    Args:
        name: The study's.
        root: The project's folder.
    """
    drawn, html = studies.page(config.best_params_path(name, root).parent)
    place = root / "reports" / "studies"
    with whole(place / f"{name}.png") as temporary:
        temporary.write_bytes(drawn)
    write_text(place / f"{name}.html", html)
