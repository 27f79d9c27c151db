"""The page of a study, with Figure 2 for any data set."""

from pathlib import Path

from duvae import config
from duvae.project.files import whole, write_text
from duvae.report import studies


def run(name: str, root: Path = Path()) -> None:
    """Writes `reports/studies/<study>.html`, and its map as PNG, from the results of `duvae search`.

    Args:
        name: The study's name.
        root: The project's folder.
    """
    figure, html = studies.page(config.best_params_path(name, root).parent)
    folder = root / "reports" / "studies"
    with whole(folder / f"{name}.png") as temporary:
        temporary.write_bytes(figure)
    write_text(folder / f"{name}.html", html)
