"""Defines the commands that draw samples and figures, print results, and write HTML pages."""

from typing import Annotated, Literal

import typer

from duvae.cli import completion, dispatch
from duvae.cli.options import PARAMS_FILE, CheckOnly, Dataset, ParamsFile, Seed, Setting, Study, examples, new_app

app = new_app()


@app.command(epilog=examples("duvae samples --dataset omniglot --setting du_vae --seed 1"))
def samples(dataset: Dataset, setting: Setting, seed: Seed, params: ParamsFile = PARAMS_FILE) -> None:
    """Draw samples and interpolations of a model for the report.

    `generation` in params.yaml sets how many there are. The command decodes each point z in two ways. It draws the
    pixels or words. For texts it also takes the likeliest words, and for images each pixel's probability of ink. It
    writes to the folder generated.
    """
    dispatch.measure("samples", params, dataset, setting, seed)


@app.command(epilog=examples("duvae figure1", "dvc repro figure1"))
def figure1(params: ParamsFile = PARAMS_FILE) -> None:
    """Draw Figure 1 and write its page, reports/figure1.html.

    The command needs the results of AE, VAE, Agg-VAE, BN-VAE and DU-VAE on the synthetic data.
    """
    content = dispatch.load_params(params)
    dispatch.run("figure1", content)
    dispatch.warn_of_changes(content, content.figure1_jobs())


@app.command(epilog=examples("duvae figure2 --study synthetic_grid"))
def figure2(study: Study, params: ParamsFile = PARAMS_FILE) -> None:
    """Draw Figure 2 for a finished study, and write its page.

    The page is reports/studies/NAME.html. It shows the NLL by hyperparameters, the paper's choice, every trial, the
    course of the search and its cost.
    """
    content = dispatch.load_params(params)
    content.study(study)
    dispatch.run("figure2", content, study)


@app.command(epilog=examples("duvae figures"))
def figures(params: ParamsFile = PARAMS_FILE) -> None:
    """Write all figures as PDF and SVG, for papers.

    The files are 84 and 174 mm wide, with type of at least 6 points, in the folder reports/figures. Git does not keep
    them. The command needs the same results as 'duvae report'.
    """
    content = dispatch.load_params(params)
    dispatch.run("figures", content)
    dispatch.warn_of_changes(content, content.run_jobs())


@app.command(epilog=examples("duvae report", "dvc repro report"))
def report(params: ParamsFile = PARAMS_FILE) -> None:
    """Write reports/index.html, the page of all results.

    `run` in params.yaml names the results that the page shows. The command reads them from the folder results, which
    git keeps.
    """
    content = dispatch.load_params(params)
    dispatch.run("report", content)
    dispatch.warn_of_changes(content, content.run_jobs())


@app.command(
    "results",
    epilog=examples("duvae results", "duvae results --dataset synthetic", "duvae results --format json > results.json"),
)
def results_of_models(
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="NAME",
            help="Name of a data set in params.yaml. Default: all.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    form: Annotated[
        Literal["table", "csv", "json", "markdown"],
        typer.Option("--format", help="Form of the output. csv and json have all numbers, with one entry per model."),
    ] = "table",
    params: ParamsFile = PARAMS_FILE,
) -> None:
    """Print the results of all models that 'run' in params.yaml names.

    The table has the likelihood, the information in z, the use of z by the decoder, and whether z has collapsed.
    """
    dispatch.run("results", dispatch.load_params(params, dataset), dataset, form)


@app.command(epilog=examples("duvae claims", "duvae claims --check"))
def claims(check: CheckOnly = False, params: ParamsFile = PARAMS_FILE) -> None:
    """Write into the pages what the results say about the paper's claims.

    README.md gets a summary of the claims, docs/results.md all of them, and docs/which-setting.md the tables of
    results. Run the command after new results, and commit these files. The page reports/index.html has the same claims
    with their numbers.
    """
    dispatch.run("claims", dispatch.load_params(params), check=check)


@app.command("examples", epilog=examples("duvae examples --dataset short_yelp_small", "dvc repro examples"))
def example_page(dataset: Dataset, params: ParamsFile = PARAMS_FILE) -> None:
    """Write the page of samples for your own texts or images.

    The page is reports/examples/NAME.html. It shows test examples beside samples of the models. Git does not keep it.
    """
    dispatch.run("examples", dispatch.params_of_dataset(params, dataset), dataset)
