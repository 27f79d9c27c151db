"""The parts of a claim, and the verdict that follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from duvae.metrics.paired import CONFIDENCE
from duvae.report.cells import word_list

SUPPORTED = "supported"
NOT_SUPPORTED = "not supported"
CANNOT_TELL = "cannot tell"
NOT_TESTED = "not tested"

UNITS = ("nats", "points")
"""The units of the differences: nats, and percentage points of accuracies."""

LEAST_SEEDS = 2
"""Smallest number of seeds with which a difference between two systems can decide about a claim."""

LEAST_UNANIMOUS = 5
"""Smallest number of seeds with which outcomes without an interval, such as a collapse, can decide about a claim.

All of them must have the same outcome. If an outcome were as likely as its opposite, five of five seeds would have it
with probability 1/32, which is below 5 %; with four seeds the probability is 1/16.
"""


@dataclass(frozen=True)
class Check:
    """One part of a claim, such as a difference between two systems.

    Attributes:
        holds: Whether the part holds; None where the results do not tell.
        text: The numbers, in words; where results are missing, what is missing, such as `no results of`.
        seeds: Number of seeds; 0 where results are missing.
        long_enough: Whether the trainings of all models concerned converged, or were as long as the paper's. If not,
            the part decides nothing. It is true for parts that do not depend on the end of a training, such as the time
            of a training.
        lacking: The systems of which results are missing, to follow `text`.
        converged: Whether the trainings of all models concerned converged. If not, the part is marked.
        counted: Whether the outcome is a count without an interval (see `unanimous`).
    """

    holds: bool | None
    text: str
    seeds: int
    long_enough: bool = True
    lacking: Sequence[str] = ()
    converged: bool = True
    counted: bool = False

    @property
    def decided(self) -> bool | None:
        """Whether the part holds, as far as it may decide: None also where a training was too short."""
        return self.holds if self.long_enough else None

    @property
    def remark(self) -> str:
        """The mark of a part with a training that had not converged; empty if all had."""
        if self.long_enough and self.converged:
            return ""

        return "not converged, but as long as the paper's" if self.long_enough else "not converged"


@dataclass(frozen=True)
class Finding:
    """What the results of one data set say about a claim.

    Attributes:
        verdict: `SUPPORTED`, `NOT_SUPPORTED`, `CANNOT_TELL` or `NOT_TESTED`.
        text: What was found, in words.
        seeds: Smallest number of seeds of the parts.
    """

    verdict: str
    text: str
    seeds: int


def together(checks: Sequence[Check]) -> Finding:
    """Decides about a claim all of whose parts shall hold.

    - `not supported`: a part does not hold, whatever the others show.
    - `not tested`: otherwise, if a part has no results.
    - `supported`: all parts hold.
    - `cannot tell`: otherwise.

    A part with a training that neither converged nor was as long as the paper's counts as one that does not tell. So
    does a count that says no, if there are too few seeds for all counted parts together (see `least_unanimous`).
    """
    present = [check for check in checks if check.seeds]
    absent = _absent_text([check for check in checks if not check.seeds])
    seeds = min((check.seeds for check in present), default=0)
    remarks = {check.remark for check in present}
    if len(present) > 1 and len(remarks) == 1 and remarks != {""}:
        text = f"{joined([check.text for check in present])} (all of these: {remarks.pop()})"
    else:
        text = joined([check.text + (f" ({check.remark})" if check.remark else "") for check in present])
    enough = least_unanimous(sum(check.counted for check in checks))
    if any(check.decided is False and (not check.counted or check.seeds >= enough) for check in present):
        return Finding(NOT_SUPPORTED, f"{text} ({absent})" if absent else text, seeds)
    if absent or not checks:
        return Finding(NOT_TESTED, absent, 0)
    if all(check.decided for check in checks):
        return Finding(SUPPORTED, text, seeds)

    return Finding(CANNOT_TELL, text, seeds)


def joined(texts: Sequence[str]) -> str:
    """Joins the texts of checks with semicolons, and writes once what three or more of them share.

    The shared start is one that ends with `minus`, such as `NLL of DU-VAE minus`. The shared end is one that begins
    with a unit, such as `nats (one seed)`.

    Args:
        texts: The texts, such as `NLL of DU-VAE minus VAE: −0.52 nats (one seed)`.
    """
    if len(texts) < 3:
        return "; ".join(texts)
    words = [text.split(" ") for text in texts]
    start, end = _common_start(words), _common_start([each[::-1] for each in words])[::-1]
    units = [place for place, word in enumerate(end) if word in UNITS]
    shared = end[units[0] :] if units else []
    skipped = len(start) - 1 - start[::-1].index("minus") if "minus" in start else 0
    parts = [each[skipped if number else 0 : len(each) - len(shared)] for number, each in enumerate(words)]
    more = [f"all in {' '.join(shared)}"] if shared else []

    return "; ".join([*(" ".join(part) for part in parts), *more])


def _common_start(lists: Sequence[Sequence[str]]) -> list[str]:
    """The longest list with which all given lists start."""
    alike = takewhile(lambda words: len(set(words)) == 1, zip(*lists, strict=False))

    return [words[0] for words in alike]


def lacking(text: str, names: Sequence[str]) -> Check:
    """A check of which results are missing.

    Args:
        text: What is missing, such as `no results of`.
        names: The systems of which it is missing.
    """
    return Check(None, text, 0, lacking=names)


def _absent_text(absent: Sequence[Check]) -> str:
    """Says what is missing, each kind once, such as `no results of MAE and FB`."""
    kinds: dict[str, list[str]] = {}
    for check in absent:
        kinds.setdefault(check.text, []).extend(check.lacking)

    return "; ".join(f"{text} {word_list(list(dict.fromkeys(names)))}".strip() for text, names in kinds.items())


def least_unanimous(parts: int) -> int:
    """The number of seeds from which on one of several counted parts can decide that a claim does not hold.

    If each outcome were as likely as its opposite, the probability that all seeds say no in one of the parts must be at
    most 5 %. For one part, the number is `LEAST_UNANIMOUS`.

    Args:
        parts: Number of counted parts of the claim.
    """
    return next(seeds for seeds in range(LEAST_UNANIMOUS, 64) if max(1, parts) * 0.5**seeds <= 1 - CONFIDENCE)


def unanimous(
    outcomes: Sequence[bool | None], text: str, seeds: int, long_enough: bool = True, converged: bool = True
) -> Check:
    """Decides from outcomes that have no interval, such as collapses: all models must agree.

    With fewer than `LEAST_UNANIMOUS` seeds, the check decides nothing. Its text then says in how many seeds the part
    held.

    Args:
        outcomes: For each model, whether the part held; None where its results do not tell.
        text: The numbers, in words.
        seeds: Number of seeds with which each setting concerned was trained.
        long_enough: Whether the trainings of all models converged, or were as long as the paper's.
        converged: Whether the trainings of all models converged.
    """
    held, unit = sum(outcome is True for outcome in outcomes), "seed" if seeds == len(outcomes) else "model"
    undecided = sum(outcome is None for outcome in outcomes)
    text = f"{text} (held in {held} of {len(outcomes)} {unit}{'s' * (len(outcomes) > 1)}"
    text += f", undecided in {undecided})" if undecided else ")"
    if seeds < LEAST_UNANIMOUS or len(set(outcomes)) != 1:
        return Check(None, text, seeds, long_enough, converged=converged, counted=True)

    return Check(outcomes[0], text, seeds, long_enough, converged=converged, counted=True)
