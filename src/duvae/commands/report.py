"""The stage `report`: writes the page of all results that the key `run` of params.yaml names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup
from threadpoolctl import threadpool_limits

from duvae.config import APART, AnyDataset, Params, SyntheticDataset, is_own
from duvae.project.files import write_text
from duvae.report import (
    cells,
    claim_rows,
    claims,
    collapse,
    compare,
    drawings,
    earlier_results,
    examples,
    figure1,
    figures,
    front,
    latent_spaces,
    likelihood_table,
    longer,
    metric_columns,
    more_tables,
    never_run,
    observations,
    origin,
    page,
    paper,
    per_example,
    results,
    selection,
    site,
    study_text,
    tables,
    variant_page,
    variants,
    weights,
)
from duvae.report.per_example import Floor, PerExample, Space
from duvae.report.results import Result


def run(params: Params, root: Path = Path()) -> None:
    """Writes `reports/index.html`, the page of all results.

    The page begins with a scoreboard and the paper's claims. It has a folded section for each data set that the key
    `run` of params.yaml names. Variants of another of these data sets stand in the section of that data set instead
    (see `duvae.report.variants`). The page also compares any two settings (systems with their hyperparameters).
    The page depends only on files that git keeps, so it can be written in a fresh clone. Results of an earlier version
    of duvae may lack files; the page then leaves out some parts and names these parts. The page shows no examples from
    the user's own texts and images: the stage `examples` writes separate pages for these examples.

    Args:
        params: All parameters of params.yaml.
        root: The project's folder.

    Raises:
        UserError: If results are missing or unreadable. Also if all results belong to weights from before the last
            training.
    """
    with threadpool_limits(1):  # more threads would only wait for each other
        _write(params, root)


def _write(params: Params, root: Path) -> None:
    jobs, missing = never_run.split_by_results(params, params.run_jobs(), root)
    current, stale = weights.current_results(results.read(params, jobs, root))
    models = results.in_paper_order(current)
    own, others = variants.split(params, models)
    datasets = list(dict.fromkeys(model.job.dataset for model in own))
    sections = [
        section(params, [m for m in own if m.job.dataset == name], root, others.get(name, [])) for name in datasets
    ]
    of_paper = any(not is_own(params.dataset(name)) for name in datasets)
    tested = [part["evidence"] for part in sections if variants.base_of(params, part["id"]) is None]
    floor = next((part["floor"] for part in sections if part["floor"]), None)
    five_models = figure1_models(params, models)
    drawable = five_models is not None and figure1.drawable(five_models, root)
    found_studies = study_text.in_short(params, root)
    scores = [part["score"] for part in sections]
    compared = [part["compared"] for part in sections]
    sampled = [part["id"] for part in sections if part["examples"] or part["apart"]]
    pages = {
        **(site.PAGES if drawable else site.RESULTS),
        **(site.STUDIES if found_studies else {}),
        **({"Samples": f"index.html#samples-{sampled[0]}"} if sampled else {}),
    }
    html = page.render(
        "index.html",
        site=site.header("Results", site.origin(models), pages),
        scores=scores,
        score_columns=front.columns(scores),
        claims=claim_rows.table(claims.lines(tested)) if of_paper else None,
        models=len(models),
        settings=len({model.job.setting for model in models}),
        stale=stale,
        never_run={"count": len(missing), "lines": never_run.sentences(missing)} if missing else None,
        datasets=sections,
        studies=found_studies,
        figure1=figure1_content(params, five_models, models, root) if five_models and drawable else None,
        comparison={
            "sets": compared,
            "curves": [{"key": key, "title": title} for key, title in figures.CURVES],
            "first": first_comparison(compared),
        },
        metrics=page.metric_explanations(
            [key for part in sections for key in part["metrics"]], params.evaluation, floor
        ),
    )
    write_text(root / "reports" / "index.html", html)


def section(params: Params, models: Sequence[Result], root: Path, others: Sequence[Result] = ()) -> Mapping[str, Any]:
    """Computes the values that the template of the page needs for the section of one data set.

    Args:
        params: All parameters of params.yaml.
        models: Results of the data set's models.
        root: The project's folder.
        others: Results of the variants of the data set.
    """
    name = models[0].job.dataset
    dataset = params.dataset(name)
    item = metric_columns.noun(dataset)
    colours = {setting: colour for setting, (colour, _) in figures.line_styles(models).items()}
    warmup = dataset.optimisation.warmup
    floor, gaps = None, None
    per_model = [per_example.read(model, root) for model in models]
    if isinstance(dataset, SyntheticDataset) and dataset.truth is not None:
        floor = per_example.floor(name, root)
        gaps = per_example.gaps(models, per_model, floor)
    evidence = claims.evidence(params, models, per_model)
    compared = evidence.comparison
    names = results.setting_names(models)
    densest, latent = _latent_spaces(dataset, models, per_model, names)
    pictures = {setting: f"latent-{name}-{setting}" for setting in names if setting in latent}
    first = examples.first_seeds(models)
    samples = {setting: content for setting in names if (content := examples.committed_samples(first[setting], root))}
    probes = tables.probes(models, colours, item=item)
    pair = collapse.choose_pair(models, dataset.networks.latent, warmup, item)
    seeds = len({model.job.seed for model in models})
    same_limit = not earlier_results.other_limits(params, models)
    earlier = earlier_results.sentences(params, models, root)

    return {
        "id": name,
        "item": item,
        "size": page.size(
            dataset, next((values.documents for values in per_model if values), None), models, same_limit
        ),
        "score": front.score(dataset, evidence, earlier, same_limit),
        "earlier": earlier,
        "likelihood": likelihood_table.likelihood(models, colours, compared, floor, gaps, item=item),
        "floor": floor,
        "evidence": evidence,
        "quadrature": page.quadrature(floor) if floor else None,
        "observations": observations.observations(models, compared, dataset.networks.latent),
        "curves": drawings.curves(models, warmup),
        "seeds": seeds,
        "warmup": warmup,
        "metrics": metric_columns.shown_metrics(models, floor, item),
        "probes": probes,
        "alphabets": tables.alphabets(models),
        "longer": longer.sentences(models, compared),
        "longer_figure": drawings.inline_svg(longer.figure(models, warmup)) if longer.pairs(models) else None,
        "dimensions": more_tables.dimensions(models, colours),
        "variants": variant_page.content(params, name, models, per_model, others, floor, root) if floor else None,
        "exact": more_tables.exact(models, colours),
        "bias": drawings.inline_svg(figures.bias(models)) if more_tables.has_curve(models) else None,
        "probe_figure": drawings.inline_svg(figures.probes(models)) if probes else None,
        "latent": [(picture, latent[setting]) for setting, picture in pictures.items()],
        "densest": cells.number(densest, 2),
        "apart": dataset.kind in APART,
        "examples": examples.content(samples, names, seeds) if samples else None,
        "omissions": omissions(dataset, models, per_model, samples, floor),
        "mixture": origin.mixture_warning(models),
        "made_with": origin.provenance_lines(models),
        "costs": tables.costs(models, colours),
        "per_model": tables.per_model(models, colours, item) if seeds > 1 else None,
        "collapse": {
            "names": pair.names,
            "warmup": warmup,
            "figure": _collapse(pair),
            "paragraphs": collapse.paragraphs(pair, compared),
            "prior": cells.number(pair.prior, 2),
        }
        if pair
        else None,
        "paper_tables": _beside_the_paper(dataset, models, colours),
        "departs": dataset.paper.departs if dataset.paper else [],
        "compared": {
            "id": name,
            "warmup": warmup,
            "measures": compare.measures(models, floor, item),
            "settings": compare.settings(models, gaps, pictures),
            "pairs": compare.pairs(compared),
        },
    }


def _beside_the_paper(
    dataset: AnyDataset, models: Sequence[Result], colours: Mapping[str, str]
) -> list[paper.PaperComparison]:
    """The paper's tables beside our results, as far as we have results for their rows."""
    if dataset.paper is None:
        return []
    item, departs = metric_columns.noun(dataset), dataset.paper.departs
    compared = [
        paper.compare_with_paper(table, dataset.column, models, colours, item, departs)
        for table in dataset.paper.tables
    ]

    return [each for table in compared if (each := paper.with_results(table)) is not None]


