"""The stage `figure2`: draws Figure 2 of the paper for a study on any data set, and writes the study's page.

A study is a search for hyperparameters.
"""

from pathlib import Path

from duvae import config
from duvae.config import Params
from duvae.project.files import whole, write_text
from duvae.report import studies


def run(params: Params, name: str, root: Path = Path()) -> None:
    """Draws the figure of a study from the results of `duvae search`.

    The function writes the page `reports/studies/<study>.html`, and the figure of this page as `<study>.png` beside it.

    Args:
        params: All parameters of params.yaml.
        name: The study's name.
        root: The project's folder.
    """
    figure, html = studies.page(config.best_params_path(name, root).parent, params)
    folder = root / "reports" / "studies"
    with whole(folder / f"{name}.png") as temporary:
        temporary.write_bytes(figure)
    write_text(folder / f"{name}.html", html)
