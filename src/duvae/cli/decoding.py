"""Declares the options that choose each word or pixel when a model decodes z."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duvae.cli.signatures import Options, with_options
from duvae.inference.options import LONGEST_NGRAM, MOST_BEAMS, Decoding, check, command_line_name

if TYPE_CHECKING:
    from duvae.config import Params

Likely = Annotated[
    bool, typer.Option("--likely", help="Take the likeliest pixel or word each time, instead of drawing from p(x|z).")
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="T",
        help="Draw from p(x|z) at this temperature. 1 draws from p(x|z) itself; below 1 the draws are less random.",
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        metavar="P",
        help="Text: draw each word from the smallest set of words whose probability is at least P (nucleus sampling).",
    ),
]
Beams = Annotated[
    int | None,
    typer.Option(
        "--beams",
        metavar="N",
        min=1,
        max=MOST_BEAMS,
        help="Text: search for the likeliest sentence with N beams. Nothing is drawn.",
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty",
        metavar="R",
        help="Text: make the words that the sentence already has less likely. 1: no penalty; 1.2 is usual.",
    ),
]
NoRepeatNgram = Annotated[
    int | None,
    typer.Option(
        "--no-repeat-ngram",
        metavar="N",
        min=1,
        max=LONGEST_NGRAM,
        help="Text: write no sequence of N words twice in a sentence.",
    ),
]
NoUnknown = Annotated[bool, typer.Option("--no-unknown", help="Text: never write the word <unk>.")]


OPTIONS: Options = {
    "likely": (Likely, False),
    "temperature": (Temperature, None),
    "top_p": (TopP, None),
    "beams": (Beams, None),
    "repetition_penalty": (RepetitionPenalty, None),
    "no_repeat_ngram": (NoRepeatNgram, None),
    "no_unknown": (NoUnknown, False),
}
"""The options by the names of the attributes of `Decoding`."""


def decoding_options(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options that choose each word or pixel, in place of its parameter `decoding`.

    Args:
        left_out: Names of options that the command does not have.
    """
    options = {name: option for name, option in OPTIONS.items() if name not in left_out}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**arguments: Any) -> None:
            values = {name: arguments.pop(name) for name in options}
            function(**arguments, decoding=Decoding(**values))

        return with_options(command, function, options, instead="decoding")

    return decorate


def checked(params: "Params", dataset: str, decoding: Decoding) -> Decoding:
    """Checks the options of a command, and returns them.

    Args:
        params: All parameters of params.yaml.
        dataset: Name of the data set on which the model was trained.
        decoding: The options that the user gave.

    Raises:
        UserError: If an option is out of range, excludes another one, or has no meaning for images.
    """
    from duvae.config import ImageNetworks  # imported only here, since 'duvae --help' must start quickly

    check(decoding, isinstance(params.dataset(dataset).networks, ImageNetworks), command_line_name)

    return decoding
