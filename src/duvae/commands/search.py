"""The stage `search`: a study of hyperparameters, to its end."""

import math
from pathlib import Path
from typing import Any

import yaml

from duvae import config
from duvae.config import Params
from duvae.data import store
from duvae.errors import UserError
from duvae.inference import model_files
from duvae.project.files import read_json, whole, write_json, write_text
from duvae.project.provenance import Stopwatch
from duvae.search import storage, trial
from duvae.search import summary as findings
from duvae.tracking import trial_runs


def run(params: Params, name: str, url: str | None = None, worker: bool = False, root: Path = Path()) -> None:
    """Works on a study until it has ended, and writes what it found.

    Args:
        params: All of params.yaml.
        name: The study's.
        url: A database to keep it in; None: the journal.
        worker: Only work; another one writes.
        root: The project's folder.

    Raises:
        Interrupted: Where the user asked for a stop; the same command goes on from there.
    """
    plan = trial.Plan.of(params, name, root)
    watch = Stopwatch("search", plan.system)
    checked = root / "data/validated" / f"{plan.study.dataset}.json"
    if not checked.exists():
        raise UserError(f"{checked}: not there. 'duvae validate --dataset {plan.study.dataset}' checks the data first.")
    folder = config.best_params_path(name, root).parent
    against = None if worker or plan.study.against is None else grid(plan, folder.with_name(plan.study.against))
    kept = storage.storage(url, root)
    with storage.Worker(root) as working:
        study = trial.create(plan, kept, working)
        ended = trial.work(plan, study, kept, working, lambda line: print(line, flush=True))
        trial.tidy(plan, study)
    if worker:
        print(f"{name}: {ended} trials brought to their end by this worker")
        return
    frame = findings.trials(plan, study)
    valid = store.read(root / "data/prepared" / plan.study.dataset).split("valid")
    summary = findings.summary(plan, frame, against, len(valid))
    write_text(folder / "best_params.yaml", best_params(plan, summary))
    for file, table in (("trials.csv", frame), ("curves.csv", findings.curves(study))):
        with whole(folder / file) as temporary:
            table.to_csv(temporary, index=False)
    write_json(folder / "study.json", summary)
    best = summary["best"] or {}
    trial_runs.end_study(
        str(study.user_attrs[trial.PARENT]), {key: best.get(key) for key in ("nll", "mi")}, storage.home(root)
    )
    watch.write(folder / "search.run.json", device=str(model_files.device()), threads=params.threads)
    for line in said(summary):
        print(line)
    print(f"its page: 'duvae figure2 --study {name}'; its best: {folder / 'best_params.yaml'}")


def grid(plan: trial.Plan, folder: Path) -> dict[str, Any]:
    """The summary of the grid study that a study is compared with.

    Raises:
        UserError: Where it is not there, or is of other parameters, data or source.
    """
    again = f"duvae search --study {folder.name}"
    summary: dict[str, Any] = read_json(folder / "study.json", again)
    if summary.get("conditions") != plan.conditions[:8]:
        raise UserError(
            f"{folder / 'study.json'}: expected results that studies.{plan.name} can be compared with; found those of"
            f" other parameters, data or source. '{again}' makes them anew."
        )

    return summary


def best_params(plan: trial.Plan, summary: dict[str, Any]) -> str:
    """The text of best_params.yaml, whose hyperparameters a setting may take over."""
    best = summary["best"]
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


def said(summary: dict[str, Any]) -> list[str]:
    """What a study has come to, in lines for the terminal."""
    trials, cost, against = summary["trials"], summary["cost"], summary["against"]
    asked = f" with MI above {summary['min_mi']:g} nats" if summary["min_mi"] else ""
    lines = [
        f"{summary['study']}: {', '.join(f'{count} {state}' for state, count in trials.items() if count)}",
        f"best{asked}: {_winner(summary['best'])}",
    ]
    if asked:
        lines.append(f"best of all: {_winner(summary['best_of_all'])}")
    lines.append(
        f"cost: {cost['epochs']:,} epochs of the {cost['grid_epochs']:,} that the grid of {cost['grid']} takes"
        f" ({100 * cost['share']:.0f} %)"
    )
    if against and against["gap"] is not None:
        within = "within" if against["within_one_standard_error"] else "more than"
        lines.append(
            f"against {against['study']}: {against['gap']:+.3f} nats to its best {against['best']['nll']:.3f}, {within}"
            f" one standard error ({against['best']['nll_stderr']:.3f}), with {100 * against['share']:.1f} % of its"
            f" {against['epochs']:,} epochs"
        )

    return lines


def _winner(best: dict[str, Any] | None) -> str:
    if best is None:
        return "none"
    values = ", ".join(f"{name} {value:.4g}" for name, value in best["hyperparameters"].items())
    mi = "" if best["mi"] is None or math.isnan(best["mi"]) else f", MI {best['mi']:.2f}"

    return f"{values}: NLL {best['nll']:.3f} ± {best['nll_stderr']:.3f}{mi} (trial {best['trial']})"