def _latent_spaces(
    dataset: AnyDataset,
    models: Sequence[Result],
    per_model: Sequence[PerExample | None],
    names: Mapping[str, str],
) -> tuple[float, dict[str, Markup]]:
    """Draws the latent space of each setting.

    If the latent space does not have two dimensions, there are no pictures. The picture of a setting shows its first
    model for which `per_model` has the values of the test examples.

    Returns:
        The highest density in all pictures, which is the top of their common scale; and the pictures by setting.
    """
    spaces: dict[str, Space] = {}
    if dataset.networks.latent == 2:
        for model, values in zip(models, per_model, strict=True):
            if values and model.job.setting not in spaces:
                spaces[model.job.setting] = replace(per_example.space(model, values), name=names[model.job.setting])
    centre = latent_spaces.central_component(dataset.source) if isinstance(dataset, SyntheticDataset) else 0
    top = latent_spaces.highest(list(spaces.values()))
    pictures = {}
    for setting, space in spaces.items():
        figure = latent_spaces.latent(space, centre, latent_spaces.HALFWIDTH, top)
        pictures[setting] = page.inline_png(figures.small_png(figure, dpi=110), f"Latent space of {space.name}")

    return top, pictures


def omissions(
    dataset: AnyDataset,
    models: Sequence[Result],
    per_model: Sequence[PerExample | None],
    samples: Mapping[str, object],
    floor: Floor | None,
) -> str | None:
    """Names the parts that the section of a data set leaves out.

    A section leaves out a part if the files of this part are missing, or belong to other weights than the metrics.

    Args:
        dataset: The data set's parameters in params.yaml.
        models: Results of the data set's models.
        per_model: Values of the test examples of each model; None for a model whose file of values is missing.
        samples: The samples that git keeps, by setting.
        floor: The NLL of test sentences under the generator of a synthetic data set (see `Floor`); None: the data set
            is not synthetic.

    Returns:
        One sentence; None if nothing is left out.
    """
    unknown = [model for model, values in zip(models, per_model, strict=True) if values is None]
    without = [model.name for model in unknown]
    parts = []
    if without:
        subjects = ["the sizes of the splits"] if len(without) == len(models) else []
        subjects += ["the gap to the floor"] if floor else []
        subjects += ["the comparison of the NLL in pairs"] if any(model.metrics["nll"] for model in unknown) else []
        subjects += ["the latent space"] if dataset.networks.latent == 2 else []
        parts += [f"{cells.word_list(subjects)} ({_model_names(without, models)})"] if subjects else []
    if floor and floor.nll is None:
        parts.append("the likelihoods of single sentences under the generator")
    without_samples = [model.name for model in models if model.job.setting not in samples]
    if without_samples and dataset.kind not in APART:
        parts.append(f"samples and interpolations ({_model_names(without_samples, models)})")

    return (
        f"Left out, because their files are missing or belong to other weights: {'; '.join(parts)}." if parts else None
    )


