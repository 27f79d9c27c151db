"""The stage `examples`: pages that show somebody's texts or pictures, which git leaves out."""

import sys
from pathlib import Path

from duvae.config import Params
from duvae.data import store
from duvae.inference import sample_files
from duvae.project.files import whole_folder, write_text
from duvae.report import examples, page, results, tables, weights


def run(params: Params, root: Path = Path()) -> None:
    """Writes `reports/examples/<dataset>.html` for each data set of `run` that is somebody's own.

    A data set is left out where any of its samples is missing or of other weights than its metrics.

    Args:
        params: All of params.yaml.
        root: The project's folder.
    """
    jobs = [job for job in params.run_jobs() if params.dataset(job.dataset).kind in sample_files.APART]
    models = results.arranged(weights.apart(results.read(params, jobs, root))[0])
    with whole_folder(root / "reports" / "examples") as folder:
        for name in dict.fromkeys(model.job.dataset for model in models):
            of = [model for model in models if model.job.dataset == name]
            first = examples.first(of)
            missing = [path for model in first.values() if not (path := examples.place(model.job, root)).exists()]
            if missing:
                print(
                    f"warning: {', '.join(map(str, missing))}: not there, and so no page of what models of {name} write"
                    f" or draw. 'dvc repro' makes {'it' if len(missing) == 1 else 'them'}.",
                    file=sys.stderr,
                )
                continue
            prepared = store.read(root / "data" / "prepared" / name)
            found = {
                setting: sample_files.archive(examples.place(model.job, root), prepared, examples.command(model.job))
                for setting, model in first.items()
            }
            stale = [first[s].job for s, of_one in found.items() if of_one.weights != first[s].metrics.get("weights")]
            if stale:
                commands = ", ".join(f"'{examples.command(job)}'" for job in stale)
                print(
                    f"warning: generated/{name}: samples of other weights than the last training made, and so no page"
                    f" of them. {commands} makes them anew.",
                    file=sys.stderr,
                )
                continue
            seeds = len({model.job.seed for model in of})
            html = page.render(
                "examples.html",
                id=name,
                item=tables.noun(params.dataset(name)),
                examples={**examples.shown(found, results.labels(of), seeds), "apart": True},
            )
            write_text(folder / f"{name}.html", html)
