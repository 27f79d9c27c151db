"""Defines the commands for data of your own."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from duvae.cli import changes, completion, dispatch
from duvae.cli.options import PARAMS_FILE, ParamsFile, examples, new_app
from duvae.errors import UserError

app = new_app()

Settings = Annotated[
    str,
    typer.Option(
        "--settings",
        metavar="NAME,...",
        help="Names of settings to train, with commas between them.",
        autocompletion=completion.several_settings,
    ),
]
Seeds = Annotated[
    str, typer.Option("--seeds", metavar="N,...", help="Seeds to train each setting with, with commas between them.")
]


@app.command(
    epilog=examples(
        "duvae new corpora/reviews.txt",
        "duvae new corpora/reviews.csv --text review --label stars --tokenise --lower-case",
        "duvae new pictures/leaves --name leaves",
    )
)
def new(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="File of texts, folder of pictures, or .npz file.")],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the data set. Default: from the name of the file."),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="COLUMN", help="For csv and jsonl: column of the texts.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="COLUMN", help="For csv and jsonl: column of the labels, or none."),
    ] = None,
    tokenise: Annotated[
        bool, typer.Option("--tokenise", help="Separate punctuation from words, by NLTK's rules for English.")
    ] = False,
    lower_case: Annotated[bool, typer.Option("--lower-case", help="Write all words in lower case.")] = False,
    ink: Annotated[
        Literal["dark", "light"] | None,
        typer.Option("--ink", help="For images: shade of the drawn lines. Default: the rarer shade."),
    ] = None,
    params: ParamsFile = PARAMS_FILE,
) -> None:
    """Look at your own data, and declare them as a data set.

    The command reads a text file with one document per line (or label, tab, document), a csv, tsv or jsonl file, a
    folder of pictures, or an .npz file. It writes datasets/NAME.yaml, which git ignores. It prints what it has seen,
    and how long a training will take. 'duvae run NAME' then trains models.
    """
    dispatch.run("new", path, name, text, label, tokenise, lower_case, ink, changes.asked(), file=params)


@app.command(
    epilog=examples(
        "duvae run reviews",
        "duvae run reviews --settings vae,bn_vae,du_vae --seeds 1,2",
        "duvae run reviews --set optimisation.epochs=5",
    )
)
def run(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the data set.", autocompletion=completion.datasets)
    ],
    settings: Settings = "vae,du_vae",
    seeds: Seeds = "1",
    params: ParamsFile = PARAMS_FILE,
) -> None:
    """Train and measure models on one data set, from its files to the report.

    The data set is a file in the folder datasets, or an entry of params.yaml. DVC runs the stages that are out of date,
    in the folder private/NAME, which git ignores. Nothing of the paper is run.
    """
    chosen = _names(settings, "--settings")
    numbers = _numbers(seeds)
    from duvae.project.own_data import Selection  # imported only here, since 'duvae --help' must start quickly

    dispatch.run("run", Selection(name, chosen, numbers, changes.asked()), file=params)


def _names(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"{option} {text!r}: expected different names with commas between them.")

    return names


def _numbers(text: str) -> list[int]:
    parts = _names(text, "--seeds")
    if not all(part.isascii() and part.isdecimal() and int(part) < 2**31 for part in parts):
        raise UserError(f"--seeds {text!r}: expected whole numbers from 0 to {2**31 - 1} with commas between them.")

    return [int(part) for part in parts]
