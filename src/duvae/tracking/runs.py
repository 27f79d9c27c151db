"""MLflow, filled from what the stages left behind: the truth lies in DVC's outputs, MLflow shows it.

An experiment a data set, a run a job. Each run carries the job's key and a digest of the files that it
was made from: a run of the same digest is left alone, another is replaced, and no key stands twice.
"""

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.models import Model, ModelSignature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from duvae.config import ImageNetworks, Job, Params
from duvae.inference.model_files import saved_digest
from duvae.project.files import read_json
from duvae.project.progress import Bar
from duvae.report import figures, latent_spaces, per_example, results, weights
from duvae.report.results import Result
from duvae.tracking import trial_runs
from duvae.tracking.trial_runs import connect, experiment

LAYOUT = 2
"""Of what a run holds; another number makes every run be written again."""

KEY, DIGEST = "duvae.key", "duvae.digest"

METRICS_A_BATCH = 1000
"""MLflow takes no more at once."""


@dataclass
class Outcome:
    """What `track` did with the jobs, by their names."""

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    """A sentence for each part of a result that is of other weights than the model."""


def track(params: Params, root: Path = Path()) -> Outcome:
    """Makes MLflow show the results of all jobs that have any, each once.

    Args:
        params: All of params.yaml.
        root: The project's folder.
    """
    client, jobs, outcome = connect(root), params.jobs(), Outcome()
    with trial_runs.usable(client.tracking_uri), Bar("MLflow", len(jobs)) as bar:
        for done, job in enumerate(jobs, 1):
            if not all(path.exists() for path in results.commands(params, job, root)):
                outcome.missing.append(job.name)
            elif stale := _stale(params, job, root):
                outcome.stale += weights.messages(stale)
            else:
                _track(client, params, job, root, outcome)
            bar.done(done)

    return outcome


# ---------------------------------------------------------------------------------- one job


def _track(client: MlflowClient, params: Params, job: Job, root: Path, outcome: Outcome) -> None:
    where = experiment(client, job.dataset, root)
    before = list(_runs(client, where, job))
    now = _digest(_files(params, job, root))
    kept = [run for run in before if run.data.tags.get(DIGEST) == now and run.info.status == "FINISHED"][:1]
    if not kept:
        _write(client, where, params, job, root, now)
    for run in before:
        if run not in kept:
            _remove(client, run)
    (outcome.unchanged if kept else outcome.replaced if before else outcome.added).append(job.name)


def _stale(params: Params, job: Job, root: Path) -> dict[str, str]:
    """The parts of a result that are of other weights than the model in the project, or than its training's record."""
    (result,) = results.read(params, [job], root)
    there = saved_digest(root / "models" / job.folder) if "weights" in result.metrics else None
    recorded = weights.stale(result)
    if recorded or there is None:
        return recorded

    return weights.stale(result, there)


def _write(client: MlflowClient, where: str, params: Params, job: Job, root: Path, digest: str) -> None:
    """Writes a run; the digest, which makes it count, comes last."""
    (result,) = results.read(params, [job], root)
    start = int(1000 * results.started(result).timestamp())
    seconds = sum(float(made["wall_seconds"]) for made in result.provenance.values())
    run = client.create_run(where, start, _tags(params, result), f"{job.setting} · seed {job.seed}").info.run_id
    client.log_batch(run, params=[Param(key, str(value)) for key, value in _parameters(params, result, root).items()])
    metrics = [*_history(result, start), *_final(result, start + int(1000 * seconds))]
    for first in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(run, metrics=metrics[first : first + METRICS_A_BATCH])
    client.log_inputs(run, [_dataset(job.dataset, root)])
    for path, folder in _files(params, job, root).items():
        if folder is not None:
            client.log_artifact(run, str(path), folder)
    with TemporaryDirectory() as temporary:
        for name, content in _figures(params, result, root).items():
            Path(temporary, name).write_bytes(content)
        client.log_artifacts(run, temporary, "figures")
        if (root / "models" / job.folder / "model.json").exists():
            networks = params.dataset(job.dataset).networks
            _servable(Path(temporary), networks.size if isinstance(networks, ImageNetworks) else None)
            client.log_artifact(run, str(Path(temporary, "MLmodel")), "model")
    client.log_batch(run, tags=[RunTag(DIGEST, digest)])
    client.set_terminated(run, "FINISHED", start + int(1000 * seconds))


def _servable(folder: Path, size: int | None) -> None:
    """Writes the file by which MLflow loads a model that lies beside it, as a pyfunc, without any pickle.

    Args:
        folder: Where to.
        size: Pixels a side of an image; None where x are sentences.
    """
    from mlflow import pyfunc

    of_x = ColSpec(DataType.string) if size is None else TensorSpec(np.dtype(np.float32), (-1, size, size))
    model = Model(signature=ModelSignature(Schema([of_x])))
    pyfunc.add_to_model(model, "duvae.tracking.pyfunc", data=".")
    with (folder / "MLmodel").open("w", encoding="utf-8") as file:
        yaml.safe_dump(model.to_dict(), file, sort_keys=False)


