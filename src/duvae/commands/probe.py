"""The stage `probe`: linear classifiers on a trained model's representation."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from duvae.config import Params
from duvae.data import store
from duvae.errors import UserError
from duvae.inference import model_files
from duvae.metrics.encoding import features
from duvae.metrics.probes import Accuracy, Labelled, convergence, draw, over_groups, probe, probe_groups
from duvae.project.files import write_json
from duvae.project.provenance import Stopwatch
from duvae.vae import VAE


def run(params: Params, dataset: str, setting: str, seed: int, root: Path = Path()) -> None:
    """Trains a probe on each labelled subset and writes its test accuracies; none where none is wanted.

    Args:
        params: All of params.yaml.
        dataset: The data set's name.
        setting: The setting's name.
        seed: The training's.
        root: The project's folder.
    """
    watch = Stopwatch("probe", params.setting(setting).system)
    job, chosen = params.job(dataset, setting, seed), params.dataset(dataset)
    prepared = store.read(root / "data/prepared" / dataset)
    train = f"duvae train --dataset {dataset} --setting {setting} --seed {seed}"
    model, _ = model_files.load(
        root / "models" / job.folder, train, params.setting(setting).system, len(prepared.vocabulary)
    )
    weights = model_files.digest(model)
    torch.set_num_threads(params.threads)
    device = model_files.device()
    model.to(device)

    def write(found: dict[str, Any]) -> None:
        results = root / "results" / job.folder
        head = {"dataset": dataset, "setting": setting, "seed": seed, "weights": weights}
        write_json(results / "probe.json", {**head, **found})
        watch.write(results / "probe.run.json", weights=weights, device=str(device), threads=params.threads)

    if chosen.probe.per_character:
        write(by_character(model, prepared, chosen.probe.per_character, params, dataset))
        return

    def labelled(split: str) -> tuple[store.Array, store.Array]:
        documents = prepared.split(split)
        if len(np.unique(documents.labels)) < 2 or documents.labels.min() < 0:
            raise UserError(
                f"data/prepared/{dataset}: expected a label of two or more on every document of split '{split}',"
                f" to probe with. Give the files labels, or empty datasets.{dataset}.probe in params.yaml."
            )
        return features(model, documents, device), documents.labels

    wanted = chosen.probe.enabled
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
    with threadpool_limits(params.threads), convergence():
        found = {size: probe(drawn, test, params.probe) for size, drawn in subsets.items()}
    write(
        {
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
        }
    )


def by_character(
    model: VAE, prepared: store.Prepared, counts: list[int], params: Params, dataset: str
) -> dict[str, Any]:
    """Table 3: each alphabet on its own, so many images a character of those that train or validate; their mean.

    Args:
        model: On its device.
        prepared: The data set.
        counts: Images a character.
        params: All of params.yaml.
        dataset: The data set's name.
    """
    device = next(model.parameters()).device

    def labelled(*splits: str) -> Labelled:
        images = [prepared.images(split) for split in splits]
        seen = [features(model, part, device, params.evaluation.seed) for part in images]
        found = Labelled(
            np.concatenate(seen),
            np.concatenate([part.labels for part in images]),
            np.concatenate([part.groups for part in images]),
        )
        if found.labels.min() < 0 or found.groups.min() < 0:
            raise UserError(
                f"data/prepared/{dataset}: expected a character and an alphabet for every image of"
                f" {' and '.join(splits)}, to probe with. Give them folders alphabet/character, or empty"
                f" datasets.{dataset}.probe.per_character in params.yaml."
            )
        return found

    training, test = labelled("train", "valid"), labelled("test")
    for group in np.unique(training.groups).tolist():
        characters, images = len(np.unique(training.of(group)[1])), len(test.of(group)[1])
        if characters < 2 or not images:
            raise UserError(
                f"data/prepared/{dataset}: expected two characters or more that train, and images that test, in each"
                f" alphabet; found {characters} and {images} in {prepared.summary['alphabets'][group]}."
            )
    names = prepared.summary["alphabets"]
    largest = [np.unique(test.of(group)[1], return_counts=True)[1] for group in np.unique(training.groups).tolist()]
    by_labels = {}
    with threadpool_limits(params.threads), convergence():
        for count in counts:
            found = probe_groups(training, test, count, params.probe)
            mean = Accuracy(over_groups(found), [])
            by_labels[str(count)] = {
                "accuracy": mean.mean,
                "spread": mean.spread,
                "draws": mean.draws,
                "by_alphabet": {names[group]: accuracy.mean for group, accuracy in found.items()},
                "inverse_penalties": {names[group]: accuracy.penalties for group, accuracy in found.items()},
            }

    return {
        "features": int(test.features.shape[1]),
        "test": len(test.labels),
        "alphabets": len(names),
        "labels_are": "images a character",
        "largest_class": 100 * float(np.mean([times.max() / times.sum() for times in largest])),
        "by_labels": by_labels,
    }


def _check(size: int, labels: store.Array, dataset: str) -> None:
    """Whether that many can be drawn of the training documents, with each label among them."""
    key, classes = f"params.yaml: datasets.{dataset}.probe.labels", len(np.unique(labels))
    if size > len(labels):
        raise UserError(f"{key}: expected at most {len(labels)}, the training documents; found {size}.")
    if size < classes:
        raise UserError(f"{key}: expected at least {classes}, one for each label; found {size}.")
