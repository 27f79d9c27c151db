"""The claims of sections 4.2 and 4.3 and of supplement F of the paper, each with the rule that decides about it.

A rule turns the results of one data set into a finding. The paper's claims are about Yahoo, Yelp, OMNIGLOT and its
synthetic data; the page says how the size of our experiment differs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from duvae.metrics.centres import centres
from duvae.report.evidence import (
    LEAST_SEEDS,
    NOT_TESTED,
    Check,
    Evidence,
    Finding,
    together,
)
from duvae.report.latent_spaces import HALFWIDTH, aggregate
from duvae.report.names import label
from duvae.report.per_example import Space
from duvae.report.results import Result

CLASSIC = ("vae", "beta_vae", "sa_vae", "agg_vae", "fb", "delta_vae", "bn_vae", "mae")
"""The paper's baselines without a flow that have a likelihood."""

CLASSIC_PROBED = ("ae", "vae", "delta_vae", "agg_vae", "fb", "bn_vae", "mae")
"""The rows of Tables 2 and 3 without a flow, besides DU-VAE."""

FLOWS = ("iaf_fb", "iaf_bn")
"""The paper's baselines with a flow."""

OPTIMA = {"yahoo": (0.6, 0.8), "yelp": (0.5, 0.8), "omniglot": (0.5, 0.9)}
"""The values of gamma and p with the lowest NLL in the paper's Figure 2, by column of data sets."""

NEAR_PRIOR = 0.1
"""Bound of KL[q(z) || p(z)] in nats, below which the aggregated posterior counts as equal to the prior."""

ANY = ("synthetic", "text", "image")
LATTICE = np.linspace(-HALFWIDTH, HALFWIDTH, 61)
"""Coordinates of the points at which the density of a two-dimensional latent space is computed."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        section: The section of the paper.
        text: The claim, in our words.
        kinds: The kinds of data sets that the claim is about: `synthetic`, `text` or `image`.
        rule: Function that decides about the claim from the results of a data set.
        remark: What the rule leaves open, in one sentence; empty: nothing.
    """

    section: str
    text: str
    kinds: Sequence[str]
    rule: Callable[[Evidence], Finding]
    remark: str = ""


# ---------------------------------------------------------------------------------- section 4.2: likelihood


def lowest(system: str, others: Sequence[str]) -> Callable[[Evidence], Finding]:
    """A rule that a system has the lowest NLL, in comparisons with all others together."""
    return lambda evidence: together([evidence.below(system, other, len(others)) for other in others])


def each_below(systems: Sequence[str], other: str) -> Callable[[Evidence], Finding]:
    """A rule that each of some systems has a lower NLL than another one."""
    return lambda evidence: together([evidence.below(system, other, len(systems)) for system in systems])


def costly(evidence: Evidence) -> Finding:
    """The trainings of Agg-VAE and SA-VAE take at least twice the CPU time of a VAE, per epoch and with each seed."""
    checks = []
    plain = evidence.models("vae")
    for system in ("agg_vae", "sa_vae"):
        models = evidence.models(system)
        ratios = [
            seconds_per_epoch(models[seed]) / seconds_per_epoch(plain[seed])
            for seed in sorted(set(models) & set(plain))
            if seconds_per_epoch(plain[seed]) > 0
        ]
        ratios = [ratio for ratio in ratios if math.isfinite(ratio)]
        if not ratios:
            checks.append(Check(None, f"{label(system)}: no results", 0))
            continue
        holds = all(ratio >= 2 for ratio in ratios) if len(ratios) >= LEAST_SEEDS else None
        text = f"an epoch of {label(system)} takes {np.mean(ratios):.1f} times that of {label('vae')}"
        checks.append(Check(holds, text + ("" if len(ratios) > 1 else " (one seed)"), len(ratios)))

    return together(checks)


def seconds_per_epoch(result: Result) -> float:
    """The CPU time of an epoch of the training in seconds; NaN where it is not known."""
    seconds = result.row["train_cpu"]

    return float(seconds) / max(1, int(result.metrics["epochs"]))


