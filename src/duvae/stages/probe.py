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
from duvae.metrics.encoding import encode
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
        return encode(model, documents, device, params.evaluation.seed).features, documents.labels

    wanted = chosen.probe.wanted
    test = labelled("test") if wanted else (np.zeros((0, 0)), np.zeros(0, np.int64))
    subsets = {}
    if chosen.probe.labels:
        features, labels = labelled("train")
        if max(chosen.probe.labels) > len(labels):
            raise UserError(
                f"params.yaml: datasets.{dataset}.probe.labels: expected at most {len(labels)}, the training"
                f" documents; found {max(chosen.probe.labels)}."
            )
        for size in chosen.probe.labels:
            draws = [draw(labels, size, (params.probe.seed, size, n)) for n in range(params.probe.draws)]
            subsets[str(size)] = [(features[indices], labels[indices]) for indices in draws]
    for name in chosen.probe.subsets:
        subset = labelled(name)
        subsets[str(len(subset[1]))] = [subset]
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
