"""Defines the commands `systems`, which explains the systems of the paper, and `doctor`, which examines the project."""

from typing import Annotated

import typer

from duvae.cli import completion, dispatch
from duvae.cli.options import PARAMS_FILE, ParamsFile, examples, new_app

app = new_app()


@app.command(epilog=examples("duvae systems", "duvae systems du_vae", "duvae systems --full"))
def systems(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="System to explain in full. Default: a list of all systems, with one line for each.",
            autocompletion=completion.systems,
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Explain all systems in full, in tables.")] = False,
    params: ParamsFile = PARAMS_FILE,
) -> None:
    """List and explain the systems of the paper.

    With NAME or --full, the command shows each system's parts, equation and source. It also shows the hyperparameters
    with the values that the paper chose from, and the settings of params.yaml that use the system.
    """
    content = dispatch.load_params(params)
    from duvae import registry

    dispatch.run("systems", content, name and registry.known_system(name), full=full)


@app.command(epilog=examples("duvae doctor", "DUVAE_MIRROR=../data duvae doctor"))
def doctor(params: ParamsFile = PARAMS_FILE) -> None:
    """Show what a rebuild needs, and how to get what is missing.

    Each line is about one topic: a version, a device, parameters, data, a mirror, the cache, interrupted trainings,
    leftover files, MLflow. Its mark is ok, ! (something is missing or wrong) or x (Figure 1 cannot be rebuilt). The
    command changes nothing. It exits with 0 if 'dvc repro figure1' can run, and with 1 otherwise.
    """
    dispatch.run("doctor", params)
