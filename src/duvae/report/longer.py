"""Compares trainings at the data set's limit of epochs with the same trainings that had a higher limit."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from duvae.report import convergence, figures
from duvae.report.cells import number, number_range
from duvae.report.comparison import Comparison, difference_text
from duvae.report.names import LONGER
from duvae.report.results import Result, over_seeds, setting_names


def pairs(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Finds the settings that were trained in both ways.

    Args:
        results: Results of all models of one data set.

    Returns:
        Pairs of a setting at the limit of epochs and the setting that goes on.
    """
    settings = list(dict.fromkeys(result.job.setting for result in results))
    longer = [name for name in settings if name.endswith(LONGER)]

    return [(name.removesuffix(LONGER), name) for name in longer if name.removesuffix(LONGER) in settings]


def sentences(results: Sequence[Result], compared: Comparison) -> list[str]:
    """Says by how much the longer trainings lowered the NLL on test.

    Args:
        results: Results of all models of one data set.
        compared: The NLL of the single test examples.
    """
    over, names = over_seeds(results), setting_names(results)
    lines = []
    for short, long in pairs(results):
        models = [[result for result in results if result.job.setting == setting] for setting in (short, long)]
        own = [[result.ending for result in each] for each in models]
        endings = [convergence.over_seeds(each) for each in own]
        decays = {each.decays for each in own[1] if each.converged}
        limits = [each.epochs for each in own[1] if not each.converged]
        how = f"limit {number_range(limits)}" if limits else f"to the last decay, number {number_range(sorted(decays))}"
        marks = [convergence.mark(each) for each in models]
        values = [
            f"{number(over.value(setting, 'nll'), 2)}{mark}" for setting, mark in zip((short, long), marks, strict=True)
        ]
        lines.append(
            f"{names[short]}: NLL {values[0]} ({endings[0]}). Trained on ({how}): {values[1]} ({endings[1]})."
            f" The NLL of the longer training on the same examples: {difference_text(compared.between(long, short))}."
        )
        if marks[1]:  # the shorter training ends at its limit by design
            lines[-1] += f" {convergence.MARK} The longer training had not converged either."

    return lines


@figures.styled
def figure(results: Sequence[Result], warmup: int, width: float = figures.COLUMN) -> Figure:
    """Draws the negative ELBO on validation over the epochs after the warm-up, for both kinds of trainings.

    Args:
        results: Results of all models of one data set.
        warmup: Number of epochs over which the KL weight rises. The loss before its end is left out.
        width: Width of the figure in inches.
    """
    sheet = Figure(figsize=(width, 2.6))
    ax = sheet.subplots()
    names, styles = setting_names(results), figures.line_styles(results)
    for setting in [name for pair in pairs(results) for name in reversed(pair)]:
        colour, dashes = styles[setting]
        for number_of_line, result in enumerate(r for r in results if r.job.setting == setting):
            history = result.history[result.history["epoch"] > warmup]
            line_label = names[setting] if number_of_line == 0 else None
            loss = history["valid_loss"].astype(float)
            ax.plot(history["epoch"], loss, color=colour, linestyle=dashes, alpha=0.9, label=line_label)
            best = history[history["best"] == 1]
            if len(best):
                ax.plot(best["epoch"].iloc[-1], best["valid_loss"].iloc[-1], "o", color=colour, markersize=3)
    ax.set_xlabel("epoch")
    ax.set_ylabel("negative ELBO, validation (nats)")
    ax.grid(axis="y", color="#000000", alpha=0.08, linewidth=0.5)
    ax.legend(fontsize=6, **figures.LEGEND)
    sheet.tight_layout()

    return sheet
