"""Shows the posterior collapse: draws metrics of a VAE and a DU-VAE over the epochs, and explains the figure in words.

`verdict` decides whether a model has collapsed. The functions derive every statement about a model from the model's
results, so the sentences also hold for new results.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from duvae.metrics.verdict import CANNOT_TELL, COLLAPSED, COLLAPSED_MI, NOT_COLLAPSED
from duvae.metrics.verdict import over_seeds as verdict_over_seeds
from duvae.registry import RECORDS
from duvae.report import convergence, figures
from duvae.report.cells import number, number_range
from duvae.report.comparison import Comparison, difference_text
from duvae.report.names import label
from duvae.report.results import Result, over_seeds, setting_names

MEASURES = (
    ("valid_kl", "KL", "nats"),
    ("valid_mi", "MI", "nats"),
    ("valid_au", "AU", "dimensions"),
    ("valid_mpd", "MPD", "nats"),
    ("valid_ce", "CE", "nats"),
)
"""The rows of the figure: for each row, the column of history.csv, the quantity and its unit.

`docs/metrics.md` defines the quantities. The two that DU-VAE regularizes are MPD (diversity of the posteriors) and CE
(conditional entropy, the uncertainty of the posteriors).
"""

LOG_SCALE_RATIO = 8.0
"""Ratio of highest peak to kept value above which the axis of KL or MPD is logarithmic.

