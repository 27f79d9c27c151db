"""Prepares samples and interpolations of trained models for the report pages.

The pages show the samples beside test examples, as Figure S1 of the paper's supplement does.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from duvae.config import Job
from duvae.data.splits import Array
from duvae.inference import sample_files
from duvae.inference.sample_files import Samples
from duvae.project.provenance import read_record
from duvae.report import page, pictures
from duvae.report.results import Result

PIXEL = 2
"""Side, in pixels of the picture, of the square that shows one pixel of an image."""


def archive_path(job: Job, root: Path) -> Path:
    """The path of the archive of a model's samples, which `duvae samples` writes. Git does not keep the archive."""
    return root / "generated" / job.folder.with_suffix(".npz")


def command(job: Job) -> str:
    """The command that writes a model's samples."""
    return f"duvae samples --dataset {job.dataset} --setting {job.setting} --seed {job.seed}"


def first_seeds(models: Sequence[Result]) -> dict[str, Result]:
    """Finds the first result of each setting. The pages show only the samples of the seed of this result.

    Args:
        models: Results of one data set.

    Returns:
        The first result in `models` of each setting, by setting.
    """
    return {model.job.setting: model for model in reversed(models)}


def committed_samples(model: Result, root: Path = Path()) -> Samples | None:
    """Reads the samples of a model from the file that git keeps.

    Returns:
        The samples. None where the file is missing, or belongs to other weights than the metrics of the model do. Also
        None where the file holds no examples, because the data set may be private.

    Raises:
        UserError: If the file is broken, or has changed since it was written.
    """
    path = sample_files.file_path(model.job, root)
    read_record(path.with_suffix(".run.json"), command(model.job), missing_ok=True)
    samples = sample_files.read(path, command(model.job)) if path.exists() else None

    return samples if samples and samples.weights == model.metrics.get("weights") else None


def content(samples: Mapping[str, Samples], names: Mapping[str, str], seeds: int) -> Mapping[str, Any]:
    """Computes the variables of the template `examples_part.html` for one data set.

    Args:
        samples: Samples and interpolations of one data set, by setting.
        names: The name of each setting.
        seeds: Number of trained seeds.

    Returns:
        A mapping with these keys:

        - `pictures`: whether the examples are images.
        - `pairs`: number of pairs of test examples between which the models interpolate.
        - `steps`: number of points of each interpolation.
        - `seeds`: the argument `seeds`.
        - `test`: the test examples.
        - `settings`: one mapping per setting, with its `name`, its `samples` and its interpolations (`between`).
        - `ways`, for images only: the decodings, such as `drawn` for pixels that are drawn from p(x|z).
    """
    first = next(iter(samples.values()))
    head = {
        "pictures": first.are_images,
        "pairs": len(first.endpoints),
        "steps": len(next(iter(first.interpolations.values()))[0]),
        "seeds": seeds,
    }
    settings = {setting: name for setting, name in names.items() if setting in samples}

    return {**head, **(_pictures if first.are_images else _lines)(samples, settings)}


def _pictures(samples: Mapping[str, Samples], names: Mapping[str, str]) -> Mapping[str, Any]:
    def picture(array: Array, columns: int, alt: str) -> Markup:
        return page.inline_png(pictures.png(pictures.grid(array.reshape(-1, *array.shape[-2:]), columns, PIXEL)), alt)

    def interpolation(model: Samples, decoding: str, alt: str) -> Markup:
        steps = model.interpolations[decoding]
        parts = [
            pictures.grid(model.endpoints[:, 0], 1, PIXEL),
            pictures.grid(steps.reshape(-1, *steps.shape[-2:]), steps.shape[1], PIXEL),
            pictures.grid(model.endpoints[:, 1], 1, PIXEL),
        ]
        return page.inline_png(pictures.png(pictures.side_by_side(parts, 4 * PIXEL)), alt)

    first = next(iter(samples.values()))

    return {
        "ways": list(first.interpolations),
        "test": picture(first.test, first.columns, "Test images"),
        "settings": [
            {
                "name": name,
                "samples": [
                    picture(examples, samples[setting].columns, f"Samples of {name}, {decoding}")
                    for decoding, examples in samples[setting].prior.items()
                ],
                "between": [
                    interpolation(samples[setting], decoding, f"Interpolations of {name}, {decoding}")
                    for decoding in samples[setting].interpolations
                ],
            }
            for setting, name in names.items()
        ],
    }


def _lines(samples: Mapping[str, Samples], names: Mapping[str, str]) -> Mapping[str, Any]:
    return {
        "test": next(iter(samples.values())).test,
        "settings": [
            {
                "name": name,
                "samples": list(samples[setting].prior.items()),
                "between": [
                    (source, lines, target)
                    for (source, target), lines in zip(
                        samples[setting].endpoints, samples[setting].interpolations["likeliest"], strict=True
                    )
                ],
            }
            for setting, name in names.items()
        ],
    }
