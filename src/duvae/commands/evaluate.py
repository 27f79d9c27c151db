"""The stage `evaluate`: a trained model on the test set."""

from pathlib import Path

import numpy as np
import torch

from duvae.config import Params
from duvae.data import store
from duvae.data.store import Array
from duvae.inference import model_files
from duvae.metrics.encoding import encode
from duvae.metrics.geometry import measures
from duvae.metrics.likelihood import importance_weighted_nll, perplexity
from duvae.metrics.statistics import standard_error
from duvae.metrics.transformed import transformed_measures
from duvae.project import array_files
from duvae.project.files import write_json
from duvae.project.progress import Bar
from duvae.project.provenance import Stopwatch

FLAT = 2
"""Latent dimensions of a space that pages draw."""


def some(count: int, wanted: int | None, seed: int) -> Array:
    """The indices of all `count` examples, or of as many as are wanted, drawn without repetition and in order.

    Args:
        count: How many there are.
        wanted: How many; None, or more than there are: all.
        seed: Determines which.
    """
    if wanted is None or wanted >= count:
        return np.arange(count)

    return np.sort(np.random.default_rng(seed).choice(count, wanted, replace=False))


def run(params: Params, dataset: str, setting: str, seed: int, root: Path = Path()) -> None:
    """Measures NLL, KL, MI, AU, MPD and CE, of z^T too; writes them, and what is known of each test example.

    `results/<dataset>/<setting>/<seed>/per_example.json` holds the part of it that git keeps: `nll` of the examples
    that were measured, `steps` from the index of one to that of the next, and of two-dimensional latent spaces `label`,
    `mean` and `variance` of every test example.

    Args:
        params: All of params.yaml.
        dataset: The data set's name.
        setting: The setting's name.
        seed: The training's.
        root: The project's folder.
    """
    watch = Stopwatch("evaluate", params.setting(setting).system)
    job, evaluation = params.job(dataset, setting, seed), params.evaluation
    train = f"duvae train --dataset {dataset} --setting {setting} --seed {seed}"
    results = root / "results" / job.folder
    prepared = store.read(root / "data/prepared" / dataset)
    model, description = model_files.load(
        root / "models" / job.folder, train, params.setting(setting).system, len(prepared.vocabulary)
    )
    weights = model_files.digest(model)
    test = prepared.split("test")
    torch.set_num_threads(params.threads)
    device = model_files.device()
    model.to(device)
    encoded = encode(model, test, device, evaluation.seed)
    density = encoded.density
    chosen = some(len(test), params.dataset(dataset).nll_examples, evaluation.seed)
    part = test if len(chosen) == len(test) else test.only(chosen)
    nll = np.full(len(part), np.nan)
    if density:
        with Bar(f"{job.name}: NLL", len(part)) as bar:
            nll = importance_weighted_nll(model, part, evaluation.importance_samples, device, evaluation.seed, bar.done)

    def known(value: float) -> float | None:
        return value if density else None

    metrics = {
        "dataset": dataset,
        "setting": setting,
        "system": description.system,
        "seed": seed,
        "weights": weights,
        "hyperparameters": description.hyperparameters,
        "sentences": len(test),
        "importance_samples": evaluation.importance_samples,
        "nll": known(float(nll.mean())),
        "nll_stderr": known(standard_error(nll)),
        "nll_examples": len(part),
        "perplexity": known(perplexity(nll, part)),
        "reconstruction": float(encoded.reconstruction.mean(dtype=np.float64)),
        **measures(encoded, evaluation.active_threshold),
        **transformed_measures(model, test, device, evaluation.seed),
        **(description.training or {}),
    }
    kept: dict[str, Array] = {"steps": np.diff(chosen, prepend=0).astype(np.int32)}
    if density:
        kept["nll"] = nll.astype(np.float32)
    if encoded.mean.shape[1] == FLAT:
        kept |= {"label": test.labels.astype(np.int32), "mean": encoded.mean.astype(np.float32)}
        if encoded.variance is not None:
            kept["variance"] = encoded.variance.astype(np.float32)
    documents = {name: len(split) for name, split in prepared.splits.items()}
    head = {"dataset": dataset, "setting": setting, "seed": seed, "weights": weights, "documents": documents}
    array_files.write(results / "per_example.json", head, kept)
    write_json(results / "metrics.json", metrics)
    watch.write(results / "evaluate.run.json", weights=weights, device=str(device), threads=params.threads)
