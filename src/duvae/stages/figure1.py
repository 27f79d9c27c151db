"""Figure 1 redrawn, with its page."""

from pathlib import Path

from duvae.config import FIGURE1_DATASET, Params, SyntheticDataset
from duvae.data import store
from duvae.errors import UserError
from duvae.files import whole, write_text
from duvae.report import figures, page, results
from duvae.report.results import Space


def run(params: Params, root: Path = Path()) -> None:
    """Writes `reports/figure1.html` and `reports/figure1.png` from the results of Figure 1's five.

    Args:
        params: All of params.yaml.
        root: The project's folder.
    """
    dataset = params.dataset(FIGURE1_DATASET)
    if not isinstance(dataset, SyntheticDataset):
        raise UserError(f"params.yaml: datasets.{FIGURE1_DATASET}.kind: Figure 1 is drawn of a synthetic data set.")
    models = results.read(params, params.figure1_jobs(), root)
    posteriors = {model.job.setting: results.posteriors(model.job, root) for model in models}
    floor = results.floor(FIGURE1_DATASET, root)
    gaps = {setting: floor.gap(frame) for setting, frame in posteriors.items()}
    spaces = [results.space(model, posteriors[model.job.setting]) for model in models]
    prepared = root / "data" / "prepared" / FIGURE1_DATASET
    true_z = None
    if (prepared / "test.z.npy").exists():
        true_z = Space("true z", store.array(prepared, "test.z"), None, store.array(prepared, "test.labels"))

    colours = {setting: colour for setting, (colour, _) in figures.line_styles(models).items()}
    warmup = dataset.optimisation.warmup
    drawn = figures.png(figures.figure1(dataset.source, true_z, spaces), dpi=250)
    shown = [*([true_z] if true_z else []), *spaces]
    html = page.render(
        "figure1.html",
        components=len(dataset.source.means),
        length=dataset.source.length,
        train=dataset.source.train,
        test=models[0].metrics["sentences"],
        systems=page.listed([model.name for model in models]),
        seed=params.figure1.seed,
        figure=page.image(drawn, "Latent spaces: density above, means below"),
        true_z=true_z is not None,
        outside=page.listed([f"{page.percent(figures.outside(space.means))} ({space.name})" for space in shown]),
        points=page.listed([s.name for s in spaces if s.variances is None]),
        seen=page.seen(models, gaps),
        likelihood=page.likelihood(models, colours, floor, gaps),
        quadrature=page.quadrature(floor),
        metrics=page.explained(
            [metric.key for metric in page.METRICS],
            samples=params.evaluation.importance_samples,
            floor=floor.summary["sentences"],
            threshold=params.evaluation.active_threshold,
        ),
        probes=page.probes(models, colours),
        probe_figure=page.drawing(figures.svg(figures.probes(models))),
        warmup=warmup,
        curves=page.drawing(figures.svg(figures.curves(models, warmup))),
        making=page.making(models, colours),
    )
    with whole(root / "reports" / "figure1.png") as temporary:
        temporary.write_bytes(drawn)
    write_text(root / "reports" / "figure1.html", html)
