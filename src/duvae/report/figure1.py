"""What is shown of Figure 1: the same on its own page and as a part of the page of all results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from duvae.config import FIGURE1_DATASET, Evaluation, SyntheticDataset
from duvae.data import store
from duvae.errors import UserError
from duvae.report import figures, page, results, tables
from duvae.report.results import Result, Space


def dataset(of: object) -> SyntheticDataset:
    """Figure 1's data set, once it is known to be a synthetic one."""
    if not isinstance(of, SyntheticDataset):
        raise UserError(f"params.yaml: datasets.{FIGURE1_DATASET}.kind: Figure 1 is drawn of a synthetic data set.")

    return of


def content(
    of: SyntheticDataset, models: Sequence[Result], evaluation: Evaluation, root: Path = Path()
) -> tuple[bytes, Mapping[str, Any]]:
    """Figure 1 as PNG, and what `figure1_part.html` is filled with.

    Args:
        of: The data set.
        models: Figure 1's five, of one seed.
        evaluation: How they were measured.
        root: The project's folder.
    """
    floor = results.floor(FIGURE1_DATASET, root)
    posteriors = [results.posteriors(model.job, root) for model in models]
    gaps = results.gaps(models, posteriors, floor)
    spaces = [results.space(model, frame) for model, frame in zip(models, posteriors, strict=True)]
    prepared = root / "data" / "prepared" / FIGURE1_DATASET
    true_z = None
    if (prepared / "test.z.npy").exists():
        true_z = Space("true z", store.array(prepared, "test.z"), None, store.array(prepared, "test.labels"))
    points = [true_z, *spaces] if true_z else spaces
    colours = {setting: colour for setting, (colour, _) in figures.line_styles(models).items()}
    drawn = figures.png(figures.figure1(of.source, true_z, spaces), dpi=250)

    return drawn, {
        "components": len(of.source.means),
        "length": of.source.length,
        "train": of.source.train,
        "test": models[0].metrics["sentences"],
        "systems": tables.listed([model.name for model in models]),
        "seed": models[0].job.seed,
        "true_z": true_z is not None,
        "outside": tables.listed([f"{page.percent(figures.outside(space.means))} ({space.name})" for space in points]),
        "points": tables.listed([space.name for space in spaces if space.variances is None]),
        "figure": page.image(drawn, "Latent spaces: density above, means below"),
        "seen": page.seen(models, gaps),
        "likelihood": tables.likelihood(models, colours, floor, gaps, prefix="figure1-"),
        "quadrature": page.quadrature(floor),
        "metrics": page.explained(tables.shown(models, floor), evaluation, floor),
        "probes": tables.probes(models, colours, prefix="figure1-"),
        "probe_figure": page.drawing(figures.svg(figures.probes(models))),
        "warmup": of.optimisation.warmup,
        "curves": page.drawing(figures.svg(figures.curves(models, of.optimisation.warmup))),
        "making": tables.making(models, colours, prefix="figure1-"),
    }
