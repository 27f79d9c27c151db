"""The stage `examples`: writes a page with examples from the user's own texts or images. Git does not keep the page."""

from pathlib import Path

from duvae.config import APART, Params, is_own
from duvae.data import store
from duvae.errors import UserError
from duvae.inference import sample_files
from duvae.project.files import write_text
from duvae.report import examples, metric_columns, page, results, site, weights


def run(params: Params, dataset: str, root: Path = Path()) -> None:
    """Writes `reports/examples/<dataset>.html`: test examples and samples of the models, side by side.

    The page shows the models of this data set that the key `run` of params.yaml names.

    Args:
        params: All parameters of params.yaml.
        dataset: The data set's name; its kind is `text` or `images`.
        root: The project's folder.

    Raises:
        UserError: If the data set is of another kind, or if the key `run` of params.yaml does not name the data set.
            Also if samples are missing, cannot be read, or belong to weights from before the last training. Also if the
            metrics of all models belong to such weights.
    """
    entry = params.dataset(dataset)
    if entry.kind not in APART:
        raise UserError(
            f"--dataset {dataset}: its samples are in reports/index.html. Expected a data set of the kind"
            f" {' or '.join(APART)}; found the kind {entry.kind}."
        )
    jobs = [job for job in params.run_jobs() if job.dataset == dataset]
    if not jobs:
        raise UserError(f"--dataset {dataset}: expected one of the data sets that 'run' in params.yaml names.")
    models = results.in_paper_order(weights.current_results(results.read(params, jobs, root))[0])
    if not models:
        raise UserError(
            f"results/{dataset}: every result belongs to other weights than its model. Run 'dvc repro' to measure the"
            " models again."
        )
    first = examples.first_seeds(models)
    results.require_files(
        {examples.archive_path(model.job, root): examples.command(model.job) for model in first.values()}
    )
    prepared = store.read(root / "data" / "prepared" / dataset)
    samples = {
        setting: sample_files.read_archive(
            examples.archive_path(model.job, root), prepared, examples.command(model.job)
        )
        for setting, model in first.items()
    }
    stale = [
        first[setting].job
        for setting, content in samples.items()
        if content.weights != first[setting].metrics.get("weights")
    ]
    if stale:
        raise UserError(
            f"generated/{dataset}: the samples belong to other weights than those of the last training. Run"
            f" {', '.join(repr(examples.command(job)) for job in stale)}."
        )
    seeds = len({model.job.seed for model in models})
    html = page.render(
        "examples.html",
        site=site.header("", site.origin(models), site.RESULTS if is_own(entry) else site.PAGES, "../"),
        id=dataset,
        item=metric_columns.noun(entry),
        examples={**examples.content(samples, results.setting_names(models), seeds), "apart": True},
    )
    write_text(root / "reports" / "examples" / f"{dataset}.html", html)
