"""The options that choose each word or pixel when a decoder writes an example. This module imports no heavy library."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from duvae.errors import UserError

COLDEST, HOTTEST = 0.001, 1_000.0
"""Bounds of the temperature. Below them one value has all the probability; above them all values are equally likely."""

MOST_BEAMS = 100
"""Largest number of beams. Each beam costs as much time and memory as one more sentence."""

STRONGEST_PENALTY = 100.0
"""Largest repetition penalty. CTRL (Keskar et al., 2019) uses 1.2."""

LONGEST_NGRAM = 100
"""Largest length of the n-grams that must not repeat."""

EXCLUSIVE = {
    ("temperature", "likely"): "since {} draws nothing",
    ("top_p", "likely"): "since {} draws nothing",
    ("beams", "likely"): "since each chooses the words by itself",
    ("temperature", "beams"): "since {} draws nothing",
    ("top_p", "beams"): "since {} draws nothing",
}
"""Pairs of options that exclude each other, with the reason. The name of the second option replaces `{}`."""

FOR_WORDS = ("top_p", "beams", "repetition_penalty", "no_repeat_ngram", "no_unknown")
"""Options for models of texts. Pixels have no use for them."""


@dataclass(frozen=True)
class Decoding:
    """The way in which a decoder chooses each word or pixel.

    Without options, each word or pixel is drawn from p(x|z). `duvae.inference.decoding` has the formulas.

    Attributes:
        likely: Whether to take the likeliest value each time, instead of drawing the value.
        temperature: Temperature of the draws; below 1 they are less random. None: 1.
        top_p: Share P of the probability from which words are drawn, above 0 and at most 1 (nucleus sampling). None: 1.
        beams: Number of sentences that beam search keeps; None: no beam search.
        repetition_penalty: Penalty R of the words that the sentence already has, at least 1. None: 1, no penalty.
        no_repeat_ngram: Length of the sequences of words that must not occur twice in a sentence; None: no limit.
        no_unknown: Whether `<unk>` is never written.
    """

    likely: bool = False
    temperature: float | None = None
    top_p: float | None = None
    beams: int | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram: int | None = None
    no_unknown: bool = False

    @property
    def given(self) -> list[str]:
        """The names of the options that differ from their defaults."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]

    def or_likeliest(self) -> "Decoding":
        """The same options, with `likely` if no option asks for draws or for beam search."""
        if {"likely", "temperature", "top_p", "beams"} & set(self.given):
            return self

        return Decoding(**{**vars(self), "likely": True})


def python_name(option: str) -> str:
    """Name of an option in Python."""
    return option


def command_line_name(option: str) -> str:
    """Name of an option of a command, such as `--top-p`."""
    return f"--{option.replace('_', '-')}"


def check(decoding: Decoding, images: bool, name: Callable[[str], str] = python_name) -> None:
    """Checks that options are in range, that they do not exclude each other, and that the model has a use for them.

    Args:
        decoding: The options to check.
        images: Whether the model was trained on images.
        name: Function that writes the name of an option in the error messages.

    Raises:
        UserError: If an option is wrong.
    """
    given = decoding.given
    for (first, second), reason in EXCLUSIVE.items():
        if first in given and second in given:
            why = reason.format(name(second))
            raise UserError(f"{name(first)}, {name(second)}: expected one of them, {why}; found both.")
    for option, least, most in (
        ("temperature", COLDEST, HOTTEST),
        ("beams", 1, MOST_BEAMS),
        ("repetition_penalty", 1.0, STRONGEST_PENALTY),
        ("no_repeat_ngram", 1, LONGEST_NGRAM),
    ):
        value = getattr(decoding, option)
        if value is not None and not least <= value <= most:
            raise UserError(f"{name(option)}: expected a number from {least} to {most}; found {value}.")
    if decoding.top_p is not None and not 0 < decoding.top_p <= 1:
        raise UserError(f"{name('top_p')}: expected a share above 0, and at most 1; found {decoding.top_p}.")
    if images and (useless := [name(option) for option in given if option in FOR_WORDS]):
        raise UserError(
            f"{', '.join(useless)}: expected only for models of texts; this model was trained on images. Leave"
            f" {'it' if len(useless) == 1 else 'them'} out."
        )
