"""Writes the page of a study, which is a search over the hyperparameters of one system on one data set.

A trial trains one model per seed with the same hyperparameters. The page shows a figure in the manner of the paper's
Figure 2, a figure of the course of the search, a table of the trials, and sentences about the results and the cost.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from duvae.config import Params, best_params_path, is_own
from duvae.errors import UserError
from duvae.metrics.statistics import with_error
from duvae.project.files import read_json
from duvae.project.provenance import read_record
from duvae.report import drawings, figures, names, site, study_front
from duvae.report.cells import Cell, Head, Row, Table, number, word_list
from duvae.report.comparison import difference_text, interval_of
from duvae.report.convergence import MARK
from duvae.report.origin import machine_name
from duvae.report.page import percent, render
from duvae.report.results import read_table, short_commit
from duvae.report.study_figures import heat_map, letter, paper_choice, progress


def figure2(summary: Mapping[str, Any], trials: pd.DataFrame) -> Table | None:
    """Builds the table of a grid search, which shows the NLL of each trial as the paper's Figure 2 does.

    The table has one row per value of the second hyperparameter, and one column per value of the first hyperparameter.

    Args:
        summary: Content of study.json, which a finished study writes.
        trials: Content of trials.csv, one row per trial.

    Returns:
        The table; None for a study that is not a grid over two hyperparameters.
    """
    if summary["sampler"] != "grid" or len(summary["space"]) != 2:
        return None
    (x, x_values), (y, y_values) = summary["space"].items()
    complete = trials[trials["state"] == "complete"]
    rows = {(row[x], row[y]): row for _, row in complete.iterrows()}
    best, paper = summary["best"], paper_choice(summary)

    def cell(column: float, row: float) -> Cell:
        trial = rows.get((column, row))
        if trial is None:
            return Cell(None)
        hyperparameters = {x: column, y: row}

        return Cell(
            number(trial["nll"], 2),
            error=number(trial["mi"], 2),
            mark=("c" if best and best["hyperparameters"] == hyperparameters else "")
            + ("p" if paper is not None and dict(paper) == hyperparameters else "")
            + (MARK if at_limit(summary, trial) else ""),
        )

    return Table(
        id="figure2",
        caption="NLL on validation in nats; in brackets the MI. c: the study's choice, which other trials may equal;"
        f" p: the paper's; {MARK}: ended at the limit of epochs.",
        corner=f"{letter(summary, y)} \\ {letter(summary, x)}",
        heads=[Head(f"{letter(summary, x)} {value:g}") for value in x_values],
        rows=[
            Row(f"{letter(summary, y)} {value:g}", [cell(column, value) for column in x_values])
            for value in reversed(y_values)
        ],
    )


def trials_table(summary: Mapping[str, Any], trials: pd.DataFrame) -> Table:
    """Builds the table of all trials, with one row per trial.

    Args:
        summary: Content of study.json, which a finished study writes.
        trials: Content of trials.csv, one row per trial.
    """
    keys = list(summary["space"])
    best = summary.get("maybe_best") or []
    several = len(seeds_of(summary)) > 1
    rows = [
        Row(
            f"{int(row['trial'])}",
            [
                *(Cell(number(row[key], 3)) for key in keys),
                Cell(
                    number(row["nll"], 2),
                    error=number(row["nll_stderr"], 2),
                    strong=row["trial"] in best,
                    mark=MARK if at_limit(summary, row) else "",
                ),
                *(Cell(number(row[name], 2)) for name in ("kl", "mi", *(["least_mi"] if several else []))),
                Cell(str(int(row["epochs"]))),
                Cell(str(row["state"])),
            ],
            note="" if pd.isna(row["why"]) else str(row["why"]),
        )
        for _, row in trials.iterrows()
    ]
    measures = ("NLL", "KL", "MI", *(["least MI"] if several else []))
    heads = [*(Head(letter(summary, key)) for key in keys), *(Head(name, "nats") for name in measures)]
    error = f"On validation{', means over the seeds' if several else ''}; in brackets the standard error over the"
    error += f" {errors_over(summary)}."

    return Table(
        id="trials",
        caption=f"{error} Bold: the trials that cannot be distinguished from the one with the lowest NLL among those"
        " whose MI is high enough."
        if summary.get("maybe_best")
        else f"{error} No trial is bold, since they were not compared in pairs.",
        corner="Trial",
        heads=[*heads, Head("Epochs"), Head("State")],
        rows=rows,
    )


# ---------------------------------------------------------------------------------- the page


def page(folder: Path, params: Params | None = None) -> tuple[bytes, str]:
    """Renders the page of a study.

    Args:
        folder: The folder of the study's results. `duvae search` has written study.json, trials.csv and curves.csv
            there. The file search.run.json, the record of commit, machine and time of the search, may be missing.
        params: All parameters of params.yaml, with which those of the study are compared; None: no comparison.

    Returns:
        The heat map of the study as PNG, and the study's page as HTML.

    Raises:
        UserError: If a file is missing or broken.
    """
    command = f"duvae search --study {folder.name}"
    record: Mapping[str, Any] = read_record(folder / "search.run.json", command, missing_ok=True)
    summary = read_json(folder / "study.json", command)
    searched = params.datasets.get(summary["dataset"]) if params is not None else None
    summary["own_data"] = searched is not None and is_own(searched)
    trials, curves = read_table(folder / "trials.csv", command), read_table(folder / "curves.csv", command)

    figure, course = heat_map(summary, trials), progress(summary, trials, curves)
    front = study_front.front_figure(summary, trials) if study_front.front(trials) else None
    pages = {**(site.RESULTS if summary["own_data"] else site.PAGES), **site.STUDIES}
    html = render(
        "study.html",
        site=site.header("Studies", site.origin_of_records([record]), pages, "../"),
        study=summary,
        seeds=seeds_text(summary),
        system=names.label(summary["system"]),
        ranges=word_list([f"{letter(summary, n)} {min(v):g} to {max(v):g}" for n, v in summary["space"].items()]),
        summary_lines=[
            *summary_lines(summary, trials),
            *ending_lines(summary, trials),
            *filter(None, [study_front.importance_line(summary)]),
            *([] if params is None else earlier_lines(summary, params)),
            origin_line(record),
        ],
        map=drawings.inline_svg(figure, [figure.axes]),
        progress=drawings.inline_svg(course, drawings.each_panel(course)),
        front=drawings.inline_svg(front, [front.axes]) if front else None,
        over=errors_over(summary),
        figure2=figure2(summary, trials),
        trials=trials_table(summary, trials),
        commit=short_commit(record) if record else None,
        versions=", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()),
        machine=machine_name(record["machine"]) if record.get("machine") else None,
        cpu=number(record.get("cpu_seconds"), 0),
    )

    return figures.png(figure), html


def in_short(params: Params, root: Path = Path()) -> list[Mapping[str, str]]:
    """Says in one sentence each what the studies found whose results git keeps.

    A study that was never run is left out. So is a study whose files cannot be read, with a warning on standard error.

    Args:
        params: All parameters of params.yaml.
        root: Folder of the project, with `results`.

    Returns:
        One mapping per study with its `name` and its `text`.
    """
    found: list[Mapping[str, str]] = []
    for name in params.studies:
        folder, command = best_params_path(name, root).parent, f"duvae search --study {name}"
        if not (folder / "study.json").exists():
            continue
        try:
            summary = {**read_json(folder / "study.json", command), "own_data": False}
            line = summary_lines(summary, read_table(folder / "trials.csv", command))[0]
            found.append({"name": name, "text": f"{names.label(summary['system'])} on {summary['dataset']}. {line}"})
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)
        except (KeyError, TypeError, ValueError, IndexError):  # files of an earlier version
            print(f"warning: {folder}: expected the results of '{command}'; found others. Run it.", file=sys.stderr)

    return found


def seeds_of(summary: Mapping[str, Any]) -> list[int]:
    """Returns the seeds of each trial of a study; an earlier version had one seed under another key.

    Args:
        summary: Content of study.json, which a finished study writes.
    """
    return list(summary["seeds"] if "seeds" in summary else [summary["seed"]])


def seeds_text(summary: Mapping[str, Any]) -> str:
    """Names the seeds of a study, such as `seed 1` or `seeds 1, 2 and 3`.

    Args:
        summary: Content of study.json, which a finished study writes.
    """
    seeds = seeds_of(summary)

    return f"seed{'s' if len(seeds) > 1 else ''} {word_list([str(seed) for seed in seeds])}"


def errors_over(summary: Mapping[str, Any]) -> str:
    """Says over what the standard errors of a study are: `examples`, or `examples and seeds`.

    Args:
        summary: Content of study.json, which a finished study writes.
    """
    return "examples and seeds" if len(seeds_of(summary)) > 1 else "examples"


def summary_lines(summary: Mapping[str, Any], trials: pd.DataFrame) -> list[str]:
    """Writes the sentences about a study.

    The sentences name the best trial, the paper's choice and the cost of the study. If study.json contains a comparison
    with a grid study, further sentences give the result of the comparison.

    Args:
        summary: Content of study.json, which a finished study writes.
        trials: Content of trials.csv, one row per trial.
    """
    several = len(seeds_of(summary)) > 1
    condition = f" with MI above {summary['min_mi']:g} nats" if summary["min_mi"] else ""
    condition += " with every seed" if condition and several else ""
    lines = [f"Lowest {'mean ' if several else ''}NLL{condition}: {winner_text(summary, summary['best'])}."]
    maybe, best = summary.get("maybe_best"), summary["best"]
    complete = trials[trials["state"] == "complete"]
    others = int(complete["feasible"].astype(bool).sum()) - 1
    stopped = int((trials["state"] == "pruned").sum())
    if others + stopped > 0 and best is not None:
        early = f" and {stopped} that {'was' if stopped == 1 else 'were'} stopped early" if stopped else ""
        lines.append(
            f"As the lowest of {others + 1} NLL{early}, all on the same validation examples, it is biased low."
        )
    if maybe is None:
        lines.append("The trials were not compared in pairs, since the NLL of single examples is missing.")
    elif alike := [str(number) for number in maybe if best is None or number != best["trial"]]:
        which = "1 other trial" if len(alike) == 1 else f"{len(alike)} other trials"
        lines.append(
            f"{which} cannot be distinguished from it on the same examples (95 % for all comparisons together): number"
            f"{'s' if len(alike) > 1 else ''} {word_list(alike)}.{'' if several else ' All trials have one seed.'}"
        )
    elif others > 0:
        lines.append(
            "It is lower than that of all other such trials on the same examples"
            f"{' and seeds' if several else ''} (95 % for all comparisons together)."
            f"{'' if several else ' All trials have one seed, so other seeds may differ.'}"
        )
    if condition:
        lines.append(f"Lowest NLL without a condition on MI: {winner_text(summary, summary['best_of_all'])}.")
    paper = paper_choice(summary)
    if paper:
        lines.append(f"The paper's choice: {_hyperparameters(summary, paper)}.")
    cost = summary["cost"]
    lines.append(
        f"{cost['epochs']:,} epochs were trained. The grid of {cost['grid']} trials takes at most"
        f" {cost['grid_epochs']:,}, so this is {percent(cost['share'])} of it."
    )
    against = summary["against"]
    if against and against["gap"] is not None:
        interval = interval_of(against.get("paired"))
        lines.append(
            f"Its NLL minus that of {against['study']}'s trial with the lowest NLL"
            f" ({winner_text(summary, against['best'])}): {difference_text(interval)}. It took {cost['epochs']:,}"
            f" epochs, the other study {against['epochs']:,} ({percent(against['share'])})."
        )
        if interval is not None:
            lines.append(
                "Each of the two was selected as the lowest NLL of its study; the difference does not take that into"
                f" account{'' if several else ', nor other seeds'}."
            )

    return lines


def at_limit(summary: Mapping[str, Any], row: "pd.Series[Any]") -> bool:
    """Whether a training of a complete trial reached the limit of epochs, so that it may not have converged.

    Args:
        summary: Content of study.json, which a finished study writes.
        row: A row of trials.csv.
    """
    longest = row.get("longest", row["epochs"])  # an earlier version had one seed, and one number of epochs

    return bool(row["state"] == "complete" and int(longest) >= int(summary["epochs_of_a_training"]))


def ending_lines(summary: Mapping[str, Any], trials: pd.DataFrame) -> list[str]:
    """Says how many trials were stopped early or reached the limit of epochs; no sentence if there are none.

    Args:
        summary: Content of study.json, which a finished study writes.
        trials: Content of trials.csv, one row per trial.
    """
    limited = sum(at_limit(summary, row) for _, row in trials.iterrows())
    early = int((trials["state"] == "pruned").sum())
    parts = [f"{limited} reached the limit of {summary['epochs_of_a_training']} epochs"] if limited else []
    parts += [f"{early} were stopped early"] if early else []
    if not parts:
        return []

    return [
        (
            f"{MARK} Of {len(trials)} trials, {word_list(parts)}. So differences between trials may be differences in"
            " the speed of training."
        )
    ]


def earlier_lines(summary: Mapping[str, Any], params: Params) -> list[str]:
    """Says which parameters of a study have changed in params.yaml since; no sentence if none has.

    Args:
        summary: Content of study.json, which a finished study writes.
        params: All parameters of params.yaml, which has the study.
    """
    study = params.study(summary["study"])
    optimisation = params.optimisation(study.setting, study.dataset)
    now = {
        "data set": (summary["dataset"], study.dataset),
        "setting": (summary["setting"], study.setting),
        "seeds": (seeds_of(summary), study.seeds),
        "sampler": (summary["sampler"], study.sampler),
        "bound of MI": (summary["min_mi"], study.min_mi),
        "epochs": (summary["epochs_of_a_training"], optimisation.epochs),
        "warmup": (summary["warmup"], optimisation.warmup),
        "K": (summary["importance_samples"], study.importance_samples or params.evaluation.importance_samples),
    }
    changed = [f"{name} {then} (params.yaml: {today})" for name, (then, today) in now.items() if then != today]
    if not changed:
        return []

    return [
        (
            f"This study is of earlier parameters: {word_list(changed)}. 'duvae search --study {summary['study']}' runs"
            " it again."
        )
    ]


def origin_line(record: Mapping[str, Any]) -> str:
    """Names the commit at which a study ran, or says that it is not known.

    Args:
        record: Content of search.run.json; empty where the file is missing.
    """
    if not record:
        return "The commit of this study is not known: an earlier version made it and kept no record."
    if not record.get("commit"):
        return "The commit of this study is not known: its record names none."

    return f"The study ran at commit {short_commit(record)}."


def winner_text(summary: Mapping[str, Any], best: Mapping[str, Any] | None) -> str:
    """Describes a study's best trial in words.

    Args:
        summary: Content of study.json of this study, or of any other study of the same system. The function reads only
            the system's name, to find the paper's letters for hyperparameters.
        best: The best trial, as in study.json; None: the study has no best trial.
    """
    if best is None:
        return "none"
    mi = "" if best["mi"] is None else f", MI {best['mi']:.2f}"
    nll = with_error(best["nll"], best["nll_stderr"], 2)

    return f"{_hyperparameters(summary, best['hyperparameters'])}, NLL {nll}{mi}"


def _hyperparameters(summary: Mapping[str, Any], values: Mapping[str, float]) -> str:
    return ", ".join(f"{letter(summary, name)} {value:.3g}" for name, value in values.items())