def _files(params: Params, job: Job, root: Path) -> dict[Path, str | None]:
    """What a run is made from and is there, each with the folder of artifacts that it goes to, if to any."""
    model = root / "models" / job.folder
    files: dict[Path, str | None] = dict.fromkeys(results.commands(params, job, root), "results")
    files |= {model / "weights.safetensors": "model", model / "model.json": "model"}
    if params.dataset(job.dataset).kind in {"synthetic", "text"}:
        files[root / "data" / "prepared" / job.dataset / "vocabulary.txt"] = "model"
    files[per_example.file_path(job, root)] = "results"
    if job in params.figure1_jobs():
        files[root / "reports" / "figure1.png"] = "figures"

    return {path: folder for path, folder in files.items() if path.exists()}


def _digest(files: Iterable[Path]) -> str:
    whole = hashlib.sha256(f"layout {LAYOUT}".encode())
    for path in sorted(files):
        with path.open("rb") as file:
            whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())

    return whole.hexdigest()


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
    """Hyperparameters, what the model is made of, and the knobs of its data set."""
    dataset = params.dataset(result.job.dataset)
    setting = params.setting(result.job.setting)
    optimisation = params.optimisation(result.job.setting, result.job.dataset)
    made = {"networks": dataset.networks.model_dump(), "parts": setting.parts.model_dump()}
    path = root / "models" / result.job.folder / "model.json"
    if path.exists():  # what it was really made of
        described = read_json(path, "duvae train")
        made = {name: described.get(name, value) for name, value in made.items()}
    nested = {
        "system": result.system,
        "setting": result.job.setting,
        "seed": result.job.seed,
        **result.metrics["hyperparameters"],
        **made,
        "optimisation": optimisation.model_dump(),
        "evaluation": {"importance_samples": result.metrics["importance_samples"]},
        "threads": result.provenance["train"]["threads"],
    }

    return dict(_flat(nested))


def _history(result: Result, start: int) -> Iterator[Metric]:
    """The history, a step an epoch, at the time when it ended."""
    seconds = result.provenance["train"].get("seconds_per_epoch") or [0.0] * len(result.history)
    at = start
    for row, took in zip(result.history.to_dict("records"), seconds, strict=False):
        at += int(1000 * took)
        yield from trial_runs.epoch_metrics({str(name): value for name, value in row.items()}, at)


def _final(result: Result, at: int) -> Iterator[Metric]:
    """The numbers of the test set, the probes' and what it took."""
    row = result.row
    names = {name: f"test/{name}" for name in (*results.METRIC_KEYS, *results.FLOW_METRIC_KEYS, "nll_stderr")}
    names |= {name: f"test/{name}" for name in row if name.startswith("probe_")}
    names |= {name: f"work/{name}" for name in ("epochs", "best_epoch", "encoder_steps", "seconds", "peak_memory_mib")}
    for name, key in names.items():
        if row[name] is not None and not math.isnan(row[name]):
            yield Metric(key, float(row[name]), at, 0)


def _figures(params: Params, result: Result, root: Path) -> dict[str, bytes]:
    warmup = params.optimisation(result.job.setting, result.job.dataset).warmup
    drawn = {"curves.png": figures.png(figures.curves([result], warmup))}
    examples = per_example.read(result, root)
    if examples and examples.means is not None:
        drawn["latent.png"] = figures.png(latent_spaces.latent(per_example.space(result, examples)))

    return drawn


def _dataset(name: str, root: Path) -> DatasetInput:
    """The data set, its digest being what DVC recorded of it, or else that of its files."""
    folder = f"data/prepared/{name}"
    lock = root / "dvc.lock"
    recorded = _recorded(lock, lock.stat().st_mtime_ns) if lock.exists() else {}
    digest = recorded.get(folder, "unknown").removesuffix(".dir")
    if digest == "unknown" and (root / folder).exists():
        digest = _digest(path for path in (root / folder).rglob("*") if path.is_file())[:32]
    source = json.dumps({"uri": folder})

    return DatasetInput(Dataset(name, digest, "local", source), [InputTag("mlflow.data.context", "training")])


@functools.lru_cache(maxsize=1)
def _recorded(lock: Path, _changed: int) -> dict[str, str]:
    """The hash of each output in dvc.lock, which is long where there are many jobs."""
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})

    return {out["path"]: str(out.get("md5")) for stage in stages.values() for out in stage.get("outs", [])}


def _runs(client: MlflowClient, where: str, job: Job) -> Iterator[Run]:
    """All runs of a job."""
    token = None
    while True:
        page = client.search_runs([where], f"tags.`{KEY}` = '{_key(job)}'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _remove(client: MlflowClient, run: Run) -> None:
    """Deletes a run and its artifacts, which MLflow would keep."""
    client.delete_run(run.info.run_id)
    get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri).delete_artifacts()  # type: ignore[no-untyped-call]


def _key(job: Job) -> str:
    return job.folder.as_posix()


def _flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{above}{name}.")
        else:
            yield f"{above}{name}", inner
