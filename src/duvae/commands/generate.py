"""`duvae generate` and `duvae interpolate`, and what `duvae reconstruct` and `duvae encode` share with them."""

import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from duvae.config import Params
from duvae.data import store
from duvae.data.batches import tensor
from duvae.data.store import Array, Documents, Prepared
from duvae.errors import UserError
from duvae.inference import generation, model_files
from duvae.inference.model import Trained
from duvae.project.files import whole, write_text
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
    temperature: float = 1.0,
    ends: Sequence[str] = (),
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
        temperature: Of the draws of pixels or words.
        ends: Two sentences to interpolate between, instead of test examples.
    """
    job = params.job(dataset, setting, seed)
    trained, prepared = opened(params, dataset, setting, seed, root)
    model, longest = trained.model, longest_of(prepared)
    if interpolate and ends:
        rows = 1
        if trained.size is not None:
            raise UserError("--from, --to: expected only with texts; pairs of test images are interpolated without.")
        with told():
            between = trained.z_of(trained.split(ends, "--from, --to"))[None]
        found = generation.interpolations(model, between, columns, draw_seed, likely, temperature, longest)
    elif interpolate:
        between = ends_of_pairs(model, prepared, rows, draw_seed, trained.device)
        found = generation.interpolations(model, between, columns, draw_seed, likely, temperature, longest)
    else:
        found = generation.prior(model, rows * columns, trained.latent, draw_seed, likely, temperature, longest)
    kind = "interpolations" if interpolate else "samples"
    path = write(found, output or root / "reports/generated" / f"{job.name}-{kind}", prepared, columns)
    print(f"{path}: {rows} x {columns} {kind} of {job.name}")


def opened(params: Params, dataset: str, setting: str, seed: int, root: Path = Path()) -> tuple[Trained, Prepared]:
    """A project's trained model, and the data set that it was trained on."""
    job = params.job(dataset, setting, seed)
    prepared = store.read(root / "data/prepared" / dataset)
    train = f"duvae train --dataset {dataset} --setting {setting} --seed {seed}"
    model, description = model_files.load(
        root / "models" / job.folder, train, params.setting(setting).system, len(prepared.vocabulary)
    )
    torch.set_num_threads(params.threads)

    return Trained(model, description, prepared.vocabulary), prepared


def longest_of(prepared: Prepared) -> int:
    """Ids of a sentence that is written, at most: as the longest document, and no fewer than usual."""
    lengths = [int(split.lengths.max()) for split in prepared.splits.values() if isinstance(split, Documents)]

    return max([generation.LONGEST, *lengths])


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Prints the warnings of the body, such as of unknown words, a line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)


def ends_of_pairs(model: VAE, prepared: Prepared, count: int, seed: int, device: torch.device) -> Tensor:
    """The posterior means of `count` pairs of test examples, with shape (pairs, 2, latent)."""
    test = prepared.split("test")
    if len(test) < 2:
        raise UserError(f"data/prepared: expected two test examples or more to lie between; found {len(test)}.")
    chosen = generation.pairs(count, len(test), seed)
    means = generation.means(model, [tensor(test, np.array([n]), device) for n in chosen.flatten()])

    return means.unflatten(0, (count, 2))


def write(found: Tensor, path: Path, prepared: Prepared, columns: int) -> Path:
    """Images to a PNG, sentences to a text file; returns which file it is."""
    if found.ndim == 4:
        return write_grid(found[:, 0].cpu().numpy(), path, columns)
    path = path if path.suffix else path.with_suffix(".txt")
    lines = [" ".join(prepared.words(sentence)) for sentence in found.cpu().numpy()]
    if columns > 1 and len(lines) > columns:
        lines = ["\n".join(lines[first : first + columns]) + "\n" for first in range(0, len(lines), columns)]
    write_text(path, "".join(f"{line}\n" for line in lines))

    return path


def write_grid(images: Array, path: Path, columns: int) -> Path:
    """Images side by side as a PNG, whose name says so; returns which file it is.

    Args:
        images: With shape (images, height, width), ink 1.
        path: The file; without a suffix it gets one.
        columns: Images a row.
    """
    path = path if path.suffix else path.with_suffix(".png")
    if path.suffix != ".png":
        raise UserError(f"--output {path}: expected a name that ends in .png, which is what is written.")
    drawn = pictures.png(pictures.grid(images, columns))
    with whole(path) as temporary:
        temporary.write_bytes(drawn)

    return path
