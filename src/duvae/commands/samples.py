"""The stage `samples`: what a trained model draws or writes, for the report (Figure S1, Tables S3 and S4)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from duvae.config import APART, Params
from duvae.data import store
from duvae.data.batches import tensor
from duvae.data.store import Array, Images
from duvae.errors import UserError
from duvae.inference import generation, model_files, sample_files
from duvae.metrics.encoding import evaluating
from duvae.project.files import whole
from duvae.project.provenance import Stopwatch

WAYS = {"drawn": False, "likeliest": True}
"""Each pixel or word drawn from p(x|z), or the likeliest."""


def run(params: Params, dataset: str, setting: str, seed: int, root: Path = Path()) -> None:
    """Writes samples of the prior, where there is one, and interpolations between pairs of test examples.

    `generated/<dataset>/<setting>/<seed>.npz` holds `samples_<way>` of shape (samples, ...), `between_<way>` of shape
    (pairs, steps, ...), `pairs`, which test examples those lie between, `examples`, which to show beside the samples,
    `columns`, how many images a row, and `weights`, the digest of the model's weights.
    `results/<dataset>/<setting>/samples/<seed>.json` holds the part of it that git keeps.

    Args:
        params: All of params.yaml.
        dataset: The data set's name.
        setting: The setting's name.
        seed: The training's.
        root: The project's folder.
    """
    watch = Stopwatch("samples", params.setting(setting).system)
    job, wanted = params.job(dataset, setting, seed), params.generation
    train = f"duvae train --dataset {dataset} --setting {setting} --seed {seed}"
    prepared = store.read(root / "data/prepared" / dataset)
    model, _ = model_files.load(
        root / "models" / job.folder, train, params.setting(setting).system, len(prepared.vocabulary)
    )
    weights = model_files.digest(model)
    test = prepared.split("test")
    if len(test) < 2:
        raise UserError(f"data/prepared/{dataset}: expected two test examples or more to lie between; found 1.")
    torch.set_num_threads(params.threads)
    device = model_files.device()
    model.to(device)
    images = isinstance(test, Images)
    count = wanted.rows * wanted.columns if images else wanted.rows
    pairs = generation.pairs(wanted.pairs, len(test), wanted.seed)
    shown = np.random.default_rng(wanted.seed).choice(len(test), min(count, len(test)), replace=False)
    chosen = [tensor(test, np.array([index]), device) for index in pairs.flatten()]
    with evaluating(model):
        prior = model.posterior(chosen[0]).density
    ends = generation.means(model, chosen).unflatten(0, (wanted.pairs, 2))
    found: dict[str, Any] = {"pairs": pairs, "examples": shown, "columns": np.array(wanted.columns)}
    for way, likely in WAYS.items():
        if prior:
            samples = generation.prior(model, count, ends.shape[-1], wanted.seed, likely)
            found[f"samples_{way}"] = samples.cpu().numpy()
        between = generation.interpolations(model, ends, wanted.steps, wanted.seed, likely)
        found[f"between_{way}"] = between.unflatten(0, (wanted.pairs, wanted.steps)).cpu().numpy()
    if images:
        found = {name: array if array.dtype.kind == "i" else _bits(array) for name, array in found.items()}
    found["weights"] = np.array(weights)
    with whole(root / "generated" / job.folder.with_suffix(".npz")) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **found)
    place = sample_files.place(job, root)
    sample_files.write(place, sample_files.of(found, prepared), params.dataset(dataset).kind in APART)
    watch.write(place.with_suffix(".run.json"), weights=weights, device=str(device), threads=params.threads)
    print(f"{job.name}: {'samples and ' if prior else ''}interpolations for the report")


def _bits(images: Array) -> Array:
    """Pixels of 0 and 1 with shape (..., 1, height, width) as bytes, without the channel."""
    return images[..., 0, :, :].astype(np.uint8)
