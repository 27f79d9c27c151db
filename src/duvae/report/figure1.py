"""Draws the paper's Figure 1, and computes the numbers and texts around it.

Figure 1 shows the latent spaces of five systems on synthetic data. It has a page of its own; the page of all results
shows the picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from duvae.config import FIGURE1_DATASET, AnyDataset, Params, SyntheticDataset
from duvae.errors import UserError
from duvae.report import (
    cells,
    claim_rows,
    claims,
    drawings,
    earlier_results,
    figures,
    latent_spaces,
    likelihood_table,
    metric_columns,
    observations,
    origin,
    page,
    per_example,
    results,
    selection,
    site,
    tables,
)
from duvae.report.per_example import PerExample
from duvae.report.results import Result


def synthetic(dataset: AnyDataset) -> SyntheticDataset:
    """Checks that Figure 1's data set is a synthetic one, and returns it.

    Raises:
        UserError: If the data set is of another kind.
    """
    if not isinstance(dataset, SyntheticDataset):
        raise UserError(f"params.yaml: datasets.{FIGURE1_DATASET}.kind: Figure 1 needs a synthetic data set.")

    return dataset


def drawable(models: Sequence[Result], root: Path = Path()) -> bool:
    """Whether all files for Figure 1 exist and fit together.

    The files of a model fit together if its metrics and its values of single test examples belong to the same weights.
    """
    return not missing(models, root) and all(per_example.read(model, root) for model in models)


def missing(models: Sequence[Result], root: Path = Path()) -> dict[Path, str]:
    """Finds which of the files that Figure 1 needs are missing. These files hold values of single test examples.

    Returns:
        The command that writes each missing file, by the file's path.
    """
    files = {
        per_example.file_path(model.job, root): f"duvae evaluate --dataset {model.job.dataset}"
        f" --setting {model.job.setting} --seed {model.job.seed}"
        for model in models
    }
    truth = root / "results" / FIGURE1_DATASET / per_example.FILE

    return {
        path: command
        for path, command in {**files, truth: f"duvae truth --dataset {FIGURE1_DATASET}"}.items()
        if not path.exists()
    }


def picture(
    params: Params, models: Sequence[Result], root: Path = Path(), selected: Result | None = None, choice: bool = False
) -> tuple[bytes, Mapping[str, Any]]:
    """Draws Figure 1, and computes the variables of the macro `picture` in `figure1_part.html`.

    Args:
        params: All parameters of params.yaml.
        models: Results of Figure 1's five settings (systems with hyperparameters), all with the same seed.
        root: The project's folder.
        selected: Result of the DU-VAE that supplement E's rule selects on our data; it gets a panel of its own. None:
            no such panel.
        choice: Whether a sentence says which setting supplement E's rule selects. It needs the result of a study, on
            which the page of Figure 1 alone does not depend.

    Returns:
        The figure as PNG, and the variables.

    Raises:
        UserError: If a file is missing, is broken, or belongs to other weights than the metrics of its model do.
    """
    dataset = synthetic(params.dataset(FIGURE1_DATASET))
    examples = current_examples(models, root)
    true_z = per_example.floor(FIGURE1_DATASET, root).z
    spaces = [per_example.space(model, values) for model, values in zip(models, examples, strict=True)]
    chosen = per_example.read(selected, root) if selected else None
    if selected and chosen:
        spaces.append(replace(per_example.space(selected, chosen), name=f"DU-VAE, {selected.hyperparameters}"))
    paper = next((pair for pair in zip(models, examples, strict=True) if pair[0].job.setting == "du_vae"), None)
    points = [true_z, *spaces] if true_z else spaces
    drawing = latent_spaces.figure1(dataset.source, true_z, spaces)
    figure = figures.png(drawing, dpi=250)

    return figure, {
        "true_z": true_z is not None,
        "outside": cells.word_list(
            [f"{page.percent(latent_spaces.share_outside(space.means))} ({space.name})" for space in points]
        ),
        "points": cells.word_list([space.name for space in spaces if space.variances is None]),
        "figure": drawings.inline_png(drawing, figure, latent_spaces.columns(drawing)),
        "selection": selection.sentence(params, paper, (selected, chosen) if selected and chosen else None, root)
        if paper and choice
        else None,
    }


def current_examples(models: Sequence[Result], root: Path = Path()) -> list[PerExample]:
    """Reads the values of the test examples of Figure 1's models.

    Raises:
        UserError: If a file is missing, is broken, or belongs to other weights than the metrics of its model do.
    """
    results.require_files(missing(models, root))
    examples = [per_example.read(model, root) for model in models]
    stale = [model.job.name for model, values in zip(models, examples, strict=True) if not values]
    if stale:
        raise UserError(
            f"{per_example.FILE} of {cells.word_list(stale)}: it belongs to other weights than metrics.json. Run"
            " 'dvc repro figure1' to make both again."
        )

    return [values for values in examples if values]


def content(params: Params, models: Sequence[Result], root: Path = Path()) -> tuple[bytes, Mapping[str, Any]]:
    """Draws Figure 1, and computes the variables of the page of Figure 1.

    Args:
        params: All parameters of params.yaml.
        models: Results of Figure 1's five settings (systems with hyperparameters), all with the same seed.
        root: The project's folder.

    Returns:
        The figure as PNG, and the variables: `site` for the header, and `part` for the rest.

    Raises:
        UserError: If a file is missing, is broken, or belongs to other weights than the metrics of its model do.
    """
    dataset = synthetic(params.dataset(FIGURE1_DATASET))
    examples = current_examples(models, root)
    floor = per_example.floor(FIGURE1_DATASET, root)
    gaps = per_example.gaps(models, examples, floor)
    evidence = claims.evidence(params, models, examples)
    colours = {setting: colour for setting, (colour, _) in figures.line_styles(models).items()}
    figure, drawn = picture(params, models, root)

    part = {
        **drawn,
        "components": len(dataset.source.means),
        "length": dataset.source.length,
        "train": dataset.source.training,
        "test": models[0].metrics["sentences"],
        "systems": cells.word_list([model.name for model in models]),
        "seed": models[0].job.seed,
        "earlier": earlier_results.sentences(params, models, root),
        "claims": claim_rows.table([line for line in claims.lines([evidence]) if line.dataset]),
        "observations": observations.observations(models, evidence.comparison, dataset.networks.latent, gaps),
        "mixture": origin.mixture_warning(models),
        "made_with": origin.provenance_lines(models),
        "likelihood": likelihood_table.likelihood(models, colours, evidence.comparison, floor, gaps, prefix="figure1-"),
        "quadrature": page.quadrature(floor),
        "metrics": page.metric_explanations(metric_columns.shown_metrics(models, floor), params.evaluation, floor),
        "probes": tables.probes(models, colours, prefix="figure1-"),
        "probe_figure": drawings.inline_svg(figures.probes(models)),
        "warmup": dataset.optimisation.warmup,
        "curves": drawings.curves(models, dataset.optimisation.warmup),
        "costs": tables.costs(models, colours, prefix="figure1-"),
    }

    return figure, {"site": site.header("Figure 1", site.origin(models)), "part": part}
