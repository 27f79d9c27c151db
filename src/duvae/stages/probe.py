"""The stage `probe`: linear classifiers on a trained model's representation."""

from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from duvae import models
from duvae.config import Params
from duvae.data import store
from duvae.errors import UserError
from duvae.files import write_json
from duvae.metrics.encoding import features
from duvae.metrics.probes import draw, probe
from duvae.provenance import Stopwatch


def run(params: Params, dataset: str, setting: str, seed: int, root: Path = Path()) -> None:
    """Trains a probe on each labelled subset and writes its test accuracies; none where none is wanted.

    Args:
        params: All of params.yaml.
        dataset: The data set's name.
        setting: The setting's name.
        seed: The training's.
        root: The project's folder.
    """
    watch = Stopwatch("probe")
    job, chosen = params.job(dataset, setting, seed), params.dataset(dataset)
    prepared = store.read(root / "data/prepared" / dataset)
    train = f"duvae train --dataset {dataset} --setting {setting} --seed {seed}"
    model, _ = models.load(
        root / "models" / job.folder, train, params.setting(setting).system, len(prepared.vocabulary)
    )
    torch.set_num_threads(params.threads)
    device = models.device()
    model.to(device)

    def labelled(split: str) -> tuple[store.Array, store.Array]:
        documents = prepared.split(split)
        if len(np.unique(documents.labels)) < 2 or documents.labels.min() < 0:
            raise UserError(
                f"data/prepared/{dataset}: expected a label of two or more on every document of split '{split}',"
                f" to probe with. Give the files labels, or empty datasets.{dataset}.probe in params.yaml."
            )
        return features(model, documents, device), documents.labels

    wanted = bool(chosen.probe.labels or chosen.probe.subsets)
    test = labelled("test") if wanted else (np.zeros((0, 0)), np.zeros(0, np.int64))
    subsets: dict[str, list[tuple[store.Array, store.Array]]] = {}
    if chosen.probe.labels:
        seen, labels = labelled("train")
        for size in chosen.probe.labels:
            _check(size, labels, dataset)
            draws = [draw(labels, size, (params.probe.seed, size, n)) for n in range(params.probe.draws)]
            subsets[str(size)] = [(seen[indices], labels[indices]) for indices in draws]
    for name in dict.fromkeys(chosen.probe.subsets):
        subset = labelled(name)
        subsets.setdefault(str(len(subset[1])), []).append(subset)  # several of one size are its draws
    with threadpool_limits(params.threads):
        found = {size: probe(drawn, test, params.probe) for size, drawn in subsets.items()}
    write_json(
        root / "results" / job.folder / "probe.json",
        {
            "dataset": dataset,
            "setting": setting,
            "seed": seed,
            "features": int(test[0].shape[1]),
            "test": len(test[1]),
            "largest_class": 100 * float(np.bincount(test[1]).max() / len(test[1])) if wanted else None,
            "by_labels": {
                size: {
                    "accuracy": accuracy.mean,
                    "spread": accuracy.spread,
                    "draws": accuracy.draws,
                    "inverse_penalties": accuracy.penalties,
                }
                for size, accuracy in found.items()
            },
        },
    )
    watch.write(root / "results" / job.folder / "probe.run.json", device=str(device), threads=params.threads)


def _check(size: int, labels: store.Array, dataset: str) -> None:
    """Whether that many can be drawn of the training documents, with each label among them."""
    key, classes = f"params.yaml: datasets.{dataset}.probe.labels", len(np.unique(labels))
    if size > len(labels):
        raise UserError(f"{key}: expected at most {len(labels)}, the training documents; found {size}.")
    if size < classes:
        raise UserError(f"{key}: expected at least {classes}, one for each label; found {size}.")
