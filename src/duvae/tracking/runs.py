"""Writes the MLflow runs of the jobs from the files that the commands `train`, `evaluate` and `probe` have written.

A job is one training: a data set, a setting (a system with its hyperparameters) and a seed. A job's result is the set
of its files below `results/`. MLflow only shows the content of the job's files. MLflow has one experiment per data set,
one run per job with a logged model, above these one run per setting, and one registered model per data set.

Two tags of a run decide whether the run is kept: the key of its job, and a digest of the files from which the run was
written. The function `track` keeps a run whose digest equals that of the present files, and replaces any other run. If
a job has several runs, `track` removes all but one.

Most runs are unchanged in most calls. So `track` searches for the runs of a whole experiment at once, and it reads the
result of a job only if the digest of the job's run is another. An equal digest shows that the result has not changed
since `track` checked the result and wrote the run.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from duvae.config import ImageNetworks, Job, Params
from duvae.project.files import read_json
from duvae.project.progress import Bar
from duvae.report import per_example, results, then_and_now, weights
from duvae.report.results import Result
from duvae.tracking import data_sets, logged_models, registered_models, run_files, setting_runs
from duvae.tracking.store import connect, experiment, store_errors
from duvae.tracking.trial_runs import epoch_metrics

KEY, DIGEST = "duvae.key", "duvae.digest"
"""Names of two tags of a run: the key of its job, and the digest of the files from which the run was written.

