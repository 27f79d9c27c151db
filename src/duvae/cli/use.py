"""Defines the commands that use a trained model: they generate, interpolate, reconstruct and encode examples."""

from pathlib import Path
from typing import Annotated, Any

import typer

from duvae.cli import dispatch
from duvae.cli.decoding import checked, decoding_options
from duvae.cli.options import PARAMS_FILE, Dataset, ParamsFile, Seed, Setting, checked_output, examples, new_app
from duvae.errors import UserError
from duvae.inference.options import Decoding

app = new_app()

LARGEST = 1_000
"""Largest number of rows, columns, pairs, points or examples. A page with more of them cannot be read."""


def number(option: str, least: int, text: str) -> Any:
    """An option for a number of things, from `least` to `LARGEST`; `text` is its help."""
    return typer.Option(option, metavar="N", min=least, max=LARGEST, help=text)


Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="PATH",
        callback=checked_output,
        help="File to write. Default: a file in reports/generated.",
    ),
]
DrawSeed = Annotated[
    int, typer.Option("--draw-seed", metavar="N", min=0, max=2**31 - 1, help="Seed of all random draws.")
]
Sentence = Annotated[
    list[str] | None,
    typer.Option("--sentence", metavar="TEXT", help="A sentence. Repeat the option for several sentences."),
]


@app.command(
    epilog=examples(
        "duvae generate --dataset omniglot --setting du_vae --seed 1",
        "duvae generate --dataset omniglot --setting du_vae --seed 1 --likely --output samples.png",
        "duvae generate --dataset short_yelp --setting du_vae --seed 1 --rows 20 --columns 1 --top-p 0.9",
        "duvae generate --dataset short_yelp --setting du_vae --seed 1 --beams 5 --repetition-penalty 1.2 --no-unknown",
    )
)
@decoding_options()
def generate(
    dataset: Dataset,
    setting: Setting,
    seed: Seed,
    decoding: Decoding,
    rows: Annotated[int, number("--rows", 1, "Number of rows of samples.")] = 8,
    columns: Annotated[int, number("--columns", 1, "Number of samples in each row.")] = 8,
    draw_seed: DrawSeed = 1,
    output: Output = None,
    params: ParamsFile = PARAMS_FILE,
) -> None:
    """Draw samples from the prior of a trained model (Figure S1).

    The command writes images as one picture, a grid, and sentences as a text file with one sentence per line. It also
    prints the first lines of the text. The same --draw-seed gives the same samples. docs/decoding.md explains the
    options for text.
    """
    known = dispatch.params_of_job(params, dataset, setting, seed)
    options = checked(known, dataset, decoding)
    dispatch.run("generate", known, dataset, setting, seed, output, rows, columns, draw_seed, options)


@app.command(
    epilog=examples(
        "duvae interpolate --dataset omniglot --setting du_vae --seed 1 --steps 9",
        "duvae interpolate --dataset short_yelp --setting du_vae --seed 1 --beams 5 \\",
        '    --from "the food was good ." --to "never again !"',
    )
)
@decoding_options()
def interpolate(
    dataset: Dataset,
    setting: Setting,
    seed: Seed,
    decoding: Decoding,
    pairs: Annotated[int, number("--pairs", 1, "Number of pairs of test examples.")] = 8,
    steps: Annotated[
        int,
        number("--steps", 2, "Number of points per pair, including both ends."),
    ] = 8,
    first: Annotated[
        str | None, typer.Option("--from", metavar="TEXT", help="Sentence to start from; needs --to.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="TEXT", help="Sentence to end at; needs --from.")] = None,
    draw_seed: DrawSeed = 1,
    output: Output = None,
    params: ParamsFile = PARAMS_FILE,
) -> None:
    """Decode points between two sentences or two test examples.

    The points lie on the line between the two posterior means, in even steps, as in Figure S1. The two originals stand
    around the points: each pair is one row of images, or one paragraph of sentences, whose first lines are also
    printed. --draw-seed also chooses the pairs of test examples. docs/decoding.md explains the options for text.
    """
    known = dispatch.params_of_job(params, dataset, setting, seed)
    if (first is None) != (last is None):
        raise UserError("--from, --to: expected both, each with a sentence, or neither; found one.")
    sentences = (first, last) if first is not None else ()
    options = checked(known, dataset, decoding)
    dispatch.run("interpolate", known, dataset, setting, seed, output, pairs, steps, draw_seed, options, sentences)


@app.command(
    epilog=examples(
        "duvae reconstruct --dataset short_yelp --setting du_vae --seed 1 --examples 20",
        'duvae reconstruct --dataset short_yelp --setting du_vae --seed 1 --beams 5 --sentence "the food was good ."',
    )
)
@decoding_options("likely")
def reconstruct(
    dataset: Dataset,
    setting: Setting,
    seed: Seed,
    decoding: Decoding,
    sentence: Sentence = None,
    source: Annotated[
        Path | None, typer.Option("--input", metavar="PATH", help="Text file with one document per line.")
    ] = None,
    count: Annotated[
        int,
        number("--examples", 1, "Number of test examples to use, if no text is given."),
    ] = 8,
    draw_seed: DrawSeed = 1,
    output: Output = None,
    params: ParamsFile = PARAMS_FILE,
) -> None:
    """Decode sentences or test examples from their own codes.

    The code of an example is the mean of its posterior. Each pixel or word is the likeliest one, unless --temperature,
    --top-p or --beams is given. The file shows each original with its reconstruction; the first lines of a text are
    also printed. docs/decoding.md explains the options for text.
    """
    known = dispatch.params_of_job(params, dataset, setting, seed)
    if sentence and source:
        raise UserError("--sentence, --input: expected one of them; found both.")
    options = checked(known, dataset, decoding).or_likeliest()
    dispatch.run(
        "reconstruct", known, dataset, setting, seed, output, sentence or [], source, count, draw_seed, options
    )


@app.command(
    epilog=examples(
        "duvae encode --dataset short_yelp --setting du_vae --seed 1 --input new.txt --output codes.csv",
        "duvae encode --dataset omniglot --setting du_vae --seed 1 --input pictures --ink dark",
        "duvae encode --dataset synthetic --setting du_vae --seed 1 --split test",
    )
)
def encode(
    dataset: Dataset,
    setting: Setting,
    seed: Seed,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="PATH",
            help="Text file with one document per line, or - for standard input. For images: a folder or an .npz file.",
        ),
    ] = None,
    sentence: Sentence = None,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="Name of a split of the prepared data set, such as test."),
    ] = None,
    ink: Annotated[
        str | None,
        typer.Option(
            "--ink", metavar="dark|light", help="For images: shade of the drawn lines. Default: as in the data set."
        ),
    ] = None,
    draw_seed: DrawSeed = 1,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="PATH",
            callback=checked_output,
            help="File to write, .parquet or .csv. Default: a .parquet file in reports/generated.",
        ),
    ] = None,
    params: ParamsFile = PARAMS_FILE,
) -> None:
    """Write mu, sigma and features of sentences or images.

    The table has one row per example: its label or name, the number of its unknown words, mu, sigma and features. An
    unknown word is not in the vocabulary. mu and sigma are the parameters of q(z|x). Features are the input of the
    probes: mu, and for a flow also the code to which the flow maps mu.
    """
    known = dispatch.params_of_job(params, dataset, setting, seed)
    if ink not in {None, "dark", "light"}:
        raise UserError(f"--ink {ink}: expected dark or light.")
    dispatch.run("encode", known, dataset, setting, seed, output, sentence or [], source, ink, draw_seed, split)
