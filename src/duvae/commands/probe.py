"""The stage `probe`: trains linear classifiers on the features of a trained model.

The features are the posterior mean of an example, and for a flow also the code to which the flow maps this mean.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from duvae import devices
from duvae.config import Params
from duvae.data import store
from duvae.data.enough import require_probe
from duvae.data.splits import Array, unseen
from duvae.inference import model_files
from duvae.metrics.encoding import features
from duvae.metrics.probes import Accuracy, Labelled, convergence, draw, over_groups, probe, probe_groups
from duvae.project.files import write_json
from duvae.project.provenance import Stopwatch
from duvae.vae import VAE


def run(params: Params, dataset: str, setting: str, seed: int, root: Path = Path()) -> None:
    """Trains a probe (a linear classifier) on each labelled subset, and writes the test accuracies to `probe.json`.

    A labelled subset is drawn from the examples that have labels, or comes from files that params.yaml names.

    A data set without probes in params.yaml gets a file without accuracies.

    Args:
        params: All parameters of params.yaml.
        dataset: Name of the data set.
        setting: Name of the setting, which is a system with its hyperparameters.
        seed: Seed of the training.
        root: Folder of the project.

    Raises:
        UserError: If the data set has no labels, or too few for a subset.
    """
    watch = Stopwatch("probe", params.setting(setting).system)
    job, chosen = params.job(dataset, setting, seed), params.dataset(dataset)
    prepared = store.read(root / "data/prepared" / dataset)
    require_probe(prepared, chosen, dataset)
    train = f"duvae train --dataset {dataset} --setting {setting} --seed {seed}"
    model, _ = model_files.load(
        root / "models" / job.folder, train, params.setting(setting).system, len(prepared.vocabulary)
    )
    weights = model_files.digest(model)
    torch.set_num_threads(params.threads)
    device = model_files.device(params.precision.evaluation)
    model.to(device)

    if chosen.probe.per_character:
        results = by_character(model, prepared, chosen.probe.per_character, params, dataset)
    else:
        results = by_subset(model, prepared, params, dataset)
    folder = root / "results" / job.folder
    head = {"dataset": dataset, "setting": setting, "seed": seed, "weights": weights}
    write_json(folder / "probe.json", {**head, **results})
    watch.write(
        folder / "probe.run.json",
        [folder / "probe.json"],
        weights=weights,
        device=str(device),
        precision=devices.used(device, params.precision.evaluation),
        threads=params.threads,
    )


def by_subset(model: VAE, prepared: store.Prepared, params: Params, dataset: str) -> dict[str, Any]:
    """Trains a classifier on each labelled subset of a data set.

    Args:
        model: Trained model, on its device.
        prepared: Prepared data set.
        params: All parameters of params.yaml.
        dataset: Name of the data set.

    Returns:
        Content of probe.json; accuracies and shares are in percent:

        - `features`: number of input features;
        - `test`: number of test documents;
        - `largest_class`: share of the most frequent label in the test set; None for a data set without probes;
        - `by_labels`: results by size of the subset, which is its number of labels. `draws` has the test accuracy of
          each subset of this size. `accuracy` and `spread` are the mean and the standard deviation of
          `draws`. `inverse_penalties` has the inverse penalty that cross-validation has chosen for each subset.
          `in_test` and `in_valid` count the labelled documents of each subset that also occur in the test or the
          validation split.
    """
    options, device = params.dataset(dataset).probe, next(model.parameters()).device

    def labelled(split: str) -> tuple[Array, Array]:
        documents = prepared.split(split)
        return features(model, documents, device), documents.labels

    test = labelled("test") if options.enabled else (np.zeros((0, 0)), np.zeros(0, np.int64))
    subsets: dict[str, list[tuple[Array, Array]]] = {}
    shared: dict[str, dict[str, list[int]]] = {}

    def add(size: int, subset: tuple[Array, Array], elsewhere: dict[str, Array]) -> None:
        subsets.setdefault(str(size), []).append(subset)
        for other, is_there in elsewhere.items():
            shared.setdefault(str(size), {}).setdefault(f"in_{other}", []).append(int(is_there.sum()))

    def elsewhere(split: str) -> dict[str, Array]:
        documents = prepared.split(split)
        return {other: ~unseen(documents, prepared.split(other)) for other in ("test", "valid")}

    if options.labels:
        (inputs, labels), places = labelled("train"), elsewhere("train")
        for size in options.labels:
            for n in range(params.probe.draws):
                indices = draw(labels, size, (params.probe.seed, size, n))
                drawn = {other: is_there[indices] for other, is_there in places.items()}
                add(size, (inputs[indices], labels[indices]), drawn)
    for name in dict.fromkeys(options.subsets):
        subset = labelled(name)
        add(len(subset[1]), subset, elsewhere(name))  # subsets of the same size share one mean accuracy
    with threadpool_limits(params.threads), convergence():
        accuracies = {size: probe(draws, test, params.probe) for size, draws in subsets.items()}

    return {
        "features": int(test[0].shape[1]),
        "test": len(test[1]),
        "largest_class": 100 * float(np.bincount(test[1]).max() / len(test[1])) if options.enabled else None,
        "by_labels": {
            size: {
                "accuracy": accuracy.mean,
                "spread": accuracy.spread,
                "draws": accuracy.draws,
                "inverse_penalties": accuracy.penalties,
                **shared[size],
            }
            for size, accuracy in accuracies.items()
        },
    }


def by_character(
    model: VAE, prepared: store.Prepared, counts: list[int], params: Params, dataset: str
) -> dict[str, Any]:
    """Trains classifiers of characters, separately for each alphabet (Table 3 of the paper).

    The labelled images come from the training and validation splits.

    Args:
        model: Trained model, on its device.
        prepared: Prepared data set.
        counts: Numbers of labelled images per character.
        params: All parameters of params.yaml.
        dataset: Name of the data set.

    Returns:
        Content of probe.json; accuracies and shares are in percent:

        - `features`: number of input features;
        - `test`: number of test images;
        - `alphabets`: number of alphabets;
        - `labels_are`: unit of the numbers of labels in `by_labels`;
        - `largest_class`: share of the most frequent character in an alphabet's test images, mean over the alphabets;
        - `by_labels`: results by number of labelled images per character. `draws` has one accuracy for each draw of
          labelled images, as the mean over the alphabets. `accuracy` and `spread` are the mean and the
          standard deviation of `draws`. `by_alphabet` and `inverse_penalties` have the accuracy and the chosen inverse
          penalties of each alphabet, by name of the alphabet.
    """
    device = next(model.parameters()).device

    def labelled(*splits: str) -> Labelled:
        images = [prepared.images(split) for split in splits]
        return Labelled(
            np.concatenate([features(model, part, device, params.evaluation.seed) for part in images]),
            np.concatenate([part.labels for part in images]),
            np.concatenate([part.groups for part in images]),
        )

    training, test = labelled("train", "valid"), labelled("test")
    names = prepared.summary["alphabets"]
    class_sizes = [np.unique(test.of(group)[1], return_counts=True)[1] for group in np.unique(training.groups).tolist()]
    by_labels = {}
    with threadpool_limits(params.threads), convergence():
        for count in counts:
            accuracies = probe_groups(training, test, count, params.probe)
            mean = Accuracy(over_groups(accuracies), [])
            by_labels[str(count)] = {
                "accuracy": mean.mean,
                "spread": mean.spread,
                "draws": mean.draws,
                "by_alphabet": {names[group]: accuracy.mean for group, accuracy in accuracies.items()},
                "inverse_penalties": {names[group]: accuracy.penalties for group, accuracy in accuracies.items()},
            }

    return {
        "features": int(test.features.shape[1]),
        "test": len(test.labels),
        "alphabets": len(names),
        "labels_are": "images a character",
        "largest_class": 100 * float(np.mean([sizes.max() / sizes.sum() for sizes in class_sizes])),
        "by_labels": by_labels,
    }
