"""The page on all that `run` names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from duvae.config import APART, FIGURE1_DATASET, AnyDataset, Params, SyntheticDataset
from duvae.project.files import write_text
from duvae.report import (
    collapse,
    compare,
    examples,
    figure1,
    figures,
    origin,
    page,
    paper,
    per_example,
    results,
    tables,
    weights,
)
from duvae.report.per_example import Floor, PerExample
from duvae.report.results import Result

MANY = 60_000
"""Epochs times lines from which on curves are a picture of dots instead of a drawing, which would be larger."""


def run(params: Params, root: Path = Path()) -> None:
    """Writes `reports/index.html`: each data set of `run`, the collapse, any two settings, and the paper's numbers.

    It is made of files that git keeps, and of nothing else: the page can be written on a fresh clone. What old results
    lack is left out, and the page says so. Lines of texts and pictures of one's own are on the pages of the stage
    `examples`.

    Args:
        params: All of params.yaml.
        root: The project's folder.
    """
    kept, stale = weights.apart(results.read(params, params.run_jobs(), root))
    models = results.arranged(kept)
    datasets = list(dict.fromkeys(model.job.dataset for model in models))
    sections = [section(params, [m for m in models if m.job.dataset == name], root) for name in datasets]
    floor = next((of["floor"] for of in sections if of["floor"]), None)
    of_figure1 = five(params, models)
    drawable = of_figure1 is not None and figure1.drawable(of_figure1, root)
    html = page.render(
        "index.html",
        models=len(models),
        settings=len({model.job.setting for model in models}),
        stale=stale,
        datasets=sections,
        collapses=[of for of in sections if of["collapse"]],
        figure1=content(params, of_figure1, root) if of_figure1 and drawable else None,
        no_figure1=of_figure1 is not None and not drawable,
        comparison={
            "sets": [of["compared"] for of in sections],
            "curves": [{"key": key, "title": title} for key, title in figures.CURVES],
            "first": first([of["compared"] for of in sections]),
        },
        metrics=page.explained([key for of in sections for key in of["shown"]], params.evaluation, floor),
    )
    write_text(root / "reports" / "index.html", html)


def section(params: Params, models: Sequence[Result], root: Path) -> Mapping[str, Any]:
    """What the page says of one data set."""
    name = models[0].job.dataset
    dataset = params.dataset(name)
    item = tables.noun(dataset)
    colours = {setting: colour for setting, (colour, _) in figures.line_styles(models).items()}
    warmup = dataset.optimisation.warmup
    floor, gaps = None, None
    read = [per_example.read(model, root) for model in models]
    if dataset.kind == "synthetic":
        floor = per_example.floor(name, root)
        gaps = per_example.gaps(models, read, floor)
    centre = figures.middle(dataset.source) if isinstance(dataset, SyntheticDataset) else 0
    names = results.labels(models)
    latent = {}
    for model, of in zip(models, read, strict=True):
        if of and dataset.networks.latent == 2 and model.job.setting not in latent:
            space = replace(per_example.space(model, of), name=names[model.job.setting])
            picture = figures.latent(space, centre, figures.HALFWIDTH)
            latent[model.job.setting] = page.image(figures.png(picture, dpi=110), f"Latent space of {space.name}")
    first = examples.first(models)
    samples = {setting: found for setting in names if (found := examples.kept(first[setting], root))}
    probed = tables.probes(models, colours, item=item)
    pair = collapse.pair(models, dataset.networks.latent, warmup, item)
    beside = dataset.paper.tables if dataset.paper else []
    seeds = len({model.job.seed for model in models})

    return {
        "id": name,
        "item": item,
        "size": page.size(dataset, next((of.documents for of in read if of), None), models),
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
        "apart": dataset.kind in APART,
        "examples": examples.shown(samples, names, seeds) if samples else None,
        "lacks": lacks(dataset, models, read, samples, floor),
        "mixture": origin.mixture(models),
        "made_with": origin.made_with(models),
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


def lacks(
    dataset: AnyDataset,
    models: Sequence[Result],
    read: Sequence[PerExample | None],
    samples: Mapping[str, object],
    floor: Floor | None,
) -> str | None:
    """What is left out of the section of one data set, since its results are older than what git keeps today.

    Args:
        dataset: What params.yaml says of the data set.
        models: Its models.
        read: The test examples of each model; None where git does not keep them.
        samples: The settings whose samples git keeps.
        floor: The floor of a synthetic data set.

    Returns:
        One sentence; None where nothing is left out.
    """
    without = [model.name for model, of in zip(models, read, strict=True) if of is None]
    parts = []
    if without:
        what = ["the sizes of the splits"] if len(without) == len(models) else []
        what += ["the gap to the floor"] if floor else []
        what += ["the latent space"] if dataset.networks.latent == 2 else []
        parts += [f"{tables.listed(what)} ({_which(without, models)})"] if what else []
    if floor and floor.nll is None:
        parts.append("the likelihoods of single sentences under the generator")
    undrawn = [model.name for model in models if model.job.setting not in samples]
    if undrawn and dataset.kind not in APART:
        parts.append(f"samples and interpolations ({_which(undrawn, models)})")

    return f"Left out, since the results are older than this part of them: {'; '.join(parts)}." if parts else None


def _which(names: Sequence[str], models: Sequence[Result]) -> str:
    """The names of models, each once; shorter where they are all."""
    return "of all models" if len(names) == len(models) else f"of {tables.listed(list(dict.fromkeys(names)))}"


def content(params: Params, models: Sequence[Result], root: Path) -> Mapping[str, Any]:
    """What the page shows of Figure 1, from the results of its five."""
    return figure1.content(figure1.dataset(params.dataset(FIGURE1_DATASET)), models, params.evaluation, root)[1]


def five(params: Params, models: Sequence[Result]) -> list[Result] | None:
    """The results of the five settings of Figure 1; None where `run` does not hold all of them."""
    jobs = params.figure1_jobs()
    found = [model for job in jobs for model in models if model.job == job]

    return found if jobs and len(found) == len(jobs) else None


def first(sets: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """The two settings that are compared first: a VAE and a DU-VAE, or the first two; None for a single one."""
    for of in sets:
        wanted = [f"{of['id']}/vae", f"{of['id']}/du_vae"]
        if set(wanted) <= {setting["id"] for setting in of["settings"]}:
            return wanted
    ids = [setting["id"] for of in sets for setting in of["settings"]]

    return ids[:2] if len(ids) > 1 else None


def _sheet(models: Sequence[Result], warmup: int) -> Any:
    sample_files = figures.curves(models, warmup)
    if sum(len(model.history) for model in models) * len(figures.CURVES) > MANY:
        return page.image(figures.png(sample_files), "Training curves")

    return page.drawing(figures.svg(sample_files))
