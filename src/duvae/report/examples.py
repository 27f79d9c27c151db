"""What trained models draw or write, beside real test examples: pictures, or lines of text (Figure S1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from duvae.config import Job
from duvae.data.store import Array
from duvae.inference import sample_files
from duvae.inference.sample_files import Drawn
from duvae.report import page, pictures
from duvae.report.results import Result

PIXEL = 2
"""Pixels of a picture a pixel of an image."""


def place(job: Job, root: Path) -> Path:
    """The archive of what a model drew or wrote, which git does not keep."""
    return root / "generated" / job.folder.with_suffix(".npz")


def command(job: Job) -> str:
    """The command that makes what a model draws or writes."""
    return f"duvae samples --dataset {job.dataset} --setting {job.setting} --seed {job.seed}"


def first(models: Sequence[Result]) -> dict[str, Result]:
    """The first seed of each setting, which is the one that is shown."""
    return {model.job.setting: model for model in reversed(models)}


def kept(model: Result, root: Path = Path()) -> Drawn | None:
    """What git keeps of a model's samples; None where it keeps none, or some of other weights."""
    path = sample_files.place(model.job, root)
    found = sample_files.read(path, command(model.job)) if path.exists() else None

    return found if found and found.weights == model.metrics.get("weights") else None


def shown(found: Mapping[str, Drawn], names: Mapping[str, str], seeds: int) -> Mapping[str, Any]:
    """What a page shows of a data set: real test examples, and samples and interpolations of each setting.

    Args:
        found: Samples and interpolations by setting, of one data set.
        names: The name of each setting.
        seeds: Number of seeds that were trained.
    """
    one = next(iter(found.values()))
    head = {
        "pictures": one.pictures,
        "pairs": len(one.ends),
        "steps": len(next(iter(one.between.values()))[0]),
        "seeds": seeds,
    }
    settings = {setting: name for setting, name in names.items() if setting in found}

    return {**head, **(_pictures if one.pictures else _lines)(found, settings)}


def _pictures(found: Mapping[str, Drawn], names: Mapping[str, str]) -> Mapping[str, Any]:
    def picture(array: Array, columns: int, alt: str) -> Markup:
        return page.image(pictures.png(pictures.grid(array.reshape(-1, *array.shape[-2:]), columns, PIXEL)), alt)

    def line(of: Drawn, way: str, alt: str) -> Markup:
        between = of.between[way]
        parts = [
            pictures.grid(of.ends[:, 0], 1, PIXEL),
            pictures.grid(between.reshape(-1, *between.shape[-2:]), between.shape[1], PIXEL),
            pictures.grid(of.ends[:, 1], 1, PIXEL),
        ]
        return page.image(pictures.png(pictures.beside(parts, 4 * PIXEL)), alt)

    one = next(iter(found.values()))

    return {
        "ways": list(one.between),
        "test": picture(one.test, one.columns, "Test images"),
        "settings": [
            {
                "name": name,
                "samples": [
                    picture(found[setting].samples[way], found[setting].columns, f"Samples of {name}, {way}")
                    for way in found[setting].samples
                ],
                "between": [
                    line(found[setting], way, f"Interpolations of {name}, {way}") for way in found[setting].between
                ],
            }
            for setting, name in names.items()
        ],
    }


def _lines(found: Mapping[str, Drawn], names: Mapping[str, str]) -> Mapping[str, Any]:
    return {
        "test": next(iter(found.values())).test,
        "settings": [
            {
                "name": name,
                "samples": list(found[setting].samples.items()),
                "between": [
                    (source, lines, target)
                    for (source, target), lines in zip(
                        found[setting].ends, found[setting].between["likeliest"], strict=True
                    )
                ],
            }
            for setting, name in names.items()
        ],
    }
