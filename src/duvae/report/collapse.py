"""The posterior collapse, shown: a VAE and a DU-VAE over their training, side by side, and what is seen in words.

Every statement about a model is computed from its results: it says what came out, whichever way that was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from duvae.registry import RECORDS
from duvae.report import figures
from duvae.report.names import label
from duvae.report.results import COLLAPSED_MI, Result, labels, over_seeds
from duvae.report.tables import number

MEASURES = (
    ("valid_kl", "KL", "nats"),
    ("valid_mi", "MI", "nats"),
    ("valid_au", "AU", "dimensions"),
    ("valid_mpd", "MPD", "nats"),
    ("valid_ce", "CE", "nats"),
)
"""What is drawn, from what any VAE is trained with to what DU-VAE acts on."""

DWARFS = 8.0
"""An axis is logarithmic where the greatest value is so many times the greatest that was kept."""


@dataclass(frozen=True)
class Pair:
    """A VAE and a DU-VAE on one data set, a model a seed each.

    Attributes:
        names: What the two are called.
        latent: Dimensions of z.
        warmup: Epochs over which the KL weight rises.
        item: What they learn from: a sentence or an image.
    """

    vae: Sequence[Result]
    du_vae: Sequence[Result]
    names: tuple[str, str]
    latent: int
    warmup: int
    item: str

    @property
    def short(self) -> tuple[str, str]:
        """Their names without what tells settings of a system apart."""
        return label("vae"), label("du_vae")

    @property
    def prior(self) -> float:
        """The entropy of the prior, n/2 log(2 pi e), in nats: the CE of posteriors that are the prior."""
        return self.latent / 2 * math.log(2 * math.pi * math.e)


def pair(results: Sequence[Result], latent: int, warmup: int, item: str) -> Pair | None:
    """The two of a data set; of several settings the one that is named as its system, or the first."""
    names = labels(results)
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
def figure(of: Pair) -> Figure:
    """KL, MI, AU, MPD and CE on validation over the epochs: a column a system, a row a measure, one scale a row."""
    drawn = Figure(figsize=(figures.WIDTH, 6.3))
    axes = drawn.subplots(len(MEASURES), 2, sharex=True, sharey="row")
    longest = max(int(result.history["epoch"].max()) for result in (*of.vae, *of.du_vae))
    columns = list(zip((of.vae, of.du_vae), of.names, strict=True))
    for index, (row, (measure, quantity, unit)) in enumerate(zip(axes, MEASURES, strict=True)):
        for ax, (results, name) in zip(row, columns, strict=True):
            if of.warmup:
                ax.axvspan(0, min(of.warmup, longest), color="#000000", alpha=0.06, linewidth=0)
            colour = RECORDS[results[0].system].colour
            for result in results:
                history = result.history
                ax.plot(history["epoch"], history[measure].astype(float), color=colour, alpha=0.9)
                last = kept(result)
                ax.plot(last["epoch"], last[measure], "o", color=colour, markersize=3, clip_on=False, zorder=4)
            if measure == "valid_ce":
                ax.axhline(of.prior, color="#888888", linewidth=0.8, linestyle="--")
            if index == 0:
                ax.set_title(name, loc="left", fontweight="bold", fontsize=8.5)
            value = float(np.mean([float(kept(result)[measure]) for result in results]))
            written = number(value, 0 if measure == "valid_au" and value.is_integer() else 2)
            ax.set_title(f"kept: {written}", loc="right", fontsize=7, color="#555555")
            ax.grid(axis="y", color="#000000", alpha=0.08, linewidth=0.5)
            ax.set_xlim(0, longest + max(0.25, longest / 40))
        row[0].set_ylabel(f"{quantity} ({unit})")
        values = np.concatenate([r.history[measure].astype(float).to_numpy() for rs, _ in columns for r in rs])
        most = float(np.nanmax(values, initial=0.0))
        ends = max(float(kept(result)[measure]) for results, _ in columns for result in results)
        if measure == "valid_au":
            row[0].yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        if measure in ("valid_kl", "valid_mpd") and most > DWARFS * max(ends, 1.0):
            row[0].set_yscale("symlog", linthresh=1)
            row[0].set_ylim(-0.12, 1.5 * most)
            row[0].yaxis.set_major_formatter("{x:g}")
        elif measure != "valid_ce":
            row[0].set_ylim(
                min(0.0, float(np.nanmin(values, initial=0.0))) - 0.04 * max(most, 0.1), 1.1 * max(most, 0.1)
            )
        else:
            low, high = float(np.nanmin([*values, of.prior])), float(np.nanmax([*values, of.prior]))
            row[0].set_ylim(low - 0.08 * (high - low + 0.1), high + 0.14 * (high - low + 0.1))
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    drawn.align_ylabels(axes[:, 0])
    drawn.tight_layout(h_pad=0.7, w_pad=1.5)

    return drawn


def kept(result: Result) -> pd.Series:
    """The epoch whose weights were kept: the last that was the best, or the last of all."""
    history = result.history
    best = history[history["best"] == 1]

    return (best if len(best) else history).iloc[-1]


# ---------------------------------------------------------------------------------- in words


def told(of: Pair) -> list[str]:
    """What the figure shows, a paragraph each: what to look for, each of the two, both compared, and why."""
    vae, du_vae = of.short
    what = (
        f"A VAE has collapsed when q(z|x) is the same for every {of.item} x: z then says nothing of x, and the decoder"
        " does without it. Four of the measures are 0 where every posterior is the prior itself: KL, what z costs;"
        " MI, what z tells of x; AU, the dimensions whose mean moves with x; and MPD, how far the posteriors of two"
        f" {of.item}s lie apart. CE, how wide a posterior is, is then the entropy of the prior (dashed). KL alone does"
        " not tell: it is MI plus KL[q(z) ‖ p(z)], and the second part can be there when all posteriors are one."
    )
    why = (
        f"Both minimise the same objective, equation 1. {vae}'s encoder is free to give every {of.item} the same"
        " posterior, and as long as the decoder makes no use of z that is the cheapest thing to do: it brings the KL"
        " term to 0. DU-VAE adds no term against that. It normalizes the means over each batch and keeps the mean"
        f" square of their scales at γ² (equation 9), so that the means of different {of.item}s cannot all become one:"
        " diversity. In training it takes each variance down to the floor α with probability 1 − p (equation 6), so"
        " that the decoder also meets samples from narrow posteriors: less uncertainty. The two together hold MPD in"
        " training above (1 − p)/α times the variance of the means, summed over dimensions (equation 8)."
    )

    return [
        what,
        f"{ended(of.vae, vae, of)} {went(of.vae)}",
        f"{ended(of.du_vae, du_vae, of)} {went(of.du_vae)}",
        compared(of),
        why,
    ]


def ended(results: Sequence[Result], name: str, of: Pair) -> str:
    """What was measured on test in the end, mean over seeds, and whether that is a collapse."""
    row = over_seeds(results).mean.iloc[0].astype(float)
    au = number(row["au"], 0 if float(row["au"]).is_integer() else 1)
    fallen = sum(result.collapsed is True for result in results)
    if fallen in (0, len(results)):
        verdict = "it has collapsed" if fallen else "it has not collapsed"
    else:
        verdict = f"{fallen} of its {len(results)} seeds have collapsed"
    over = f" (means over {len(results)} seeds)" if len(results) > 1 else ""

    return (
        f"{name} ends, on test{over}, with a KL of {number(row['kl'], 2)} nats and an MI of {number(row['mi'], 2)};"
        f" {au} of {of.latent} dimensions {'is' if au == '1' else 'are'} active; MPD is {number(row['mpd'], 2)} and CE"
        f" {number(row['ce'], 2)}, {_apart(row['ce'] - of.prior)} the prior's: {verdict}."
    )


def went(results: Sequence[Result]) -> str:
    """How the mutual information went over the epochs, of the first seed."""
    first = results[0]
    history = first.history
    epochs = [int(epoch) for epoch in history["epoch"]]
    mi = history["valid_mi"].to_numpy(float)
    high = mi >= COLLAPSED_MI
    rule = f"{COLLAPSED_MI} nats"
    of = f" (seed {first.job.seed})" if len(results) > 1 else ""
    count = f"all {len(epochs)} epochs" if len(epochs) > 1 else "its one epoch"
    if not high.any():
        most = int(history["valid_kl"].to_numpy(float).argmax())
        kl = float(history["valid_kl"].iloc[most])
        more = (
            f" although its KL was {number(kl, 2)} nats in epoch {epochs[most]}: the posteriors were not the prior yet,"
            " but already nearly alike"
            if kl - float(mi[most]) >= COLLAPSED_MI
            else ""
        )
        return f"Its MI stayed under {rule} in {count}{of}{',' if more else ''}{more}."
    if high.all():
        return f"Its MI was {rule} or more in {count}{of}."
    changes = np.flatnonzero(high[1:] != high[:-1]) + 1
    at = int(changes[0])
    when = f"epoch {epochs[at]}, {_weight(float(history['kl_weight'].iloc[at]))}"
    if len(changes) > 1:
        return (
            f"Its MI crossed {rule} {len(changes)} times, first in {when}, and in epoch {epochs[-1]} was"
            f" {number(float(mi[-1]), 2)}{of}."
        )
    if high[0]:
        top = int(mi.argmax())
        return (
            f"Its MI was at most {number(float(mi[top]), 2)} nats, in epoch {epochs[top]}, and fell under {rule} in"
            f" {when}{of}."
        )

    return f"Its MI came to {rule} in {when}, and stayed above{of}."


def compared(of: Pair) -> str:
    """The two beside each other: diversity, uncertainty and likelihood."""
    vae, du_vae = of.short
    one, other = (over_seeds(results).mean.iloc[0].astype(float) for results in (of.vae, of.du_vae))
    mpd = [number(row["mpd"], 2) for row in (other, one)]
    nll = float(other["nll"] - one["nll"])
    apart = number(abs(nll), 2)
    less = f"{apart} nats {'lower' if nll < 0 else 'higher'}" if float(str(apart).replace(",", "")) else "the same"

    return (
        f"Side by side: the posteriors of two {of.item}s lie {mpd[0]} nats apart under {du_vae} and {mpd[1]} under"
        f" {vae}, and {du_vae}'s CE is {_apart(other['ce'] - one['ce'])} {vae}'s. Its NLL is {less}"
        f" ({number(other['nll'], 2)} and {number(one['nll'], 2)}; less is better)."
    )


def _apart(difference: float) -> str:
    """`1.20 nats below`, `0.30 nats above`, `equal to two digits to`."""
    size = str(number(abs(difference), 2))
    if not size.strip("0."):
        return "equal to two digits to"

    return f"{size} nats {'below' if difference < 0 else 'above'}"


def _weight(weight: float) -> str:
    if weight >= 1:
        return "after the warm-up of the KL weight"

    return f"when the KL weight had risen to {number(weight, 2)}"
