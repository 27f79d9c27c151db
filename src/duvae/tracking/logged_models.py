"""Writes trained models as logged models of MLflow.

A logged model is MLflow's record of a model, linked to the run of its training and to its data set. It has a signature,
an example of an input, and a list of the packages that it needs.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Run, RunTag
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from duvae.data.splits import SPECIALS
from duvae.report.results import Result
from duvae.tracking.run_files import FILES, LOCATION, LOGGED

PACKAGES = ("duvae", "mlflow", "numpy", "pandas", "pyyaml", "safetensors", "torch")
"""The packages that a loaded model needs. MLflow writes their versions into files beside the model."""


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


def _sentence(vocabulary: Path | None) -> str:
    """The first words of a vocabulary, as an example of an input."""
    words = vocabulary.read_text(encoding="utf-8").split("\n") if vocabulary is not None else []

    return " ".join(word for word in words[len(SPECIALS) : len(SPECIALS) + 3] if word) or "a sentence"
