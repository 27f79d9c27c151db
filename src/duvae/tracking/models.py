"""Writes trained models as logged models of MLflow, and registers them.

A logged model is MLflow's record of a model, linked to the run of its training and to its data set. It has a signature,
an example of an input, and a list of the packages that it needs. A registered model collects the models of one data set
as numbered versions. An alias is a name for one of these versions: here the name of each setting, and `best`.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from duvae.data.splits import SPECIALS
from duvae.report import comparison, per_example
from duvae.report.cells import word_list
from duvae.report.results import Result, setting_names
from duvae.tracking.run_files import FILES, LOCATION, LOGGED

PACKAGES = ("duvae", "mlflow", "numpy", "pandas", "pyyaml", "safetensors", "torch")
"""The packages that a loaded model needs. MLflow writes their versions into files beside the model."""

BEST = "best"
"""Alias of the version with the lowest NLL on the test set."""


class Chosen(NamedTuple):
    """The outcome of `best`.

    Attributes:
        result: The model; None: no model can be called the best.
        reason: A sentence that says why.
    """

    result: Result | None
    reason: str


def write(folder: Path, files: Iterable[Path], size: int | None, run: str, model: str) -> None:
    """Writes a model in MLflow's format, without a pickle.

    Args:
        folder: Folder to write; it must not exist.
        files: The model's own files: its weights, description and vocabulary, and the metrics of its evaluation.
        size: Height and width of the images in pixels; None: the model was trained on sentences.
        run: Id of the run of the training.
        model: Id of the logged model.
    """
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    own = {path.name: path for path in files}
    if size is None:
        x: Any = ColSpec(DataType.string)  # without a name, so that a list of sentences is accepted, too
        example: Any = [_sentence(own.get("vocabulary.txt"))]
    else:
        x = TensorSpec(np.dtype(np.float32), (-1, size, size))
        example = np.zeros((1, size, size), np.float32)
    with TemporaryDirectory() as temporary:
        data = Path(temporary, Path(FILES).name)
        data.mkdir()
        for path in own.values():
            shutil.copyfile(path, data / path.name)
        pyfunc.save_model(
            str(folder),
            loader_module="duvae.tracking.pyfunc",
            data_path=str(data),
            mlflow_model=Model(run_id=run, model_id=model, model_uuid=model),
            signature=ModelSignature(Schema([x])),
            input_example=example,
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in PACKAGES],
        )


def log(
    client: MlflowClient,
    experiment: str,
    run: str,
    result: Result,
    files: Sequence[Path],
    size: int | None,
    parameters: Mapping[str, Any],
    metrics: Iterable[Metric],
    dataset: tuple[str, str],
) -> None:
    """Writes the logged model of a training.

    The tags of the run that name the model are written last. A model that was interrupted has no such tags.

    Args:
        client: Client of the store.
        experiment: Id of the experiment.
        run: Id of the run of the training, which must not have ended.
        result: The result of the training.
        files: The model's own files.
        size: Height and width of the images in pixels; None: the model was trained on sentences.
        parameters: Parameters of the model, by name.
        metrics: Metrics of the model on the test set.
        dataset: Name and digest of the data set.
    """
    job, name = result.job, f"{result.job.setting}-{result.job.seed}"
    tags = {"dataset": job.dataset, "setting": job.setting, "system": result.system, "seed": str(job.seed)}
    model = client.create_logged_model(
        experiment, name, run, tags, {key: str(value) for key, value in parameters.items()}, result.system
    )
    with TemporaryDirectory() as temporary:
        folder = Path(temporary, "model")
        write(folder, files, size, run, model.model_id)
        client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run, [LoggedModelOutput(model.model_id, 0)])
    of_model = [
        Metric(metric.key, metric.value, metric.timestamp, metric.step, model.model_id, *dataset, run)
        for metric in metrics
    ]
    client.log_batch(run, metrics=of_model)
    client.log_batch(run, tags=[RunTag(LOGGED, model.model_id), RunTag(LOCATION, str(model.artifact_location))])


def remove(client: MlflowClient, run: Run) -> None:
    """Deletes the logged model of a run, its files, and its version in the registered model."""
    for known in client.search_model_versions(f"run_id = '{run.info.run_id}'"):
        client.delete_model_version(known.name, str(known.version))
    for model in client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"):
        get_artifact_repository(str(model.artifact_location), tracking_uri=client.tracking_uri).delete_artifacts()  # type: ignore[no-untyped-call]
        client.delete_logged_model(model.model_id)


def best(results: Sequence[Result], root: Path) -> Chosen:
    """Chooses the model with the lowest NLL, if the comparison in pairs supports that there is one.

    Args:
        results: Current results of one data set.
        root: Folder of the project.

    Returns:
        The model: of the setting with the lowest mean NLL, the seed with the lowest NLL. The sentence names the other
        settings from which this setting cannot be distinguished.
    """
    compared = comparison.compare(results, [per_example.read(result, root) for result in results])
    names, settings = setting_names(results), compared.best
    if not settings:
        return Chosen(None, "There is no `best`: fewer than two settings have the NLL of single test examples.")
    means = {
        setting: float(np.mean([np.mean(compared.nll[setting][seed]) for seed in compared.seeds]))
        for setting in settings
    }
    first = min(settings, key=lambda setting: means[setting])
    of_first = [result for result in results if result.job.setting == first and result.job.seed in compared.seeds]
    chosen = min(of_first, key=lambda result: float(result.metrics["nll"]))
    others = [names[setting] for setting in settings if setting != first]
    reason = (
        f"`models:/{chosen.job.dataset}@best` is {names[first]} with seed {chosen.job.seed}: its setting has the lowest"
        f" NLL on the test set, in paired comparisons of {len(compared.settings)} settings over"
        f" {_seeds(len(compared.seeds))}"
    )
    if others:
        reason += f". It cannot be distinguished from {word_list(others)}"

    return Chosen(chosen, f"{reason}.")


def is_registered(client: MlflowClient, dataset: str, runs: Mapping[str, Run]) -> bool:
    """Whether each model has its version, and each setting its alias.

    Args:
        client: Client of the store.
        dataset: Name of the data set, and of the registered model.
        runs: The current runs, by the key of the job.
    """
    models = _with_model(runs)
    if not models:
        return True
    versions = list(_all_versions(client, dataset))
    if sorted(str(each.run_id) for each in versions) != sorted(run.info.run_id for run in models.values()):
        return False
    settings = {run.data.tags["setting"] for run in models.values()}

    return settings <= set(client.get_registered_model(dataset).aliases)


def register(
    client: MlflowClient, dataset: str, runs: Mapping[str, Run], results: Sequence[Result], root: Path
) -> None:
    """Brings the registered model of a data set up to date: a version for each run, and the aliases.

    The alias of a setting names the version of its first seed.

    Args:
        client: Client of the store.
        dataset: Name of the data set, and of the registered model.
        runs: The current runs, by the key of the job.
        results: The current results, from which `best` is chosen.
        root: Folder of the project.
    """
    models = _with_model(runs)
    if not models:
        return
    first = next(iter(models.values())).data.tags["setting"]
    chosen = best(results, root)
    note = (
        f"The models trained on `{dataset}`: a version for each setting and seed. Each setting is an alias of its first"
        f" seed: `models:/{dataset}@{first}`. {chosen.reason} Filled by `duvae track`."
    )
    try:
        client.create_registered_model(dataset, description=note)
    except MlflowException:  # it exists
        client.update_registered_model(dataset, note)
    versions = _versions(client, dataset, {run.info.run_id for run in models.values()})
    for run in models.values():
        tags = run.data.tags
        if run.info.run_id not in versions:
            version = client.create_model_version(
                *(dataset, tags[LOCATION], run.info.run_id, {name: tags[name] for name in ("setting", "seed")}),
                description=tags["mlflow.note.content"],
                model_id=tags[LOGGED],
            )
            versions[run.info.run_id] = version
            # MLflow's pages link the logged model and its version by this tag.
            link = [{"name": dataset, "version": str(version.version)}]
            client.set_logged_model_tags(tags[LOGGED], {MLFLOW_MODEL_VERSIONS: json.dumps(link)})
    numbers = {key: str(versions[run.info.run_id].version) for key, run in models.items()}
    by_seed = sorted(models, key=lambda key: int(models[key].data.tags["seed"]), reverse=True)
    aliases = {models[key].data.tags["setting"]: numbers[key] for key in by_seed}
    if chosen.result is not None and (key := chosen.result.job.folder.as_posix()) in numbers:
        aliases[BEST] = numbers[key]
    known = client.get_registered_model(dataset).aliases
    for alias in set(known) - set(aliases):
        client.delete_registered_model_alias(dataset, alias)
    for alias, number in aliases.items():
        if str(known.get(alias)) != number:
            client.set_registered_model_alias(dataset, alias, number)


def _versions(client: MlflowClient, dataset: str, runs: set[str]) -> dict[str, ModelVersion]:
    """Finds the version of each run, and deletes versions of other runs and second versions of a run."""
    found: dict[str, ModelVersion] = {}
    for each in _all_versions(client, dataset):
        if each.run_id in runs and each.run_id not in found:
            found[each.run_id] = each
        else:
            client.delete_model_version(dataset, str(each.version))

    return found


def _all_versions(client: MlflowClient, dataset: str) -> list[ModelVersion]:
    """All versions of a registered model; none if it does not exist."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{dataset}'", max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _with_model(runs: Mapping[str, Run]) -> dict[str, Run]:
    return {key: run for key, run in runs.items() if LOGGED in run.data.tags}


def _sentence(vocabulary: Path | None) -> str:
    """The first words of a vocabulary, as an example of an input."""
    words = vocabulary.read_text(encoding="utf-8").split("\n") if vocabulary is not None else []

    return " ".join(word for word in words[len(SPECIALS) : len(SPECIALS) + 3] if word) or "a sentence"


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"
