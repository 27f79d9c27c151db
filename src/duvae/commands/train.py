"""The stage `train`: trains one setting (a system with its hyperparameters) on one data set with one seed."""

import dataclasses
from pathlib import Path

import pandas as pd
import torch

from duvae import devices
from duvae.config import Params
from duvae.data import store
from duvae.inference import model_files
from duvae.project.files import require_writable, whole
from duvae.project.progress import TrainingBar
from duvae.project.provenance import Stopwatch
from duvae.training.checkpoints import Checkpoint, training_determinants, training_key
from duvae.training.loop import Training


def run(params: Params, dataset: str, setting: str, seed: int, root: Path = Path()) -> None:
    """Trains a model, and writes the model, the history of its epochs and the record of the training.

    The record, `train.run.json`, holds the code, the machine and the time of the training.

    Args:
        params: All parameters of params.yaml.
        dataset: Name of the data set.
        setting: Name of the setting, which is a system with its hyperparameters.
        seed: Seed of the training. On one machine and with the same number of threads, the same seed gives the same
            result to the last bit.
        root: Folder of the project.

    Raises:
        Interrupted: If the user asks for a stop. The same command resumes the training.
        UserError: If `duvae validate` has not checked the present data set, or if the training diverges.
    """
    job = params.job(dataset, setting, seed)
    chosen, entry = params.dataset(dataset), params.setting(setting)
    optimisation = params.optimisation(setting, dataset)
    watch = Stopwatch("train", entry.system)
    store.require_validated(root, dataset)
    require_writable(root / "models" / job.folder / "weights.safetensors")
    require_writable(root / "results" / job.folder / "history.csv")
    prepared = store.read(root / "data/prepared" / dataset)
    torch.set_num_threads(params.threads)
    torch.manual_seed(seed)
    description = model_files.Description(
        entry.system,
        params.hyperparameters(setting, dataset).model_dump(),
        entry.parts.model_dump(),
        chosen.networks.model_dump(),
        len(prepared.vocabulary),
    )
    model, system = description.build()
    device = model_files.device()
    determinants = training_determinants(
        vars(description),
        optimisation.model_dump(),
        params.evaluation.active_threshold,
        seed,
        params.threads,
        device,
        params.precision,
    )
    determined_by = training_key(determinants, root / "data/prepared" / dataset)
    name = f"{job.name}.{determined_by[:16]}.safetensors"
    checkpoint = Checkpoint(root / "checkpoints" / name, params.checkpoint_seconds)
    with TrainingBar(job.name, optimisation.epochs) as progress:
        result = Training(
            model,
            system.schedule,
            system.loop(),
            prepared.split("train"),
            prepared.split("valid"),
            optimisation,
            params.evaluation,
            seed,
            device,
            progress,
            checkpoint,
            params.precision,
        ).run()

    training = {
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "warmup_ended": result.warmup_ended,
        "stopped": result.stopped,
        "decays": result.decays,
        "ending": result.ending,
    }
    model_files.save(root / "models" / job.folder, model, dataclasses.replace(description, training=training))
    results = root / "results" / job.folder
    with whole(results / "history.csv") as temporary:
        pd.DataFrame(result.history).to_csv(temporary, index=False)
    watch.write(
        results / "train.run.json",
        outputs=[results / "history.csv"],
        weights=model_files.digest(model),
        device=str(device),
        precision=devices.used(device, params.precision.training),
        threads=params.threads,
        determined_by=determined_by,
        parameters={name: determinants[name] for name in ("hyperparameters", "parts", "networks", "optimisation")},
        seconds_per_epoch=[round(seconds, 2) for seconds in result.seconds],
    )
    checkpoint.remove()
