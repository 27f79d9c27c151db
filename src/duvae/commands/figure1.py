"""The stage `figure1`: draws Figure 1 of the paper and writes its page."""

from pathlib import Path

from duvae.config import Params
from duvae.errors import UserError
from duvae.project.files import whole, write_text
from duvae.report import figure1, page, results, weights


def run(params: Params, root: Path = Path()) -> None:
    """Writes `reports/figure1.html` and `reports/figure1.png` from the results of Figure 1's five settings.

    A setting is a system with its hyperparameters. The five settings are AE, VAE, Agg-VAE, BN-VAE and DU-VAE.

    Args:
        params: All parameters of params.yaml.
        root: The project's folder.

    Raises:
        UserError: If `figure1` in params.yaml is null, or if results are missing or unreadable. Also if results belong
            to weights from before the last training.
    """
    if params.figure1 is None:
        raise UserError("params.yaml: figure1: expected a seed for Figure 1; found null. Write 'figure1: {seed: 1}'.")
    models = results.read(params, params.figure1_jobs(), root)
    weights.require_current(models)
    figure, content = figure1.content(params, models, root)
    html = page.render("figure1.html", **content)
    with whole(root / "reports" / "figure1.png") as temporary:
        temporary.write_bytes(figure)
    write_text(root / "reports" / "figure1.html", html)
