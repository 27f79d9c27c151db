"""The command `figures`: writes the figures of all results as PDF and SVG files, in the two widths of a paper."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from duvae import config
from duvae.config import Params
from duvae.project.files import read_json, whole
from duvae.report import (
    collapse,
    figure1,
    figures,
    latent_spaces,
    longer,
    metric_columns,
    more_tables,
    never_run,
    per_example,
    results,
    study_figures,
    weights,
)

FOLDER = Path("reports") / "figures"
"""Folder of the files, below the folder of the project."""

WIDTHS = {84: figures.COLUMN, 174: figures.WIDTH}
"""Widths in inches, by their millimetres: that of one column, and that of a page of two columns."""

Draw = Callable[[float], Figure]
"""A function that draws a figure of a width in inches."""


def run(params: Params, root: Path = Path()) -> None:
    """Writes each figure of the results and of the studies as PDF and as SVG, 84 and 174 mm wide.

    The names of the files are those of the figures, such as `synthetic-curves-84.pdf`. The type in the files has at
    least 6 points. Figures whose results are missing are left out.

    Args:
        params: All parameters of params.yaml.
        root: Folder of the project, with `results`.

    Raises:
        UserError: If there are no results at all, or if results are unreadable.
    """
    count = 0
    for name, draw in drawings(params, root):
        for millimetres, width in WIDTHS.items():
            figure = draw(width)
            stem = root / FOLDER / f"{name}-{millimetres}"
            for suffix, content in (("pdf", figures.pdf(figure)), ("svg", figures.svg_file(figure).encode())):
                with whole(stem.with_name(f"{stem.name}.{suffix}")) as temporary:
                    temporary.write_bytes(content)
                count += 1
        print(f"{name}: {' and '.join(str(millimetres) for millimetres in WIDTHS)} mm wide")
    print(f"wrote {count} files to {root / FOLDER}")


def drawings(params: Params, root: Path = Path()) -> Iterator[tuple[str, Draw]]:
    """Finds the figures that the results allow.

    Args:
        params: All parameters of params.yaml.
        root: Folder of the project, with `results`.

    Yields:
        The name of each figure, and the function that draws it.

    Raises:
        UserError: If there are no results at all, or if results are unreadable.
    """
    jobs, _ = never_run.split_by_results(params, params.run_jobs(), root)
    models = weights.current_models(params, jobs, root)
    five = [model for job in params.figure1_jobs() for model in models if model.job == job]
    if five and len(five) == len(params.figure1_jobs()) and figure1.drawable(five, root):
        source = figure1.synthetic(params.dataset(config.FIGURE1_DATASET)).source
        spaces = [
            per_example.space(model, values)
            for model, values in zip(five, figure1.current_examples(five, root), strict=True)
        ]
        true_z = per_example.floor(config.FIGURE1_DATASET, root).z
        yield "figure1", lambda width: latent_spaces.figure1(source, true_z, spaces, width=width)
    for name in dict.fromkeys(model.job.dataset for model in models):
        own = [model for model in models if model.job.dataset == name]
        yield from _of_dataset(params, name, own)
    for name in params.studies:
        folder, command = config.best_params_path(name, root).parent, f"duvae search --study {name}"
        if (folder / "study.json").exists():
            summary = read_json(folder / "study.json", command)
            trials, curves = (results.read_table(folder / f"{each}.csv", command) for each in ("trials", "curves"))
            yield f"{name}-map", partial(study_figures.heat_map, summary, trials)
            yield f"{name}-search", partial(study_figures.progress, summary, trials, curves)


def _of_dataset(params: Params, name: str, models: list[results.Result]) -> Iterator[tuple[str, Draw]]:
    """Finds the figures of one data set. See `drawings`."""
    dataset = params.dataset(name)
    warmup = dataset.optimisation.warmup
    yield f"{name}-curves", partial(figures.curves, models, warmup)
    if results.label_counts(models):
        yield f"{name}-probes", partial(figures.probes, models)
    pair = collapse.choose_pair(models, dataset.networks.latent, warmup, metric_columns.noun(dataset))
    if pair:
        yield f"{name}-collapse", partial(collapse.figure, pair)
    if more_tables.has_curve(models):
        yield f"{name}-bias", partial(figures.bias, models)
    if longer.pairs(models):
        yield f"{name}-longer", partial(longer.figure, models, warmup)
