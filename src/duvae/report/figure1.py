"""What is shown of Figure 1: the same on its own page and as a part of the page of all results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from duvae.config import FIGURE1_DATASET, Evaluation, SyntheticDataset
from duvae.errors import UserError
from duvae.report import figures, origin, page, per_example, results, tables
from duvae.report.results import Result


def dataset(of: object) -> SyntheticDataset:
    """Figure 1's data set, once it is known to be a synthetic one."""
    if not isinstance(of, SyntheticDataset):
        raise UserError(f"params.yaml: datasets.{FIGURE1_DATASET}.kind: Figure 1 is drawn of a synthetic data set.")

    return of


def drawable(models: Sequence[Result], root: Path = Path()) -> bool:
    """Whether git keeps all that Figure 1 is drawn from."""
    return not missing(models, root) and all(per_example.read(model, root) for model in models)


def missing(models: Sequence[Result], root: Path = Path()) -> dict[Path, str]:
    """The files beside the results that Figure 1 is drawn from and that are not there, each with its command."""
    files = {
        per_example.place(model.job, root): f"duvae evaluate --dataset {model.job.dataset}"
        f" --setting {model.job.setting} --seed {model.job.seed}"
        for model in models
    }
    truth = root / "results" / FIGURE1_DATASET / per_example.FILE

    return {
        path: command
        for path, command in {**files, truth: f"duvae truth --dataset {FIGURE1_DATASET}"}.items()
        if not path.exists()
    }


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
    results.need(missing(models, root))
    floor = per_example.floor(FIGURE1_DATASET, root)
    read = [(model, per_example.read(model, root)) for model in models]
    kept = [(model, examples) for model, examples in read if examples]
    if len(kept) < len(models):
        lacking = [model.job.name for model, examples in read if not examples]
        raise UserError(
            f"{per_example.FILE} of {tables.listed(lacking)}: of other weights than metrics.json. 'dvc repro figure1'"
            " makes both anew."
        )
    gaps = per_example.gaps(models, [examples for _, examples in kept], floor)
    spaces = [per_example.space(model, examples) for model, examples in kept]
    true_z = floor.z
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
        "mixture": origin.mixture(models),
        "made_with": origin.made_with(models),
        "likelihood": tables.likelihood(models, colours, floor, gaps, prefix="figure1-"),
        "quadrature": page.quadrature(floor),
        "metrics": page.explained(tables.shown(models, floor), evaluation, floor),
        "probes": tables.probes(models, colours, prefix="figure1-"),
        "probe_figure": page.drawing(figures.svg(figures.probes(models))),
        "warmup": of.optimisation.warmup,
        "curves": page.drawing(figures.svg(figures.curves(models, of.optimisation.warmup))),
        "making": tables.making(models, colours, prefix="figure1-"),
    }
