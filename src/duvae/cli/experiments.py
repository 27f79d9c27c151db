"""The commands that search hyperparameters and record runs."""

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
            help="The database that keeps the study; studies/journal.log if not given.",
        ),
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="Run trials only; another process writes the results.")
    ] = False,
    params: ParamsFile = PARAMS_FILE,
) -> None:
    """Search the hyperparameters of a system by the NLL on validation data.

    The command writes best_params.yaml, the trials and their cost to results/studies; 'duvae figure2' makes a page of
    them. After a stop the same command continues the study. Several processes may work on one study.
    """
    known = dispatch.load_params(params)
    known.study(study)
    dispatch.run("search", known, study, storage, worker)


@app.command(epilog=examples("duvae track", "mlflow ui"))
def track(params: ParamsFile = PARAMS_FILE) -> None:
    """Copy all results into MLflow, each result once.

    A result may have been made here, pulled, or restored from DVC's cache.
    """
    dispatch.run("track", dispatch.load_params(params))