def more_information(evidence: Evidence) -> Finding:
    """DU-VAE has a greater KL and MI than BN-VAE with the same gamma."""
    pair = [next(iter(evidence.models(system).values()), None) for system in ("du_vae", "bn_vae")]
    gammas = {result.metrics["hyperparameters"].get("gamma") for result in pair if result}
    if None in pair or len(gammas) != 1:
        return Finding(NOT_TESTED, "no DU-VAE and BN-VAE with the same γ", 0)

    return together(
        [
            evidence.greater("du_vae", "bn_vae", lambda result: result.metrics["kl"], "KL", 2),
            evidence.greater("du_vae", "bn_vae", lambda result: result.metrics["mi"], "MI", 2),
        ]
    )


def state(system: str, collapsed: bool) -> Callable[[Evidence], Finding]:
    """A rule that all models of a system have collapsed, or that none has."""
    return lambda evidence: together([evidence.state(system, collapsed)])


def paper_optimum(evidence: Evidence) -> Finding:
    """Among the 20 settings of the paper's Figure 2, the one that the paper names has the lowest NLL.

    With fewer of these settings, the claim is not tested.
    """
    column = next((result.job.column for result in evidence.results), "")
    grid: dict[tuple[float, float], str] = {}
    for result in evidence.results:
        values = result.metrics["hyperparameters"]
        if result.system == "du_vae" and {"gamma", "p"} <= set(values):
            grid[float(values["gamma"]), float(values["p"])] = result.job.setting
    wanted = {(gamma, p) for gamma in (0.4, 0.5, 0.6, 0.7) for p in (1.0, 0.9, 0.8, 0.7, 0.6)}
    if column not in OPTIMA or not wanted <= set(grid):
        return Finding(NOT_TESTED, "no results of all 20 settings", 0)
    own = grid[OPTIMA[column]]
    others = [grid[point] for point in sorted(wanted) if grid[point] != own]

    return together([evidence.lower_setting(own, other, len(others)) for other in others])


# ---------------------------------------------------------------------------------- section 4.2: classification


def most_accurate(system: str, others: Sequence[str]) -> Callable[[Evidence], Finding]:
    """A rule that a system's probes are more accurate than those of all others, at each number of labels."""
    return lambda evidence: together([evidence.more_accurate(system, other, len(others)) for other in others])


def more_accurate(pairs: Sequence[tuple[str, str]]) -> Callable[[Evidence], Finding]:
    """A rule that the first system of each pair has more accurate probes than the second, at each number of labels."""
    return lambda evidence: together([evidence.more_accurate(first, second, len(pairs)) for first, second in pairs])


# ---------------------------------------------------------------------------------- section 4.3: latent spaces


def entropy(result: Result) -> float | None:
    """The entropy of the aggregated posterior q(z) in nats: MI plus the conditional entropy of z given x."""
    mi, ce = result.metrics["mi"], result.metrics["ce"]

    return None if mi is None or ce is None else float(mi) + float(ce)


def compact(evidence: Evidence) -> Finding:
    """The entropy of q(z) is below that of the prior for DU-VAE, and above it for BN-VAE."""
    prior = evidence.latent / 2 * math.log(2 * math.pi * math.e)
    names = "entropy of q(z)", "that of the prior"

    return together(
        [
            evidence.beyond("du_vae", entropy, prior, -1, names, 2),
            evidence.beyond("bn_vae", entropy, prior, 1, names, 2),
        ]
    )


def distance_from_prior(result: Result) -> float | None:
    """KL[q(z) || p(z)] in nats, which is KL - MI; None where one of the two is not defined."""
    kl, mi = result.metrics["kl"], result.metrics["mi"]

    return None if kl is None or mi is None else float(kl) - float(mi)


def matches_prior(evidence: Evidence) -> Finding:
    """The aggregated posterior of the VAE is near the prior: KL[q(z) || p(z)] is below `NEAR_PRIOR`."""
    return together([evidence.beyond("vae", distance_from_prior, NEAR_PRIOR, -1, ("KL[q(z) ‖ p(z)]", "the bound"))])


def in_the_centre(systems: Sequence[str]) -> Callable[[Evidence], Finding]:
    """A rule that the central component of the data lies in the centre of the latent space of each system.

    The centre of a component is the mean of its posterior means. The central component's must lie within the polygon
    that the other components' form, which is so if no gap between their directions, seen from it, is 180 degrees wide.
    """

    def rule(evidence: Evidence) -> Finding:
        return together([_surrounded(evidence, system) for system in systems])

    return rule