def _model_names(names: Sequence[str], models: Sequence[Result]) -> str:
    """Joins the word `of` and the names of models, each once; or returns `of all models` if `names` has them all."""
    return "of all models" if len(names) == len(models) else f"of {cells.word_list(list(dict.fromkeys(names)))}"


def figure1_content(params: Params, five: Sequence[Result], models: Sequence[Result], root: Path) -> Mapping[str, Any]:
    """Computes the values that the template of the page needs for the picture of Figure 1.

    Args:
        params: All parameters of params.yaml.
        five: Results of Figure 1's five settings.
        models: Results of all models. The DU-VAE that supplement E's rule selects on our data gets a panel of its own.
        root: The project's folder.
    """
    selected = selection.selected_model(params, models, root)

    return figure1.picture(params, five, root, selected, choice=True)[1]


def figure1_models(params: Params, models: Sequence[Result]) -> list[Result] | None:
    """Selects the results of the five settings of Figure 1; returns None if `models` lacks one of these results."""
    jobs = params.figure1_jobs()
    five = [model for job in jobs for model in models if model.job == job]

    return five if jobs and len(five) == len(jobs) else None


def first_comparison(sets: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Chooses the two settings that the page compares first; returns their ids, such as `synthetic/vae`.

    Args:
        sets: Values for the comparison of settings, one mapping per data set: the `compared` that `section` computes.

    Returns:
        The ids of a VAE and a DU-VAE on the same data set. If no data set has both, the ids of the first two settings.
        None if there are fewer than two settings.
    """
    for dataset in sets:
        pair = [f"{dataset['id']}/vae", f"{dataset['id']}/du_vae"]
        if set(pair) <= {setting["id"] for setting in dataset["settings"]}:
            return pair
    ids = [setting["id"] for dataset in sets for setting in dataset["settings"]]

    return ids[:2] if len(ids) > 1 else None


def _collapse(pair: collapse.Pair) -> Markup:
    """Draws the course of the collapse. On a narrow screen, the VAE stands above the DU-VAE."""
    figure = collapse.figure(pair)

    return drawings.inline_svg(figure, collapse.columns(figure))
