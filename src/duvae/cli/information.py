"""Defines the commands `demo`, `systems` and `doctor`.

`demo` is a quick look at two systems. `systems` explains the systems of the paper, and `doctor` examines the project.
"""

from pathlib import Path
from typing import Annotated

import typer

from duvae.cli import completion, dispatch
from duvae.cli.options import PARAMS_FILE, ParamsFile, checked_folder, examples, new_app

app = new_app()

DEMO_PARAMS = Path(__file__).parents[1] / "commands" / "demo" / "demo.yaml"
"""The file of parameters of `duvae demo`."""


@app.command(epilog=examples("duvae demo", "duvae demo --output try --again"))
def demo(
    output: Annotated[
        Path, typer.Option("--output", metavar="PATH", help="New folder to write everything into.")
    ] = Path("demo"),
    again: Annotated[
        bool, typer.Option("--again", help="Remove what an earlier demonstration has written there, and begin anew.")
    ] = False,
    params: Annotated[
        Path | None,
        typer.Option("--params", metavar="PATH", help="File of parameters of another size. Default: the package's."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", hidden=True)] = None,
) -> None:
    """Show VAE and DU-VAE on a small synthetic text: two short trainings, then a table, a picture and sentences.

    The command needs no params.yaml, no network and no git. It writes into one new folder. The verdicts on collapse are
    computed, and may be otherwise for other sizes and seeds. After an interruption, the same command continues.
    """
    source = params or DEMO_PARAMS
    folder, parameters = checked_folder(output), dispatch.load_params(source)
    if model is not None:  # one model of the demonstration, in a process that the command itself has started
        dispatch.run("demo.model", parameters, model, folder)
        return
    dispatch.run("demo", parameters, source, folder, again)


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