def surrounded(space: Space, centre: int) -> bool:
    """Whether the central component of a space lies within the other components (see `in_the_centre`)."""
    places = {int(c): space.means[space.labels == c].mean(0) for c in np.unique(space.labels)}
    if centre not in places or len(places) < 4:
        return False
    others = np.array([place for component, place in places.items() if component != centre]) - places[centre]
    angles = np.sort(np.arctan2(others[:, 1], others[:, 0]))
    gaps = np.diff(np.append(angles, angles[0] + 2 * math.pi))

    return bool(gaps.max() < math.pi)


def _surrounded(evidence: Evidence, system: str) -> Check:
    found = [surrounded(space, evidence.centre) for space in _spaces(evidence, system)]
    if not found:
        return Check(None, f"{label(system)}: no results", 0)
    holds = None if len(found) < LEAST_SEEDS else all(found) or (None if any(found) else False)

    return Check(holds, f"{label(system)}: between the others in {sum(found)} of {len(found)}", len(found))


def five_centres(evidence: Evidence) -> Finding:
    """The aggregated posterior of DU-VAE has as many centres as the data has components; no other system's has."""
    checks = []
    for system in ("du_vae", "vae", "agg_vae", "bn_vae"):
        spaces = [space for space in _spaces(evidence, system) if space.variances is not None]
        counts = [len(centres(density(space))) for space in spaces]
        if not counts:
            checks.append(Check(None, f"{label(system)}: no results", 0))
            continue
        components = len(np.unique(spaces[0].labels))
        same = [count == components for count in counts]
        wanted = same if system == "du_vae" else [not each for each in same]
        holds = None if len(counts) < LEAST_SEEDS else all(wanted) or (None if any(wanted) else False)
        checks.append(Check(holds, f"centres of {label(system)}: {', '.join(map(str, counts))}", len(counts)))

    return together(checks)


def density(space: Space) -> np.ndarray:
    """Computes the density of the aggregated posterior of a space at the points of `LATTICE` in both dimensions."""
    assert space.variances is not None

    return aggregate(space.means, space.variances, LATTICE, LATTICE)


def _spaces(evidence: Evidence, system: str) -> list[Space]:
    setting = evidence.setting(system)

    return [space for (key, _), space in sorted(evidence.spaces.items()) if key == setting]


def diverse_and_certain(evidence: Evidence) -> Finding:
    """DU-VAE has a greater MPD and a smaller CE than VAE and BN-VAE."""
    checks = []
    for other in ("vae", "bn_vae"):
        checks.append(evidence.greater("du_vae", other, lambda result: result.metrics["mpd"], "MPD", 4))
        checks.append(evidence.greater(other, "du_vae", lambda result: result.metrics["ce"], "CE", 4))

    return together(checks)


# ---------------------------------------------------------------------------------- supplement F


def fixed_shift(evidence: Evidence) -> Finding:
    """With a fixed shift, the KL stays above 0.1 nats, and yet all models have collapsed."""
    models = [result for result in evidence.results if result.system == "bn_vae_fixed_beta"]
    if not models:
        return Finding(NOT_TESTED, "no results of this system", 0)
    least = min(float(result.metrics["kl"]) for result in models)
    seeds = len({result.job.seed for result in models})
    positive = Check(least > 0.1 if seeds >= LEAST_SEEDS else None, f"KL at least {least:.2f} nats", seeds)

    return together([evidence.state_of(models, True, label("bn_vae_fixed_beta")), positive])


OTHER_VALUES = "Hyperparameters or initial weights differ, too, so this is not the effect of the flow alone."
"""The remark on every claim that compares a system with a flow and one without."""

