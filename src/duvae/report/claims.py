"""Says for each claim of the paper what the results support. `claim_rules` has the claims and their rules."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from duvae.config import Params, SyntheticDataset
from duvae.report import comparison, latent_spaces, per_example
from duvae.report.cells import number_range, word_list
from duvae.report.checks import CANNOT_TELL, LEAST_UNANIMOUS, NOT_SUPPORTED, NOT_TESTED, SUPPORTED, Finding
from duvae.report.claim_rules import CLAIMS, Claim
from duvae.report.evidence import Evidence
from duvae.report.metric_columns import noun
from duvae.report.per_example import PerExample
from duvae.report.results import Result

BEGIN, END = "<!-- Begin of the claims. `duvae claims` writes them. -->", "<!-- End of the claims. -->"
"""Lines of the README and of docs/results.md between which `duvae claims` writes the claims."""

EXPLANATION = (
    "A claim is supported only if all comparisons that it needs say so, and it is not supported if one of them"
    " clearly says the opposite, with at least two seeds and a confidence of 95 % for all of them together. Else the"
    " results cannot tell. With one seed they never can, since another seed may differ. Differences that have an"
    " interval stand with it in brackets. Intervals assume that differences over seeds are normal: a rare collapse is"
    " not covered, and if some seeds of a setting have collapsed and others have not, its differences decide nothing."
    " Differences in NLL are paired by test example; those in accuracy are not. The other intervals cover the seeds"
    " only. Claims about collapse, training time, centres and their places, and the KL of a fixed shift have no"
    " intervals: at least"
    f" {LEAST_UNANIMOUS} seeds must all agree, which shows that more than about half of all trainings do so. A part"
    " with a training that ended before it had converged is marked. It decides nothing, unless the training was as long"
    " as the paper's, on data of the paper's size. The confidence is that of each line, so among many lines some may be"
    " wrong."
)
"""How the verdicts come about, in the words of the pages."""

DIVIDED = "supported on some data, not supported on others"
"""The verdict about a claim that two data sets decide in opposite ways."""

VERDICTS = (SUPPORTED, NOT_SUPPORTED, DIVIDED, CANNOT_TELL, NOT_TESTED)
"""The verdicts of all data sets together, in the order in which the pages count them."""

REASONS = {
    CANNOT_TELL: "There are too few seeds, the differences are too small, or a training had not converged.",
    NOT_TESTED: "Results that the claim needs are missing, such as those of a system, the NLL of single examples or the"
    " time of a training. The page of all results names them.",
}
"""What a verdict that decides nothing means, for the summary of the claims."""


@dataclass(frozen=True)
class Line:
    """A claim with the finding on one data set.

    Attributes:
        claim: The claim of the paper, with its rule.
        dataset: The data set; None where no data set has results that test the claim.
        finding: What the results of this data set say about the claim.
        size: Numbers of training and test examples, in words.
        differs: How the experiment differs from the one that the paper makes the claim about; empty: it does not.
    """

    claim: Claim
    dataset: str | None
    finding: Finding
    size: str
    differs: str = ""


OWN_SECTION = {"synthetic": "4.3"}
"""The section with the paper's claims about a kind of data whose results no table of the paper has."""

OTHER_DATA = "the paper makes this claim about other data"
NOT_TUNED = "baselines without batch normalization have the hyperparameters for Yelp"
"""What is true of the synthetic data: the paper names only γ and p for them."""


def difference_from_paper(claim: Claim, each: Evidence) -> str:
    """Says how an experiment differs from the one that the paper makes a claim about; empty where it does not.

    Args:
        claim: The claim of the paper, whose section decides which data it is about.
        each: The results of the data set.
    """
    if each.departs is not None:
        return each.departs[0].rstrip(".") if each.departs else ""
    if OWN_SECTION.get(each.kind) == claim.section:
        return ""

    return f"{OTHER_DATA}; {NOT_TUNED}" if each.kind == "synthetic" else OTHER_DATA


