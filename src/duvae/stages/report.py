"""The page on all that `run` names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from duvae.config import FIGURE1_DATASET, Params, SyntheticDataset
from duvae.files import whole_folder, write_text
from duvae.report import collapse, compare, examples, figure1, figures, page, paper, results, tables
from duvae.report.results import Result

MANY = 60_000
"""Epochs times lines from which on curves are a picture of dots instead of a drawing, which would be larger."""


def run(params: Params, root: Path = Path()) -> None:
    """Writes `reports/index.html`: each data set of `run`, the collapse, any two settings, and the paper's numbers.

    Lines of texts and pictures of one's own are left out of it, and go to `reports/examples`, a page a data set.

    Args:
        params: All of params.yaml.
        root: The project's folder.
    """
    models = results.arranged(results.read(params, params.run_jobs(), root))
    datasets = list(dict.fromkeys(model.job.dataset for model in models))
    sections = [section(params, [m for m in models if m.job.dataset == name], root) for name in datasets]
    floor = next((of["floor"] for of in sections if of["floor"]), None)
    html = page.render(
        "index.html",
        models=len(models),
        settings=len({model.job.setting for model in models}),
        datasets=sections,
        collapses=[of for of in sections if of["collapse"]],
        figure1=part(params, models, root),
        comparison={
            "sets": [of["compared"] for of in sections],
            "curves": [{"key": key, "title": title} for key, title in figures.CURVES],
            "first": first([of["compared"] for of in sections]),
        },
        metrics=page.explained([key for of in sections for key in of["shown"]], params.evaluation, floor),
    )
    write_text(root / "reports" / "index.html", html)
    with whole_folder(root / "reports" / "examples") as folder:
        for of in sections:
            if of["examples"]["apart"] and not of["examples"]["missing"]:
                write_text(folder / f"{of['id']}.html", page.render("examples.html", **of))


def section(params: Params, models: Sequence[Result], root: Path) -> Mapping[str, Any]:
    """What the page says of one data set."""
    name = models[0].job.dataset
    dataset = params.dataset(name)
    item = tables.noun(dataset)
    colours = {setting: colour for setting, (colour, _) in figures.line_styles(models).items()}
    warmup = dataset.optimisation.warmup
    floor, gaps = None, None
    flat = dataset.networks.latent == 2
    posteriors = (
        [results.posteriors(model.job, root) for model in models] if flat or dataset.kind == "synthetic" else []
    )
    if dataset.kind == "synthetic":
        floor = results.floor(name, root)
        gaps = results.gaps(models, posteriors, floor)
    centre = figures.middle(dataset.source) if isinstance(dataset, SyntheticDataset) else 0
    names = results.labels(models)
    latent = {}
    for model, frame in zip(models, posteriors, strict=True) if flat else ():
        if model.job.setting not in latent:
            space = replace(results.space(model, frame), name=names[model.job.setting])
            drawn = figures.latent(space, centre, figures.HALFWIDTH)
            latent[model.job.setting] = page.image(figures.png(drawn, dpi=110), f"Latent space of {space.name}")
    probed = tables.probes(models, colours, item=item)
    pair = collapse.pair(models, dataset.networks.latent, warmup, item)
    beside = dataset.paper.tables if dataset.paper else []
    seeds = len({model.job.seed for model in models})

    return {
        "id": name,
        "item": item,
        "size": page.size(dataset, results.counts(name, root), models),
        "likelihood": tables.likelihood(models, colours, floor, gaps, item=item),
        "floor": floor,
        "quadrature": page.quadrature(floor) if floor else None,
        "seen": page.seen(models),
        "curves": _sheet(models, warmup),
        "seeds": seeds,
        "warmup": warmup,
        "shown": tables.shown(models, floor, item),
        "probes": probed,
        "alphabets": tables.alphabets(models),
        "probe_figure": page.drawing(figures.svg(figures.probes(models))) if probed else None,
        "latent": [
            (f"latent-{name}-{setting}", names[setting], latent[setting]) for setting in names if setting in latent
        ],
        "examples": examples.shown(models, names, dataset, root),
        "making": tables.making(models, colours),
        "each": tables.each(models, colours, item) if seeds > 1 else None,
        "collapse": {
            "names": pair.names,
            "warmup": warmup,
            "figure": page.drawing(figures.svg(collapse.figure(pair))),
            "told": collapse.told(pair),
            "prior": tables.number(pair.prior, 2),
        }
        if pair
        else None,
        "beside": [paper.beside(table, dataset.column, models, colours, item) for table in beside],
        "departs": dataset.paper.departs if dataset.paper else [],
        "compared": {
            "id": name,
            "warmup": warmup,
            "measures": compare.measures(models, floor, item),
            "settings": compare.settings(
                models, gaps, {setting: f"latent-{name}-{setting}" for setting in names if setting in latent}
            ),
        },
    }


def part(params: Params, models: Sequence[Result], root: Path) -> Mapping[str, Any] | None:
    """Figure 1, where the run holds its five."""
    five = params.figure1_jobs()
    of = [model for job in five for model in models if model.job == job]
    if len(of) < len(five):
        return None

    return figure1.content(figure1.dataset(params.dataset(FIGURE1_DATASET)), of, params.evaluation, root)[1]


def first(sets: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """The two settings that are compared first: a VAE and a DU-VAE, or the first two; None for a single one."""
    for of in sets:
        wanted = [f"{of['id']}/vae", f"{of['id']}/du_vae"]
        if set(wanted) <= {setting["id"] for setting in of["settings"]}:
            return wanted
    ids = [setting["id"] for of in sets for setting in of["settings"]]

    return ids[:2] if len(ids) > 1 else None


def _sheet(models: Sequence[Result], warmup: int) -> Any:
    drawn = figures.curves(models, warmup)
    if sum(len(model.history) for model in models) * len(figures.CURVES) > MANY:
        return page.image(figures.png(drawn), "Training curves")

    return page.drawing(figures.svg(drawn))