The highest peak is the largest value over all epochs and models of the figure. The kept value is the largest value over
the models, each at the epoch whose weights were kept. A kept value below 1 nat is replaced by 1 nat.
"""


@dataclass(frozen=True)
class Pair:
    """A VAE and a DU-VAE on one data set.

    Attributes:
        vae: Results of the VAE, one per seed.
        du_vae: Results of the DU-VAE, one per seed.
        names: The names of the two settings; the name of the VAE's setting comes first.
        latent: Number of dimensions of z.
        warmup: Number of epochs over which the KL weight rises.
        item: The word for one training example: `sentence` or `image`.
    """

    vae: Sequence[Result]
    du_vae: Sequence[Result]
    names: tuple[str, str]
    latent: int
    warmup: int
    item: str

    @property
    def short(self) -> tuple[str, str]:
        """The names of the two systems, without the hyperparameters that distinguish settings of one system."""
        return label("vae"), label("du_vae")

    @property
    def prior(self) -> float:
        """The entropy of the prior, n/2 log(2 pi e), in nats: the CE if every posterior equals the prior."""
        return self.latent / 2 * math.log(2 * math.pi * math.e)


def choose_pair(results: Sequence[Result], latent: int, warmup: int, item: str) -> Pair | None:
    """Chooses the VAE and the DU-VAE of a data set.

    Args:
        results: Results of all models of one data set.
        latent: Number of dimensions of z.
        warmup: Number of epochs over which the KL weight rises.
        item: The word for one training example: `sentence` or `image`.

    Returns:
        The results of one setting of each system. This setting is the one whose key equals the system's key, or else
        the system's first setting. None where one of the two systems has no setting.
    """
    names = setting_names(results)
    chosen = []
    for system in ("vae", "du_vae"):
        settings = [
            setting for setting in names if any(r.job.setting == setting and r.system == system for r in results)
        ]
        if not settings:
            return None
        setting = system if system in settings else settings[0]
        chosen.append([result for result in results if result.job.setting == setting])
    vae, du_vae = chosen

    return Pair(vae, du_vae, (names[vae[0].job.setting], names[du_vae[0].job.setting]), latent, warmup, item)


@figures.styled
def figure(pair: Pair, width: float = figures.WIDTH) -> Figure:
    """Draws KL, MI, AU, MPD and CE on validation over the epochs: one column per system, one row per measure.

    Args:
        pair: Results of a VAE and of a DU-VAE on the same data set.
        width: Width of the figure in inches.
    """
    sheet = Figure(figsize=(width, 6.3))
    axes = sheet.subplots(len(MEASURES), 2, sharex=True, sharey="row")
    longest = max(int(result.history["epoch"].max()) for result in (*pair.vae, *pair.du_vae))
    columns = list(zip((pair.vae, pair.du_vae), pair.names, strict=True))
    for index, (row, (measure, quantity, unit)) in enumerate(zip(axes, MEASURES, strict=True)):
        for ax, (results, name) in zip(row, columns, strict=True):
            if pair.warmup:
                ax.axvspan(0, min(pair.warmup, longest), color="#000000", alpha=0.06, linewidth=0)
            colour = RECORDS[results[0].system].colour
            for result in results:
                history = result.history
                ax.plot(history["epoch"], history[measure].astype(float), color=colour, alpha=0.9)
                best = best_epoch(result)
                ax.plot(best["epoch"], best[measure], "o", color=colour, markersize=3, clip_on=False, zorder=4)
            if measure == "valid_ce":
                ax.axhline(pair.prior, color="#888888", linewidth=0.8, linestyle="--")
            if index == 0:
                ax.set_title(name, loc="left", fontweight="bold", fontsize=8.5)
            value = float(np.mean([float(best_epoch(result)[measure]) for result in results]))
            text = number(value, 0 if measure == "valid_au" and value.is_integer() else 2)
            ax.set_title(f"kept: {text}", loc="right", fontsize=7, color="#555555")
            ax.grid(axis="y", color="#000000", alpha=0.08, linewidth=0.5)
            ax.set_xlim(0, longest + max(0.25, longest / 40))
        for ax in row:  # on a narrow screen, the columns stand one below the other
            ax.set_ylabel(f"{quantity} ({unit})")
            ax.tick_params(labelleft=True)
        values = np.concatenate([r.history[measure].astype(float).to_numpy() for rs, _ in columns for r in rs])
        most = float(np.nanmax(values, initial=0.0))
        ends = max(float(best_epoch(result)[measure]) for results, _ in columns for result in results)
        if measure == "valid_au":
            row[0].yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        if measure in ("valid_kl", "valid_mpd") and most > LOG_SCALE_RATIO * max(ends, 1.0):
            row[0].set_yscale("symlog", linthresh=1)
            row[0].set_ylim(-0.12, 1.5 * most)
            row[0].yaxis.set_major_formatter("{x:g}")
        elif measure != "valid_ce":
            row[0].set_ylim(
                min(0.0, float(np.nanmin(values, initial=0.0))) - 0.04 * max(most, 0.1), 1.1 * max(most, 0.1)
            )
        else:
            low, high = float(np.nanmin([*values, pair.prior])), float(np.nanmax([*values, pair.prior]))
            row[0].set_ylim(low - 0.08 * (high - low + 0.1), high + 0.14 * (high - low + 0.1))
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    sheet.align_ylabels(axes)
    sheet.tight_layout(h_pad=0.7, w_pad=1.5)

    return sheet


def columns(sheet: Figure) -> list[list[Artist]]:
    """The panels of each system in the figure, first those of the VAE, from the top to the bottom."""
    return [list(sheet.axes[::2]), list(sheet.axes[1::2])]


def best_epoch(result: Result) -> pd.Series:
    """The row of history.csv for the epoch whose weights were kept.

    This is the last row with 1 in the column `best`, or the last row of the file if no row has a 1 there.
    """
    history = result.history
    best = history[history["best"] == 1]

    return (best if len(best) else history).iloc[-1]


# ---------------------------------------------------------------------------------- in words


def paragraphs(pair: Pair, compared: Comparison) -> list[str]:
    """Explains the figure in five paragraphs: the measures, the VAE, the DU-VAE, their comparison, and the reason.

    Args:
        pair: The VAE and the DU-VAE.
        compared: The NLL of the single test examples, by which the two are compared.
    """
    vae, du_vae = pair.short
    measured = any(result.metrics.get("use") is not None for result in (*pair.vae, *pair.du_vae))
    length = f" (apart from the length of the {pair.item})" if pair.item == "sentence" else ""
    use = (
        f" The use of z, on test, is by how much log p(x|z) is higher than with the z of another {pair.item}: it is 0"
        " when the decoder ignores z, even if the posteriors differ."
        if measured
        else ""
    )
    measures = (
        f"A model has collapsed here if z holds less than {COLLAPSED_MI} nats of information about the {pair.item} x,"
        f" or if the decoder ignores z{length}. The bounds are ours. When q(z|x) is the same for every x, z holds no"
        " information. Four of the measures are 0 where every posterior equals the prior: KL, the cost of z;"
        " MI, the information about x in z; AU, the number of dimensions whose mean varies with x; and MPD, the"
        f" distance between the posteriors of two {pair.item}s. CE, the width of a posterior, is then the"
        " entropy of the prior (dashed). KL alone does not show a collapse: it is MI plus KL[q(z) ‖ p(z)], and the"
        f" second part can be positive when all posteriors are equal.{use}"
    )
    explanation = (
        f"Both minimise the same objective, equation 1. {vae}'s encoder is free to give every {pair.item} the same"
        " posterior. As long as the decoder makes no use of z, this is the cheapest solution: it brings the KL"
        " term to 0. DU-VAE adds no term against that. It normalizes the means over each batch and keeps the mean"
        f" square of their scales at γ² (equation 9). This keeps the means of different {pair.item}s apart as long as"
        " their variance over a batch, before the normalization, is far above its ε: diversity. With an ε of 1e-5, one"
        " training on the synthetic data fell below it and collapsed nevertheless (docs/deviations.md). In training"
        " DU-VAE sets each variance to the floor α with probability 1 − p (equation 6), so that the decoder also meets"
        " samples from narrow posteriors: less uncertainty. The two together keep MPD above"
        " (1 − p)/α times the variance of the means, summed over dimensions (equation 8). This bound holds in training,"
        " with the dropout on variances; the figure shows evaluation, without it."
    )

    return [
        measures,
        f"{final_state(pair.vae, vae, pair)} {mi_course(pair.vae)}",
        f"{final_state(pair.du_vae, du_vae, pair)} {mi_course(pair.du_vae)}",
        f"{comparison(pair, compared)}{convergence_note(pair)}",
        explanation,
    ]


def final_state(results: Sequence[Result], name: str, pair: Pair) -> str:
    """Writes a sentence that gives a system's test metrics, as means over seeds, and says whether it has collapsed."""
    row = over_seeds(results).mean.iloc[0].astype(float)
    au = number(row["au"], 0 if float(row["au"]).is_integer() else 1)
    verdict = {
        COLLAPSED: "it has collapsed",
        NOT_COLLAPSED: "it has not collapsed",
        CANNOT_TELL: "these results cannot tell whether it has collapsed",
    }
    words = verdict_over_seeds([result.collapsed for result in results])
    use = number(row["use"], 2)
    used = ""
    if use:
        side = "lower" if use.startswith("−") else "higher"
        used = f" log p(x|z) is {use.lstrip('−')} nats {side} than with the z of another {pair.item};"
    judgement = verdict.get(words, f"of its seeds, {words}")
    distance = _difference(row["ce"] - pair.prior)
    over = f" (means over {len(results)} seeds)" if len(results) > 1 else " (one seed; other seeds may differ)"
    this = name if len(results) > 1 else f"This {name}"

    return (
        f"{this} ends, on test{over}, with a KL of {number(row['kl'], 2)} nats and an MI of {number(row['mi'], 2)};"
        f"{used} {au} of {pair.latent} dimensions {'is' if au == '1' else 'are'} active; MPD is {number(row['mpd'], 2)}"
        f" and CE {number(row['ce'], 2)}, {distance} the prior's: {judgement}{convergence.mark(results)}."
    )


