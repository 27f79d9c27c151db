"""Builds the part of a page that shows what the distance from the floor is made of. `variants` has the rule."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from duvae.config import Params
from duvae.registry import RECORDS
from duvae.report import convergence, drawings, figures, origin, per_example, tables, variants
from duvae.report.cells import Cell, Head, Row, Table, cell, number
from duvae.report.comparison import LEVEL, difference_text
from duvae.report.names import label
from duvae.report.per_example import Floor, PerExample, gap_over_seeds
from duvae.report.results import Array, Result
from duvae.report.variants import Change, Differences, Group, Training

LABELS = {
    "source.training": "training sentences",
    "networks.embedding": "embedding",
    "networks.hidden": "hidden units",
    "networks.latent": "dimensions of z",
    "networks.dropout_in": "dropout of words",
    "networks.dropout_out": "dropout of outputs",
    "optimisation.optimiser": "optimiser",
    "optimisation.learning_rate": "learning rate",
    "optimisation.clip": "bound of the gradient",
    "optimisation.batch": "batch",
    "optimisation.epochs": "epochs",
    "optimisation.warmup": "epochs of the warm-up",
    "optimisation.bfloat16": "bfloat16",
    "optimisation.compiled": "compiled",
    "optimisation.decay.kind": "rule of the decay",
    "optimisation.decay.factor": "factor of the decay",
    "optimisation.decay.reset": "new optimisers at a decay",
    "optimisation.decay.patience": "patience of the decay",
    "optimisation.decay.not_before": "first epoch with a decay",
    "optimisation.decay.at_most": "decays until the end",
    "optimisation.decay.below": "rate at the end",
}
"""Names of the parameters on the page, in the order of the texts; `variants.Differences` explains the keys."""

LINE_WIDTH = 44
"""Largest number of characters of a line beside a bar of the figure."""


def content(
    params: Params,
    dataset: str,
    models: Sequence[Result],
    examples: Sequence[PerExample | None],
    others: Sequence[Result],
    floor: Floor,
    root: Path = Path(),
) -> Mapping[str, Any] | None:
    """Computes the values that the template needs for the changes of a data set's models.

    Args:
        params: All parameters of params.yaml.
        dataset: Name of the base data set.
        models: Results of the base data set.
        examples: The values of each of these models' test examples; None where they are missing.
        others: Results of the variants of the base data set.
        floor: The floor of the base data set.
        root: The project's folder.

    Returns:
        The values; None if there is nothing to show.
    """
    of_others = [per_example.read(model, root) for model in others]
    found, unrecorded = variants.trainings(params, [*models, *others], [*examples, *of_others])
    groups = variants.groups(params, dataset, found, floor)
    if not groups and not others:
        return None
    left_out = [each.key for each in unrecorded if each.results[0].job.dataset != dataset]

    return {
        "groups": [
            {
                "table": table(group, floor),
                "intro": intro(group),
                "sentences": sentences(group),
                "figure": drawings.inline_svg(figure(group)) if drawable(group) else None,
            }
            for group in groups
        ],
        "left_out": left_out,
        "mixture": origin.mixture_warning([result for group in groups for result in _results(group)]),
        "costs": costs(others) if others else None,
        "made_with": origin.provenance_lines(others) if others else [],
    }


def difference_words(differences: Differences) -> str:
    """Names the differences between a change and its base, such as `hidden units 50 → 100, epochs 120 → 30`.

    The spaces beside the arrows are non-breaking ones.
    """
    order = list(LABELS)
    keys = sorted(differences, key=lambda key: order.index(key) if key in LABELS else len(order))
    parts = []
    for key in keys:
        old, new = (_value_text(value) for value in differences[key])
        parts.append(f"{LABELS.get(key, key.rpartition('.')[2].replace('_', ' '))} {old}\u00a0→\u00a0{new}")

    return ", ".join(parts)


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"

    return f"{value:g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------------------- the table


def table(group: Group, floor: Floor) -> Table:
    """Builds the table of a base model and its changes, with one row each.

    Args:
        group: The base model and its changes.
        floor: The floor of the base data set.
    """
    members = _members(group)
    use = any(result.metrics.get("use") is not None for result in _results(group))
    gaps = [each.training.overfitting for each in members]
    base = group.base.training.converged if group.base else True
    rows = [_row(each, use, any(gap is not None for gap in gaps), base) for each in members]
    compared = sum(each.change is not None for each in group.changes)
    level = LEVEL if compared == 1 else f"{LEVEL} for all {compared} together"
    caption = (
        "NLL, KL and use of z on test, in nats per sentence; the distance from the floor on the"
        f" {floor.summary['sentences']:,} sentences of the floor. In brackets standard errors over sentences"
        + (f"; for the change, half the width of its interval ({level})." if compared else ".")
    )
    if any(gap is not None for gap in gaps):
        caption += (
            " Valid. − train: negative ELBO on validation minus its mean over the training steps of the same epoch,"
            " only without dropout; the more a model overfits, the larger it is."
        )
    if not all(each.training.converged for each in members):
        caption += f" {convergence.FOOTNOTE}"

    return Table(
        f"variants-{members[0].training.key.replace('/', '-')}",
        caption,
        [
            Head("NLL", "nats"),
            Head("Above floor", "nats"),
            Head("Change", "of the NLL"),
            Head("KL", "nats"),
            *([Head("Use of z", "nats")] if use else []),
            *([Head("Valid. − train", "nats")] if any(gap is not None for gap in gaps) else []),
            Head("End of training"),
        ],
        rows,
        "What differs",
        sentences=True,
    )


def _row(member: Change, use: bool, overfitting: bool, base_converged: bool) -> Row:
    training, change = member.training, member.change
    mark = "" if training.converged else convergence.MARK
    of_change = "" if training.converged and base_converged else convergence.MARK
    difference = Cell(None) if change is None else cell(change.difference, 2, error=change.high - change.difference)
    cells = [
        replace(cell(*_four(training, "nll")), mark=mark),
        replace(_gap_cell(member.gaps), mark=mark if member.gaps else ""),
        replace(difference, mark=of_change if change is not None else ""),
        cell(*_four(training, "kl")),
    ]
    cells += [cell(*_four(training, "use"))] if use else []
    cells += [cell(training.overfitting, 2)] if overfitting else []
    cells.append(Cell(training.ending))
    words = difference_words(member.differences)
    colour = RECORDS[training.results[0].system].colour if training.results[0].system in RECORDS else ""

    return Row(words or training.name, cells, training.key, "" if words else colour)


def _four(training: Training, key: str) -> tuple[float, int, float, float]:
    """The arguments of `cell` for a number in metrics.json."""
    mean, spread, error = training.mean(key)

    return mean, 2, spread, error


def _gap_cell(gaps: Sequence[Array]) -> Cell:
    if not gaps:
        return Cell(None)
    mean, spread, error = gap_over_seeds(gaps)

    return cell(mean, 2, spread, error)


def costs(results: Sequence[Result]) -> Table:
    """Builds the table of the costs of the variants' trainings, with one row per setting and data set.

    Args:
        results: Results of the variants.
    """
    renamed = [
        replace(result, job=result.job._replace(setting=f"{result.job.dataset}/{result.job.setting}"))
        for result in results
    ]
    first = {result.job.setting: result for result in reversed(renamed)}
    keys = list(dict.fromkeys(result.job.setting for result in renamed))
    colours = {key: colour for key, (colour, _) in figures.line_styles(renamed).items()}
    made = tables.costs(renamed, colours, "variants-")
    rows = [replace(row, name=f"{label(first[key].system)} ({key})") for key, row in zip(keys, made.rows, strict=True)]

    return replace(made, rows=rows)


# ---------------------------------------------------------------------------------- the sentences


def intro(group: Group) -> str:
    """Says what the rows of the table have in common, and what their intervals cover."""
    compared = [each.change for each in group.changes if each.change is not None]
    text = (
        "Each row changes only the parameters that it names. Everything else is as in the first row, and so are the"
        " validation and test sentences. With other networks or data, the same seed draws other initial weights and"
        " batches."
        if group.base
        else f"Each row names its differences from the parameters of {group.dataset} in params.yaml."
    )
    if compared:
        text += (
            f" The {len(compared)} intervals hold together with a confidence of {LEVEL}."
            if len(compared) > 1
            else f" The interval has a confidence of {LEVEL}."
        )
    if any(each.seeds == 1 for each in compared):
        text += " With one seed, an interval does not cover the choice of the seed."

    return text


def sentences(group: Group) -> list[str]:
    """Says how far the base is from the floor, and by how much each change changes the NLL.

    Args:
        group: The base model and its changes.
    """
    if group.base is None:
        name = group.changes[0].training.name
        return [
            f"There is no {name} on {group.dataset} with a record of its parameters, so no change of its NLL is known."
        ]
    base = group.base
    lines = [
        f"{base.training.name} is {_above(base, base.training.ending)}."
        if base.gaps
        else f"The distance of {base.training.name} from the floor is not known, since the NLL of single sentences is"
        f" missing ({base.training.ending})."
    ]
    lines += [_change_sentence(each) for each in group.changes]

    return lines + _summary(group)


def _change_sentence(each: Change) -> str:
    text = difference_words(each.differences)
    text = text[0].upper() + text[1:]
    line = f"{text}: NLL {difference_text(each.change)}{f'; {_above(each)}' if each.gaps else ''}."
    if not each.training.converged:
        line += f" This training had not converged: {each.training.ending}."

    return line


def _above(member: Change, more: str = "") -> str:
    """The distance from the floor in words. `more` is a further text for the brackets."""
    gap, _, error = gap_over_seeds(member.gaps)
    side = "above" if gap >= 0 else "below"

    return f"{number(abs(gap), 2)} nats {side} the floor (standard error {number(error, 2)}{more and f'; {more}'})"


def _summary(group: Group) -> list[str]:
    """Bounds what any single change does, and says what is left after several changes together."""
    lines = []
    single = [each.change for each in group.changes if each.change is not None and not each.parts]
    if len(single) > 1:
        most = max(-each.low for each in single)
        bound = f" by more than {number(math.ceil(100 * most) / 100, 2)} nats" if most > 0 else ""
        seeds = " (one seed, so other seeds may differ)" if any(change.seeds == 1 for change in single) else ""
        lines.append(f"By these intervals{seeds}, none of the {len(single)} changes alone lowers the NLL{bound}.")
    together = [
        f"{each.training.key} has the data and the networks of {each.parts} of these changes together: it is"
        f" {_above(each)}."
        for each in group.changes
        if each.parts and each.gaps
    ]

    return lines + together


# ---------------------------------------------------------------------------------- the figure


def drawable(group: Group) -> bool:
    """Whether the distances from the floor of two or more rows are known."""
    return sum(bool(each.gaps) for each in _members(group)) > 1


@figures.styled
def figure(group: Group) -> Figure:
    """Draws the distance from the floor of the base model and of its changes, as bars with standard errors."""
    members = [each for each in _members(group) if each.gaps]
    names = [textwrap.fill(difference_words(each.differences) or each.training.name, LINE_WIDTH) for each in members]
    lines = sum(name.count("\n") + 2 for name in names)
    sheet = Figure(figsize=(figures.WIDTH, 0.5 + 0.11 * lines))
    ax = sheet.subplots()
    record = RECORDS.get(members[0].training.results[0].system)
    colour = record.colour if record else figures.COMPONENT_COLOURS[0]
    # A row of several lines gets more room.
    sizes = np.array([name.count("\n") + 2 for name in names], float)
    places = np.cumsum(sizes) - sizes / 2
    for place, each in zip(places, members, strict=True):
        gap, _, error = gap_over_seeds(each.gaps)
        ax.barh(
            place, gap, 1.3, xerr=error, color=colour, alpha=0.9 if each is group.base else 0.45, error_kw={"lw": 0.8}
        )
    ax.set_yticks(places, names)
    ax.set_ylim(float(sizes.sum()), 0)
    ax.axvline(0, color="#888888", linewidth=0.6)
    ax.set_xlabel("NLL minus the floor (nats)")
    ax.grid(axis="x", color="#000000", alpha=0.08, linewidth=0.5)
    sheet.tight_layout()

    return sheet


def _members(group: Group) -> list[Change]:
    return [*([group.base] if group.base else []), *group.changes]


def _results(group: Group) -> list[Result]:
    return [result for each in _members(group) for result in each.training.results]
