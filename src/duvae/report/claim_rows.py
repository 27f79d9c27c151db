"""Arranges the findings about the paper's claims for the pages: one row per claim, with one sign per data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from duvae.report.checks import CANNOT_TELL, LEAST_SEEDS, NOT_SUPPORTED, SUPPORTED
from duvae.report.claim_rules import Claim
from duvae.report.claims import EXPLANATION, VERDICTS, Line, by_claim, overall, scope

SIGNS = {SUPPORTED: "✓", NOT_SUPPORTED: "✗", CANNOT_TELL: "?"}
"""The sign of each verdict on a data set."""


@dataclass(frozen=True)
class ClaimRow:
    """A claim with the findings of all data sets that test it.

    Attributes:
        claim: The claim of the paper.
        lines: The findings, one per data set, in the order of the data sets.
        verdict: The verdict of all data sets together, one of `claims.VERDICTS`.
    """

    claim: Claim
    lines: Sequence[Line]
    verdict: str

    def on(self, dataset: str) -> Line | None:
        """The finding of a data set; None where the data set does not test the claim."""
        return next((line for line in self.lines if line.dataset == dataset), None)


@dataclass(frozen=True)
class ClaimTable:
    """All claims of the paper for a page.

    Attributes:
        datasets: The data sets that test a claim, in the order of the page, each with its numbers of training and test
            examples.
        rows: The claims that a data set tests.
        untested: The claims that no data set tests.
        counts: Number of claims by verdict, in the order of `claims.VERDICTS`. A verdict that no claim has is left out,
            except `supported` and `not supported`.
        notes: Sentences about what the verdicts rest on.
        explanation: How the verdicts come about.
        sign: The sign of each verdict on a data set.
    """

    datasets: Mapping[str, str]
    rows: Sequence[ClaimRow]
    untested: Sequence[Line]
    counts: Mapping[str, int]
    notes: Sequence[str]
    explanation: str = EXPLANATION
    sign: Mapping[str, str] = field(default_factory=lambda: SIGNS)

    @property
    def signs(self) -> Mapping[str, str]:
        """The signs that occur in the table, with the verdict that each stands for."""
        seen = {line.finding.verdict for row in self.rows for line in row.lines}

        return {sign: verdict for verdict, sign in SIGNS.items() if verdict in seen}


def table(lines: Sequence[Line]) -> ClaimTable:
    """Arranges findings for a page.

    Args:
        lines: The claims with their findings, in the order of the paper, as `claims.lines` returns them.
    """
    rows = [ClaimRow(claim, own, overall(own)) for claim, own in by_claim(lines).items()]
    tested = [line for line in lines if line.dataset]
    found = [row.verdict for row in rows]

    return ClaimTable(
        {str(line.dataset): line.size for line in tested},
        [row for row in rows if row.lines[0].dataset],
        [line for line in lines if not line.dataset],
        {verdict: found.count(verdict) for verdict in VERDICTS if verdict in (*found, SUPPORTED, NOT_SUPPORTED)},
        [*seeds_note(tested), scope(lines)],
    )


def seeds_note(tested: Sequence[Line]) -> list[str]:
    """Says that no claim could be decided for lack of seeds, if that is so; empty otherwise.

    Args:
        tested: The claims with their findings, one per data set that tests the claim.
    """
    if not tested or any(line.finding.seeds >= LEAST_SEEDS for line in tested):
        return []

    return ["All of these results have one seed. One seed decides nothing, since another seed may differ."]