def mi_course(results: Sequence[Result]) -> str:
    """Writes a sentence that says how the mutual information of the first seed changes over the epochs."""
    first = results[0]
    history = first.history
    epochs = [int(epoch) for epoch in history["epoch"]]
    mi = history["valid_mi"].to_numpy(float)
    high = mi >= COLLAPSED_MI
    rule = f"{COLLAPSED_MI} nats"
    seed = f" (seed {first.job.seed})" if len(results) > 1 else ""
    count = f"all {len(epochs)} epochs" if len(epochs) > 1 else "its one epoch"
    if not high.any():
        most = int(history["valid_kl"].to_numpy(float).argmax())
        kl = float(history["valid_kl"].iloc[most])
        more = (
            f" although its KL was {number(kl, 2)} nats in epoch {epochs[most]}: there the posteriors were nearly equal"
            " to each other, but not to the prior"
            if kl - float(mi[most]) >= COLLAPSED_MI
            else ""
        )
        return f"On validation, its MI stayed under {rule} in {count}{seed}{',' if more else ''}{more}."
    if high.all():
        return f"On validation, its MI was {rule} or more in {count}{seed}."
    changes = np.flatnonzero(high[1:] != high[:-1]) + 1
    at = int(changes[0])
    when = f"epoch {epochs[at]}, {_weight(float(history['kl_weight'].iloc[at]))}"
    if len(changes) > 1:
        return (
            f"On validation, its MI crossed {rule} {len(changes)} times, first in {when}, and in epoch {epochs[-1]} was"
            f" {number(float(mi[-1]), 2)}{seed}."
        )
    if high[0]:
        top = int(mi.argmax())
        return (
            f"On validation, its MI was at most {number(float(mi[top]), 2)} nats, in epoch {epochs[top]}, and fell"
            f" under {rule} in {when}{seed}."
        )

    return f"On validation, its MI came to {rule} in {when}, and stayed above{seed}."


