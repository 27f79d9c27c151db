"""The page on all that `run` names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from duvae.config import Params
from duvae.files import write_text
from duvae.report import figures, page, results
from duvae.report.results import Result


def run(params: Params, root: Path = Path()) -> None:
    """Writes `reports/index.html`: tables, curves and probes of each data set of `run`.

    Args:
        params: All of params.yaml.
        root: The project's folder.
    """
    models = results.read(params, params.run_jobs(), root)
    datasets = list(dict.fromkeys(model.job.dataset for model in models))
    html = page.render(
        "index.html",
        models=len(models),
        datasets=[section(params, [m for m in models if m.job.dataset == name], root) for name in datasets],
        metrics=page.explained(
            [metric.key for metric in page.METRICS if metric.key != "gap"],
            samples=params.evaluation.importance_samples,
            threshold=params.evaluation.active_threshold,
        ),
    )
    write_text(root / "reports" / "index.html", html)


def section(params: Params, models: Sequence[Result], root: Path) -> Mapping[str, Any]:
    """What the page says of one data set."""
    name = models[0].job.dataset
    dataset = params.dataset(name)
    colours = {setting: colour for setting, (colour, _) in figures.line_styles(models).items()}
    warmup = dataset.optimisation.warmup
    floor = results.floor(name, root) if dataset.kind == "synthetic" else None
    tabulated = page.probes(models, colours)

    return {
        "id": name,
        "size": page.size(dataset, results.counts(name, root), models),
        "likelihood": page.likelihood(models, colours, floor),
        "quadrature": page.quadrature(floor) if floor else None,
        "seen": page.seen(models),
        "curves": page.drawing(figures.svg(figures.curves(models, warmup))),
        "seeds": len({model.job.seed for model in models}),
        "warmup": warmup,
        "probes": tabulated,
        "probe_figure": page.drawing(figures.svg(figures.probes(models))) if tabulated else None,
        "making": page.making(models, colours),
    }