The key of a job is the text `<data set>/<setting>/<seed>`.
"""

MEASURES = ("use", "use_stderr", "unseen", "nll_unseen", "nll_unseen_stderr")
EXACT_MEASURES = ("nll", "nll_stderr", "bias", "bias_stderr", "coarse_difference")
"""Further keys of metrics.json, and keys of its `exact`, that a run shows. Results of earlier versions lack them."""

METRICS_PER_BATCH = 1000
"""Largest number of metrics that MLflow accepts in one call."""


@dataclass
class TrackedJobs:
    """The outcome of `track`: names of the jobs, grouped by what `track` did, and messages about stale results.

    A part of a result (its metrics or its probe) is stale if it was computed from other weights than the model's.

    Attributes:
        added: Names of the jobs that had no run and got one.
        replaced: Names of the jobs whose run was out of date and was written again.
        unchanged: Names of the jobs whose run was up to date.
        missing: Names of the jobs whose result is incomplete: at least one of its files is missing.
        stale: Messages, one for each stale part of a result.
        changed: Messages about results whose parameters in params.yaml have changed since.
    """

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def track(params: Params, root: Path = Path(), jobs: Sequence[Job] | None = None) -> TrackedJobs:
    """Brings MLflow's runs up to date, so that each job with a complete and current result has exactly one run.

    A result is not current if a part of it is stale (see `TrackedJobs`). The runs of a job whose result is stale or
    incomplete stay unchanged.

    Args:
        params: All parameters of params.yaml.
        root: Folder of the project.
        jobs: The jobs; None: all jobs of `run` and of Figure 1.

    Returns:
        Names of the jobs, grouped by what this function did, and messages about stale results.

    Raises:
        UserError: If MLflow's store cannot be used.
    """
    client, tracked = connect(root), TrackedJobs()
    jobs = params.jobs() if jobs is None else jobs
    experiments: dict[str, _Experiment] = {}
    with store_errors(client.tracking_uri), Bar("MLflow", len(jobs)) as bar:
        for done, job in enumerate(jobs, 1):
            if all(path.exists() for path in results.commands(params, job, root)):
                if job.dataset not in experiments:
                    experiments[job.dataset] = _experiment(client, job.dataset, root)
                _track(client, params, job, root, tracked, experiments[job.dataset])
                tracked.changed += then_and_now.changed(params, job, root)
            else:
                tracked.missing.append(job.name)
            bar.done(done)
        for dataset, found in experiments.items():
            _summarize(client, params, dataset, found, jobs, root)

    return tracked


# ---------------------------------------------------------------------------------- one job


class _Experiment(NamedTuple):
    """An experiment of MLflow.

    Attributes:
        id: The id of the experiment.
        runs: The runs that the experiment had before `track` wrote the first run, by the key of the job.
        parents: The runs of settings that the experiment had.
        current: The runs of jobs, by the key of the job, as `track` has left them.
    """

    id: str
    runs: Mapping[str, Sequence[Run]]
    parents: Sequence[Run]
    current: dict[str, Run]


def _experiment(client: MlflowClient, dataset: str, root: Path) -> _Experiment:
    """Finds the experiment of a data set and all of its runs."""
    experiment_id = experiment(client, dataset, root)
    runs: dict[str, list[Run]] = {}
    parents = []
    for run in _runs(client, experiment_id):
        if KEY in run.data.tags:
            runs.setdefault(run.data.tags[KEY], []).append(run)
        elif setting_runs.SETTING in run.data.tags:
            parents.append(run)

    return _Experiment(experiment_id, runs, parents, {key: found[0] for key, found in runs.items()})


def _track(
    client: MlflowClient, params: Params, job: Job, root: Path, tracked: TrackedJobs, experiment: _Experiment
) -> None:
    files = run_files.files(params, job, root)
    digest = run_files.digest(files)
    known = experiment.runs.get(_key(job), [])
    if len(known) == 1 and _current(client, known, files, digest):
        tracked.unchanged.append(job.name)
        return
    stale = _stale(params, job, root)
    if stale:
        tracked.stale += weights.messages(stale)
        return
    runs = list(_runs(client, experiment.id, job))  # another process may have written a run in the meantime
    current = _current(client, runs, files, digest)
    experiment.current[_key(job)] = (
        current[0] if current else _write(client, experiment.id, params, job, root, files, digest)
    )
    for run in runs:
        if run not in current:
            _remove(client, run)
    (tracked.unchanged if current else tracked.replaced if runs else tracked.added).append(job.name)


def _current(client: MlflowClient, runs: Iterable[Run], files: Mapping[Path, str | None], digest: str) -> list[Run]:
    """Returns the first run that is complete and was written from the present files, or an empty list."""
    finished = (run for run in runs if run.data.tags.get(DIGEST) == digest and run.info.status == "FINISHED")

    return [run for run in finished if run_files.has_copies(client, run, files)][:1]


def _stale(params: Params, job: Job, root: Path) -> dict[str, str]:
    """Finds the stale parts of a job's result.

    A part is stale if its digest of the weights differs from the digest in the record of the training, or from the
    digest of the weights in the model's folder.

    Returns:
        For each stale part, the command that computes it again. The keys are the paths of the files of these parts.
    """
    from duvae.inference.model_files import saved_digest  # imports torch, which unchanged runs do not need

    (result,) = results.read(params, [job], root)
    model_digest = saved_digest(root / "models" / job.folder) if "weights" in result.metrics else None
    recorded = weights.stale(result)
    if recorded or model_digest is None:
        return recorded

    return weights.stale(result, model_digest)


def _write(
    client: MlflowClient,
    experiment_id: str,
    params: Params,
    job: Job,
    root: Path,
    files: Mapping[Path, str | None],
    digest: str,
) -> Run:
    """Writes the run of a job, with its logged model.

    The tag with the digest is written last. A run that was interrupted therefore has no digest, and is replaced later.
    """
    (result,) = results.read(params, [job], root)
    start = int(1000 * results.started(result).timestamp())
    seconds = result.row["seconds"]
    run = client.create_run(experiment_id, start, _tags(params, result), f"{job.setting} · seed {job.seed}").info.run_id
    client.log_batch(run, params=[Param(key, str(value)) for key, value in _parameters(params, result, root).items()])
    final = list(_final(result, start + int(1000 * seconds)))
    metrics = [*_history(result, start), *final]
    for first in range(0, len(metrics), METRICS_PER_BATCH):
        client.log_batch(run, metrics=metrics[first : first + METRICS_PER_BATCH])
    described = data_sets.described(job.dataset, root)
    client.log_inputs(run, [described])
    for path, folder in files.items():
        if folder not in (None, run_files.MODEL):
            client.log_artifact(run, str(path), folder)
    with TemporaryDirectory() as temporary:
        for name, content in _figures(params, result, root).items():
            Path(temporary, name).write_bytes(content)
        client.log_artifacts(run, temporary, "figures")
    model = [path for path in files if files[path] == run_files.MODEL]
    if model:
        networks = params.dataset(job.dataset).networks
        logged_models.log(
            *(client, experiment_id, run, result),
            # With the metrics, the loaded model can warn that its latent space has collapsed.
            [*model, root / "results" / job.folder / "metrics.json"],
            networks.size if isinstance(networks, ImageNetworks) else None,
            result.metrics.get("hyperparameters") or {},
            final,
            (described.dataset.name, described.dataset.digest),
        )
    client.log_batch(run, tags=[RunTag(DIGEST, digest)])
    client.set_terminated(run, "FINISHED", start + int(1000 * seconds))

    return client.get_run(run)


def _summarize(
    client: MlflowClient, params: Params, dataset: str, experiment: _Experiment, jobs: Sequence[Job], root: Path
) -> None:
    """Brings the runs of the settings and the registered model of a data set up to date."""
    runs = experiment.current
    if setting_runs.is_current(experiment.parents, runs) and registered_models.is_registered(client, dataset, runs):
        return
    setting_runs.update(client, experiment.id, experiment.parents, runs)
    of_dataset = [job for job in dict.fromkeys([*params.jobs(), *jobs]) if job.dataset == dataset and _key(job) in runs]
    complete = [job for job in of_dataset if all(path.exists() for path in results.commands(params, job, root))]
    current = [job for job in complete if not _stale(params, job, root)]
    registered_models.register(client, dataset, runs, results.read(params, current, root), root)


def _tags(params: Params, result: Result) -> dict[str, str]:
    job, train = result.job, result.provenance["train"]
    tags = {
        KEY: _key(job),
        "dataset": job.dataset,
        "setting": job.setting,
        "system": result.system,
        "seed": str(job.seed),
        "commit": result.commit,
        "stage": f"train@{job.name}",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": f"duvae train --dataset {job.dataset} --setting {job.setting} --seed {job.seed}",
        "mlflow.note.content": " ".join(
            part for part in (result.name, f"({result.hyperparameters})" if result.hyperparameters else "") if part
        )
        + f" on {job.dataset}, seed {job.seed}.",
    }
    if train.get("commit"):
        tags["mlflow.source.git.commit"] = str(train["commit"])
    if job in params.figure1_jobs():
        tags["figure1"] = "true"

    return tags


def _parameters(params: Params, result: Result, root: Path) -> dict[str, Any]:
    """Collects the parameters of a run under dotted names, such as `optimisation.batch`.

    They are the system, hyperparameters, networks and parts (see `duvae.config.Parts`) of the model, and the options of
    the training and of the evaluation.
    """
    dataset = params.dataset(result.job.dataset)
    setting = params.setting(result.job.setting)
    optimisation = params.optimisation(result.job.setting, result.job.dataset)
    components = {"networks": dataset.networks.model_dump(), "parts": setting.parts.model_dump()}
    path = root / "models" / result.job.folder / "model.json"
    if path.exists():  # params.yaml may have changed since the training, so model.json takes precedence
        described = read_json(path, "duvae train")
        components = {name: described.get(name, value) for name, value in components.items()}
    made_with = {
        "optimisation": optimisation.model_dump(),
        **components,
        **then_and_now.trained_with(result.metrics, result.provenance["train"]),
    }
    nested = {
        "system": result.system,
        "setting": result.job.setting,
        "seed": result.job.seed,
        **made_with.pop("hyperparameters"),
        **made_with,
        "evaluation": {"importance_samples": result.metrics["importance_samples"]},
        "threads": result.provenance["train"]["threads"],
    }

    return then_and_now.flat(nested)


def _history(result: Result, start: int) -> Iterator[Metric]:
    """Turns the training history into MLflow metrics.

    The step of a metric is the number of the epoch, and the time of a metric is the end of this epoch.

    Args:
        result: The result of the job.
        start: Time at which the training began, in milliseconds since 1970.
    """
    seconds = result.provenance["train"].get("seconds_per_epoch") or [0.0] * len(result.history)
    time_ms = start
    for row, duration in zip(result.history.to_dict("records"), seconds, strict=False):
        time_ms += int(1000 * duration)
        yield from epoch_metrics({str(name): value for name, value in row.items()}, time_ms)


def _final(result: Result, time_ms: int) -> Iterator[Metric]:
    """Turns the measures on the test set, the probe's accuracies and the cost of the job into MLflow metrics.

    Args:
        result: The result of the job.
        time_ms: Time of all these metrics, in milliseconds since 1970.
    """
    row = result.row
    names = {name: f"test/{name}" for name in (*results.METRIC_KEYS, *results.FLOW_METRIC_KEYS, "nll_stderr")}
    names |= {name: f"test/{name}" for name in row if name.startswith("probe_")}
    names |= {name: f"work/{name}" for name in ("epochs", "best_epoch", "encoder_steps", "seconds", "peak_memory_mib")}
    for name, key in names.items():
        if row[name] is not None and not math.isnan(row[name]):
            yield Metric(key, float(row[name]), time_ms, 0)
    further = {name: result.metrics.get(name) for name in MEASURES}
    further |= {f"exact_{name}": (result.metrics.get("exact") or {}).get(name) for name in EXACT_MEASURES}
    yield from (Metric(f"test/{name}", float(x), time_ms, 0) for name, x in further.items() if x is not None)


def _figures(params: Params, result: Result, root: Path) -> dict[str, bytes]:
    from duvae.report import figures, latent_spaces  # import matplotlib, which unchanged runs do not need

    warmup = params.optimisation(result.job.setting, result.job.dataset).warmup
    images = {"curves.png": figures.png(figures.curves([result], warmup))}
    examples = per_example.read(result, root)
    if examples and examples.means is not None:
        images["latent.png"] = figures.png(latent_spaces.latent(per_example.space(result, examples)))

    return images


def _runs(client: MlflowClient, experiment_id: str, job: Job | None = None) -> Iterator[Run]:
    """Yields all runs of a job, or of all jobs of an experiment, page after page of MLflow's search."""
    condition, token = "" if job is None else f"tags.`{KEY}` = '{_key(job)}'", None
    while True:
        page = client.search_runs([experiment_id], condition, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _remove(client: MlflowClient, run: Run) -> None:
    """Deletes a run, its artifacts and its model. MLflow's `delete_run` alone would keep the artifacts."""
    logged_models.remove(client, run)
    client.delete_run(run.info.run_id)
    get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri).delete_artifacts()  # type: ignore[no-untyped-call]


def _key(job: Job) -> str:
    return job.folder.as_posix()