def comparison(pair: Pair, compared: Comparison) -> str:
    """Writes sentences that compare the diversity, the uncertainty and the likelihood of the two systems."""
    vae, du_vae = pair.short
    common = {result.job.seed for result in pair.vae} & {result.job.seed for result in pair.du_vae}
    first, second = (
        over_seeds([each for each in results if each.job.seed in common] or results).mean.iloc[0].astype(float)
        for results in (pair.vae, pair.du_vae)
    )
    mpd = [number(row["mpd"], 2) for row in (second, first)]
    between = compared.between(pair.du_vae[0].job.setting, pair.vae[0].job.setting)
    nll = (
        f"Its NLL, compared on the same {pair.item}s: {difference_text(between)}. The means are"
        f" {number(second['nll'], 2)} and {number(first['nll'], 2)}; less is better."
        if between
        else f"The NLL was not compared in pairs ({_with_error(du_vae, second)} and {_with_error(vae, first)})."
    )

    return (
        f"Side by side{' (one seed)' if len(common) < 2 else ''}: the posteriors of two {pair.item}s lie {mpd[0]} nats"
        f" apart on average under {du_vae} and {mpd[1]} under {vae}, and {du_vae}'s CE is"
        f" {_difference(second['ce'] - first['ce'])} {vae}'s. {nll}"
    )


def convergence_note(pair: Pair) -> str:
    """Says that the differences between two systems may be those of the speed of training; empty if all converged."""
    trained = [*pair.vae, *pair.du_vae]
    count = convergence.count_text(trained)
    if not count:
        return ""
    epochs = number_range([each.ending.epochs for each in trained if not each.ending.converged])

    return f" {convergence.MARK} {count} (epochs: {epochs}), so the differences may change with more epochs."


def _with_error(name: str, row: "pd.Series[float]") -> str:
    """The NLL of a system with its standard error over examples in brackets, such as `VAE 30.12 [0.05]`."""
    error = number(row["nll_stderr"], 2)

    return f"{name} {number(row['nll'], 2)}{f' [{error}]' if error else ''}"


def _difference(difference: float) -> str:
    """Puts a difference in nats into words: `1.20 nats below`, `0.30 nats above` or `equal to two digits to`."""
    size = str(number(abs(difference), 2))
    if not size.strip("0."):
        return "equal to two digits to"

    return f"{size} nats {'below' if difference < 0 else 'above'}"


def _weight(weight: float) -> str:
    """Says in words where in the warm-up an epoch lies, judged by the epoch's KL weight (0 to 1)."""
    if weight >= 1:
        return "after the warm-up of the KL weight"

    return f"when the KL weight had risen to {number(weight, 2)}"
