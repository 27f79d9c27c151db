"""Writes the sentences about a study: its best trial, how far that is to be trusted, its cost and its origin."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from duvae.config import Params, best_params_path
from duvae.errors import UserError
from duvae.metrics.statistics import with_error
from duvae.project.files import read_json
from duvae.report import names
from duvae.report.cells import word_list
from duvae.report.comparison import difference_text, interval_of
from duvae.report.convergence import MARK
from duvae.report.page import percent
from duvae.report.results import read_table, short_commit
from duvae.report.study_figures import letter, paper_choice


def in_short(params: Params, root: Path = Path()) -> list[Mapping[str, str]]:
    """Says in a few sentences each what the studies found whose results git keeps, and how far that is to be trusted.

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
            trials = read_table(folder / "trials.csv", command)
            lines = [*best_lines(summary, trials), *ending_lines(summary, trials), *earlier_lines(summary, params)]
            text = f"{names.label(summary['system'])} on {summary['dataset']}. {' '.join(lines)}"
            found.append({"name": name, "text": text})
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


def best_lines(summary: Mapping[str, Any], trials: pd.DataFrame) -> list[str]:
    """Names the trial with the lowest NLL, and says how far that is to be trusted.

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

    return lines


def summary_lines(summary: Mapping[str, Any], trials: pd.DataFrame) -> list[str]:
    """Writes the sentences about a study.

    The sentences name the best trial, the paper's choice and the cost of the study. If study.json contains a comparison
    with a grid study, further sentences give the result of the comparison.

    Args:
        summary: Content of study.json, which a finished study writes.
        trials: Content of trials.csv, one row per trial.
    """
    several, lines = len(seeds_of(summary)) > 1, best_lines(summary, trials)
    if summary["min_mi"]:
        lines.append(f"Lowest NLL without a condition on MI: {winner_text(summary, summary['best_of_all'])}.")
    paper = paper_choice(summary)
    if paper:
        lines.append(f"The paper's choice: {values_text(summary, paper)}.")
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

    return f"{values_text(summary, best['hyperparameters'])}, NLL {nll}{mi}"


def values_text(summary: Mapping[str, Any], values: Mapping[str, float]) -> str:
    """Writes hyperparameters with the paper's letters, such as `γ 0.5, p 0.8`.

    Args:
        summary: Content of study.json of a study of the system.
        values: The hyperparameters by key.
    """
    return ", ".join(f"{letter(summary, name)} {value:.3g}" for name, value in values.items())
