"""`duvae generate` and `duvae interpolate`: what a trained model draws or writes."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from duvae import generation, models
from duvae.config import Params
from duvae.data import store
from duvae.data.store import Prepared
from duvae.errors import UserError
from duvae.files import whole, write_text
from duvae.report import pictures
from duvae.vae import VAE


def run(
    params: Params,
    dataset: str,
    setting: str,
    seed: int,
    output: Path | None,
    rows: int,
    columns: int,
    draw_seed: int,
    likely: bool,
    interpolate: bool,
    root: Path = Path(),
) -> None:
    """Writes a grid of images as PNG, or sentences as text, a line each.

    Args:
        params: All of params.yaml.
        dataset: The data set's name.
        setting: The setting's name.
        seed: The training's.
        output: The file; None: below `reports/generated`.
        rows: Of the grid; pairs of test examples where it is of interpolations.
        columns: Of the grid; steps from one example to the other, both included.
        draw_seed: Of z and of what is drawn.
        likely: Draw each pixel or word as the likeliest.
        interpolate: Between the posterior means of test examples instead of from the prior.
        root: The project's folder.
    """
    job = params.job(dataset, setting, seed)
    prepared = store.read(root / "data/prepared" / dataset)
    train = f"duvae train --dataset {dataset} --setting {setting} --seed {seed}"
    model, description = models.load(
        root / "models" / job.folder, train, params.setting(setting).system, len(prepared.vocabulary)
    )
    torch.set_num_threads(params.threads)
    device = models.device()
    model.to(device)
    if interpolate:
        ends = ends_of_pairs(model, prepared, rows, draw_seed, device)
        found = generation.interpolations(model, ends, columns, draw_seed, likely)
    else:
        found = generation.prior(model, rows * columns, description.networks["latent"], draw_seed, likely)
    kind = "interpolations" if interpolate else "samples"
    path = write(found, output or root / "reports/generated" / f"{job.name}-{kind}", prepared, columns)
    print(f"{path}: {rows} x {columns} {kind} of {job.name}")


def ends_of_pairs(model: VAE, prepared: Prepared, count: int, seed: int, device: torch.device) -> Tensor:
    """The posterior means of `count` pairs of test examples, with shape (pairs, 2, latent)."""
    test = prepared.split("test")
    if len(test) < 2:
        raise UserError(f"data/prepared: expected two test examples or more to lie between; found {len(test)}.")
    chosen = generation.pairs(count, len(test), seed)
    examples = [torch.from_numpy(test.batch(np.array([n]))).to(device) for n in chosen.flatten()]
    means = generation.means(model, [x if x.is_floating_point() else x.long() for x in examples])

    return means.unflatten(0, (count, 2))


def write(found: Tensor, path: Path, prepared: Prepared, columns: int) -> Path:
    """Images to a PNG, sentences to a text file; returns which file it is."""
    if found.ndim == 4:
        path = path if path.suffix else path.with_suffix(".png")
        if path.suffix != ".png":
            raise UserError(f"--output {path}: expected a name that ends in .png, which is what is written.")
        drawn = pictures.png(pictures.grid(found[:, 0].cpu().numpy(), columns))
        with whole(path) as temporary:
            temporary.write_bytes(drawn)
        return path
    path = path if path.suffix else path.with_suffix(".txt")
    lines = [" ".join(prepared.words(sentence)) for sentence in found.cpu().numpy()]
    if columns > 1 and len(lines) > columns:
        lines = ["\n".join(lines[first : first + columns]) + "\n" for first in range(0, len(lines), columns)]
    write_text(path, "".join(f"{line}\n" for line in lines))

    return path
