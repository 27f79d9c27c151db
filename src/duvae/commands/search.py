"""The stage `search`: runs a study to its end.

A study is a search for hyperparameters, and a trial trains one model per seed of the study. A grid study tries all
combinations of the values. The result of another study may be compared with the result of a grid study.
"""

import math
from pathlib import Path
from typing import Any

import yaml

from duvae import config
from duvae.config import Params
from duvae.data import store
from duvae.errors import UserError
from duvae.inference import model_files
from duvae.metrics.statistics import with_error
from duvae.project.files import read_json, whole, write_json, write_text
from duvae.project.provenance import Stopwatch, read_record
from duvae.report.comparison import difference_text, interval_of
from duvae.search import examples
from duvae.search.attributes import PARENT
from duvae.search.plan import Plan
from duvae.search.storage import Worker, open_storage, study_root
from duvae.search.study import create_study, remove_finished_states, work
from duvae.search.summary import curves, importance, summarize, trials
from duvae.tracking.trial_runs import end_study


def run(params: Params, name: str, url: str | None = None, worker: bool = False, root: Path = Path()) -> None:
    """Runs trials of a study until the study ends, and writes its results to `results/studies/<name>`.

    Args:
        params: All parameters of params.yaml.
        name: Name of the study.
        url: URL of a database that holds the study; None: the journal file in the folder `studies`.
        worker: Whether this process only runs trials, while another process writes the results.
        root: Folder of the project.

    Raises:
        Interrupted: If the user asks for a stop. The same command continues the study.
        UserError: If `duvae validate` has not checked the present data set. Also if params.yaml compares the study with
            a grid study that has no results, or results of other parameters, data or code.
    """
    plan = Plan.from_params(params, name, root)
    watch = Stopwatch("search", plan.system)
    store.require_validated(root, plan.study.dataset)
    folder = config.best_params_path(name, root).parent
    against = None if worker or plan.study.against is None else grid_summary(plan, folder.with_name(plan.study.against))
    storage = open_storage(url, root)
    with Worker(root) as this_worker:
        study = create_study(plan, storage, this_worker)
        count = work(plan, study, storage, this_worker, lambda line: print(line, flush=True))
        remove_finished_states(plan, study)
    if worker:
        print(f"{name}: this worker finished {count} trials")
        return
    frame = trials(plan, study)
    valid = store.read(root / "data/prepared" / plan.study.dataset).split("valid")
    nll = examples.of_study(study)
    other = folder.with_name(str(plan.study.against)) / examples.FILE
    nll_against = examples.read(other, f"duvae search --study {plan.study.against}") if against else None
    content = summarize(plan, frame, against, len(valid), nll, nll_against, importance(plan, study))
    write_text(folder / "best_params.yaml", best_params(plan, content))
    for file, table in (("trials.csv", frame), ("curves.csv", curves(plan, study))):
        with whole(folder / file) as temporary:
            table.to_csv(temporary, index=False)
    examples.write(folder / examples.FILE, name, nll)
    write_json(folder / "study.json", content)
    best = content["best"] or {}
    end_study(str(study.user_attrs[PARENT]), {key: best.get(key) for key in ("nll", "mi")}, study_root(root))
    outputs = [folder / name for name in ("best_params.yaml", "trials.csv", "curves.csv", examples.FILE, "study.json")]
    watch.write(folder / "search.run.json", outputs, device=str(model_files.device()), threads=params.threads)
    for line in summary_lines(content):
        print(line)
    print(f"best hyperparameters: {folder / 'best_params.yaml'}; run 'duvae figure2 --study {name}' to draw its page")


def grid_summary(plan: Plan, folder: Path) -> dict[str, Any]:
    """Reads the summary of the grid study with which a study is compared.

    Args:
        plan: Plan of the study.
        folder: Folder of the grid study's results.

    Raises:
        UserError: If the summary is missing or has changed, or belongs to other parameters, data or code.
    """
    command = f"duvae search --study {folder.name}"
    read_record(folder / "search.run.json", command, missing_ok=True)
    content: dict[str, Any] = read_json(folder / "study.json", command)
    if content.get("conditions") != plan.conditions[:8]:
        raise UserError(
            f"{folder / 'study.json'}: expected results that studies.{plan.name} can be compared with; found results of"
            f" other parameters, data or code. '{command}' makes them again."
        )

    return content


def best_params(plan: Plan, study: dict[str, Any]) -> str:
    """Forms the text of best_params.yaml, which holds the best hyperparameters of a study.

    A setting in params.yaml may take its hyperparameters from this file.

    Args:
        plan: Plan of the study.
        study: Content of study.json.
    """
    best = study["best"]
    content = {
        "study": plan.name,
        "dataset": plan.study.dataset,
        "system": plan.system,
        "hyperparameters": plan.hyperparameters(best["hyperparameters"]) if best else None,
    }
    if best:
        content |= {"nll": best["nll"], "mi": best["mi"], "trial": best["trial"]}
    else:
        content["why"] = f"no complete trial with MI above {plan.study.min_mi}" if plan.study.min_mi else "no trial"
    head = f"# Written by 'duvae search --study {plan.name}'; a setting takes them with {{study: {plan.name}}}.\n"

    return head + yaml.safe_dump(content, sort_keys=False)


def summary_lines(study: dict[str, Any]) -> list[str]:
    """Describes the results of a study in lines for the terminal.

    Args:
        study: Content of study.json.
    """
    counts, cost, against = study["trials"], study["cost"], study["against"]
    maybe = [number for number in study.get("maybe_best") or [] if number != (study["best"] or {}).get("trial")]
    constraint = f" with MI above {study['min_mi']:g} nats" if study["min_mi"] else ""
    lines = [
        f"{study['study']}: {', '.join(f'{count} {state}' for state, count in counts.items() if count)}",
        f"lowest NLL{constraint}: {_best_line(study['best'])}",
    ]
    if maybe:
        numbers, seeds = ", ".join(map(str, maybe)), len(study["seeds"])
        count = "one seed" if seeds == 1 else f"{seeds} seeds"
        lines.append(f"other trials that cannot be distinguished from it (paired, 95 %, {count}): {numbers}")
    if constraint:
        lines.append(f"lowest NLL of all: {_best_line(study['best_of_all'])}")
    lines.append(
        f"cost: {cost['epochs']:,} epochs; the grid of {cost['grid']} trials takes {cost['grid_epochs']:,}"
        f" ({100 * cost['share']:.0f} %)"
    )
    if against and against["gap"] is not None:
        lines.append(
            f"compared with {against['study']}: {against['gap']:+.3f} nats to its lowest {against['best']['nll']:.3f},"
            f" {difference_text(interval_of(against.get('paired')), 3)}, with {100 * against['share']:.1f} % of its"
            f" {against['epochs']:,} epochs"
        )

    return lines


def _best_line(best: dict[str, Any] | None) -> str:
    if best is None:
        return "none"
    values = ", ".join(f"{name} {value:.4g}" for name, value in best["hyperparameters"].items())
    mi = "" if best["mi"] is None or math.isnan(best["mi"]) else f", MI {best['mi']:.2f}"

    nll = with_error(best["nll"], best["nll_stderr"], 3)

    return f"{values}: NLL {nll}{mi} (trial {best['trial']})"
