"""Writes the tables of docs/which-setting.md from the results: what the settings of `run` show about z.

Each table has a rule that chooses its rows, so that no number on the page is copied by hand.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from duvae.config import Params
from duvae.metrics import verdict
from duvae.report import convergence
from duvae.report.cells import number, word_list
from duvae.report.observations import NORMALIZED
from duvae.report.results import OverSeeds, Result, label_counts, label_unit, over_seeds, setting_names

BEGIN = "<!-- Begin of the results. `duvae claims` writes them. -->"
END = "<!-- End of the results. -->"
"""Lines of the page between which the tables stand."""

NONE = "–"
"""The cell of a measure that a setting does not have."""


class Row(NamedTuple):
    """A setting of one data set.

    Attributes:
        dataset: Name of the data set.
        name: Name of the setting on the pages, with the sign ‡ if one of its trainings did not converge.
        first: Result of the setting's first seed.
        over: Means of all settings of the data set over their seeds.
        verdict: The verdict over the seeds; None where nothing was measured that it could follow from.
    """

    dataset: str
    name: str
    first: Result
    over: OverSeeds
    verdict: str | None

    def value(self, key: str) -> float:
        """Mean of a measure over the seeds; NaN where the setting has no such measure."""
        return self.over.value(self.first.job.setting, key)

    def cell(self, key: str, error: str = "") -> str:
        """A measure with two decimals, with its standard error over examples in brackets if `error` names it."""
        text = number(self.value(key), 2)
        if text is None:
            return NONE
        bracket = number(self.value(error), 2) if error else None

        return f"{text} [{bracket}]" if bracket else text


def rows(sections: Mapping[str, Sequence[Result]]) -> list[Row]:
    """Lists the settings of all data sets in the order of the results.

    Args:
        sections: Results of all models of each data set, by name of the data set.
    """
    listed = []
    for dataset, results in sections.items():
        over = over_seeds(results)
        for setting, name in setting_names(results).items():
            own = [result for result in results if result.job.setting == setting]
            words = verdict.of_setting([result.metrics for result in own])
            listed.append(Row(dataset, f"{name}{convergence.mark(own)}", own[0], over, words))

    return listed


def likelihood_table(listed: Sequence[Row]) -> list[str]:
    """Writes the NLL beside the use of z, for all settings that have both; no lines if no setting has."""
    chosen = [row for row in listed if not math.isnan(row.value("nll")) and not math.isnan(row.value("use"))]

    return _table(
        ("data", "setting", "NLL", "KL", "MI", "use of z", "z"),
        [
            (
                *(f"`{row.dataset}`", row.name, row.cell("nll", "nll_stderr"), row.cell("kl"), row.cell("mi")),
                *(row.cell("use", "use_stderr"), row.verdict or NONE),
            )
            for row in chosen
        ],
    )


def probe_table(listed: Sequence[Row]) -> list[str]:
    """Writes the most accurate probes of collapsed settings and of others, one row per data set with both of the two.

    The probes are those with the most labels of the data set.
    """
    lines = []
    for dataset in dict.fromkeys(row.dataset for row in listed):
        own = [row for row in listed if row.dataset == dataset]
        counts = label_counts([row.first for row in own])
        if not counts:
            continue
        key, unit = f"probe_{counts[-1]}", label_unit([row.first for row in own])
        fallen = [row for row in own if row.verdict == verdict.COLLAPSED and not math.isnan(row.value(key))]
        if not fallen:
            continue
        best = max(fallen, key=lambda row: row.value(key))
        alive = [row for row in own if row.verdict != verdict.COLLAPSED and not math.isnan(row.value(key))]
        other = max(alive, key=lambda row: row.value(key)) if alive else None
        assert best.first.probe is not None  # the setting has an accuracy
        labels = f"{int(counts[-1]):,} {unit}" if counts[-1].isdigit() else counts[-1]
        lines.append(
            (
                *(f"`{dataset}`, {labels}", str(len(fallen)), f"{best.name}: {number(best.value(key), 1)}"),
                f"{number(float(best.first.probe['largest_class']), 1)}",
                f"{other.name}: {number(other.value(key), 1)}" if other else NONE,
            )
        )

    return _table(
        (
            *("data", "collapsed settings", "most accurate of them, %", "largest class, %"),
            "most accurate of the other settings, %",
        ),
        lines,
    )


def construction_table(params: Params, listed: Sequence[Row]) -> list[str]:
    r"""Writes what batch normalization of the means gives alone beside what was measured.

    Over a batch, the means of these systems have the mean square gamma^2 in each of the n dimensions, on average over
    the dimensions. So the KL is at least $n \gamma^2 / 2$ nats. Gaussian means of this variance with posterior
    variances of 1 have the mutual information $\frac n2 \log(1 + \gamma^2)$ nats.
    """
    lines = []
    for row in listed:
        values = row.first.metrics["hyperparameters"]
        if row.first.system not in NORMALIZED or "gamma" not in values:
            continue
        latent, gamma = params.dataset(row.dataset).networks.latent, float(values["gamma"])
        lines.append(
            (
                *(f"`{row.dataset}`", row.name, f"{gamma:g}", str(latent), f"{number(latent * gamma**2 / 2, 2)}"),
                *(row.cell("kl"), f"{number(latent / 2 * float(np.log1p(gamma**2)), 2)}", row.cell("mi")),
                *(row.cell("use", "use_stderr"), row.verdict or NONE),
            )
        )

    return _table(
        ("data", "setting", "γ", "n", "nγ²/2", "KL", "n/2 · log(1 + γ²)", "MI", "use of z", "z"),
        lines,
    )


def block(params: Params, sections: Mapping[str, Sequence[Result]]) -> str:
    """Writes the three tables, each with a line that says what it shows.

    Args:
        params: All parameters of params.yaml.
        sections: Results of all models of each data set, by name of the data set.
    """
    listed = rows(sections)
    seeds = sorted({row.over.count(row.first.job.setting) for row in listed})
    single = "Each setting has one seed, so other seeds may differ." if seeds == [1] else "Means over the seeds."
    parts = [
        ("NLL and use of z, in nats; in brackets the standard error over the test examples.", likelihood_table(listed)),
        (
            (
                "Linear probes of collapsed settings, and of those that did not collapse or whose results cannot tell."
                " The highest of several accuracies is biased upwards. The largest class is the accuracy of a"
                " classifier without z."
            ),
            probe_table(listed),
        ),
        (
            "What batch normalization of the means gives alone, beside the measured KL and MI, in nats.",
            construction_table(params, listed),
        ),
    ]
    marked = [result for results in sections.values() for result in results]
    lines = [BEGIN, "", f"{single}{convergence.footnote(marked)}"]
    for title, table in parts:
        if table:
            lines += ["", title, "", *table]

    if repeated := repeated_lines(sections):
        lines += ["", *repeated]

    return "\n".join([*lines, "", END])


def repeated_lines(sections: Mapping[str, Sequence[Result]]) -> list[str]:
    """Says how many of the measured test examples of each data set also stand in the training data, if that is known.

    Args:
        sections: Results of all models of each data set, by name of the data set.
    """
    parts = []
    for dataset, results in sections.items():
        counts = {
            (int(result.metrics["unseen"]), int(result.metrics.get("nll_examples") or result.metrics["sentences"]))
            for result in results
            if result.metrics.get("unseen") is not None
        }
        parts += [f"{all_of - unseen:,} of {all_of:,} (`{dataset}`)" for unseen, all_of in sorted(counts)]
    if not parts:
        return []

    start = f"Test examples that also stand in the training data: {word_list(parts)}."

    return [f"{start} The page of all results compares the settings on the others, too."]


def with_block(text: str, begin: str, end: str, written: str) -> str | None:
    """Replaces the part of a text between two lines, and the lines; None where the text lacks one of them.

    Args:
        text: The text of a page.
        begin: The line at which the part begins.
        end: The line at which the part ends.
        written: The new part, with the two lines.
    """
    before, first, rest = text.partition(begin)
    _, last, after = rest.partition(end)

    return f"{before}{written}{after}" if first and last else None


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Writes a table in Markdown; no lines if the table has no rows."""
    if not lines:
        return []

    return [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *lines)]