def evidence(params: Params, models: Sequence[Result], examples: Sequence[PerExample | None]) -> Evidence:
    """Collects the results of one data set.

    Args:
        params: All of params.yaml.
        models: Results of all models of one data set.
        examples: The values of each model's test examples; None where they are missing.
    """
    name = models[0].job.dataset
    dataset = params.dataset(name)
    item = noun(dataset)
    synthetic = isinstance(dataset, SyntheticDataset)
    spaces = {
        (model.job.setting, model.job.seed): per_example.space(model, values)
        for model, values in zip(models, examples, strict=True)
        if values is not None and values.means is not None
    }

    return Evidence(
        name,
        "synthetic" if synthetic else "text" if item == "sentence" else "image",
        dataset.networks.latent,
        models,
        comparison.compare(models, examples),
        spaces if dataset.networks.latent == 2 else {},
        latent_spaces.central_component(dataset.source) if isinstance(dataset, SyntheticDataset) else 0,
        next((values.documents.get("train") for values in examples if values), None),
        dataset.paper.departs if dataset.paper else None,
    )


def lines(evidences: Sequence[Evidence]) -> list[Line]:
    """Decides about each claim on each data set that tests it, in the order of the paper.

    A claim that no data set tests has one line, with the verdict `not tested`, which names the missing results.

    Args:
        evidences: The results of each data set.
    """
    found = []
    for claim in CLAIMS:
        findings = [(each, claim.rule(each)) for each in evidences if each.kind in claim.kinds]
        tested = [
            Line(claim, each.dataset, finding, size(each), difference_from_paper(claim, each))
            for each, finding in findings
            if finding.verdict != NOT_TESTED
        ]
        missing: dict[str, list[str]] = {}
        for each, finding in findings:
            missing.setdefault(finding.text, []).append(each.dataset)
        text = "; ".join(f"{word_list(datasets)}: {reason}" for reason, datasets in missing.items())
        untested = Finding(NOT_TESTED, text or f"no data set of the kind {' or '.join(claim.kinds)}", 0)
        found += tested or [Line(claim, None, untested, "")]

    return found


def size(each: Evidence) -> str:
    """The numbers of training and test examples of a data set, such as `1,440 training / 360 (NLL: 100) test`.

    The number in brackets is that of the test examples whose NLL was computed. It is left out if these are all.
    """
    sentences = [int(result.metrics["sentences"]) for result in each.results]
    sample = [int(result.metrics.get("nll_examples") or result.metrics["sentences"]) for result in each.results]
    tests = number_range(sentences) + (f" (NLL: {number_range(sample)})" if sample != sentences else "")

    return f"{each.train:,} training / {tests} test" if each.train is not None else f"{tests} test"


def summary_block(found: Sequence[Line]) -> str:
    """Counts the claims of each verdict, as a table in Markdown which names the supported and not supported claims.

    Each claim is counted once. A data set that decides about a claim outweighs all that do not. The table of all claims
    follows, folded.

    Args:
        found: The claims with their findings, as `lines` returns them.
    """
    groups: dict[str, list[str]] = {verdict: [] for verdict in VERDICTS}
    for claim, own in by_claim(found).items():
        decided = [line for line in own if line.finding.verdict in (SUPPORTED, NOT_SUPPORTED)]
        text = f"{claim.text.rstrip('.')}: {_verdicts(decided)} (section {claim.section})"
        groups[overall(own)].append(text)
    if not groups[DIVIDED]:
        del groups[DIVIDED]
    rows = [
        f"| {verdict} | {len(texts)} | {REASONS.get(verdict) or '<br>'.join(texts) or '–'} |"
        for verdict, texts in groups.items()
    ]

    counts = ["| our results | claims | which, or why |", "|---|---|---|", *rows]
    folded = ["<details>", "<summary>Each claim</summary>", "", *_table(found), "", "</details>"]

    return _block(found, [*counts, "", *folded])


