"""Defines the commands `search`, which searches for hyperparameters, and `track`, which copies results to MLflow."""

from typing import Annotated

import typer

from duvae.cli import dispatch
from duvae.cli.options import PARAMS_FILE, ParamsFile, Study, examples, new_app

app = new_app()


@app.command(
    epilog=examples(
        "duvae search --study synthetic_tpe",
        "duvae search --study synthetic_tpe --storage postgresql://user@host/studies",
        "python -m pipelines.parallel_study --study synthetic_tpe --slots 2",
    )
)
def search(
    study: Study,
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="OPTUNA_STORAGE",
            metavar="URL",
            help="URL of the database that keeps the study. Default: the file studies/journal.log.",
        ),
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="Run trials only; another process writes the results.")
    ] = False,
    params: ParamsFile = PARAMS_FILE,
) -> None:
    """Search a system's hyperparameters by the validation NLL.

    The command writes best_params.yaml, the trials and their cost to results/studies/NAME. Run 'duvae figure2' to see
    them on a page. After an interruption, run the same command again: it continues the study. Several processes may
    work on one study.
    """
    known = dispatch.load_params(params)
    known.study(study)
    dispatch.run("search", known, study, storage, worker)


@app.command(epilog=examples("duvae track", "mlflow ui"))
def track(params: ParamsFile = PARAMS_FILE) -> None:
    """Copy all results into MLflow, each result once.

    The command finds the results in the folder results, whether they were computed here, pulled by git, or restored
    from DVC's cache.
    """
    dispatch.run("track", dispatch.load_params(params))