CLAIMS = (
    Claim("4.2", "DU-VAE has the lowest NLL among the systems without a flow.", ANY, lowest("du_vae", CLASSIC)),
    Claim("4.2", "DU-IAF has the lowest NLL among the systems with a flow.", ANY, lowest("du_iaf", FLOWS)),
    Claim("4.2", "MAE does not perform well: its NLL is above the VAE's.", ANY, each_below(("vae",), "mae")),
    Claim("4.2", "Agg-VAE and SA-VAE have a lower NLL than the VAE.", ANY, each_below(("agg_vae", "sa_vae"), "vae")),
    Claim("4.2", "Agg-VAE and SA-VAE take much more time to train.", ANY, costly),
    Claim(
        "4.2",
        "BN-VAE is competitive on text: its NLL is below the VAE's.",
        ("text", "synthetic"),
        each_below(("bn_vae",), "vae"),
    ),
    Claim("4.2", "On images, BN-VAE has a higher NLL than the VAE.", ("image",), each_below(("vae",), "bn_vae")),
    Claim("4.2", "DU-VAE has more KL and MI than BN-VAE with the same γ.", ANY, more_information),
    Claim("4.2", "IAF+BN collapses.", ANY, state("iaf_bn", True)),
    Claim("4.2", "DU-IAF does not collapse.", ANY, state("du_iaf", False)),
    Claim(
        "4.2",
        "On images, IAF+FB has a lower NLL than FB.",
        ("image",),
        each_below(("iaf_fb",), "fb"),
        f"The paper: IAF models are more suitable for images. {OTHER_VALUES}",
    ),
    Claim(
        "4.2",
        "On text, FB has a lower NLL than IAF+FB.",
        ("text", "synthetic"),
        each_below(("fb",), "iaf_fb"),
        "The paper: IAF models are without sound performance on text; its NLL are 328.1 and 328.4 on Yahoo, and both"
        f" 357.1 on Yelp. {OTHER_VALUES}",
    ),
    Claim(
        "4.2",
        "DU-VAE has the most accurate probes among the systems without a flow.",
        ANY,
        most_accurate("du_vae", CLASSIC_PROBED),
    ),
    Claim(
        "4.2", "DU-IAF has the most accurate probes among the systems with a flow.", ANY, most_accurate("du_iaf", FLOWS)
    ),
    Claim(
        "4.2",
        "Agg-VAE and BN-VAE classify text better than the VAE.",
        ("text", "synthetic"),
        more_accurate((("agg_vae", "vae"), ("bn_vae", "vae"))),
    ),
    Claim(
        "4.2",
        "Agg-VAE and BN-VAE classify images worse than AE.",
        ("image",),
        more_accurate((("ae", "agg_vae"), ("ae", "bn_vae"))),
    ),
    Claim(
        "4.2",
        "δ-VAE and MAE classify images better than the VAE.",
        ("image",),
        more_accurate((("delta_vae", "vae"), ("mae", "vae"))),
    ),
    Claim(
        "4.2",
        "δ-VAE and MAE classify text worse than the VAE.",
        ("text", "synthetic"),
        more_accurate((("vae", "delta_vae"), ("vae", "mae"))),
    ),
    Claim(
        "4.2",
        "IAF+FB and DU-IAF have more accurate probes than FB and DU-VAE.",
        ANY,
        more_accurate((("iaf_fb", "fb"), ("du_iaf", "du_vae"))),
        f"The probes of a flow read twice as many features. {OTHER_VALUES}",
    ),
    Claim(
        "4.2",
        "On images, IAF+BN has less accurate probes than the VAE.",
        ("image",),
        more_accurate((("vae", "iaf_bn"),)),
    ),
    Claim(
        "4.2", "Figure 2: the paper's γ and p have the lowest NLL of the 20 pairs.", ("text", "image"), paper_optimum
    ),
    Claim("4.3", "The VAE collapses on the synthetic data.", ("synthetic",), state("vae", True)),
    Claim("4.3", "The VAE's aggregated posterior matches the prior.", ("synthetic",), matches_prior),
    Claim(
        "4.3",
        "Agg-VAE, BN-VAE and DU-VAE put the central component between the four others.",
        ("synthetic",),
        in_the_centre(("agg_vae", "bn_vae", "du_vae")),
    ),
    Claim("4.3", "Only the aggregated posterior of DU-VAE has five centres.", ("synthetic",), five_centres),
    Claim(
        "4.3",
        "The aggregated posterior is more compact than the prior for DU-VAE, and broader for BN-VAE.",
        ("synthetic",),
        compact,
    ),
    Claim(
        "4.3",
        "DU-VAE's latent space is more diverse (MPD) and less uncertain (CE) than VAE's and BN-VAE's.",
        ("synthetic",),
        diverse_and_certain,
    ),
    Claim("F", "With a fixed shift β, the KL stays positive, but the posterior collapses.", ANY, fixed_shift),
)
"""The claims, in the order of the paper."""