def table_block(found: Sequence[Line]) -> str:
    """Writes the claims as a table in Markdown, with one row per claim.

    Args:
        found: The claims with their findings, as `lines` returns them.
    """
    return _block(found, _table(found))


def _table(found: Sequence[Line]) -> list[str]:
    """The lines of the table of all claims."""
    rows = [f"| {claim.section} | {claim.text} | {_verdicts(own)} |" for claim, own in by_claim(found).items()]

    return ["| section | claim of the paper | our results |", "|---|---|---|", *rows]


def by_claim(found: Sequence[Line]) -> dict[Claim, list[Line]]:
    """Groups findings by their claim, in the order of the paper.

    Args:
        found: The claims with their findings, as `lines` returns them.
    """
    groups: dict[Claim, list[Line]] = {}
    for line in found:
        groups.setdefault(line.claim, []).append(line)

    return groups


def overall(found: Sequence[Line]) -> str:
    """The verdict of all data sets together on one claim, one of `VERDICTS`.

    A data set that decides about the claim outweighs all that do not.

    Args:
        found: The findings about the claim, one per data set that tests it, or one with the verdict `not tested`.
    """
    verdicts = {line.finding.verdict for line in found}
    decided = verdicts & {SUPPORTED, NOT_SUPPORTED}
    if len(decided) > 1:
        return DIVIDED

    return next(iter(decided), CANNOT_TELL if CANNOT_TELL in verdicts else NOT_TESTED)


def _verdicts(found: Sequence[Line]) -> str:
    """The verdicts about one claim, each with the data sets that have it and their number of seeds."""
    alike: dict[tuple[str, int], list[str]] = {}
    for line in found:
        names = alike.setdefault((line.finding.verdict, line.finding.seeds), [])
        names += [line.dataset] if line.dataset else []

    return "; ".join(_alike(*key, names) for key, names in alike.items())


def _block(found: Sequence[Line], table: Sequence[str]) -> str:
    """A table of claims between its two lines, below the remark on the data."""
    return "\n".join([BEGIN, "", *textwrap.wrap(scope(found), 120), "", *table, "", END])


def scope(found: Sequence[Line]) -> str:
    """Says for which claims the data are those of the paper.

    Args:
        found: The claims with their findings, as `lines` returns them.
    """
    alike: dict[str, list[str]] = {}
    for line in found:
        if line.dataset and not line.differs:
            alike.setdefault(line.claim.section, []).append(line.dataset)
    parts = [f"{word_list(list(dict.fromkeys(names)))} for section {section}" for section, names in alike.items()]
    if all(not line.differs for line in found if line.dataset):
        return "All of these data and sizes follow the paper." if parts else "No claim has been tested yet."
    others = "Data and sizes follow the paper only in " if parts else "None of these data and sizes are the paper's"

    ours = any(line.dataset and line.claim.kinds == ("synthetic",) and not line.differs for line in found)
    generator = " The synthetic data come from our own generator, after the paper's description." if ours else ""

    return (
        f"{others}{'; '.join(parts)}.{generator} On other data, a claim that is supported or not supported here may be"
        " otherwise on the paper's."
    )


def _alike(verdict: str, seeds: int, names: Sequence[str]) -> str:
    """Writes a verdict with the data sets that have it, such as `cannot tell (synthetic; 1 seed)`."""
    return f"{verdict} ({', '.join(names)}; {seeds} seed{'s' if seeds != 1 else ''})" if names else verdict


def read_lines(params: Params, sections: Mapping[str, Sequence[Result]], root: Path = Path()) -> list[Line]:
    """Reads the values of single examples, and decides about the claims.

    Args:
        params: All of params.yaml.
        sections: Results of all models of each data set, by name of the data set.
        root: The project's folder.
    """
    return lines(
        [
            evidence(params, models, [per_example.read(model, root) for model in models])
            for models in sections.values()
            if models
        ]
    )
