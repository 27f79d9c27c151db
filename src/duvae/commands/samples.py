"""The stage `samples`: writes samples and interpolations for the report.

The samples and interpolations correspond to Figure S1 and Tables S3 and S4 of the paper's supplement.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from duvae import devices
from duvae.config import APART, Params
from duvae.data import store
from duvae.data.batches import tensor
from duvae.data.splits import Array, Images
from duvae.errors import UserError
from duvae.inference import generation, model_files, sample_files
from duvae.metrics.encoding import evaluating
from duvae.project.files import whole
from duvae.project.provenance import Stopwatch
from duvae.vae import VAE

DRAWN = "drawn"
"""The decoding by draws from p(x|z)."""

LIKELIEST = "likeliest"
"""The decoding of texts to the likeliest word each time."""

MEAN = "mean"
"""The decoding of images to each pixel's probability of ink, given z.

The likelier value of each pixel would give an empty image wherever no pixel is likelier ink than paper.
"""

LEVELS = 32
"""Number of equal steps to which the probabilities are rounded. They have a larger error from the number of draws."""


def run(params: Params, dataset: str, setting: str, seed: int, root: Path = Path()) -> None:
    """Writes samples of the prior, if the system has a prior, and interpolations between pairs of test examples.

    `generated/<dataset>/<setting>/<seed>.npz` holds these arrays. A `<decoding>` is `drawn`, or `likeliest` for texts,
    or `mean` for images.

    - `samples_<decoding>`: samples of the prior, shape (samples, ...); missing if the system has no prior.
    - `between_<decoding>`: interpolations, shape (pairs, steps, ...).
    - `pairs`: indices of the two test examples of each interpolation, shape (pairs, 2).
    - `examples`: indices of the test examples to show beside the samples, shape (examples,).
    - `columns`: number of images in each row of a picture.
    - `weights`: the digest of the model's weights: a hash that is equal only for equal weights.

    `results/<dataset>/<setting>/samples/<seed>.json`, which git keeps, holds the same samples and interpolations, and
    the test examples to show beside them. If the data set holds the user's own texts or images, the file holds none of
    these examples, so that git does not keep them.

    Args:
        params: All parameters of params.yaml.
        dataset: The data set's name.
        setting: The setting's name; a setting is a system with its hyperparameters.
        seed: The seed of the training.
        root: The project's folder.

    Raises:
        UserError: If the model is missing or broken, or if there are fewer than two test examples.
    """
    watch = Stopwatch("samples", params.setting(setting).system)
    job, options = params.job(dataset, setting, seed), params.generation
    train = f"duvae train --dataset {dataset} --setting {setting} --seed {seed}"
    prepared = store.read(root / "data/prepared" / dataset)
    model, _ = model_files.load(
        root / "models" / job.folder, train, params.setting(setting).system, len(prepared.vocabulary)
    )
    weights = model_files.digest(model)
    test = prepared.split("test")
    if len(test) < 2:
        raise UserError(f"data/prepared/{dataset}: expected two test examples or more, for interpolations; found 1.")
    torch.set_num_threads(params.threads)
    device = model_files.device(params.precision.evaluation)
    model.to(device)
    images = isinstance(test, Images)
    count = options.rows * options.columns if images else options.rows
    pairs = generation.pairs(options.pairs, len(test), options.seed)
    examples = np.random.default_rng(options.seed).choice(len(test), min(count, len(test)), replace=False)
    batches = [tensor(test, np.array([index]), device) for index in pairs.flatten()]
    with evaluating(model):
        prior = model.posterior(batches[0]).density
    ends = generation.means(model, batches).unflatten(0, (options.pairs, 2))
    points = generation.between(ends[:, 0], ends[:, 1], options.steps).flatten(0, 1)
    arrays: dict[str, Any] = {"pairs": pairs, "examples": examples, "columns": np.array(options.columns)}
    for decoding in (DRAWN, MEAN if images else LIKELIEST):
        if prior:
            z, generator = generation.prior_codes(count, ends.shape[-1], options.seed, device)
            arrays[f"samples_{decoding}"] = _decoded(model, z, generator, options.draws, decoding)
        z, generator = points, torch.Generator(device).manual_seed(options.seed)
        between = _decoded(model, z, generator, options.draws, decoding)
        arrays[f"between_{decoding}"] = between.reshape(options.pairs, options.steps, *between.shape[1:])
    arrays["weights"] = np.array(weights)
    with whole(root / "generated" / job.folder.with_suffix(".npz")) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    path = sample_files.file_path(job, root)
    sample_files.write(path, sample_files.from_arrays(arrays, prepared), params.dataset(dataset).kind in APART)
    watch.write(
        path.with_suffix(".run.json"),
        [path],
        weights=weights,
        device=str(device),
        precision=devices.used(device, params.precision.evaluation),
        threads=params.threads,
    )
    print(f"{job.name}: {'samples and ' if prior else ''}interpolations for the report")


def _decoded(model: VAE, z: Tensor, generator: torch.Generator, draws: int, decoding: str) -> Array:
    """Decodes latent codes.

    Args:
        model: The trained VAE.
        z: Latent codes, shape (codes, latent).
        generator: The random generator of the draws.
        draws: Number of images to draw for each z for the decoding `mean`.
        decoding: `drawn`, `likeliest` or `mean`.

    Returns:
        Word ids, shape (codes, words), or pixels, shape (codes, height, width). Drawn pixels are 0 or 1, as bytes.
        Probabilities are rounded to multiples of 1 / LEVELS, which numbers of half precision hold without an error.
    """
    if decoding == MEAN:
        ink = generation.mean_images(model, z, draws, generator)[:, 0].cpu().numpy()
        return (np.rint(ink * LEVELS) / LEVELS).astype(np.float16)
    examples: Array = generation.decode(model, z, generator, decoding == LIKELIEST).cpu().numpy()

    return examples[:, 0].astype(np.uint8) if examples.dtype.kind == "f" else examples
